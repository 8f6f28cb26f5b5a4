/**
 * When the leader cuts a block, and what goes into it.
 *
 * Source: "blocks on demand" (docs/ARCHITECTURE.md). Rules:
 *   - idle: a waiting transaction is proposed at once;
 *   - under load: while a proposal is uncommitted, what arrives gathers, so blocks grow by themselves (no timer to
 *     tune); another one follows before that only if it carries `pipelinedTransactions`, because a block has a price of
 *     its own (messages, signatures, syncs) that a small one does not earn, and at most `blocksInFlight` are uncommitted;
 *   - quiet: after `heartbeatMs` without a block, an empty heartbeat block renews the certified time, because a
 *     frozen header is how a revoked key would stay "valid";
 *   - committed − certified over `certificationLagMax`: no more blocks, since nobody could prove what is in them.
 * It decides only; the replica proposes and reports back with `settled`.
 */
import type { Milliseconds, TransactionId } from '../../chain/brands.ts'
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

export class Producer {
  readonly #mempool: Mempool
  readonly #limits: ProducerLimits
  readonly #inFlight = new Map<number, readonly TransactionId[]>()
  #nextContext = 1

  constructor(mempool: Mempool, limits: ProducerLimits = defaultProducerLimits) {
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
