/**
 * Sealing bytes to a device's X25519 key: HPKE base mode (RFC 9180), DHKEM(X25519, HKDF-SHA256), HKDF-SHA256 and
 * AES-128-GCM, one message per encapsulation (docs/decisions/0010-hpke-library.md).
 *
 * Base mode does not authenticate the sender; the signature around it does (envelope.ts) or the hash on the chain
 * (epoch-boxes.ts). Keys that are not valid points, and ciphertexts that do not open, are refusals, never crashes.
 */
import { AEAD_AES_128_GCM, CipherSuite, KDF_HKDF_SHA256, KEM_DHKEM_X25519_HKDF_SHA256 } from 'hpke'
import type { EncryptionKey } from '../../chain/keys.ts'
import { x25519PublicKey } from '../../chain/noble-crypto.ts'
import { ok, type Result, refuse } from '../../chain/result.ts'
import { type Sealed, sealingFlaw } from '../protocol/envelope.ts'

const suite = new CipherSuite(KEM_DHKEM_X25519_HKDF_SHA256, KDF_HKDF_SHA256, AEAD_AES_128_GCM)

/** RFC 9180's `info` and `aad`: what the two sides must agree on besides the key. */
export interface SealContext {
  readonly info: Uint8Array
  readonly aad: Uint8Array
}

/** Seals `plaintext` so that only the holder of `key` opens it. Refuses `key-not-usable`: not X25519, or of small order. */
export async function hpkeSeal(
  key: EncryptionKey,
  plaintext: Uint8Array,
  context: SealContext,
): Promise<Result<Sealed>> {
  const flaw = sealingFlaw(key)
  if (flaw !== undefined) return refuse('key-not-usable', `key: ${flaw}`)
  const publicKey = await suite.DeserializePublicKey(Uint8Array.from(key.bytes))
  const { encapsulatedSecret, ciphertext } = await suite.Seal(publicKey, plaintext, context)
  return ok({ enc: encapsulatedSecret, ciphertext })
}

/** Opens what `hpkeSeal` made. Refuses `cannot-open` whatever is wrong, and does not say which part it was. */
export async function hpkeOpen(
  secret: Uint8Array,
  sealed: Sealed,
  context: SealContext,
): Promise<Result<Uint8Array>> {
  try {
    return ok(await suite.Open(await keyPairOf(secret), sealed.enc, sealed.ciphertext, context))
  } catch {
    return refuse('cannot-open', 'ciphertext: does not open under this key')
  }
}

/** Imported pairs of the few secrets a process opens with; deriving the public key again costs more than opening. */
const keyPairs = new WeakMap<Uint8Array, ReturnType<typeof importKeyPair>>()

function keyPairOf(secret: Uint8Array): ReturnType<typeof importKeyPair> {
  const known = keyPairs.get(secret)
  if (known) return known
  const imported = importKeyPair(Uint8Array.from(secret))
  keyPairs.set(secret, imported)
  return imported
}

async function importKeyPair(secret: Uint8Array) {
  return {
    privateKey: await suite.DeserializePrivateKey(secret),
    publicKey: await suite.DeserializePublicKey(x25519PublicKey(secret)),
  }
}
