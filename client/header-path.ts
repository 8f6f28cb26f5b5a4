/**
 * The way from a checkpoint (the genesis, say) to the header of a block: over the changes of the consenters, to a certified header, and from
 * it down to the block link by link. Whoever has the checkpoint verifies it offline.
 *
 * Certificates have gaps; a block whose next certified header is further away than `maxUncertifiedRun` is not proven.
 */
import { Height } from '../chain/brands.ts'
import { type Header, headerHash } from '../chain/header.ts'
import type { SignatureVerifier } from '../chain/keys.ts'
import { advance, type CertifiedHeader, type TrustedHead } from '../chain/light-client.ts'
import { MoteError, unwrap } from '../chain/result.ts'
import type { ChainSource } from './chain-source.ts'
import { findHandover } from './handover-search.ts'

/** Headers without certificate between a block and the certified header that covers it. */
export const maxUncertifiedRun = 1024
const headersPerRequest = 64

export interface HeaderPath {
  /** Handovers between the checkpoint and the end of the run, ascending. */
  readonly handovers: readonly CertifiedHeader[]
  /** From the block's header up to the first one with a certificate. */
  readonly run: readonly CertifiedHeader[]
}

/** A path that was walked: its handovers are verified, its run is not. */
export interface WalkedPath extends HeaderPath {
  /** After the handovers. */
  readonly head: TrustedHead
}

/** What a path is judged by. */
export interface PathTrust {
  readonly checkpoint: TrustedHead
  readonly verifier: SignatureVerifier
}

/** The path to the header at `height`, above the checkpoint, out of what `source` serves. Throws `bad-header`, `bad-certificate`, or `stale` without a certificate. */
export async function headerPath(
  source: ChainSource,
  { checkpoint, verifier }: PathTrust,
  height: Height,
): Promise<WalkedPath> {
  const run = await runToCertificate(source, height)
  const covering = run.at(-1) as CertifiedHeader
  const handovers: CertifiedHeader[] = []
  let head = checkpoint
  while (covering.header.signersHash !== head.header.nextSignersHash) {
    const handover = await findHandover(source, head, covering)
    handovers.push(handover)
    head = certified(head, handover, verifier)
  }
  return { handovers, run, head }
}

/** The header to which the path leads, certified. Throws `bad-header`, `bad-certificate`. */
export function verifyHeaderPath(
  { handovers, run }: HeaderPath,
  { checkpoint, verifier }: PathTrust,
): Header {
  const head = handovers.reduce((above, handover) => certified(above, handover, verifier), checkpoint)
  return verifyRun(run, { checkpoint: head, verifier })
}

/** The first header of a run whose last one the consenters of the checkpoint certify. Throws `bad-header`, `bad-certificate`. */
export function verifyRun(run: readonly CertifiedHeader[], { checkpoint, verifier }: PathTrust): Header {
  const covering = run.at(-1)
  if (!covering) throw new MoteError('bad-header', 'headers: expected at least one')
  let next = certified(checkpoint, covering, verifier).header
  for (const { header } of run.slice(0, -1).reverse()) {
    if (headerHash(header) !== next.previousHash || header.height + 1 !== next.height)
      throw new MoteError('bad-header', `the headers below ${next.height} are no chain`)
    next = header
  }
  return next
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
