/**
 * Brings what waits in the queue to the chain: of each shard one batch at a time, all shards beside each other. A batch leaves the queue when
 * each of its transactions is final. One that a single node refuses, while no second one can be asked, goes to the end of the queue, so that it
 * holds nobody up.
 */
import { MoteError, unwrap } from '../../chain/result.ts'
import { type ParsedTransaction, parseTransaction } from '../../chain/transaction.ts'
import { pause } from '../../client/deadline.ts'
import type { Shard } from '../protocol/sharded-topics.ts'
import type { Settlement, Settler } from './settling.ts'
import { queued, type TransactionBatch, type TransactionQueue } from './transaction-queue.ts'

export interface PumpParts {
  readonly queue: TransactionQueue
  readonly settler: Pick<Settler, 'settle'>
  readonly shards: readonly Shard[]
  readonly signal: AbortSignal
  /** Told of each transaction that is final. */
  readonly onSettled: (transaction: ParsedTransaction, settlement: Settlement) => void
  /** Told of what is tried again, and of bytes in the queue that are no transaction. */
  readonly onError: (error: unknown) => void
}

const retryDelayMs = 500

/** Resolves after the signal has fired. */
export async function runPump(parts: PumpParts): Promise<void> {
  await Promise.all(parts.shards.map(shard => pumpShard(shard, parts)))
}

async function pumpShard(shard: Shard, parts: PumpParts): Promise<void> {
  const { queue, signal, onError } = parts
  while (!signal.aborted) {
    try {
      const batch = await queue.take(shard, signal)
      if (batch) await pumpBatch(batch, parts)
    } catch (error) {
      if (signal.aborted) return
      onError(error)
      await pause(retryDelayMs, signal)
    }
  }
}

async function pumpBatch(batch: TransactionBatch, parts: PumpParts): Promise<void> {
  const { settler, onSettled, onError } = parts
  const transactions = batch.transactions.flatMap(bytes => {
    const parsed = parseTransaction(bytes)
    if (!parsed.ok) onError(new MoteError('storage-corrupt', `queue: no transaction: ${parsed.error.detail}`))
    return parsed.ok ? [parsed.value] : []
  })
  const back: ParsedTransaction[] = []
  const settling = settler.settle(transactions).map(async (settlement, index) => {
    const transaction = transactions[index] as ParsedTransaction
    const final = await settlement
    if (final.type === 'unconfirmed') back.push(transaction)
    else onSettled(transaction, final)
  })
  await Promise.all(settling)
  await persist(async () => {
    while (back.length > 0) {
      // The batch keeps its place until there is room.
      unwrap(await parts.queue.add(queued(back[0] as ParsedTransaction)))
      back.shift()
    }
  }, parts)
  await persist(() => parts.queue.done(batch), parts)
}

/** Again and again: a batch that is not done would be waited for. */
async function persist(step: () => Promise<void>, { signal, onError }: PumpParts): Promise<void> {
  for (;;) {
    try {
      return await step()
    } catch (error) {
      if (signal.aborted) throw error
      onError(error)
      await pause(retryDelayMs, signal)
    }
  }
}
