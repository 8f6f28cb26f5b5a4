/**
 * What a device that keeps no blocks can verify by itself, offline, from any source (checkpoint, certificate,
 * handover, proof). Pure: bytes in, a verdict out.
 *
 * Trust starts at a checkpoint (the genesis, or a head verified earlier) that names a consenter set. From there:
 * - a later header is trusted if a quorum of that set certified it (`advance`; gaps are legal) or if it is the ancestor of
 *   one that is, link by link (`follow`) or by a history proof (`verifyEarlierHeader`);
 * - a set is replaced only by a handover header that a quorum of the old *and* of the new set certified;
 * - a state answer is trusted if its proof leads to the state root of a certified header (`verifyStateAnswer`);
 * - a value still holds at a later height if no block in between names its key (`changes`, checked against `changesHash`).
 *
 * Not here: how old an answer may be. The caller compares its `time` and `height` with what it knows.
 */

import type { ChainId, Hash, Height, Milliseconds, StateKey } from './brands.ts'
import {
  type Certificate,
  type ConsenterSignature,
  certificateCodec,
  consenterSignatureCodec,
  verifyCertificate,
} from './certificate.ts'
import { bytes, type Codec, digest, list, optional, struct, uint } from './codec.ts'
import {
  type ConsenterSet,
  checkConsenterSet,
  consenterSetCodec,
  maxConsenters,
  signersHash,
} from './consenters.ts'
import {
  changesHash,
  type Header,
  headerCodec,
  headerHash,
  headerHashOfSummary,
  restHashOf,
} from './header.ts'
import { hexToBytes } from './hex.ts'
import type { SignatureVerifier } from './keys.ts'
import type { Ledger } from './ledger.ts'
import { maxChangesPerBlock } from './limits.ts'
import { type MerkleProof, verifyMerkleProof } from './merkle.ts'
import { ok, type Result, refuse } from './result.ts'
import { rootOfProof, type StateProof, stateProofCodec } from './state-tree.ts'

export { changesHash, maxChangesPerBlock }

/** A header that is trusted, and the consenters that certify the next one. */
export interface TrustedHead {
  readonly chainId: ChainId
  readonly incarnation: number
  readonly header: Header
  readonly headerHash: Hash
  readonly consenters: ConsenterSet
  /** Height of the newest handover that is known of: `consenters` certify what is above it, and nothing else. */
  readonly handoverHeight?: Height
}

/** What a handover header needs beside its certificate: the new set, and the new set's own certificate. */
export interface Handover {
  readonly consenters: ConsenterSet
  readonly certificate: Certificate
}

/** A header as nodes serve it. Without certificate it can be an ancestor only. */
export interface CertifiedHeader {
  readonly header: Header
  readonly certificate: Certificate | undefined
  readonly handover: Handover | undefined
  /** The state keys that the block wrote, sorted. */
  readonly changes: readonly StateKey[]
}

/** Largest value of a state leaf. */
export const maxStateValueBytes = 65_536

export const certifiedHeaderCodec: Codec<CertifiedHeader> = struct({
  header: headerCodec,
  certificate: optional(certificateCodec),
  handover: optional(struct<Handover>({ consenters: consenterSetCodec, certificate: certificateCodec })),
  changes: list(digest<StateKey>(), maxChangesPerBlock),
})

/** A value, or its absence, with everything that a verifier cannot compute by itself. The key is in the question. */
export interface StateAnswer {
  readonly height: Height
  readonly time: Milliseconds
  readonly restHash: Hash
  /** Signatures over the header hash, which the verifier computes; none if the header needs none (the genesis). */
  readonly signatures: readonly ConsenterSignature[]
  readonly value: Uint8Array | undefined
  readonly proof: StateProof
}

export const stateAnswerCodec: Codec<StateAnswer> = struct({
  height: uint<Height>(),
  time: uint<Milliseconds>(),
  restHash: digest<Hash>(),
  signatures: list(consenterSignatureCodec, maxConsenters),
  value: optional(bytes(0, maxStateValueBytes)),
  proof: stateProofCodec,
})

/** A verified answer: what stood at the key at this height. */
export interface VerifiedState {
  readonly height: Height
  readonly time: Milliseconds
  /** Hash of the certified header; a known header with this hash gives the term. */
  readonly headerHash: Hash
  readonly value: Uint8Array | undefined
}

/**
 * The answer of a node that holds `header`, its certificate, and the value and proof of the key at that height. Without
 * certificate it convinces only who trusts this very header already: at the genesis, before any block is certified.
 */
export function stateAnswer(
  header: Header,
  certificate: Certificate | undefined,
  value: Uint8Array | undefined,
  proof: StateProof,
): StateAnswer {
  const { height, time } = header
  const signatures = certificate?.signatures ?? []
  return { height, time, restHash: restHashOf(header), signatures, value, proof }
}

/**
 * A head to trust from outside knowledge: the genesis, a stored checkpoint with the handover below it that was known of.
 * Refuses, as `bad-header`, a set that is not the header's next, and a handover above the header.
 */
export function checkpointOf(
  header: Header,
  consenters: ConsenterSet,
  handoverHeight?: Height,
): Result<TrustedHead> {
  const sound = checkConsenterSet(consenters)
  if (!sound.ok) return sound
  if (signersHash(consenters) !== header.nextSignersHash)
    return refuse('bad-header', 'consenters: expected the set that the header names as next signers')
  if (handoverHeight !== undefined && handoverHeight > header.height)
    return refuse('bad-header', `handoverHeight: expected at most ${header.height}, got ${handoverHeight}`)
  return ok(headOf(header, consenters, handoverHeight))
}

/** True if other consenters certify what follows this header: both sets certify the header itself. */
export function isHandover(header: Header): boolean {
  return header.nextSignersHash !== header.signersHash
}

/** @param handoverBefore height of the newest handover below the header that is known of */
function headOf(header: Header, consenters: ConsenterSet, handoverBefore: Height | undefined): TrustedHead {
  const { chainId, incarnation } = header
  const handoverHeight = isHandover(header) ? header.height : handoverBefore
  const head = { chainId, incarnation, header, headerHash: headerHash(header), consenters }
  return handoverHeight === undefined ? head : { ...head, handoverHeight }
}

/** The head of a ledger that this program has executed, or verified as a whole. */
export function trustedHeadOf({ header, parameters }: Ledger): TrustedHead {
  return headOf(header, parameters.consenters, undefined)
}

/** What must hold between a trusted head and any later header of the same chain, before signatures. */
function checkSuccession(trusted: TrustedHead, header: Header): Result<void> {
  const last = trusted.header
  if (header.chainId !== trusted.chainId)
    return refuse('wrong-chain', `chainId: expected ${trusted.chainId}, got ${header.chainId}`)
  if (header.incarnation !== trusted.incarnation)
    return refuse('bad-header', `incarnation: expected ${trusted.incarnation}, got ${header.incarnation}`)
  if (header.height <= last.height)
    return refuse('bad-header', `height: expected more than ${last.height}, got ${header.height}`)
  if (header.time < last.time)
    return refuse('bad-header', `time: expected at least ${last.time}, got ${header.time}`)
  if (header.term < last.term)
    return refuse('bad-header', `term: expected at least ${last.term}, got ${header.term}`)
  // Each block is an entry of its own.
  const leastIndex = last.index + header.height - last.height
  if (header.index < leastIndex)
    return refuse('bad-header', `index: expected at least ${leastIndex}, got ${header.index}`)
  if (header.height === last.height + 1 && header.previousHash !== trusted.headerHash)
    return refuse('bad-header', 'previousHash: expected the hash of the trusted header')
  if (header.signersHash !== last.nextSignersHash)
    return refuse('bad-header', 'signersHash: expected the trusted consenters; a handover header is missing')
  return ok(undefined)
}

function checkCertificate(
  header: Header,
  hash: Hash,
  consenters: ConsenterSet,
  certificate: Certificate,
  verifier: SignatureVerifier,
): Result<void> {
  if (certificate.height !== header.height || certificate.headerHash !== hash)
    return refuse('bad-certificate', 'certificate: expected one for this header')
  return verifyCertificate(consenters, header.chainId, header.incarnation, certificate, verifier)
}

/** The set that certifies what follows `header`, after a handover if it is one. */
function nextConsenters(
  trusted: TrustedHead,
  header: Header,
  hash: Hash,
  handover: Handover | undefined,
  verifier: SignatureVerifier,
): Result<ConsenterSet> {
  if (!isHandover(header))
    return handover
      ? refuse('bad-header', 'handover: expected none; the signers do not change')
      : ok(trusted.consenters)
  if (!handover) return refuse('bad-header', 'handover: expected the new consenters and their certificate')
  const sound = checkConsenterSet(handover.consenters)
  if (!sound.ok) return sound
  if (signersHash(handover.consenters) !== header.nextSignersHash)
    return refuse('bad-header', 'handover: expected the set that the header names')
  const signed = checkCertificate(header, hash, handover.consenters, handover.certificate, verifier)
  return signed.ok ? ok(handover.consenters) : signed
}

/**
 * The head after a later certified header. Any height above the trusted one; a handover header needs `handover`.
 * Refuses with `wrong-chain`, `bad-header` or `bad-certificate`.
 */
export function advance(
  trusted: TrustedHead,
  header: Header,
  certificate: Certificate,
  verifier: SignatureVerifier,
  handover?: Handover,
): Result<TrustedHead> {
  const succession = checkSuccession(trusted, header)
  if (!succession.ok) return succession
  const hash = headerHash(header)
  const signed = checkCertificate(header, hash, trusted.consenters, certificate, verifier)
  if (!signed.ok) return signed
  const next = nextConsenters(trusted, header, hash, handover, verifier)
  return next.ok ? ok(headOf(header, next.value, trusted.handoverHeight)) : next
}

/**
 * The head after those of these handovers, ascending by height, that come after the trusted head and below `before`. What
 * comes earlier is passed over. Refuses as `advance` does.
 */
export function throughHandovers(
  trusted: TrustedHead,
  handovers: readonly CertifiedHeader[],
  before: number,
  verifier: SignatureVerifier,
): Result<TrustedHead> {
  let head = trusted
  for (const { header, certificate, handover, changes } of handovers) {
    if (header.height <= head.header.height || header.height >= before) continue
    if (!matchesChanges(header, changes))
      return refuse('bad-header', 'changes: expected the keys that changesHash names')
    if (!certificate) return refuse('bad-certificate', 'handover: expected a certificate')
    const next = advance(head, header, certificate, verifier, handover)
    if (!next.ok) return next
    head = next.value
  }
  return ok(head)
}

/**
 * The head after a run of consecutive headers that starts right above the trusted one, with every `changes` list
 * checked. Signatures are verified on handover headers and on the last certified header only; that one certifies all its
 * ancestors. Headers after it are left out: `head.header.height` says how far the run holds.
 */
export function follow(
  trusted: TrustedHead,
  run: readonly CertifiedHeader[],
  verifier: SignatureVerifier,
): Result<TrustedHead> {
  const lastCertified = run.findLastIndex(entry => entry.certificate !== undefined)
  let head = trusted
  for (let i = 0; i <= lastCertified; i++) {
    const { header, certificate, handover, changes } = run[i] as CertifiedHeader
    if (header.height !== head.header.height + 1)
      return refuse('bad-header', `height: expected ${head.header.height + 1}, got ${header.height}`)
    if (!matchesChanges(header, changes))
      return refuse('bad-header', 'changes: expected the keys that changesHash names')
    const mustVerify = i === lastCertified || isHandover(header)
    if (!mustVerify) {
      const succession = checkSuccession(head, header)
      if (!succession.ok) return succession
      head = headOf(header, head.consenters, head.handoverHeight)
      continue
    }
    if (!certificate) return refuse('bad-certificate', 'certificate: expected one on a handover header')
    const advanced = advance(head, header, certificate, verifier, handover)
    if (!advanced.ok) return advanced
    head = advanced.value
  }
  return ok(head)
}

/** True if `keys` are exactly the sorted state keys that the block of `header` wrote. */
export function matchesChanges(header: Header, keys: readonly StateKey[]): boolean {
  for (let i = 1; i < keys.length; i++) if ((keys[i - 1] as StateKey) >= (keys[i] as StateKey)) return false
  return changesHash(keys) === header.changesHash
}

/**
 * What stands at `key`, proven under the trusted header itself or one that a quorum of the trusted consenters certified. The
 * height may be above or below the trusted one; judging its age is the caller's. Refuses with `bad-proof` or
 * `bad-certificate`, and with `stale` what other consenters certified, before the last handover.
 */
export function verifyStateAnswer(
  trusted: TrustedHead,
  key: StateKey,
  answer: StateAnswer,
  verifier: SignatureVerifier,
): Result<VerifiedState> {
  const { height, time, restHash, signatures, value, proof } = answer
  const isOfTrusted = height === trusted.header.height
  if (!isOfTrusted && height <= (trusted.handoverHeight ?? -1))
    return refuse('stale', `height: expected more than ${trusted.handoverHeight}, a handover, got ${height}`)
  const stateRoot = rootOfProof(key, value, proof)
  if (stateRoot === undefined) return refuse('bad-proof', 'proof: not in its one valid form')
  const hash = headerHashOfSummary({
    height,
    time,
    stateRoot,
    signersHash: isOfTrusted ? trusted.header.signersHash : trusted.header.nextSignersHash,
    restHash,
  })
  if (isOfTrusted && hash !== trusted.headerHash)
    return refuse('bad-proof', 'proof: expected the state root of the trusted header of this height')
  const verified = ok({ height, time, headerHash: hash, value })
  // A handover is signed by the consenters of before, whom nobody needs who trusts the header already.
  if (isOfTrusted && (signatures.length === 0 || isHandover(trusted.header))) return verified
  const certificate = { height, headerHash: hash, signatures }
  const { chainId, incarnation, consenters } = trusted
  const signed = verifyCertificate(consenters, chainId, incarnation, certificate, verifier)
  return signed.ok ? verified : signed
}

/**
 * True if `header` is an ancestor of the trusted header: a proof under its `historyRoot`.
 * @public FORMATS promises it
 */
export function verifyEarlierHeader(trusted: TrustedHead, header: Header, proof: MerkleProof): boolean {
  return (
    proof.index === header.height &&
    proof.size === trusted.header.height &&
    verifyMerkleProof(trusted.header.historyRoot, hexToBytes(headerHash(header)), proof)
  )
}
