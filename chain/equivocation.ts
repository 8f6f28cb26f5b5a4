/**
 * Evidence that a consenter signed two header hashes at one (chain, incarnation, height). Anybody can check it, and no
 * honest consenter can be accused: it persists what it signs first. Two *signatures* of one hash are no evidence (ECDSA
 * is randomised).
 */
import type { ChainId, DeviceId, Hash, Height } from './brands.ts'
import { type Certificate, certificateSigningBytes } from './certificate.ts'
import { type Codec, digest, struct, uint } from './codec.ts'
import type { Consenter, ConsenterSet } from './consenters.ts'
import { type SignatureVerifier, signatureCodec } from './keys.ts'

/** A header hash and one consenter's signature of it. */
export interface SignedHeaderHash {
  readonly headerHash: Hash
  readonly signature: Uint8Array
}

export interface Equivocation {
  readonly chainId: ChainId
  readonly incarnation: number
  readonly height: Height
  readonly consenter: DeviceId
  /** The smaller header hash first, so that one offence has one form. */
  readonly first: SignedHeaderHash
  readonly second: SignedHeaderHash
}

const signedHeaderHashCodec: Codec<SignedHeaderHash> = struct({
  headerHash: digest<Hash>(),
  signature: signatureCodec,
})

export const equivocationCodec: Codec<Equivocation> = struct({
  chainId: digest<ChainId>(),
  incarnation: uint(),
  height: uint<Height>(),
  consenter: digest<DeviceId>(),
  first: signedHeaderHashCodec,
  second: signedHeaderHashCodec,
})

/**
 * True if both signatures verify under the consenter's key and the two hashes differ.
 * @param consenter as it stands in the set that signs that height; the set of today may not know it any more
 */
export function verifyEquivocation(
  evidence: Equivocation,
  consenter: Consenter,
  verifier: SignatureVerifier,
): boolean {
  const { chainId, incarnation, height, first, second } = evidence
  return (
    evidence.consenter === consenter.id &&
    first.headerHash < second.headerHash &&
    [first, second].every(({ headerHash, signature }) =>
      verifier.verify(
        consenter.key,
        certificateSigningBytes(chainId, incarnation, height, headerHash),
        signature,
      ),
    )
  )
}

/**
 * The evidence that two certificates of one height and set contain; empty if they certify one hash. At a handover each of
 * the two sets has certificates of its own.
 */
export function equivocationsBetween(
  set: ConsenterSet,
  chain: { readonly chainId: ChainId; readonly incarnation: number },
  certificates: readonly [Certificate, Certificate],
  verifier: SignatureVerifier,
): readonly Equivocation[] {
  const [first, second] = [...certificates].sort((a, b) => (a.headerHash < b.headerHash ? -1 : 1))
  if (!first || !second || first.height !== second.height || first.headerHash === second.headerHash) return []
  return set.consenters.flatMap((consenter, signer) => {
    const a = first.signatures.find(entry => entry.signer === signer)
    const b = second.signatures.find(entry => entry.signer === signer)
    if (!a || !b) return []
    const evidence: Equivocation = {
      ...chain,
      height: first.height,
      consenter: consenter.id,
      first: { headerHash: first.headerHash, signature: a.signature },
      second: { headerHash: second.headerHash, signature: b.signature },
    }
    return verifyEquivocation(evidence, consenter, verifier) ? [evidence] : []
  })
}
