/**
 * Keeps proposals that lie in the future out of a follower's log, so that a leader which takes its own clock for the
 * voters' cannot get a majority for it (docs/CONSENSUS.md, "Block time").
 *
 * A leader may send any number of entries in one append, and a follower may take any first part of them: the rest counts
 * as lost and comes again. So an append is cut before its first proposal that is too late, and passes when the time has come.
 * Committed entries always pass: a majority holds them already.
 */
import { proposalTime } from '../../chain/block.ts'
import type { Entry, Message, Config as RaftConfig, Recovered, SnapshotMeta } from '../../consensus/types.ts'
import type { Leadership } from '../ledger/node-events.ts'
import type { LogWrite } from '../ports.ts'
import type { ClockExchange } from './voter-clocks.ts'

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

/** Decides for one replica which proposals of a leader it takes, and when it gives way as a leader. */
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
    // Most appends are empty, and the clocks need not be asked.
    return withholdLate(append, append.entries.length === 0 ? 0 : this.#clocks.latestAcceptable())
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

/*
 * When a leader gives way whose own log holds what no follower takes.
 *
 * A proposal can turn out to be too late after it was made: the clocks that a majority seemed to have reached were wrong one
 * after another, or a majority was wrong and was set right. It is in this leader's log, followers cut it off, and nothing
 * behind it commits until its time has come, which may take an hour. A leader cannot take an entry back; another leader,
 * which lacks it, overwrites it. So this one keeps silent (no ticks, no proposals) until another is elected. If a majority
 * holds the entry, nobody else can be; then this one leads on after `sitOutTimeouts`, and the entry commits, since followers
 * that have it do not take it again.
 *
 * Time is counted in ticks and in election timeouts.
 */

/** How long a leader waits for a late proposal's time to come: delays of clocks pass by themselves. */
const patienceTimeouts = 3
/** How long it keeps silent: others hold an election twice in this time. */
const sitOutTimeouts = 6

export class SitOut {
  readonly #electionTimeoutTicks: number
  #lateTicks = 0
  #left = 0

  constructor(electionTimeoutTicks: number) {
    this.#electionTimeoutTicks = electionTimeoutTicks
  }

  get sits(): boolean {
    return this.#left > 0
  }

  /** One tick. `isLate`: this node leads and has such a proposal. `follows`: another leads. True if it falls silent now. */
  tick({ isLate, follows }: { readonly isLate: boolean; readonly follows: boolean }): boolean {
    this.#left = follows ? 0 : Math.max(0, this.#left - 1)
    this.#lateTicks = isLate && this.#left === 0 ? this.#lateTicks + 1 : 0
    if (this.#lateTicks <= patienceTimeouts * this.#electionTimeoutTicks) return false
    this.#lateTicks = 0
    this.#left = sitOutTimeouts * this.#electionTimeoutTicks
    return true
  }
}
