/**
 * What must hold of block time, judged by the clocks of the simulated machines themselves: it is never beyond what a majority
 * of the voters' clocks had reached, although some of them are an hour off and some node goes by its own; and a follower
 * that keeps a late proposal out of its log takes what comes before it.
 */
import { proposalTime } from '../../chain/block.ts'
import type { Configuration, Entry, Message } from '../../consensus/types.ts'
import type { PeerMessage } from '../../node/ports.ts'
import type { Host, SimulatedProcess } from './host.ts'
import type { LogMirror } from './log-mirror.ts'
import { must } from './violation.ts'

/** Drift of one clock against another while a reading of it counts. */
const driftMs = 2_500
/** How far a follower lets a proposal be ahead: docs/CONSENSUS.md, "Block time". */
const boundMs = 5_000

type Append = Extract<Message, { type: 'append-entries' }>

export class TimeRules {
  readonly #host: (id: string) => Host | undefined
  /** The latest time that a majority has ever reached. */
  #latest = Number.NEGATIVE_INFINITY

  constructor(host: (id: string) => Host | undefined) {
    this.#host = host
  }

  /** A moment passes at a process with these voters. */
  look(configuration: Configuration): void {
    this.#latest = Math.max(this.#latest, this.#reached(configuration))
  }

  /** A leader appends entries of its own. */
  proposes({ host, name }: SimulatedProcess, entries: readonly Entry[], configuration: Configuration): void {
    if (host.goesByOwnClock) return
    const reached = this.#reached(configuration)
    for (const entry of entries) {
      const time = timeOf(entry)
      must(
        time <= reached + driftMs,
        'a proposal is not beyond what a majority of the clocks has reached',
        `${name} ${entry.index}: ${time - reached} ms`,
      )
    }
  }

  executes(name: string, time: number, parentTime: number): void {
    const latest = this.#latest + boundMs + driftMs
    must(
      time <= Math.max(latest, parentTime),
      'chain time is never beyond what a majority of the clocks has reached',
      `${name}: ${time - latest} ms`,
    )
  }

  /**
   * What the process must have in its log after this message: the first entry of an append that is cut further on. Said only
   * of one that follows this leader already, agrees with it, and has room.
   */
  due(process: SimulatedProcess, log: LogMirror, message: PeerMessage): Entry | undefined {
    const { node, host } = process
    if (message.type !== 'raft' || message.message.type !== 'append-entries' || !node) return undefined
    const append = message.message
    const { leader, term } = node.replica.leadership
    const follows = leader === append.from && term === append.term && !node.replica.stopped
    const hasRoom = Object.keys(host.site.limits).length === 0 && host.promisedUpTo === 0
    const agrees = log.termAt(append.prevLogIndex) === append.prevLogTerm
    if (!follows || !hasRoom || !agrees) return undefined
    const latest = node.clocks.latestAcceptable()
    const [first, ...rest] = append.entries
    if (!first || isLate(append, first, latest)) return undefined
    return rest.some(entry => isLate(append, entry, latest)) ? first : undefined
  }

  #reached({ voters, votersOutgoing }: Configuration): number {
    const halves = [voters, votersOutgoing].filter(({ length }) => length > 0)
    return Math.min(
      ...halves.map(ids => {
        const times = ids.map(id => this.#host(id)?.wall.reached ?? Number.NEGATIVE_INFINITY)
        times.sort((a, b) => a - b)
        // All but a minority have reached it.
        return times[Math.ceil(ids.length / 2) - 1] ?? Number.NEGATIVE_INFINITY
      }),
    )
  }
}

function timeOf({ type, data }: Pick<Entry, 'type' | 'data'>): number {
  return (type === 'command' ? proposalTime(data) : undefined) ?? Number.NEGATIVE_INFINITY
}

function isLate({ leaderCommit }: Append, entry: Entry, latest: number): boolean {
  return entry.index > leaderCommit && timeOf(entry) > latest
}
