/**
 * Where signed transactions wait for the chain: a port with adapters on this machine's disk (level-queue.ts) and on NATS servers
 * (jetstream-queue.ts), and one contract suite for both (test/contract/transaction-queue.ts).
 *
 * A shard, the first digit of a device's id, is a queue of its own, and one batch of it at a time is with whoever took it. So the queue may
 * deliver a batch twice, or hold a transaction twice: the chain executes an id once, and nothing here counts on what the queue remembers.
 */
import type { DeviceId, TransactionId } from '../../chain/brands.ts'
import type { MoteError, Result } from '../../chain/result.ts'
import { attestedSources, type ParsedTransaction } from '../../chain/transaction.ts'
import { type Shard, shardOf } from '../protocol/sharded-topics.ts'

export interface QueuedTransaction {
  readonly id: TransactionId
  readonly shard: Shard
  /** Signed. */
  readonly bytes: Uint8Array
}

/** The device that a transaction speaks for: its signer, or of what is attested its source. */
export function sourceOf({ unsigned }: ParsedTransaction): DeviceId {
  const [source = unsigned.signer.deviceId] = attestedSources(unsigned.body)
  return source
}

/** A transaction in the shard of the device that it speaks for. */
export function queued(transaction: ParsedTransaction): QueuedTransaction {
  const { id, bytes } = transaction
  return { id, shard: shardOf(sourceOf(transaction)), bytes }
}

/** The oldest transactions of a shard, in order. */
export interface TransactionBatch {
  readonly shard: Shard
  readonly transactions: readonly Uint8Array[]
}

/** Transactions in one batch, and their bytes: a batch fits one message of a NATS server as it comes. */
export const maxBatchTransactions = 64
export const maxBatchBytes = 512 * 1024

export interface TransactionQueue {
  /** Why nothing gets in or out at the moment, as far as that is known. */
  readonly failure: MoteError | undefined
  /**
   * Resolves when the transaction is in the queue for good. Refuses `overloaded` when it is full, until what is in it has gone to the chain.
   * Throws `storage-failed`, `unreachable`.
   */
  add(transaction: QueuedTransaction): Promise<Result<void>>
  /** Waits for a batch of the shard; undefined once the signal fires. The next one is there when this one is done. Throws `storage-failed`, `unreachable`. */
  take(shard: Shard, signal: AbortSignal): Promise<TransactionBatch | undefined>
  /**
   * The chain has the batch, or will never have it, but for those of its transactions that go `back`: they are at the end of the queue, and the
   * batch is gone, when this resolves. A full queue has room for them, so that what is not final holds nobody up. What is not done is taken again,
   * after a crash too. Throws `storage-failed`, `unreachable`, `overloaded` (servers without any room left): then it is not done.
   */
  done(batch: TransactionBatch, back?: readonly Uint8Array[]): Promise<void>
  /** Ends what waits. What is in the queue stays. */
  close(): Promise<void>
}
