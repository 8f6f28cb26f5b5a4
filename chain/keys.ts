/**
 * Public keys, their identifiers, and the ports through which signatures are made and checked.
 *
 * A key is a suite number and the bytes of the key; its id and the id of the device it founds are digests of
 * both, so that one byte string can never stand for two keys (docs/FORMATS.md, "Keys and signatures").
 *
 * Every `SignatureVerifier` accepts exactly the same set: test/contract/signature-verifier.ts is the judge, and
 * test/vectors/signatures.json shows the edges. Signatures are 64 bytes.
 * - Ed25519 (RFC 8032): S below the group order; A and R canonical and not of small order; and
 *   encode(S·B − k·A) equals R byte for byte, which is the equation without the cofactor.
 * - P-256 (FIPS 186-5 with SHA-256): r ‖ s, both from 1 to n−1, s at most ⌊n/2⌋ (signers normalise it); the key
 *   a compressed point on the curve. The bytes of a valid signature thus cannot be changed without its key.
 */
import type { DeviceId, KeyId } from './brands.ts'
import { bytes, type Codec, malformed } from './codec.ts'
import { hashHex } from './hashing.ts'
import { assert } from './result.ts'

export type SigningSuite = 'ed25519' | 'p256'
export type EncryptionSuite = 'x25519' | 'p256-ecdh' | 'rsa-oaep'
export const encryptionSuites: readonly EncryptionSuite[] = ['x25519', 'p256-ecdh', 'rsa-oaep']

/** A key that verifies signatures. Ed25519: 32 bytes; P-256: 33 bytes, a compressed SEC1 point. */
export interface PublicKey {
  readonly suite: SigningSuite
  readonly bytes: Uint8Array
}

/** A key to encrypt to. X25519: 32 bytes; P-256: 33 bytes; RSA: a DER `RSAPublicKey` (RFC 8017) of 2048 or 3072 bits. */
export interface EncryptionKey {
  readonly suite: EncryptionSuite
  readonly bytes: Uint8Array
}

export interface SignatureVerifier {
  /** True if `signature` is in the strict set above for `key` and `message`. Never throws on what a peer sent. */
  verify(key: PublicKey, message: Uint8Array, signature: Uint8Array): boolean
}

export interface Signer {
  readonly publicKey: PublicKey
  /** A signature of 64 bytes in the strict set. */
  sign(message: Uint8Array): Uint8Array
}

/** Bytes of every signature of every suite. */
export const signatureBytes = 64

/** Wire number and key length of each suite. Numbers are never reused; 1 to 15 sign, 16 to 31 encrypt. */
const suites = {
  ed25519: { number: 1, min: 32, max: 32 },
  p256: { number: 2, min: 33, max: 33 },
  x25519: { number: 16, min: 32, max: 32 },
  'p256-ecdh': { number: 17, min: 33, max: 33 },
  'rsa-oaep': { number: 18, min: 256, max: 512 },
} as const

type Suite = SigningSuite | EncryptionSuite

function keyCodec<S extends Suite>(
  names: readonly S[],
): Codec<{ readonly suite: S; readonly bytes: Uint8Array }> {
  const bodies = new Map(
    names.map(suite => {
      const { number, min, max } = suites[suite]
      return [suite, { suite, number, body: bytes(min, max) }] as const
    }),
  )
  const byNumber = new Map([...bodies.values()].map(entry => [entry.number as number, entry]))
  return {
    toWire: key => {
      const entry = bodies.get(key.suite)
      assert(entry, `suite: expected one of ${names.join(', ')}, got ${key.suite}`)
      return [entry.number, entry.body.toWire(key.bytes)]
    },
    fromWire: (wire, path) => {
      const entry = Array.isArray(wire) && wire.length === 2 ? byNumber.get(wire[0] as number) : undefined
      if (!entry) malformed(path, `a key of suite ${[...byNumber.keys()].join(', ')}`, wire)
      return {
        suite: entry.suite,
        bytes: entry.body.fromWire((wire as unknown[])[1], `${path}.${entry.suite}`),
      }
    },
  }
}

/** Wire: `[suite number, key bytes]`. */
export const publicKeyCodec: Codec<PublicKey> = keyCodec(['ed25519', 'p256'])
/** Wire: `[suite number, key bytes]`. */
export const encryptionKeyCodec: Codec<EncryptionKey> = keyCodec(encryptionSuites)
/** A signature of any suite. */
export const signatureCodec: Codec<Uint8Array> = bytes(signatureBytes)

function suiteByte(key: PublicKey | EncryptionKey): Uint8Array {
  return Uint8Array.of(suites[key.suite].number)
}

const keyIds = new WeakMap<PublicKey | EncryptionKey, KeyId>()

/** The id of a key: digest of its suite number (one byte) and its bytes. Computed once for one object. */
export function keyIdOf(key: PublicKey | EncryptionKey): KeyId {
  const known = keyIds.get(key)
  if (known !== undefined) return known
  const id = hashHex('mote/key/1', suiteByte(key), key.bytes) as string as KeyId
  keyIds.set(key, id)
  return id
}

/** The id of the device that a key founds; it stays when the key is rotated. */
export function deviceIdOf(inceptionKey: PublicKey): DeviceId {
  return hashHex('mote/device/1', suiteByte(inceptionKey), inceptionKey.bytes) as string as DeviceId
}
