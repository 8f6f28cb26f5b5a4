/**
 * What a leader puts into the log, and when: blocks (`Producer` decides, `Proposer` proposes) and the steps of a change of
 * members (membership-driver.ts).
 *
 * Source: "blocks on demand" (docs/ARCHITECTURE.md). Rules:
 *   - idle: a waiting transaction is proposed at once;
 *   - under load: while a proposal is uncommitted, what arrives gathers, so blocks grow by themselves (no timer to
 *     tune); another one follows before that only if it carries `pipelinedTransactions`, because a block has a price of
 *     its own (messages, signatures, syncs) that a small one does not earn, and at most `blocksInFlight` are uncommitted;
 *   - quiet: after `heartbeatMs` without a block, an empty heartbeat block renews the certified time, because a
 *     frozen header is how a revoked key would stay "valid";
 *   - committed − certified over `certificationLagMax`: no more blocks, since nobody could prove what is in them.
 */
import { proposalCodec } from '../../chain/block.ts'
import type { DeviceId, Milliseconds, TransactionId } from '../../chain/brands.ts'
import { encode } from '../../chain/codec.ts'
import type { Raft } from '../../consensus/raft.ts'
import type { Configuration, Effect, Entry, Input } from '../../consensus/types.ts'
import type { LiveChain } from '../ledger/live-chain.ts'
import type { Clock } from '../ports.ts'
import type { ClockExchange } from './block-time.ts'
import { type MembershipDriver, membershipContext } from './membership-driver.ts'
import type { Mempool } from './mempool.ts'

export interface ProducerLimits {
  readonly transactionsPerBlock: number
  readonly bytesPerBlock: number
  readonly blocksInFlight: number
  /** Fewer waiting transactions do not make a block beside one that is in flight. */
  readonly pipelinedTransactions: number
  readonly certificationLagMax: number
  readonly heartbeatMs: number
}

export const defaultProducerLimits: ProducerLimits = {
  transactionsPerBlock: 2_000,
  bytesPerBlock: 1024 * 1024,
  blocksInFlight: 2,
  pipelinedTransactions: 500,
  certificationLagMax: 64,
  heartbeatMs: 60_000,
}

/** What the leader knows when it asks. Heights are plain numbers here: they are only subtracted. */
export interface ProducerView {
  /** What the next block's time is to be. */
  readonly time: Milliseconds
  readonly committedHeight: number
  readonly certifiedHeight: number
  /** Since this node last executed a block, by the steady clock; for ever for a new leader. */
  readonly quietMs: number
  /** Time of that block. It lags behind `time` after a long stop, because one block moves it by a day at most. */
  readonly blockTime: Milliseconds
}

export type Cut =
  | {
      readonly type: 'block' | 'heartbeat'
      readonly context: number
      readonly ids: readonly TransactionId[]
      readonly transactions: readonly Uint8Array[]
    }
  | { readonly type: 'wait'; readonly reason: 'nothing-to-do' | 'in-flight' | 'certification-lag' }

/** Decides only; the proposer proposes and reports back with `settled`. */
export class Producer {
  readonly #mempool: Mempool
  readonly #limits: ProducerLimits
  readonly #inFlight = new Map<number, readonly TransactionId[]>()
  #nextContext = 1

  constructor(mempool: Mempool, limits: ProducerLimits) {
    this.#mempool = mempool
    this.#limits = limits
  }

  get blocksInFlight(): number {
    return this.#inFlight.size
  }

  /** The next proposal, or why there is none. What it returns counts as in flight until `settled`. */
  cut(view: ProducerView): Cut {
    const { blocksInFlight, pipelinedTransactions } = this.#limits
    const inFlightMax = this.#mempool.waiting < pipelinedTransactions ? 1 : blocksInFlight
    if (this.#inFlight.size >= inFlightMax) return { type: 'wait', reason: 'in-flight' }
    const uncertified = view.committedHeight + this.#inFlight.size - view.certifiedHeight
    if (uncertified > this.#limits.certificationLagMax) return { type: 'wait', reason: 'certification-lag' }
    const taken = this.#mempool.take({
      transactions: this.#limits.transactionsPerBlock,
      bytes: this.#limits.bytesPerBlock,
    })
    if (taken.length === 0) {
      const quietMs = Math.max(view.quietMs, view.time - view.blockTime)
      if (this.#inFlight.size > 0 || quietMs < this.#limits.heartbeatMs)
        return { type: 'wait', reason: 'nothing-to-do' }
    }
    const context = this.#nextContext++
    const ids = taken.map(transaction => transaction.id)
    this.#inFlight.set(context, ids)
    return {
      type: taken.length === 0 ? 'heartbeat' : 'block',
      context,
      ids,
      transactions: taken.map(transaction => transaction.bytes),
    }
  }

  /** The proposal was committed (its transactions leave the mempool) or refused (they wait again). */
  settled(context: number, outcome: 'committed' | 'refused'): void {
    const ids = this.#inFlight.get(context)
    if (!ids) return
    this.#inFlight.delete(context)
    if (outcome === 'committed') this.#mempool.remove(ids)
    else this.#mempool.putBack(ids)
  }

  /** Leadership was lost: whether the proposals in flight commit is decided by others now. */
  reset(): void {
    this.#inFlight.clear()
    this.#mempool.clear()
  }
}

export interface ProposerParts {
  readonly clock: Clock
  /** The voters' time (block-time.ts); undefined while nobody can say. */
  readonly clocks: Pick<ClockExchange, 'time'>
  readonly chain: LiveChain
  readonly producer: Producer
  readonly membership: MembershipDriver
  readonly id: DeviceId
}

/** Each proposal gets a context, and learns by it what became of it. */
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

  /**
   * The next thing to be put into the log, if there is one. `applied` is on disk; `configuration` is the replica's. Steps of a
   * change of members come first, and no block stands beside one (members.ts says why).
   */
  next(applied: number, configuration: Configuration): Input | undefined {
    if (!this.#leading) return undefined
    const { membership, clocks } = this.#parts
    const time = clocks.time()
    const isSettled = () => applied === this.#raft.status.lastLogIndex
    const step = membership.next({ applied, isSettled, configuration, time, inStep: this.#inStep })
    if (step === 'hold') return undefined
    return step ?? this.#block(time)
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
