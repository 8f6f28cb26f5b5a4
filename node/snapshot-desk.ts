/**
 * Snapshots on the side that has them: takes one at the newest certified height when a follower needs it, keeps its
 * ledger while somebody fetches, hands out chunks.
 *
 * Taking one costs nothing: ledgers are immutable and share what blocks did not change. One is kept at a time, until
 * nobody has asked for `keptMs`; the log from its place on is kept as long, so that whoever installs it can go on.
 */
import type { DeviceId, Height } from '../chain/brands.ts'
import { assert, MoteError } from '../chain/result.ts'
import type { SnapshotMeta } from '../consensus/types.ts'
import { isPlaceOf, type SnapshotPoint } from './compaction.ts'
import { type CertifiedLedger, SnapshotStream } from './snapshot-stream.ts'

export interface SnapshotDeskParts {
  /** By a steady clock, in milliseconds. */
  readonly now: () => number
  readonly certifiedHeight: () => Height
  readonly pointAt: (height: Height) => SnapshotPoint | undefined
  /** The ledger at a certified height, if it is still in memory. */
  readonly ledgerAt: (height: Height) => CertifiedLedger | undefined
}

/** A snapshot nobody asked for this long is let go. */
const keptMs = 30_000
/** Receivers at the same time; a further one takes the place of the oldest. */
const maxReceivers = 16

interface Kept {
  readonly meta: SnapshotMeta
  readonly source: CertifiedLedger
  readonly streams: Map<DeviceId, SnapshotStream>
  usedAt: number
}

export class SnapshotDesk {
  readonly #parts: SnapshotDeskParts
  #kept: Kept | undefined

  constructor(parts: SnapshotDeskParts) {
    this.#parts = parts
  }

  /** The log must be kept from this index on. */
  get floor(): number {
    return this.#current()?.meta.lastIncludedIndex ?? Number.POSITIVE_INFINITY
  }

  /** A snapshot to offer: the one that is being fetched, or a new one. Undefined while there is no certified block to take it at. */
  offer(): SnapshotMeta | undefined {
    const current = this.#current()
    if (current) return current.meta
    const { certifiedHeight, pointAt, ledgerAt, now } = this.#parts
    const point = pointAt(certifiedHeight())
    const source = point && ledgerAt(point.height)
    if (!source) return undefined
    assert(isPlaceOf(point.meta, source.ledger.header), 'snapshot: the block stands at another place')
    this.#kept = { meta: point.meta, source, streams: new Map(), usedAt: now() }
    return point.meta
  }

  /** A follower is being offered this snapshot. */
  keep(meta: SnapshotMeta): void {
    const current = this.#current()
    if (current?.meta.lastIncludedIndex === meta.lastIncludedIndex) current.usedAt = this.#parts.now()
  }

  /** One chunk. Throws `height-not-available` when the snapshot is not kept, or has no such chunk. */
  chunk(from: DeviceId, lastIncludedIndex: number, index: number): Uint8Array {
    const current = this.#current()
    if (current?.meta.lastIncludedIndex !== lastIncludedIndex)
      throw new MoteError('height-not-available', `snapshot ${lastIncludedIndex}: not kept (any more)`)
    current.usedAt = this.#parts.now()
    const chunk = streamFor(current, from).chunk(index)
    if (!chunk)
      throw new MoteError('height-not-available', `snapshot ${lastIncludedIndex}: has no chunk ${index}`)
    return chunk
  }

  #current(): Kept | undefined {
    if (this.#kept && this.#parts.now() - this.#kept.usedAt > keptMs) this.#kept = undefined
    return this.#kept
  }
}

function streamFor({ streams, source }: Kept, receiver: DeviceId): SnapshotStream {
  const known = streams.get(receiver)
  if (known) return known
  if (streams.size >= maxReceivers)
    for (const oldest of streams.keys()) {
      streams.delete(oldest)
      break
    }
  const stream = new SnapshotStream(source)
  streams.set(receiver, stream)
  return stream
}
