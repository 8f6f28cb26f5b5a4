/**
 * What time it is by the voters' clocks, and what is done with a proposal that is later (docs/CONSENSUS.md, "Block time").
 *
 * The time is the latest one that a majority of the clocks have reached. `VoterClocks` holds what was heard, `ClockExchange`
 * shows this node's clock to the other members, hears theirs, and says whose is odd; `LateProposals` are further down.
 *
 * One clock may be wrong by any amount and in either direction, and a chain's time never goes back, so no single clock may
 * set it. Every voter shows its clock to every other member every `clockSampleEveryMs`, together with what it has heard of
 * the others'; a reading is carried on by the steady clock and forgotten after `clockSampleMaxAgeMs`. A voter without a
 * reading counts as one that has reached nothing, so what is missing can only make the answer earlier.
 *
 * Invariants:
 *   - fewer wrong clocks than a majority never bring the time beyond a clock that is right, or hold it back below one,
 *     as long as the others are heard (both halves in joint consensus);
 *   - readings that are passed on make the answer of whoever hears a leader at least that leader's own;
 *   - one's own word about one's own clock is never replaced by what another says of it while it is fresh.
 *
 * Delay on the way makes a reading late by as much, which is the safe direction.
 */
import { proposalTime } from '../../chain/block.ts'
import type { DeviceId, Milliseconds } from '../../chain/brands.ts'
import type { Configuration, Entry, Message, SnapshotMeta } from '../../consensus/types.ts'
import type { LiveChain } from '../ledger/live-chain.ts'
import type { Members } from '../ledger/members.ts'
import type { Leadership } from '../ledger/node-events.ts'
import { clockSampleMaxAgeMs, maxClockSamples } from '../network/wire.ts'
import type { Clock, ClockSample, LogWrite, Network } from '../ports.ts'

/** Members show their clocks this often. */
export const clockSampleEveryMs = 2_000
/**
 * How far a proposal may lie after a follower's own estimate, and a clock from the estimate before it is called odd: delay
 * on the way, and the drift of two clocks that are set by different servers.
 */
export const clockBoundMs = 5_000
/** A clock that was set by more than this shows itself at once. */
const jumpMs = 500

type Voters = Pick<Configuration, 'voters' | 'votersOutgoing'>
/** What each clock shows now; nothing of one that is not heard. */
type Readings = Pick<ReadonlyMap<string, number>, 'get'>

/** The latest time that a majority of `voters` have reached; undefined without readings of a majority. */
export function majorityTime(readings: Readings, voters: readonly string[]): number | undefined {
  const times: number[] = []
  for (const id of voters) {
    const time = readings.get(id)
    if (time !== undefined) times.push(time)
  }
  times.sort((a, b) => b - a)
  return times[Math.floor(voters.length / 2)]
}

/** The same in joint consensus: what a majority of either half has reached. */
export function votersTime(readings: Readings, { voters, votersOutgoing }: Voters): number | undefined {
  const time = majorityTime(readings, voters)
  if (votersOutgoing.length === 0 || time === undefined) return time
  const outgoing = majorityTime(readings, votersOutgoing)
  return outgoing === undefined ? undefined : Math.min(time, outgoing)
}

interface Reading {
  readonly wall: number
  /** When the clock showed it, by the steady clock here. */
  readonly at: number
  /** Told by the clock's own node. */
  readonly isDirect: boolean
}

/** A member whose clock is more than `clockBoundMs` from the voters' time. */
export interface OddClock {
  readonly id: DeviceId
  /** Ahead if positive. */
  readonly offsetMs: number
}

export class VoterClocks {
  readonly #id: DeviceId
  readonly #clock: Clock
  readonly #readings = new Map<DeviceId, Reading>()
  #shownAt = Number.NEGATIVE_INFINITY
  /** Wall minus steady time when the clock was last shown. */
  #shownOffset = 0

  constructor(id: DeviceId, clock: Clock) {
    this.#id = id
    this.#clock = clock
  }

  /** The voters' time now; undefined without fresh readings of a majority. */
  time(voters: Voters): Milliseconds | undefined {
    const time = votersTime(this.#now(), voters)
    return time === undefined ? undefined : (Math.floor(time) as Milliseconds)
  }

  /**
   * The latest time that a majority of either half has reached: what a follower goes by. Its log may hold a change of the
   * voters that is to be overwritten, and the leader then knows one half alone.
   */
  latest(voters: Voters): number | undefined {
    const now = this.#now()
    const halves = [voters.voters, voters.votersOutgoing].flatMap(ids => majorityTime(now, ids) ?? [])
    return halves.length === 0 ? undefined : Math.max(...halves)
  }

  /** True if it is time to show this node's clock: a while has passed, or somebody has set it. */
  isDue(): boolean {
    const steady = this.#clock.steady()
    const moved = Math.abs(this.#clock.wall() - steady - this.#shownOffset)
    return steady - this.#shownAt >= clockSampleEveryMs || moved > jumpMs
  }

  /** What to show: this node's clock, if it votes, and what it knows of other voters'. */
  show(voters: Voters): readonly ClockSample[] {
    const wall = this.#clock.wall()
    const steady = this.#clock.steady()
    this.#shownAt = steady
    this.#shownOffset = wall - steady
    this.#forgetOld(voters)
    const own = isVoter(voters, this.#id) ? [{ id: this.#id, wall, ageMs: 0 }] : []
    const others = [...this.#readings].map(([id, reading]) => ({
      id,
      wall: reading.wall as Milliseconds,
      ageMs: Math.ceil(steady - reading.at),
    }))
    return [...own, ...others].slice(0, maxClockSamples)
  }

  /** A member shows its clock, and what it knows. What it says of who does not vote here is not kept. */
  heard(from: DeviceId, samples: readonly ClockSample[], voters: Voters): void {
    const steady = this.#clock.steady()
    for (const { id, wall, ageMs } of samples) {
      if (id === this.#id || ageMs > clockSampleMaxAgeMs || !isVoter(voters, id)) continue
      const reading = { wall, at: steady - ageMs, isDirect: id === from }
      const known = this.#readings.get(id)
      if (!known || isExpired(known, steady) || supersedes(reading, known)) this.#readings.set(id, reading)
    }
  }

  /** Whose clock is more than `clockBoundMs` off, this node's own included. */
  odd(voters: Voters): readonly OddClock[] {
    const readings = this.#now()
    const time = votersTime(readings, voters)
    if (time === undefined) return []
    return [...new Set([this.#id, ...voters.voters, ...voters.votersOutgoing])]
      .map(id => ({ id: id as DeviceId, offsetMs: Math.round((readings.get(id) ?? time) - time) }))
      .filter(({ offsetMs }) => Math.abs(offsetMs) > clockBoundMs)
  }

  /** Asked for with every message: only what is read is computed. */
  #now(): Readings {
    const wall = this.#clock.wall()
    const steady = this.#clock.steady()
    return {
      get: id => {
        if (id === this.#id) return wall
        const reading = this.#readings.get(id as DeviceId)
        return reading && !isExpired(reading, steady) ? reading.wall + steady - reading.at : undefined
      },
    }
  }

  #forgetOld(voters: Voters): void {
    const steady = this.#clock.steady()
    for (const [id, reading] of this.#readings)
      if (isExpired(reading, steady) || !isVoter(voters, id)) this.#readings.delete(id)
  }
}

function isExpired({ at }: Reading, steady: number): boolean {
  return steady - at > clockSampleMaxAgeMs
}

/** A fresh word of the clock's own node stands until its next one. */
function supersedes(reading: Reading, known: Reading): boolean {
  if (reading.isDirect || known.isDirect) return reading.isDirect
  return reading.at > known.at
}

function isVoter({ voters, votersOutgoing }: Voters, id: string): boolean {
  return voters.includes(id) || votersOutgoing.includes(id)
}

/* What a node does with them; when, the replica's ticks decide. */

export interface ClockExchangeParts {
  readonly id: DeviceId
  readonly clock: Clock
  readonly network: Pick<Network, 'send'>
  readonly members: Pick<Members, 'others' | 'inForce'>
  readonly chain: Pick<LiveChain, 'certified'>
  /** Somebody's clock became odd, or is right again. */
  readonly log: (detail: object, message: string) => void
}

export class ClockExchange {
  readonly #parts: ClockExchangeParts
  readonly #clocks: VoterClocks
  #odd: readonly OddClock[] = []

  constructor(parts: ClockExchangeParts) {
    this.#parts = parts
    this.#clocks = new VoterClocks(parts.id, parts.clock)
  }

  /** The time of the next block; undefined while too few clocks are heard. */
  time(): Milliseconds | undefined {
    return this.#clocks.time(this.#parts.members.inForce)
  }

  /**
   * A proposal after this is not taken into the log: it comes from a clock that is wrong. Of one or two voters none is a
   * minority, so there is nobody to be kept from moving the time, and a proposal that nobody took would stay for ever.
   */
  latestAcceptable(): number {
    const configuration = this.#parts.members.inForce
    const { voters, votersOutgoing } = configuration
    if (Math.max(voters.length, votersOutgoing.length) < 3) return Number.POSITIVE_INFINITY
    const certified: number = this.#parts.chain.certified.header.time
    const time = this.#clocks.latest(configuration)
    return time === undefined ? certified : Math.max(certified, time + clockBoundMs)
  }

  /** Whose clock is odd, by what was heard last. */
  get odd(): readonly OddClock[] {
    return this.#odd
  }

  /** This leader keeps silent because its own proposals turned out to be too late. */
  gaveWay(): void {
    this.#parts.log({}, 'proposals here lie in the future of the voters: another node is to lead')
  }

  tick(): void {
    if (!this.#clocks.isDue()) return
    const message = this.#shown()
    for (const peer of this.#parts.members.others) this.#parts.network.send(peer as DeviceId, message)
    this.#watch()
  }

  /** A member connected: it may have heard no clock yet. */
  connected(peer: DeviceId): void {
    this.#parts.network.send(peer, this.#shown())
  }

  heard(from: DeviceId, samples: readonly ClockSample[]): void {
    this.#clocks.heard(from, samples, this.#parts.members.inForce)
  }

  #shown(): { readonly type: 'clocks'; readonly samples: readonly ClockSample[] } {
    return { type: 'clocks', samples: this.#clocks.show(this.#parts.members.inForce) }
  }

  #watch(): void {
    const before = new Set(this.#odd.map(({ id }) => id))
    this.#odd = this.#clocks.odd(this.#parts.members.inForce)
    for (const { id, offsetMs } of this.#odd)
      if (!before.delete(id)) this.#parts.log({ node: id, offsetMs }, 'the clock of a node is wrong')
    for (const node of before) this.#parts.log({ node }, 'the clock of a node is right again')
  }
}

/*
 * Keeps proposals that lie in the future out of a follower's log, so that a leader which takes its own clock for the
 * voters' cannot get a majority for it.
 *
 * A leader may send any number of entries in one append, and a follower may take any first part of them: the rest counts
 * as lost and comes again. So an append is cut before its first proposal that is too late, and passes when the time has come.
 * Committed entries always pass: a majority holds them already.
 */

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

/** Decides for one replica which proposals of a leader it takes, and when it gives way as a leader. */
export class LateProposals {
  readonly #clocks: Pick<ClockExchange, 'latestAcceptable' | 'gaveWay'>
  readonly #sitOut: SitOut
  /** Times of the proposals in this log that are not committed, by index: as many as Raft lets be uncommitted. */
  readonly #uncommitted = new Map<number, number>()

  /** @param log the entries that this node starts with */
  constructor(
    clocks: Pick<ClockExchange, 'latestAcceptable' | 'gaveWay'>,
    electionTimeoutTicks: number,
    log: readonly Entry[],
  ) {
    this.#clocks = clocks
    this.#sitOut = new SitOut(electionTimeoutTicks)
    this.#appended(log)
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
