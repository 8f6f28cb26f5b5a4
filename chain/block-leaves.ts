/**
 * The leaf hashes of a block's two trees, over its transactions and over its receipts: 64 bytes for each transaction. They are
 * what a full node keeps of a block whose transactions and receipts it has forgotten, and all that it takes to prove of a transaction
 * which somebody else has kept, with its receipt, that it stood there (RFC 6962, section 2.1.1).
 *
 * Nothing has to be believed: they have the roots that the block's header names, or they are not those of the block.
 */
import { concatBytes } from '@noble/hashes/utils.js'
import { type Block, receiptCodec } from './block.ts'
import type { Hash } from './brands.ts'
import { type Codec, encode, malformed, struct } from './codec.ts'
import type { Header } from './header.ts'
import { maxBlockTransactions } from './limits.ts'
import { merkleLeaf, merkleRootOfHashes, perfectNodesOver, proveMerkle } from './merkle.ts'

/** Hashes of 32 bytes each, one for each transaction, in the order of the block. */
export interface BlockLeaves {
  readonly transactions: readonly Uint8Array[]
  readonly receipts: readonly Uint8Array[]
}

const hashBytes = 32

/** One byte string on the wire. */
const hashesCodec: Codec<readonly Uint8Array[]> = {
  toWire: hashes => concatBytes(...hashes),
  fromWire: (wire, path) => {
    const isList =
      wire instanceof Uint8Array &&
      wire.length % hashBytes === 0 &&
      wire.length <= hashBytes * maxBlockTransactions
    if (!isList) malformed(path, `at most ${maxBlockTransactions} hashes of ${hashBytes} bytes`, wire)
    const count = wire.length / hashBytes
    return Array.from({ length: count }, (_, i) => wire.subarray(i * hashBytes, (i + 1) * hashBytes))
  },
}

export const blockLeavesCodec: Codec<BlockLeaves> = struct<BlockLeaves>({
  transactions: hashesCodec,
  receipts: hashesCodec,
})

export function leavesOfBlock({
  transactions,
  receipts,
}: Pick<Block, 'transactions' | 'receipts'>): BlockLeaves {
  return {
    transactions: transactions.map(transaction => merkleLeaf(transaction)),
    receipts: receipts.map(receipt => merkleLeaf(encode(receiptCodec, receipt))),
  }
}

/** The trees whose leaves are not those of the header; none if both are. */
export function foreignLeaves(
  { transactionsRoot, receiptsRoot }: Header,
  { transactions, receipts }: BlockLeaves,
): readonly (keyof BlockLeaves)[] {
  return [
    ...(merkleRootOfHashes(transactions) === transactionsRoot ? [] : (['transactions'] as const)),
    ...(merkleRootOfHashes(receipts) === receiptsRoot ? [] : (['receipts'] as const)),
  ]
}

/** The siblings of the leaf at `index`, from the leaf up. */
export function leafPath(hashes: readonly Uint8Array[], index: number): readonly Hash[] {
  return proveMerkle(perfectNodesOver(hashes), index, hashes.length).path
}
