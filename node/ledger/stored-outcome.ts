/** What became of a transaction, as storage knows it: for what the chain in memory (live-chain.ts) has forgotten. */
import { receiptsCodec } from '../../chain/block.ts'
import type { TransactionId } from '../../chain/brands.ts'
import { headerCodec } from '../../chain/header.ts'
import type { Storage } from '../ports.ts'
import { stored } from '../storage/store-records.ts'
import type { RecentOutcome } from './live-chain.ts'

type OutcomeStorage = Pick<Storage, 'transaction' | 'header' | 'receipts'>

/** The outcome that its receipt records. Rejects with `storage-corrupt`. */
export async function storedOutcome(
  storage: OutcomeStorage,
  id: TransactionId,
): Promise<RecentOutcome | undefined> {
  const place = await storage.transaction(id)
  if (!place) return undefined
  const [header, receipts] = await Promise.all([storage.header(place.height), storage.receipts(place.height)])
  if (!header || !receipts) return undefined
  const { term, time } = stored(headerCodec, header, 'header')
  const receipt = stored(receiptsCodec, receipts, 'receipts')[place.index]
  return receipt && { id, ...place, code: receipt.code, final: true, term, time }
}
