/**
 * Shows this node's clock to the other members, hears theirs, and says whose is odd. What time follows from it is in
 * voter-clocks.ts; when it does so, the replica's ticks decide.
 */
import type { DeviceId, Milliseconds } from '../../chain/brands.ts'
import type { Configuration } from '../../consensus/types.ts'
import type { Clock, ClockSample, Network } from '../ports.ts'
import { clockBoundMs, type OddClock, VoterClocks } from './voter-clocks.ts'

export interface ClockExchangeParts {
  readonly id: DeviceId
  readonly clock: Clock
  readonly network: Pick<Network, 'send'>
  /** Everybody else who keeps this chain. */
  readonly others: () => ReadonlySet<string>
  readonly configuration: () => Configuration
  /** Time of the newest certified block. */
  readonly certifiedTime: () => Milliseconds
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
    return this.#clocks.time(this.#parts.configuration())
  }

  /**
   * A proposal after this is not taken into the log: it comes from a clock that is wrong. Of one or two voters none is a
   * minority, so there is nobody to be kept from moving the time, and a proposal that nobody took would stay for ever.
   */
  latestAcceptable(): number {
    const configuration = this.#parts.configuration()
    const { voters, votersOutgoing } = configuration
    if (Math.max(voters.length, votersOutgoing.length) < 3) return Number.POSITIVE_INFINITY
    const certified: number = this.#parts.certifiedTime()
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
    for (const peer of this.#parts.others()) this.#parts.network.send(peer as DeviceId, message)
    this.#watch()
  }

  /** A peer connected: it may have heard no clock yet. */
  connected(peer: DeviceId): void {
    if (this.#parts.others().has(peer)) this.#parts.network.send(peer, this.#shown())
  }

  heard(from: DeviceId, samples: readonly ClockSample[]): void {
    this.#clocks.heard(from, samples, this.#parts.configuration())
  }

  #shown(): { readonly type: 'clocks'; readonly samples: readonly ClockSample[] } {
    return { type: 'clocks', samples: this.#clocks.show(this.#parts.configuration()) }
  }

  #watch(): void {
    const before = new Set(this.#odd.map(({ id }) => id))
    this.#odd = this.#clocks.odd(this.#parts.configuration())
    for (const { id, offsetMs } of this.#odd)
      if (!before.delete(id)) this.#parts.log({ node: id, offsetMs }, 'the clock of a node is wrong')
    for (const node of before) this.#parts.log({ node }, 'the clock of a node is right again')
  }
}
