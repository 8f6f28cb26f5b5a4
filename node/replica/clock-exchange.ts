/**
 * Shows this node's clock to the other members, hears theirs, and says whose is odd. What time follows from it is in
 * voter-clocks.ts; when it does so, the replica's ticks decide.
 */
import type { DeviceId, Milliseconds } from '../../chain/brands.ts'
import type { LiveChain } from '../ledger/live-chain.ts'
import type { Members } from '../ledger/members.ts'
import type { Clock, ClockSample, Network } from '../ports.ts'
import { clockBoundMs, type OddClock, VoterClocks } from './voter-clocks.ts'

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
