/**
 * Brings what waits in the queue to the chain: of each shard one batch at a time, all shards beside each other. A batch leaves the queue when
 * each of its transactions is final. One that a single node refuses, while no second one can be asked, goes to the end of the queue in the same
 * step, so that it holds nobody up.
 */
import { MoteError } from '../../chain/result.ts'
import { type ParsedTransaction, parseTransaction } from '../../chain/transaction.ts'
import type { Clock } from '../../client/clock.ts'
import { pause } from '../../client/deadline.ts'
import type { Shard } from '../protocol/sharded-topics.ts'
import type { Settlement, Settler } from './settling.ts'
import type { TransactionBatch, TransactionQueue } from './transaction-queue.ts'

export interface PumpParts {
  readonly queue: TransactionQueue
  readonly settler: Pick<Settler, 'settle'>
  readonly shards: readonly Shard[]
  readonly signal: AbortSignal
  /** Told of each transaction that is final. */
  readonly onSettled: (transaction: ParsedTransaction, settlement: Settlement) => void
  /** Told of what is tried again, and of bytes in the queue that are no transaction. */
  readonly onError: (error: unknown) => void
  /** The machine's unless given. */
  readonly clock?: Clock | undefined
}

const retryDelayMs = 500

/** Resolves after the signal has fired. */
export async function runPump(parts: PumpParts): Promise<void> {
  await Promise.all(parts.shards.map(shard => pumpShard(shard, parts)))
}

async function pumpShard(shard: Shard, parts: PumpParts): Promise<void> {
  const { queue, signal, onError, clock } = parts
  while (!signal.aborted) {
    try {
      const batch = await queue.take(shard, signal)
      if (batch) await pumpBatch(batch, parts)
    } catch (error) {
      if (signal.aborted) return
      onError(error)
      await pause(retryDelayMs, signal, clock)
    }
  }
}

async function pumpBatch(batch: TransactionBatch, parts: PumpParts): Promise<void> {
  const { queue, signal, onError, clock } = parts
  let open: readonly ParsedTransaction[] = batch.transactions.flatMap(bytes => {
    const parsed = parseTransaction(bytes)
    if (!parsed.ok) onError(new MoteError('storage-corrupt', `queue: no transaction: ${parsed.error.detail}`))
    return parsed.ok ? [parsed.value] : []
  })
  for (;;) {
    open = await settleAll(open, parts)
    const back = open.map(({ bytes }) => bytes)
    try {
      return await queue.done(batch, back)
    } catch (error) {
      if (signal.aborted) throw error
      // A batch that is not done would be waited for, and what is open in it may be final by the next time.
      onError(error)
      await pause(retryDelayMs, signal, clock)
    }
  }
}

/** Those that are unconfirmed. */
async function settleAll(
  transactions: readonly ParsedTransaction[],
  { settler, onSettled }: PumpParts,
): Promise<readonly ParsedTransaction[]> {
  const settlements = settler.settle(transactions).map(async (settling, index) => {
    const settlement = await settling
    const transaction = transactions[index] as ParsedTransaction
    if (settlement.type === 'unconfirmed') return [transaction]
    onSettled(transaction, settlement)
    return []
  })
  return (await Promise.all(settlements)).flat()
}
