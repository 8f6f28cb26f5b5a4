/**
 * What a full node keeps of a block whose transactions and receipts it has forgotten (retention.ts): the leaf hashes, which the header
 * proves, and how each transaction ended, so that who asks what became of one gets the same answer as before. Header, certificate, list
 * of changes and the rows by which transactions are found are kept as they are.
 */
import { type ReceiptCode, receiptNumbers } from '../../chain/block.ts'
import { type BlockLeaves, blockLeavesCodec } from '../../chain/block-leaves.ts'
import { type Codec, list, oneOf, struct } from '../../chain/codec.ts'
import { maxBlockTransactions } from '../../chain/limits.ts'

export interface ForgottenBlock {
  readonly leaves: BlockLeaves
  /** One for each transaction; this node's word. */
  readonly codes: readonly ReceiptCode[]
}

export const forgottenBlockCodec: Codec<ForgottenBlock> = struct<ForgottenBlock>({
  leaves: blockLeavesCodec,
  codes: list(oneOf<ReceiptCode>(receiptNumbers), maxBlockTransactions),
})
