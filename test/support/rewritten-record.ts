/** Somebody at the disk of a stopped full node alters what a record says, checksums and all. */
import { decodeProposal, proposalCodec, receiptCodec, receiptsCodec } from '../../chain/block.ts'
import type { Height } from '../../chain/brands.ts'
import { decodeOwn, encode } from '../../chain/codec.ts'
import { headerCodec } from '../../chain/header.ts'
import { merkleRoot } from '../../chain/merkle.ts'
import { unwrap } from '../../chain/result.ts'
import { parseTransaction } from '../../chain/transaction.ts'
import type { BatchOperation } from '../../node/storage/byte-store.ts'
import { openLevelByteStore } from '../../node/storage/level-storage.ts'
import { put } from '../../node/storage/store-operations.ts'
import { placeCodec, storeKey } from '../../node/storage/store-records.ts'

export interface Rewriting {
  /** LevelDB of the node: `data/chain`. */
  readonly directory: string
  readonly height: Height
  /** Bytes in the transaction, and others of the same length in their place. */
  readonly from: string
  readonly to: string
  /** Receipts, header and index are made to fit, so that the block looks right by itself. */
  readonly isWhole: boolean
}

/** Throws if no transaction of the block has these bytes. */
export async function rewriteRecord({ directory, height, from, to, isWhole }: Rewriting): Promise<void> {
  const store = await openLevelByteStore(directory)
  try {
    const read = async <T>(kind: 'block' | 'receipts' | 'header', open: (bytes: Uint8Array) => T) =>
      open((await store.get(storeKey(kind, height)))!.slice(4))
    const proposal = await read('block', bytes => unwrap(decodeProposal(bytes)))
    if (proposal.type === 'handover') throw new Error('expected a block with transactions')
    const index = proposal.transactions.findIndex(bytes => Buffer.from(bytes).includes(from))
    const changed = Buffer.from(proposal.transactions[index]!)
    changed.write(to, changed.indexOf(from))
    const transactions = proposal.transactions.with(index, Uint8Array.from(changed))
    const operations: BatchOperation[] = [
      put(storeKey('block', height), encode(proposalCodec, { ...proposal, transactions })),
    ]
    if (isWhole) {
      const { id } = unwrap(parseTransaction(transactions[index]!))
      const written = await read('receipts', bytes => decodeOwn(receiptsCodec, bytes))
      const receipts = written.with(index, { ...written[index]!, id })
      const header = await read('header', bytes => decodeOwn(headerCodec, bytes))
      const transactionsRoot = merkleRoot(transactions)
      const receiptsRoot = merkleRoot(receipts.map(receipt => encode(receiptCodec, receipt)))
      operations.push(
        put(storeKey('receipts', height), encode(receiptsCodec, receipts)),
        put(storeKey('header', height), encode(headerCodec, { ...header, transactionsRoot, receiptsRoot })),
        put(storeKey('transaction', id), encode(placeCodec, { height, index })),
      )
    }
    await store.write(operations, true)
  } finally {
    await store.close()
  }
}
