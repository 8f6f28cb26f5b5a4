/**
 * Signatures with @noble/curves: portable, and the second opinion of the tests. The accepted set is that of
 * chain/keys.ts. noble's own Ed25519 `verify` multiplies by the cofactor and so accepts more; here R is computed
 * and compared byte for byte.
 */
import { ed25519, x25519 } from '@noble/curves/ed25519.js'
import { p256 } from '@noble/curves/nist.js'
import { sha512 } from '@noble/hashes/sha2.js'
import { concatBytes } from '@noble/hashes/utils.js'
import { equalBytes } from './codec.ts'
import {
  type PublicKey,
  type SignatureVerifier,
  type Signer,
  type SigningSuite,
  signatureBytes,
} from './keys.ts'
import { assert, assertNever } from './result.ts'

const { Point } = ed25519
const groupOrder = Point.Fn.ORDER

function littleEndian(bytes: Uint8Array): bigint {
  let value = 0n
  for (let i = bytes.length - 1; i >= 0; i--) value = (value << 8n) | BigInt(bytes[i] as number)
  return value
}

function verifyEd25519(key: Uint8Array, message: Uint8Array, signature: Uint8Array): boolean {
  const r = signature.subarray(0, 32)
  const s = littleEndian(signature.subarray(32))
  if (s >= groupOrder) return false
  const publicPoint = Point.fromBytes(key, false)
  if (publicPoint.isSmallOrder()) return false
  const k = littleEndian(sha512(concatBytes(r, key, message))) % groupOrder
  const expected = Point.BASE.multiplyUnsafe(s).subtract(publicPoint.multiplyUnsafe(k))
  return !expected.isSmallOrder() && equalBytes(expected.toBytes(), r)
}

function verifyP256(key: Uint8Array, message: Uint8Array, signature: Uint8Array): boolean {
  return p256.verify(signature, message, key, { lowS: true, prehash: true, format: 'compact' })
}

export const nobleVerifier: SignatureVerifier = {
  verify(key, message, signature) {
    if (signature.length !== signatureBytes) return false
    try {
      switch (key.suite) {
        case 'ed25519':
          return key.bytes.length === 32 && verifyEd25519(key.bytes, message, signature)
        case 'p256':
          return key.bytes.length === 33 && verifyP256(key.bytes, message, signature)
        default:
          return assertNever(key.suite)
      }
    } catch {
      // noble reports a point that is not on the curve, or a scalar out of range, by throwing.
      return false
    }
  },
}

/**
 * A signer from 32 secret bytes. Ed25519: the seed of RFC 8032; P-256: the private scalar itself, most
 * significant byte first. Throws if the bytes are no scalar from 1 to n−1 (random bytes: once in 2^32).
 */
export function signerFromSeed(suite: SigningSuite, seed: Uint8Array): Signer {
  assert(seed.length === 32, `seed: expected 32 bytes, got ${seed.length}`)
  const secret = Uint8Array.from(seed)
  switch (suite) {
    case 'ed25519': {
      const publicKey: PublicKey = { suite, bytes: ed25519.getPublicKey(secret) }
      return { publicKey, sign: message => ed25519.sign(message, secret) }
    }
    case 'p256': {
      const publicKey: PublicKey = { suite, bytes: p256.getPublicKey(secret, true) }
      return {
        publicKey,
        sign: message => p256.sign(message, secret, { lowS: true, prehash: true, format: 'compact' }),
      }
    }
    default:
      return assertNever(suite)
  }
}

/** The X25519 public key (RFC 7748) of 32 secret bytes: 32 bytes. */
export function x25519PublicKey(seed: Uint8Array): Uint8Array {
  return x25519.getPublicKey(seed)
}
