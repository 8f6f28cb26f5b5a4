/**
 * How much of the log a node keeps, and where snapshots of it can be taken, at certified heights only.
 *
 * The state on disk is always the newest, so compacting means forgetting entries, nothing is written for it. What is
 * kept goes back to a certified block at least: a consenter that is behind the others, but not behind the log, can
 * execute and sign whatever still lacks its signature.
 */
import type { Height } from '../../chain/brands.ts'
import type { Header } from '../../chain/header.ts'
import { entryBytes } from '../../consensus/log.ts'
import type { Configuration, Entry, SnapshotMeta } from '../../consensus/types.ts'

export interface CompactionLimits {
  /** Entries kept; a follower further behind gets a snapshot. */
  readonly entriesKept: number
  /** Their bytes, if that is less. */
  readonly bytesKept: number
}

export const defaultCompactionLimits: CompactionLimits = {
  entriesKept: 20_000,
  bytesKept: 256 * 1024 * 1024,
}

/** Both limits may be exceeded by this part before something is forgotten: so that it is done in large steps. */
const slack = 0.1

/** A place in the log at which the state is that of a block. */
export interface SnapshotPoint {
  readonly height: Height
  readonly meta: SnapshotMeta
}

/** The place in the log of a block, which its header names, with the configuration in force there. */
export function placeOf({ index, term }: Header, configuration: Configuration): SnapshotMeta {
  return { lastIncludedIndex: index, lastIncludedTerm: term, configuration }
}

/** True if the log up to this place gives the block of this header. */
export function isPlaceOf(meta: SnapshotMeta, { index, term }: Header): boolean {
  return meta.lastIncludedIndex === index && meta.lastIncludedTerm === term
}

interface MeasuredPoint extends SnapshotPoint {
  /** Bytes of all entries applied up to here. */
  readonly bytes: number
}

export class Compaction {
  readonly #limits: CompactionLimits
  /** Ascending; the first one is where the log begins, or what is known nearest to it. */
  #points: MeasuredPoint[]
  #first = 0
  #configuration: Configuration
  #index: number
  #bytes = 0

  /** `start` is what was recovered: the applied index and the height there; `places` those of the newest blocks, ascending. */
  constructor(
    start: SnapshotPoint,
    logStart: number,
    limits: CompactionLimits,
    places: readonly SnapshotPoint[] = [start],
  ) {
    this.#limits = limits
    this.#points = places.map(place => ({ ...place, bytes: 0 }))
    this.#first = logStart
    this.#configuration = start.meta.configuration
    this.#index = start.meta.lastIncludedIndex
  }

  /** Entries of the log that are applied and not forgotten. */
  get length(): number {
    return this.#index - this.#first
  }

  /** An entry has been applied; `height` is that of its block, if it made one. */
  applied(entry: Entry, height: Height | undefined): void {
    const { index, term, configuration } = entry
    this.#index = index
    this.#bytes += entryBytes(entry)
    if (configuration) this.#configuration = configuration
    if (height === undefined) return
    const meta = { lastIncludedIndex: index, lastIncludedTerm: term, configuration: this.#configuration }
    this.#points.push({ height, meta, bytes: this.#bytes })
  }

  /** A snapshot took the place of the log. */
  reset(start: SnapshotPoint): void {
    this.#points = [{ ...start, bytes: this.#bytes }]
    this.#first = start.meta.lastIncludedIndex
    this.#configuration = start.meta.configuration
    this.#index = start.meta.lastIncludedIndex
  }

  /** The place that belongs to the block at `height`, if it is known. */
  pointAt(height: Height): SnapshotPoint | undefined {
    return this.#points.findLast(point => point.height === height)
  }

  /**
   * Up to where the log is to be forgotten now: not past the certified height, not past `floor` (an index that is
   * still needed). What it returns counts as forgotten.
   */
  due(certified: Height, floor = Number.POSITIVE_INFINITY): SnapshotMeta | undefined {
    const { entriesKept, bytesKept } = this.#limits
    const [oldest] = this.#points
    const bytes = this.#bytes - (oldest?.bytes ?? 0)
    if (this.length <= entriesKept * (1 + slack) && bytes <= bytesKept * (1 + slack)) return undefined
    let target = -1
    for (const [i, { height, meta, bytes }] of this.#points.entries()) {
      if (height > certified || meta.lastIncludedIndex > floor) break
      target = i
      if (this.#index - meta.lastIncludedIndex <= entriesKept && this.#bytes - bytes <= bytesKept) break
    }
    const meta = this.#points[target]?.meta
    if (!meta || meta.lastIncludedIndex <= this.#first) return undefined
    this.#points = this.#points.slice(target)
    this.#first = meta.lastIncludedIndex
    return meta
  }
}
