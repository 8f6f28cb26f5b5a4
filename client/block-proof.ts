/**
 * A whole block, proven: its header is certified, or the ancestor of a certified one link by link, and its transactions and
 * receipts have the roots that the header names. So nothing in it can be altered, left out or put in by who serves it. And the same of
 * its leaf hashes alone, where a node has forgotten the rest.
 */
import type { Block } from '../chain/block.ts'
import { type BlockLeaves, foreignLeaves, leavesOfBlock } from '../chain/block-leaves.ts'
import type { Height } from '../chain/brands.ts'
import { type Header, headerHash } from '../chain/header.ts'
import { MoteError } from '../chain/result.ts'
import type { ChainSource } from './chain-source.ts'
import { type HeaderPath, headerPath, type PathTrust, verifyRun } from './header-path.ts'

/** A block that was proven: `proveBlock` alone makes one. */
export interface ProvenBlock extends Block {
  readonly verified: true
}

/** Judges a block by the headers of `source`, and gives it back as proven. Throws `bad-header`, `bad-certificate`, `bad-proof`, or `stale` without a certificate. */
export async function proveBlock(source: ChainSource, trust: PathTrust, block: Block): Promise<ProvenBlock> {
  const { header } = block
  if (headerHash(header) !== headerHash(await certifiedHeaderAt(source, trust, header.height)))
    throw lieOf(source, header.height, 'expected the header that is certified')
  const [foreign] = foreignLeaves(header, leavesOfBlock(block))
  if (foreign) throw lieOf(source, header.height, `${foreign}: not those of the header`)
  return { ...block, verified: true }
}

/** Leaf hashes that were proven: `proveLeaves` alone makes them. */
export interface ProvenBlockLeaves {
  readonly leaves: BlockLeaves
  /** To the header of their block. */
  readonly path: HeaderPath
}

/** Judges the leaf hashes of a block by the headers of `source`. Throws as `proveBlock` does. */
export async function proveLeaves(
  source: ChainSource,
  trust: PathTrust,
  { height, leaves }: { readonly height: Height; readonly leaves: BlockLeaves },
): Promise<ProvenBlockLeaves> {
  const { head, handovers, run } = await headerPath(source, trust, height)
  const header = verifyRun(run, { checkpoint: head, verifier: trust.verifier })
  const [foreign] = foreignLeaves(header, leaves)
  if (foreign) throw lieOf(source, height, `leaf hashes of ${foreign}: not those of the header`)
  return { leaves, path: { handovers, run } }
}

function lieOf(source: ChainSource, height: Height, what: string): MoteError {
  return new MoteError('bad-proof', `${source.name}: block ${height}: ${what}`)
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
