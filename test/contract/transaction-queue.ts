/** What every queue of signed transactions promises (mqtt-gateway/records/transaction-queue.ts). */
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import type { TransactionId } from '../../chain/brands.ts'
import type { Shard } from '../../mqtt-gateway/protocol/sharded-topics.ts'
import {
  maxBatchBytes,
  maxBatchTransactions,
  type QueuedTransaction,
  type TransactionBatch,
  type TransactionQueue,
} from '../../mqtt-gateway/records/transaction-queue.ts'

/** One queue, as it is opened and left by a test. */
export interface QueueUnderTest {
  /** The same queue, opened again after it was closed. */
  open(): Promise<TransactionQueue>
  /** Bytes that fit into it, nearly. */
  readonly capacityBytes: number
  dispose(): Promise<void>
}

/** Not a transaction: a queue does not look into what it holds. */
export function queuedText(text: string, shard: Shard = 'a', bytes = 0): QueuedTransaction {
  const id = Buffer.from(text).toString('hex').padEnd(64, '0').slice(0, 64) as TransactionId
  const padding = new Uint8Array(Math.max(0, bytes - text.length)).fill(32)
  return { id, shard, bytes: Buffer.concat([Buffer.from(text), padding]) }
}

export function textsOf(batch: TransactionBatch | undefined): readonly string[] {
  return (batch?.transactions ?? []).map(bytes => Buffer.from(bytes).toString('utf8').trimEnd())
}

export function transactionQueueContract(name: string, make: () => Promise<QueueUnderTest>): void {
  describe(`transaction queue: ${name}`, () => {
    let under: QueueUnderTest
    let queue: TransactionQueue
    beforeEach(async () => {
      under = await make()
      queue = await under.open()
    })
    afterEach(async () => {
      await queue.close()
      await under.dispose()
    })

    const add = async (...transactions: readonly QueuedTransaction[]) => {
      for (const each of transactions) expect(await queue.add(each)).toEqual({ ok: true, value: undefined })
    }
    const take = (shard: Shard = 'a') => queue.take(shard, AbortSignal.timeout(10_000))
    /** Batches until so many transactions were there. */
    const drain = async (count: number, shard: Shard = 'a') => {
      const texts: string[] = []
      while (texts.length < count) {
        const batch = await take(shard)
        if (!batch) break
        texts.push(...textsOf(batch))
        await queue.done(batch)
      }
      return texts
    }
    const isEmpty = async (shard: Shard = 'a') =>
      (await queue.take(shard, AbortSignal.timeout(300))) === undefined

    test('gives what was added in its order, also what is added side by side', async () => {
      await add(queuedText('1'), queuedText('2'))
      await Promise.all(['3', '4', '5'].map(text => queue.add(queuedText(text))))
      expect(await drain(5)).toEqual(['1', '2', '3', '4', '5'])
      expect(await isEmpty()).toBe(true)
    })

    test('one batch of a shard at a time: the next one waits until it is done, other shards do not', async () => {
      await add(queuedText('1'))
      const first = await take()
      expect(textsOf(first)).toEqual(['1'])
      await add(queuedText('2'), queuedText('other', 'b'))
      expect(await isEmpty()).toBe(true)
      expect(textsOf(await take('b'))).toEqual(['other'])
      const waiting = take()
      await queue.done(first!)
      expect(textsOf(await waiting)).toEqual(['2'])
    })

    test('wakes who waits when something comes, and ends the wait by the signal and when it is closed', async () => {
      const waiting = take()
      await add(queuedText('1'))
      expect(textsOf(await waiting)).toEqual(['1'])
      expect(await queue.take('b', AbortSignal.abort())).toBeUndefined()
      const closing = queue.take('c', new AbortController().signal)
      await queue.close()
      expect(await closing).toBeUndefined()
      queue = await under.open()
    })

    test('keeps what is not done, and what was not taken, over a restart; what is done is gone', async () => {
      await add(queuedText('1'))
      await queue.done((await take())!)
      await add(queuedText('2'))
      await take()
      await add(queuedText('3'))
      await queue.close()
      queue = await under.open()
      expect(await drain(2)).toEqual(['2', '3'])
    })

    test('a batch is bounded in transactions and in bytes', async () => {
      const many = Array.from({ length: maxBatchTransactions + 10 }, (_, i) => queuedText(`${i}`))
      await Promise.all(many.map(each => queue.add(each)))
      const seen: string[] = []
      while (seen.length < many.length) {
        const batch = await take()
        expect(batch!.transactions.length).toBeLessThanOrEqual(maxBatchTransactions)
        seen.push(...textsOf(batch))
        await queue.done(batch!)
      }
      expect(seen).toEqual(many.map((_, i) => `${i}`))
      const large = Array.from({ length: 40 }, (_, i) => queuedText(`large ${i}`, 'b', 16 * 1024))
      await Promise.all(large.map(each => queue.add(each)))
      let count = 0
      while (count < large.length) {
        const batch = await take('b')
        const size = batch!.transactions.reduce((sum, { length }) => sum + length, 0)
        expect(size).toBeLessThanOrEqual(maxBatchBytes)
        count += batch!.transactions.length
        await queue.done(batch!)
      }
    })

    test('refuses what does not fit as overloaded, keeps what it has, and takes again when there is room', async () => {
      const size = 16 * 1024
      const fitting = Math.floor(under.capacityBytes / size)
      let accepted = 0
      let refused: unknown
      while (!refused && accepted < 4 * fitting) {
        const added = await queue.add(queuedText(`${accepted}`, 'a', size))
        if (added.ok) accepted += 1
        else refused = added.error.code
      }
      expect(refused).toBe('overloaded')
      expect(accepted).toBeGreaterThanOrEqual(fitting / 2)
      expect(await drain(accepted)).toEqual(Array.from({ length: accepted }, (_, i) => `${i}`))
      await add(queuedText('again'))
      expect(await drain(1)).toEqual(['again'])
    })

    test('what goes back is behind what came later, once, over a restart too, and a full queue has room for it', async () => {
      const size = 16 * 1024
      let count = 0
      while (count < 4_096 && (await queue.add(queuedText(`${count}`, 'a', size))).ok) count += 1
      // Every batch once: each is taken off while the queue is full but for what went before.
      const first = (await take())!
      expect(textsOf(first)[0]).toBe('0')
      await queue.done(first, first.transactions)
      const second = (await take())!
      await queue.done(second, second.transactions.slice(-1))
      await queue.close()
      queue = await under.open()
      const others = Array.from({ length: count }, (_, i) => `${i}`).slice(
        first.transactions.length + second.transactions.length,
      )
      const expected = [...others, ...textsOf(first), textsOf(second).at(-1)]
      expect(await drain(expected.length)).toEqual(expected)
      expect(await isEmpty()).toBe(true)
    })
  })
}
