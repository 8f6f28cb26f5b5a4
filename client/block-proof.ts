/**
 * A whole block, proven: its header is certified, or the ancestor of a certified one link by link, and its transactions and
 * receipts have the roots that the header names. So nothing in it can be altered, left out or put in by who serves it.
 *
 * The walk starts at a checkpoint below the block (the genesis, say), over the changes of the consenters. Certificates have
 * gaps; a block whose next certified header is further away than `maxUncertifiedRun` is not proven.
 */
import { type Block, receiptCodec } from '../chain/block.ts'
import { Height } from '../chain/brands.ts'
import { encode } from '../chain/codec.ts'
import { headerHash } from '../chain/header.ts'
import type { SignatureVerifier } from '../chain/keys.ts'
import { advance, type CertifiedHeader, type TrustedHead } from '../chain/light-client.ts'
import { merkleRoot } from '../chain/merkle.ts'
import { MoteError, unwrap } from '../chain/result.ts'
import type { ChainSource } from './chain-source.ts'
import { findHandover } from './handover-search.ts'

/** Headers without certificate between a block and the certified header that covers it. */
const maxUncertifiedRun = 1024
const headersPerRequest = 64

/** A block that was proven: `proveBlock` alone makes one. */
export interface ProvenBlock extends Block {
  readonly verified: true
}

/** Judges a block by the headers of `source`, and gives it back as proven. Throws `bad-header`, `bad-certificate`, `bad-proof`, or `stale` without a certificate. */
export async function proveBlock(
  source: ChainSource,
  { checkpoint, verifier }: { readonly checkpoint: TrustedHead; readonly verifier: SignatureVerifier },
  block: Block,
): Promise<ProvenBlock> {
  const { header, transactions, receipts } = block
  const wrong = (what: string) =>
    new MoteError('bad-proof', `${source.name}: block ${header.height}: ${what}`)
  const hash = headerHash(header)
  const expected =
    header.height === checkpoint.header.height
      ? checkpoint.headerHash
      : await certifiedHash(source, checkpoint, verifier, header.height)
  if (hash !== expected) throw wrong('expected the header that is certified')
  if (merkleRoot(transactions) !== header.transactionsRoot)
    throw wrong('transactions: not those of the header')
  const leaves = receipts.map(receipt => encode(receiptCodec, receipt))
  if (merkleRoot(leaves) !== header.receiptsRoot) throw wrong('receipts: not those of the header')
  return { ...block, verified: true }
}

/** Hash of the header at `height`, which a certified header covers. */
async function certifiedHash(
  source: ChainSource,
  checkpoint: TrustedHead,
  verifier: SignatureVerifier,
  height: Height,
) {
  const run = await runToCertificate(source, height)
  const covering = run.at(-1) as CertifiedHeader
  let head = checkpoint
  while (covering.header.signersHash !== head.header.nextSignersHash)
    head = certified(head, await findHandover(source, head, covering), verifier)
  head = certified(head, covering, verifier)
  let hash = head.headerHash
  let next = covering.header
  for (const { header } of run.slice(0, -1).reverse()) {
    hash = headerHash(header)
    if (hash !== next.previousHash || header.height + 1 !== next.height)
      throw new MoteError('bad-header', `${source.name}: the headers from ${height} on are no chain`)
    next = header
  }
  return hash
}

/** The headers from `height` to the first one with a certificate. */
async function runToCertificate(source: ChainSource, height: Height): Promise<readonly CertifiedHeader[]> {
  const run: CertifiedHeader[] = []
  while (run.length < maxUncertifiedRun) {
    const page = await source.headersFrom(Height(height + run.length), headersPerRequest)
    const end = page.findIndex(entry => entry.certificate !== undefined)
    run.push(...(end < 0 ? page : page.slice(0, end + 1)))
    if (run.length > 0 && run[0]?.header.height !== height)
      throw new MoteError('bad-header', `${source.name}: headers: expected height ${height} first`)
    if (end >= 0) return run
    if (page.length === 0) break
  }
  throw new MoteError('stale', `${source.name}: block ${height}: no certificate covers it yet`)
}

function certified(
  head: TrustedHead,
  { header, certificate, handover }: CertifiedHeader,
  verifier: SignatureVerifier,
): TrustedHead {
  if (!certificate) throw new MoteError('bad-certificate', `header ${header.height}: expected a certificate`)
  return unwrap(advance(head, header, certificate, verifier, handover))
}
