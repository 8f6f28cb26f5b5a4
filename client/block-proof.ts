/**
 * A whole block, proven: its header is certified, or the ancestor of a certified one link by link, and its transactions and
 * receipts have the roots that the header names. So nothing in it can be altered, left out or put in by who serves it.
 */
import { type Block, receiptCodec } from '../chain/block.ts'
import type { Height } from '../chain/brands.ts'
import { encode } from '../chain/codec.ts'
import { type Header, headerHash } from '../chain/header.ts'
import { merkleRoot } from '../chain/merkle.ts'
import { MoteError } from '../chain/result.ts'
import type { ChainSource } from './chain-source.ts'
import { headerPath, type PathTrust, verifyRun } from './header-path.ts'

/** A block that was proven: `proveBlock` alone makes one. */
export interface ProvenBlock extends Block {
  readonly verified: true
}

/** Judges a block by the headers of `source`, and gives it back as proven. Throws `bad-header`, `bad-certificate`, `bad-proof`, or `stale` without a certificate. */
export async function proveBlock(source: ChainSource, trust: PathTrust, block: Block): Promise<ProvenBlock> {
  const { header, transactions, receipts } = block
  const wrong = (what: string) =>
    new MoteError('bad-proof', `${source.name}: block ${header.height}: ${what}`)
  if (headerHash(header) !== headerHash(await certifiedHeaderAt(source, trust, header.height)))
    throw wrong('expected the header that is certified')
  if (merkleRoot(transactions) !== header.transactionsRoot)
    throw wrong('transactions: not those of the header')
  const leaves = receipts.map(receipt => encode(receiptCodec, receipt))
  if (merkleRoot(leaves) !== header.receiptsRoot) throw wrong('receipts: not those of the header')
  return { ...block, verified: true }
}

/** The header at a height, from the checkpoint on. Throws `bad-header`, `bad-certificate`, or `stale` without a certificate. */
export async function certifiedHeaderAt(
  source: ChainSource,
  trust: PathTrust,
  height: Height,
): Promise<Header> {
  const { checkpoint, verifier } = trust
  if (height === checkpoint.header.height) return checkpoint.header
  const { head, run } = await headerPath(source, trust, height)
  return verifyRun(run, { checkpoint: head, verifier })
}
