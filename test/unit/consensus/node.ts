/**
 * One simulated process: the core, a disk that syncs when told, and a state machine that is a list of what was
 * applied. It carries out effects as `types.ts` asks, and can crash between any two of them.
 */
import { defaultConfig } from '../../../consensus/config.ts'
import { entryBytes } from '../../../consensus/log.ts'
import { Raft } from '../../../consensus/raft.ts'
import type {
  Config,
  Configuration,
  Effect,
  Entry,
  HardState,
  Input,
  NodeId,
  SnapshotMeta,
} from '../../../consensus/types.ts'
import type { FuzzRandom } from './random.ts'

type Persist = Extract<Effect, { type: 'persist' }>
type Send = Extract<Effect, { type: 'send' }>

/** A log as it is on disk, or as it will be once all writes under way are done. */
export interface StoredLog {
  hardState: HardState
  snapshot: SnapshotMeta
  /** Entries after `first.index`. */
  before: { readonly index: number; readonly term: number }
  entries: readonly Entry[]
}

/** Gives what a write makes of a log. */
export function write(log: StoredLog, { hardState, snapshot, truncateAfter, entries }: Persist): StoredLog {
  let { before, entries: kept } = log
  if (snapshot !== undefined) {
    before = { index: snapshot.lastIncludedIndex, term: snapshot.lastIncludedTerm }
    kept = []
  }
  if (truncateAfter !== undefined) kept = kept.slice(0, truncateAfter - before.index)
  return {
    hardState: hardState ?? log.hardState,
    snapshot: snapshot ?? log.snapshot,
    before,
    entries: entries.length === 0 ? kept : [...kept, ...entries],
  }
}

export function entryAt(log: StoredLog, index: number): Entry | undefined {
  return log.entries[index - log.before.index - 1]
}

export function lastIndexOf(log: StoredLog): number {
  return log.before.index + log.entries.length
}

/** The configuration that a log says is in force at `index`. */
function configurationAt(log: StoredLog, index: number): Configuration {
  const place = log.entries.findLast(entry => entry.index <= index && entry.configuration !== undefined)
  return place?.configuration ?? log.snapshot.configuration
}

export class Node {
  readonly id: NodeId
  readonly #config: Config
  readonly #random: FuzzRandom
  raft: Raft | undefined
  disk: StoredLog
  /** The disk as the core believes it will be: every write under way included. */
  intended: StoredLog
  /** Commands of the state machine by index, holes where there was a no-op or configuration. Durable. */
  applied: (Entry | undefined)[] = []
  writes: Persist[] = []
  /** State machines that were fetched with snapshots, by the index they cover. */
  readonly fetched = new Map<number, readonly (Entry | undefined)[]>()
  #waiting: Send[] = []

  constructor(id: NodeId, options: { config: Partial<Config>; initial: Configuration; random: FuzzRandom }) {
    this.id = id
    this.#config = { ...defaultConfig(id), ...options.config }
    this.#random = options.random
    this.disk = {
      hardState: { currentTerm: 0, votedFor: null },
      snapshot: { lastIncludedIndex: 0, lastIncludedTerm: 0, configuration: options.initial },
      before: { index: 0, term: 0 },
      entries: [],
    }
    this.intended = this.disk
  }

  get lastApplied(): number {
    return this.applied.length
  }

  start(): void {
    const { disk } = this
    // What is before the window may be anything from the snapshot to all that is applied.
    const skipped = this.#random.below(this.lastApplied - disk.before.index + 1)
    const index = disk.before.index + skipped
    const term = skipped === 0 ? disk.before.term : (entryAt(disk, index)?.term ?? 0)
    this.raft = new Raft(
      this.#config,
      {
        hardState: disk.hardState,
        snapshot: disk.snapshot,
        entries: disk.entries.slice(skipped),
        before: { index, term },
        configuration: configurationAt(disk, index),
        applied: this.lastApplied,
      },
      this.#random.fraction,
    )
  }

  /** Loses everything that is not on disk; of the writes under way, the first few may have made it. */
  crash(): void {
    for (const done of this.writes.slice(0, this.#random.below(this.writes.length + 1))) this.#finish(done)
    this.raft = undefined
    this.writes = []
    this.#waiting = []
    this.intended = this.disk
  }

  /** Steps the core, if the process runs, and notes what it wants written. */
  step(input: Input): readonly Effect[] {
    const effects = this.raft?.step(input) ?? []
    for (const effect of effects) {
      if (effect.type !== 'persist') continue
      this.writes.push(effect)
      this.intended = write(this.intended, effect)
    }
    return effects
  }

  /** True if the message may leave now; else it is kept until its write is done. */
  mayLeave(send: Send): boolean {
    const first = this.writes[0]
    if (send.after === undefined || first === undefined || send.after < first.token) return true
    this.#waiting.push(send)
    return false
  }

  /** Completes the oldest write. Gives the messages that waited for it. */
  sync(): { readonly token: number; readonly sends: readonly Send[] } | undefined {
    const done = this.writes.shift()
    if (done === undefined) return undefined
    this.#finish(done)
    const sends = this.#waiting.filter(send => (send.after ?? 0) <= done.token)
    this.#waiting = this.#waiting.filter(send => (send.after ?? 0) > done.token)
    return { token: done.token, sends }
  }

  /** Applies committed entries, durably. */
  apply(entries: readonly Entry[]): void {
    for (const entry of entries) this.applied.push(entry.type === 'command' ? entry : undefined)
  }

  /** Takes a snapshot of what is applied and lets go of the log up to it. */
  compact(): void {
    const index = this.lastApplied
    const term = entryAt(this.disk, index)?.term
    if (term === undefined || this.writes.length > 0) return
    this.disk = {
      ...this.disk,
      snapshot: {
        lastIncludedIndex: index,
        lastIncludedTerm: term,
        configuration: configurationAt(this.disk, index),
      },
      before: { index, term },
      entries: this.disk.entries.slice(index - this.disk.before.index),
    }
    this.intended = this.disk
  }

  /** Answers `load` from the disk. */
  load({ from, to, maxBytes }: Extract<Effect, { type: 'load' }>): Input {
    const { disk } = this
    if (from <= disk.before.index) return { type: 'compacted', snapshot: disk.snapshot }
    const term = from - 1 === disk.before.index ? disk.before.term : (entryAt(disk, from - 1)?.term ?? 0)
    const entries = disk.entries.slice(from - disk.before.index - 1, to - disk.before.index)
    let bytes = 0
    const taken = entries.filter((entry, position) => {
      bytes += entryBytes(entry)
      return position === 0 || bytes <= maxBytes
    })
    return { type: 'loaded', before: { index: from - 1, term }, entries: taken.slice(0, 8) }
  }

  #finish(done: Persist): void {
    this.disk = write(this.disk, done)
    if (done.snapshot === undefined) return
    this.applied = [...(this.fetched.get(done.snapshot.lastIncludedIndex) ?? [])]
  }
}
