/**
 * Keeps proposals that lie in the future out of a follower's log, so that a leader which takes its own clock for the
 * voters' cannot get a majority for it (docs/CONSENSUS.md, "Block time").
 *
 * A leader may send any number of entries in one append, and a follower may take any first part of them: the rest counts
 * as lost and comes again. So an append is cut before its first proposal that is too late, and passes when the time has come.
 * What is committed passes always: a majority holds it already.
 */
import { proposalTime } from '../chain/block.ts'
import type { Entry, Message, Config as RaftConfig, Recovered, SnapshotMeta } from '../consensus/types.ts'
import type { ClockExchange } from './clock-exchange.ts'
import type { LogWrite } from './ports.ts'
import type { Leadership } from './replica-parts.ts'
import { SitOut } from './sit-out.ts'

type Append = Extract<Message, { type: 'append-entries' }>

/** The append up to its first uncommitted proposal later than `latest`, and whether entries were taken off its end. */
export function withholdLate(append: Append, latest: number): { message: Append; withheld: boolean } {
  const { entries, leaderCommit } = append
  const first = entries.findIndex(entry => entry.index > leaderCommit && timeOf(entry) > latest)
  if (first < 0) return { message: append, withheld: false }
  return { message: { ...append, entries: entries.slice(0, first) }, withheld: true }
}

/** Configuration and no-op entries have none, and neither has what makes no block. */
function timeOf({ type, data }: Entry): number {
  const time = type === 'command' ? proposalTime(data) : undefined
  return time ?? Number.NEGATIVE_INFINITY
}

export interface LateProposalsParts {
  readonly clocks: Pick<ClockExchange, 'latestAcceptable' | 'gaveWay'>
  readonly raft: Pick<RaftConfig, 'electionTimeoutTicks'>
  readonly recovered: Pick<Recovered, 'entries'>
}

/** Of one replica: what it takes from a leader, and when it gives way as one (sit-out.ts). */
export class LateProposals {
  readonly #clocks: LateProposalsParts['clocks']
  readonly #sitOut: SitOut
  /** Times of the proposals in this log that are not committed, by index: as many as Raft lets be uncommitted. */
  readonly #uncommitted = new Map<number, number>()

  constructor({ clocks, raft, recovered }: LateProposalsParts) {
    this.#clocks = clocks
    this.#sitOut = new SitOut(raft.electionTimeoutTicks)
    this.#appended(recovered.entries)
  }

  /** True while this leader keeps silent, so that one is elected whose log others can follow. */
  get sitsOut(): boolean {
    return this.#sitOut.sits
  }

  withheldFrom(append: Append): ReturnType<typeof withholdLate> {
    return withholdLate(append, this.#clocks.latestAcceptable())
  }

  /** What Raft makes durable. */
  persists(write: Pick<LogWrite, 'truncateAfter' | 'entries'>, snapshot: SnapshotMeta | undefined): void {
    const { truncateAfter = Number.POSITIVE_INFINITY, entries } = write
    const from = snapshot?.lastIncludedIndex ?? 0
    for (const index of this.#uncommitted.keys())
      if (index > truncateAfter || index <= from) this.#uncommitted.delete(index)
    this.#appended(entries)
  }

  committed(index: number): void {
    this.#uncommitted.delete(index)
  }

  tick({ role, leader }: Leadership): void {
    const leads = role === 'leader'
    const isLate = leads && this.#exceeds(this.#clocks.latestAcceptable())
    if (this.#sitOut.tick({ isLate, follows: !leads && leader !== undefined })) this.#clocks.gaveWay()
  }

  #appended(entries: readonly Entry[]): void {
    for (const entry of entries) {
      const time = timeOf(entry)
      if (Number.isFinite(time)) this.#uncommitted.set(entry.index, time)
    }
  }

  #exceeds(latest: number): boolean {
    for (const time of this.#uncommitted.values()) if (time > latest) return true
    return false
  }
}
