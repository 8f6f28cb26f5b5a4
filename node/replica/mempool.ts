/**
 * Transactions that wait for a block: bounded, by id, fair between signers.
 *
 * Invariants:
 *   - an id is held once, from its admission until it is executed, expires, or is given up;
 *   - never more than `transactions` and `bytes` of the ordinary lane, nor `perSigner` of one signer;
 *   - what only an operator may ask for (grants, suspensions, revocations, governance) has a lane of its own, with room for every
 *     operator's quota: nobody else, nor another operator, keeps a stolen key alive or a hostile member in office by filling it;
 *   - what a device ends of its own keys has another one; a device may wait there for as many revocations as it has keys;
 *   - `take` returns the operators' lane first, then the devices' revocations, then the rest, each in admission order.
 * It does not judge a transaction: signature, permission and replay are checked before `add`.
 */
import type { DeviceId, Milliseconds, TransactionId } from '../../chain/brands.ts'
import { assert, ok, type Result, refuse } from '../../chain/result.ts'

/** In the order in which they are taken. */
const lanesInOrder = ['operator', 'revocation', 'ordinary'] as const
export type Lane = (typeof lanesInOrder)[number]

/** Whose quota is used: a signer's, or that of all newcomers together, since a newcomer can make up as many ids as it likes. */
export type QuotaHolder = DeviceId | 'newcomers'

/** What the mempool must know of a transaction; `bytes` is its wire form. */
export interface PendingTransaction {
  readonly id: TransactionId
  readonly signer: QuotaHolder
  readonly expiry: Milliseconds
  readonly lane: Lane
  readonly bytes: Uint8Array
}

export interface MempoolLimits {
  readonly transactions: number
  readonly bytes: number
  readonly perSigner: number
  readonly revocations: number
  readonly revocationsPerSigner: number
  readonly operatorTransactions: number
  readonly perOperator: number
}

export const defaultMempoolLimits: MempoolLimits = {
  transactions: 20_000,
  bytes: 16 * 1024 * 1024,
  perSigner: 1_000,
  revocations: 2_000,
  revocationsPerSigner: 8,
  operatorTransactions: 8_000,
  perOperator: 500,
}

interface Held {
  readonly transaction: PendingTransaction
  /** True from `take` until `remove` or `putBack`: it is in a proposed block. */
  taken: boolean
}

interface LaneState {
  readonly most: { readonly count: number; readonly bytes: number; readonly perSigner: number }
  readonly queue: Map<TransactionId, PendingTransaction>
  readonly perSigner: Map<QuotaHolder, number>
  /** Waiting and taken transactions. */
  count: number
  bytes: number
}

function emptyLane(count: number, perSigner: number, bytes = Number.POSITIVE_INFINITY): LaneState {
  return { most: { count, bytes, perSigner }, queue: new Map(), perSigner: new Map(), count: 0, bytes: 0 }
}

export class Mempool {
  readonly #held = new Map<TransactionId, Held>()
  readonly #lanes: Readonly<Record<Lane, LaneState>>

  constructor(limits: MempoolLimits) {
    this.#lanes = {
      operator: emptyLane(limits.operatorTransactions, limits.perOperator),
      revocation: emptyLane(limits.revocations, limits.revocationsPerSigner),
      ordinary: emptyLane(limits.transactions, limits.perSigner, limits.bytes),
    }
  }

  /** Transactions held, those in proposed blocks included. */
  get size(): number {
    return this.#held.size
  }

  /** Transactions that `take` could return. */
  get waiting(): number {
    return Object.values(this.#lanes).reduce((sum, { queue }) => sum + queue.size, 0)
  }

  get bytes(): number {
    return Object.values(this.#lanes).reduce((sum, { bytes }) => sum + bytes, 0)
  }

  has(id: TransactionId): boolean {
    return this.#held.has(id)
  }

  /** Admits a checked transaction. The same id again is no error. Codes: `overloaded`, `rate-limited`. */
  add(transaction: PendingTransaction): Result<'added' | 'present'> {
    if (this.#held.has(transaction.id)) return ok('present')
    const lane = this.#lanes[transaction.lane]
    const { most } = lane
    if (lane.count >= most.count || lane.bytes + transaction.bytes.length > most.bytes)
      return refuse('overloaded', `mempool: expected room, got ${lane.count} transactions waiting`)
    const ofSigner = lane.perSigner.get(transaction.signer) ?? 0
    if (ofSigner >= most.perSigner)
      return refuse('rate-limited', `signer: expected at most ${most.perSigner} transactions waiting`)
    this.#held.set(transaction.id, { transaction, taken: false })
    lane.queue.set(transaction.id, transaction)
    lane.perSigner.set(transaction.signer, ofSigner + 1)
    lane.count += 1
    lane.bytes += transaction.bytes.length
    return ok('added')
  }

  /** The next transactions for a block, in order. They stay held (as taken) until `remove` or `putBack`. */
  take(limits: { readonly transactions: number; readonly bytes: number }): PendingTransaction[] {
    const taken: PendingTransaction[] = []
    let bytes = 0
    for (const { queue } of lanesInOrder.map(name => this.#lanes[name])) {
      for (const [id, transaction] of queue) {
        if (taken.length >= limits.transactions) return taken
        if (taken.length > 0 && bytes + transaction.bytes.length > limits.bytes) return taken
        const held = this.#held.get(id)
        assert(held && !held.taken, 'a queued transaction is held and not taken')
        held.taken = true
        queue.delete(id)
        bytes += transaction.bytes.length
        taken.push(transaction)
      }
    }
    return taken
  }

  /** Returns taken transactions to the queue (their proposal was refused). Unknown ids are skipped. */
  putBack(ids: Iterable<TransactionId>): void {
    for (const id of ids) {
      const held = this.#held.get(id)
      if (!held?.taken) continue
      held.taken = false
      this.#lanes[held.transaction.lane].queue.set(id, held.transaction)
    }
  }

  /** Forgets transactions that were executed or given up. Unknown ids are skipped. */
  remove(ids: Iterable<TransactionId>): void {
    for (const id of ids) {
      const held = this.#held.get(id)
      if (held) this.#forget(held.transaction)
    }
  }

  /** Forgets what can no longer enter a block at `time`, and returns the ids. Linear in `size`: call it per tick. */
  expire(time: Milliseconds): TransactionId[] {
    const expired: TransactionId[] = []
    for (const { transaction, taken } of this.#held.values()) {
      if (taken || transaction.expiry >= time) continue
      expired.push(transaction.id)
      this.#forget(transaction)
    }
    return expired
  }

  /** Forgets everything (leadership was lost: the nodes that took the transactions in send them on again). */
  clear(): void {
    this.#held.clear()
    for (const lane of Object.values(this.#lanes)) {
      lane.queue.clear()
      lane.perSigner.clear()
      lane.count = 0
      lane.bytes = 0
    }
  }

  #forget(transaction: PendingTransaction): void {
    this.#held.delete(transaction.id)
    const lane = this.#lanes[transaction.lane]
    lane.queue.delete(transaction.id)
    lane.count -= 1
    lane.bytes -= transaction.bytes.length
    const ofSigner = (lane.perSigner.get(transaction.signer) ?? 1) - 1
    if (ofSigner === 0) lane.perSigner.delete(transaction.signer)
    else lane.perSigner.set(transaction.signer, ofSigner)
  }
}
