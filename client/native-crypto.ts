/**
 * Signatures and hashes with native code, for the hot paths of a node: libsodium for Ed25519, OpenSSL (node:crypto) for
 * P-256 and SHA-256. A program that loads this file hashes natively from then on (chain/hashing.ts). The accepted set is that of chain/keys.ts, byte for byte that of chain/noble-crypto.ts.
 *
 * libsodium: the release in sodium-native compares encode(S·B − k·A) with R, and refuses S ≥ L, a non-canonical or
 * small-order A, and a small-order R: exactly the strict set. Other releases multiply by the cofactor and accept more;
 * `assertStrictLibrary` refuses to start with one of those.
 * OpenSSL accepts high s; it is refused here before OpenSSL sees it.
 */

import {
  createECDH,
  createPrivateKey,
  createPublicKey,
  sign as ecdsaSign,
  verify as ecdsaVerify,
  hash,
  type KeyObject,
} from 'node:crypto'
import sodium from 'sodium-native'
import { useSha256 } from '../chain/hashing.ts'
import { type SignatureVerifier, type Signer, type SigningSuite, signatureBytes } from '../chain/keys.ts'
import { RecentMap } from '../chain/recent-map.ts'
import { assert, assertNever } from '../chain/result.ts'

/** Parsed P-256 keys that are kept at least; parsing (60 µs) costs two thirds of a verification (92 µs). */
const maxCachedKeys = 4096

/** DER of a SubjectPublicKeyInfo (RFC 5480) up to the 33 bytes of a compressed P-256 point. */
const spkiPrefix = Buffer.from('3039301306072a8648ce3d020106082a8648ce3d030107032200', 'hex')
/** DER of a PKCS #8 Ed25519 private key (RFC 8410) up to its 32 bytes. */
const ed25519Prefix = Buffer.from('302e020100300506032b657004220420', 'hex')
/** Group order n of P-256 and ⌊n/2⌋ (FIPS 186-5). */
const order = Buffer.from('ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551', 'hex')
const halfOrder = Buffer.from('7fffffff800000007fffffffffffffffde737d56d38bcf4279dce5617e3192a8', 'hex')

const parsedKeys = new RecentMap<string, KeyObject>(maxCachedKeys)

function p256KeyObject(point: Uint8Array): KeyObject {
  const name = Buffer.from(point).toString('latin1')
  const known = parsedKeys.get(name)
  if (known) return known
  const key = createPublicKey({ key: Buffer.concat([spkiPrefix, point]), format: 'der', type: 'spki' })
  parsedKeys.set(name, key)
  return key
}

function verifyP256(point: Uint8Array, message: Uint8Array, signature: Uint8Array): boolean {
  if (point.length !== 33 || (point[0] !== 2 && point[0] !== 3)) return false
  if (Buffer.compare(signature.subarray(32), halfOrder) > 0) return false
  try {
    const key = p256KeyObject(point)
    return ecdsaVerify('sha256', message, { key, dsaEncoding: 'ieee-p1363' }, signature)
  } catch {
    // OpenSSL reports a point that is not on the curve by throwing.
    return false
  }
}

export const nativeVerifier: SignatureVerifier = {
  verify(key, message, signature) {
    if (signature.length !== signatureBytes) return false
    switch (key.suite) {
      case 'ed25519':
        return key.bytes.length === 32 && sodium.crypto_sign_verify_detached(signature, message, key.bytes)
      case 'p256':
        return verifyP256(key.bytes, message, signature)
      default:
        return assertNever(key.suite)
    }
  },
}

/**
 * A signer from 32 secret bytes, as chain/noble-crypto.ts's `signerFromSeed`: the same public keys, and for Ed25519 the
 * same signatures (OpenSSL's ECDSA is randomised). Throws if the bytes are no P-256 scalar.
 */
export function nativeSignerFromSeed(suite: SigningSuite, seed: Uint8Array): Signer {
  assert(seed.length === 32, `seed: expected 32 bytes, got ${seed.length}`)
  switch (suite) {
    case 'ed25519':
      return ed25519Signer(seed)
    case 'p256':
      return p256Signer(seed)
    default:
      return assertNever(suite)
  }
}

function ed25519Signer(seed: Uint8Array): Signer {
  const bytes = new Uint8Array(32)
  const secretKey = new Uint8Array(64)
  sodium.crypto_sign_seed_keypair(bytes, secretKey, seed)
  return {
    publicKey: { suite: 'ed25519', bytes },
    sign(message) {
      const signature = new Uint8Array(signatureBytes)
      sodium.crypto_sign_detached(signature, message, secretKey)
      return signature
    },
  }
}

/** The private key of 32 secret bytes as OpenSSL has it, for TLS and certificates. */
export function nativePrivateKey(suite: SigningSuite, seed: Uint8Array): KeyObject {
  assert(seed.length === 32, `seed: expected 32 bytes, got ${seed.length}`)
  return suite === 'p256'
    ? p256Pair(seed).key
    : createPrivateKey({ key: Buffer.concat([ed25519Prefix, seed]), format: 'der', type: 'pkcs8' })
}

/** The private key of a scalar, and its public point, compressed. */
function p256Pair(seed: Uint8Array): { readonly key: KeyObject; readonly point: Uint8Array } {
  const ecdh = createECDH('prime256v1')
  ecdh.setPrivateKey(seed)
  const point = ecdh.getPublicKey()
  const base64url = (bytes: Uint8Array) => Buffer.from(bytes).toString('base64url')
  const key = createPrivateKey({
    format: 'jwk',
    key: {
      kty: 'EC',
      crv: 'P-256',
      d: base64url(seed),
      x: base64url(point.subarray(1, 33)),
      y: base64url(point.subarray(33)),
    },
  })
  return { key, point: Uint8Array.from(ecdh.getPublicKey(undefined, 'compressed') as Buffer) }
}

function p256Signer(seed: Uint8Array): Signer {
  const { key, point } = p256Pair(seed)
  return {
    publicKey: { suite: 'p256', bytes: point },
    sign: message => lowS(ecdsaSign('sha256', message, { key, dsaEncoding: 'ieee-p1363' })),
  }
}

/** The X25519 public key (RFC 7748) of 32 secret bytes, as chain/noble-crypto.ts's `x25519PublicKey`: 32 bytes. */
export function nativeX25519PublicKey(seed: Uint8Array): Uint8Array {
  const publicKey = new Uint8Array(32)
  sodium.crypto_scalarmult_base(publicKey, seed)
  return publicKey
}

/** The one of (r, s) and (r, n − s) that is in the strict set. */
function lowS(signature: Uint8Array): Uint8Array {
  const low = Uint8Array.from(signature)
  if (Buffer.compare(signature.subarray(32), halfOrder) <= 0) return low
  let borrow = 0
  for (let i = 31; i >= 0; i--) {
    const difference = (order[i] as number) - (signature[32 + i] as number) - borrow
    borrow = difference < 0 ? 1 : 0
    low[32 + i] = difference & 0xff
  }
  return low
}

/**
 * An Ed25519 signature whose R has a component of order 8 (message: empty). With the cofactor it verifies, without it does
 * not; test/vectors/signatures.json has its making.
 */
const torsionProbe = {
  key: 'ea4a6c63e29c520abef5507b132ec5f9954776aebebe7b92421eea691446d22c',
  signature:
    '08ce6c3da7f5a2270800ac8272d4a74bceda2d14403bc6c9ad14d90bc8a9fc201b26b0a379903ac79fe48b0a52dfc0ac0f09e0781a43475db56d8a9f5c63d805',
}

function assertStrictLibrary(): void {
  const key = Buffer.from(torsionProbe.key, 'hex')
  const signature = Buffer.from(torsionProbe.signature, 'hex')
  assert(
    !nativeVerifier.verify({ suite: 'ed25519', bytes: key }, new Uint8Array(0), signature),
    'libsodium: expected a release that verifies Ed25519 without the cofactor',
  )
}

assertStrictLibrary()
// OpenSSL's one-shot SHA-256 gives text: making a Buffer for the result in native code takes three times as long as
// everything else (measured for 84 bytes: 0.46 us as text, 1.8 us as a Buffer, noble 0.8 us).
useSha256((bytes, as) => hash('sha256', bytes, as))
