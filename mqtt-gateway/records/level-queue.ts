/** The queue on this machine's disk: in the gateway's data directory, for one gateway, bounded. It survives `kill -9`. */

import type { Milliseconds } from '../../chain/brands.ts'
import { assert, ok, type Result } from '../../chain/result.ts'
import { systemClock } from '../../client/clock.ts'
import { DurableQueue, type QueueEntry } from '../../client/durable-queue.ts'
import type { MessageStore } from '../../client/message-store.ts'
import type { Shard } from '../protocol/sharded-topics.ts'
import {
  maxBatchBytes,
  maxBatchTransactions,
  type QueuedTransaction,
  type TransactionBatch,
  type TransactionQueue,
} from './transaction-queue.ts'

/** What may wait: as many transactions, and bytes. */
export const defaultLevelQueueLimits = { messages: 65_536, bytes: 64 * 1024 * 1024 }

interface TakenBatch extends TransactionBatch {
  readonly entries: readonly QueueEntry[]
}

/** One at a time takes from a shard. */
export class LevelQueue implements TransactionQueue {
  /** A disk that fails says so to whoever asks. */
  readonly failure = undefined
  readonly #queue: DurableQueue
  readonly #now: () => Milliseconds
  readonly #taken = new Map<Shard, TakenBatch>()
  /** Who waits for something in a shard, or for its batch to be done. */
  readonly #waiting = new Map<Shard, () => void>()
  #isClosed = false

  private constructor(queue: DurableQueue, now: () => Milliseconds) {
    this.#queue = queue
    this.#now = now
  }

  /** The queue as it was left in this store. Throws `storage-corrupt`, `storage-failed`. */
  static async open(
    store: MessageStore,
    limits: { readonly messages: number; readonly bytes: number } = defaultLevelQueueLimits,
    now: () => Milliseconds = systemClock.wall,
  ): Promise<LevelQueue> {
    // A transaction expires by itself: none is dropped for its age.
    const ageMs = Number.POSITIVE_INFINITY
    return new LevelQueue(await DurableQueue.open(store, 'queue/', { ...limits, ageMs }), now)
  }

  async add({ shard, bytes }: QueuedTransaction): Promise<Result<void>> {
    const added = await this.#queue.add({ lane: shard, body: bytes, now: this.#now() })
    if (!added.ok) return added
    this.#wake(shard)
    return ok(undefined)
  }

  async take(shard: Shard, signal: AbortSignal): Promise<TransactionBatch | undefined> {
    while (!this.#isClosed && !signal.aborted) {
      const entries = this.#taken.has(shard) ? [] : this.#nextOf(shard)
      if (entries.length > 0) {
        const transactions = await Promise.all(entries.map(entry => this.#queue.read(entry)))
        const batch = { shard, entries, transactions }
        this.#taken.set(shard, batch)
        return batch
      }
      await this.#woken(shard, signal)
    }
    return undefined
  }

  async done(batch: TransactionBatch, back: readonly Uint8Array[] = []): Promise<void> {
    const taken = this.#taken.get(batch.shard)
    assert(taken === batch, 'a batch is done once, by who took it')
    await this.#queue.replaceHeads(taken.entries, back, this.#now())
    this.#taken.delete(batch.shard)
    this.#wake(batch.shard)
  }

  async close(): Promise<void> {
    this.#isClosed = true
    for (const wake of [...this.#waiting.values()]) wake()
  }

  #nextOf(shard: Shard): readonly QueueEntry[] {
    const heads = this.#queue.heads(shard, maxBatchTransactions)
    let size = 0
    const end = heads.findIndex(({ bytes }, index) => {
      size += bytes
      return index > 0 && size > maxBatchBytes
    })
    return end < 0 ? heads : heads.slice(0, end)
  }

  #wake(shard: Shard): void {
    this.#waiting.get(shard)?.()
  }

  #woken(shard: Shard, signal: AbortSignal): Promise<void> {
    assert(!this.#waiting.has(shard), 'one at a time takes from a shard')
    const { promise, resolve } = Promise.withResolvers<void>()
    const wake = () => resolve()
    this.#waiting.set(shard, wake)
    signal.addEventListener('abort', wake, { once: true })
    return promise.finally(() => {
      signal.removeEventListener('abort', wake)
      this.#waiting.delete(shard)
    })
  }
}
