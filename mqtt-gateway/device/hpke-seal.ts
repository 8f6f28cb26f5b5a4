/**
 * Sealing bytes to a device's X25519 or P-256 key: HPKE base mode (RFC 9180), DHKEM(X25519 or P-256, HKDF-SHA256), HKDF-SHA256
 * and AES-128-GCM, one message per encapsulation (docs/decisions/0010-hpke-library.md).
 *
 * Base mode does not authenticate the sender; the signature around it does (envelope.ts) or the hash on the chain
 * (epoch-boxes.ts). What is no key, and what does not open, throws: key-sealing.ts makes refusals of it.
 */
import { ECDH } from 'node:crypto'
import {
  AEAD_AES_128_GCM,
  CipherSuite,
  KDF_HKDF_SHA256,
  KEM_DHKEM_P256_HKDF_SHA256,
  KEM_DHKEM_X25519_HKDF_SHA256,
} from 'hpke'
import type { EncryptionKey } from '../../chain/keys.ts'
import type { Sealed } from '../protocol/envelope.ts'
import {
  type DecryptionKey,
  type SealContext,
  type SharedSecret,
  sharedSecretBytes,
} from './decryption-key.ts'

/** What HPKE seals to. */
export type HpkeKeySuite = 'x25519' | 'p256-ecdh'

const suites = {
  x25519: new CipherSuite(KEM_DHKEM_X25519_HKDF_SHA256, KDF_HKDF_SHA256, AEAD_AES_128_GCM),
  'p256-ecdh': new CipherSuite(KEM_DHKEM_P256_HKDF_SHA256, KDF_HKDF_SHA256, AEAD_AES_128_GCM),
} as const satisfies Record<HpkeKeySuite, CipherSuite>

/** `info` says what the secret is for. */
const exporterContext = new Uint8Array(0)

export async function hpkeSeal(
  kem: HpkeKeySuite,
  key: EncryptionKey,
  plaintext: Uint8Array,
  context: SealContext,
): Promise<Sealed> {
  const publicKey = await suites[kem].DeserializePublicKey(serialized(kem, key.bytes))
  const { encapsulatedSecret, ciphertext } = await suites[kem].Seal(publicKey, plaintext, context)
  return { enc: encapsulatedSecret, ciphertext }
}

export async function hpkeOpen(
  kem: HpkeKeySuite,
  key: DecryptionKey,
  { enc, ciphertext }: Sealed,
  context: SealContext,
): Promise<Uint8Array> {
  return suites[kem].Open(await keyPairOf(kem, key), enc, ciphertext, context)
}

/** A new secret of 32 bytes that only the holder of `key` gets out of `enc`: a context of its own, of which nothing but this is exported. */
export async function hpkeSendSecret(
  kem: HpkeKeySuite,
  key: EncryptionKey,
  info: Uint8Array,
): Promise<SharedSecret> {
  const publicKey = await suites[kem].DeserializePublicKey(serialized(kem, key.bytes))
  const { encapsulatedSecret, exportedSecret } = await suites[kem].SendExport(
    publicKey,
    exporterContext,
    sharedSecretBytes,
    { info },
  )
  return { enc: encapsulatedSecret, secret: exportedSecret }
}

export async function hpkeReceiveSecret(
  kem: HpkeKeySuite,
  key: DecryptionKey,
  enc: Uint8Array,
  info: Uint8Array,
): Promise<Uint8Array> {
  const pair = await keyPairOf(kem, key)
  return suites[kem].ReceiveExport(pair, enc, exporterContext, sharedSecretBytes, { info })
}

/** A public key as the KEM reads it: of P-256 the 65 bytes of an uncompressed point (SEC 1, section 2.3.3). */
function serialized(kem: HpkeKeySuite, bytes: Uint8Array): Uint8Array {
  if (kem === 'x25519') return Uint8Array.from(bytes)
  return Uint8Array.from(ECDH.convertKey(bytes, 'prime256v1', undefined, undefined, 'uncompressed') as Buffer)
}

/** Imported pairs of the few keys a process opens with; deriving the public key again costs more than opening. */
const keyPairs = new WeakMap<DecryptionKey, ReturnType<typeof importKeyPair>>()

function keyPairOf(kem: HpkeKeySuite, key: DecryptionKey): ReturnType<typeof importKeyPair> {
  const known = keyPairs.get(key)
  if (known) return known
  const imported = importKeyPair(kem, key)
  keyPairs.set(key, imported)
  return imported
}

async function importKeyPair(kem: HpkeKeySuite, { publicKey, secret }: DecryptionKey) {
  return {
    privateKey:
      kem === 'x25519'
        ? await suites[kem].DeserializePrivateKey(Uint8Array.from(secret))
        : await importP256(publicKey.bytes, secret),
    publicKey: await suites[kem].DeserializePublicKey(serialized(kem, publicKey.bytes)),
  }
}

/** Through a JWK, since the library would ask WebCrypto for the public half, which Node 24 warns of as experimental. */
async function importP256(point: Uint8Array, secret: Uint8Array) {
  const base64url = (bytes: Uint8Array) => Buffer.from(bytes).toString('base64url')
  const [x, y] = [1, 33].map(from => base64url(serialized('p256-ecdh', point).subarray(from, from + 32)))
  const jwk = { kty: 'EC', crv: 'P-256', x: x as string, y: y as string, d: base64url(secret) }
  return crypto.subtle.importKey('jwk', jwk, { name: 'ECDH', namedCurve: 'P-256' }, false, ['deriveBits'])
}
