/**
 * What a leader puts into the log: blocks that the producer cuts, and the steps of a change of members. Each gets a
 * context, and learns by it what became of it.
 */
import { proposalCodec } from '../../chain/block.ts'
import type { DeviceId, Milliseconds } from '../../chain/brands.ts'
import { encode } from '../../chain/codec.ts'
import type { Raft } from '../../consensus/raft.ts'
import type { Configuration, Effect, Entry, Input } from '../../consensus/types.ts'
import type { LiveChain } from '../ledger/live-chain.ts'
import type { Clock } from '../ports.ts'
import type { ClockExchange } from './clock-exchange.ts'
import { type MembershipDriver, membershipContext } from './membership-driver.ts'
import type { Producer } from './producer.ts'

export interface ProposerParts {
  readonly clock: Clock
  /** The voters' time (clock-exchange.ts); undefined while nobody can say. */
  readonly clocks: Pick<ClockExchange, 'time'>
  readonly chain: LiveChain
  readonly producer: Producer
  readonly membership: MembershipDriver
  readonly id: DeviceId
}

export class Proposer {
  readonly #parts: ProposerParts
  readonly #raft: Pick<Raft, 'status'>
  readonly #electionTimeoutTicks: number
  /** Index of a proposal in the log to its context in the producer. */
  readonly #proposals = new Map<number, { readonly context: number; readonly term: number }>()
  #leading = false
  #lastBlockAt: number
  /** False from a refused proposal to the next tick. */
  #proposing = true

  constructor(parts: ProposerParts, raft: Pick<Raft, 'status'>, electionTimeoutTicks: number) {
    this.#parts = parts
    this.#raft = raft
    this.#electionTimeoutTicks = electionTimeoutTicks
    this.#lastBlockAt = parts.clock.steady()
  }

  /** This node leads. It renews the certified time at once: nobody knows how long there was none. */
  leads(lastLogIndex: number): void {
    if (this.#leading) return
    this.#leading = true
    this.#lastBlockAt = Number.NEGATIVE_INFINITY
    this.#parts.membership.leads(lastLogIndex)
  }

  follows(): void {
    if (!this.#leading) return
    this.#leading = false
    this.#proposals.clear()
    this.#parts.producer.reset()
    this.#parts.membership.follows()
  }

  tick(): void {
    this.#proposing = true
    this.#parts.membership.tick()
  }

  /** A block was executed, or a snapshot took its place. */
  blockExecuted(): void {
    this.#lastBlockAt = this.#parts.clock.steady()
  }

  /** The next thing to be put into the log, if there is one. `applied` and `configuration` are the replica's. */
  next(applied: number, configuration: Configuration): Input | undefined {
    if (!this.#leading) return undefined
    const { membership, clocks } = this.#parts
    const time = clocks.time()
    return this.#block(time) ?? membership.next(applied, configuration, time, this.#inStep)
  }

  proposed({ context, firstIndex, term }: Extract<Effect, { type: 'proposed' }>): void {
    if (context === membershipContext) this.#parts.membership.proposed(firstIndex)
    else this.#proposals.set(firstIndex, { context, term })
  }

  /** At once again would be refused again, for ever: the next tick tries. */
  refused(effect: Extract<Effect, { type: 'refused' }>): void {
    if (effect.context === membershipContext) {
      this.#parts.membership.refused(effect)
      return
    }
    this.#parts.producer.settled(effect.context, 'refused')
    this.#proposing = false
  }

  committed(entry: Entry): void {
    const proposal = this.#proposals.get(entry.index)
    if (!proposal) return
    this.#proposals.delete(entry.index)
    this.#parts.producer.settled(proposal.context, proposal.term === entry.term ? 'committed' : 'refused')
  }

  /** This full node takes the log and has answered lately, so its disk keeps up. */
  readonly #inStep = (id: DeviceId): boolean => {
    const follower = this.#raft.status.followers.get(id)
    const answers = follower?.state === 'replicate' && follower.silentTicks <= this.#electionTimeoutTicks
    return answers || id === this.#parts.id
  }

  #block(time: Milliseconds | undefined): Input | undefined {
    if (!this.#proposing || time === undefined) return undefined
    const { producer, chain, clock } = this.#parts
    const cut = producer.cut({
      time,
      committedHeight: chain.height,
      certifiedHeight: chain.certifiedHeight,
      quietMs: clock.steady() - this.#lastBlockAt,
      blockTime: chain.time,
    })
    if (cut.type === 'wait') return undefined
    const { type, transactions, context } = cut
    const data = encode(proposalCodec, { version: 1, type, time, transactions })
    return { type: 'propose', data: [data], context }
  }
}
