/**
 * A certificate: signatures of a quorum of consenters over the hash of one header (docs/FORMATS.md, "Certificate").
 *
 * It lives outside every hash, so different quorums may certify the same header. Every signature in it must verify,
 * also those beyond the quorum: a certificate with one changed byte is refused.
 */
import type { ChainId, Hash, Height } from './brands.ts'
import { type Codec, digest, list, struct, uint } from './codec.ts'
import { type ConsenterSet, maxConsenters, quorumOf } from './consenters.ts'
import { domainBytes, u64be } from './hashing.ts'
import { hexToBytes } from './hex.ts'
import { type SignatureVerifier, signatureCodec } from './keys.ts'
import { ok, type Result, refuse } from './result.ts'

/** One consenter's signature over `certificateSigningBytes`. */
export interface ConsenterSignature {
  /** Place of the consenter in its set. */
  readonly signer: number
  /** 64 bytes. */
  readonly signature: Uint8Array
}

export interface Certificate {
  readonly height: Height
  readonly headerHash: Hash
  /** Sorted by signer, each at most once. */
  readonly signatures: readonly ConsenterSignature[]
}

export const consenterSignatureCodec: Codec<ConsenterSignature> = struct({
  signer: uint(maxConsenters - 1),
  signature: signatureCodec,
})

export const certificateCodec: Codec<Certificate> = struct({
  height: uint<Height>(),
  headerHash: digest<Hash>(),
  signatures: list(consenterSignatureCodec, maxConsenters, 1),
})

/** What a consenter signs: the domain, chain id, incarnation, height and header hash. */
export function certificateSigningBytes(
  chainId: ChainId,
  incarnation: number,
  height: Height,
  headerHash: Hash,
): Uint8Array {
  return domainBytes(
    'mote/certificate/1',
    hexToBytes(chainId),
    u64be(incarnation),
    u64be(height),
    hexToBytes(headerHash),
  )
}

/** Refuses, with `bad-certificate`, what is not signed by a quorum of `set`. */
export function verifyCertificate(
  set: ConsenterSet,
  chainId: ChainId,
  incarnation: number,
  certificate: Certificate,
  verifier: SignatureVerifier,
): Result<void> {
  const { height, headerHash, signatures } = certificate
  const quorum = quorumOf(set)
  if (signatures.length < quorum)
    return refuse('bad-certificate', `signatures: expected at least ${quorum}, got ${signatures.length}`)
  const message = certificateSigningBytes(chainId, incarnation, height, headerHash)
  let previous = -1
  for (const { signer, signature } of signatures) {
    if (signer <= previous)
      return refuse('bad-certificate', 'signatures: expected sorted and distinct signers')
    previous = signer
    const consenter = set.consenters[signer]
    if (!consenter)
      return refuse('bad-certificate', `signer: expected 0 to ${set.consenters.length - 1}, got ${signer}`)
    if (!verifier.verify(consenter.key, message, signature))
      return refuse('bad-certificate', `signature of ${consenter.id}: does not verify`)
  }
  return ok(undefined)
}
