/**
 * Sealing bytes to a device's encryption key and opening what was sealed to one's own, whichever suite the key is of: the
 * key decides. Keys that nobody can seal to, and ciphertexts that do not open, are refusals, never crashes.
 */
import type { EncryptionKey } from '../../chain/keys.ts'
import { assertNever, ok, type Result, refuse } from '../../chain/result.ts'
import { type Sealed, sealingFlaw } from '../protocol/envelope.ts'
import type { DecryptionKey, SealContext, SharedSecret } from './decryption-key.ts'
import { hpkeOpen, hpkeReceiveSecret, hpkeSeal, hpkeSendSecret } from './hpke-seal.ts'
import { rsaOpen, rsaReceiveSecret, rsaSeal, rsaSendSecret } from './rsa-seal.ts'

/** Seals `plaintext` so that only the holder of `key` opens it. Refuses `key-not-usable`. */
export async function sealToKey(
  key: EncryptionKey,
  plaintext: Uint8Array,
  context: SealContext,
): Promise<Result<Sealed>> {
  const flaw = sealingFlaw(key)
  if (flaw !== undefined) return refuse('key-not-usable', `key: ${flaw}`)
  const { suite } = key
  switch (suite) {
    case 'x25519':
    case 'p256-ecdh':
      return ok(await hpkeSeal(suite, key, plaintext, context))
    case 'rsa-oaep':
      return ok(rsaSeal(key, plaintext, context))
    default:
      return assertNever(suite)
  }
}

/** Opens what `sealToKey` made. Refuses `cannot-open` whatever is wrong, and does not say which part it was. */
export async function openWithKey(
  key: DecryptionKey,
  sealed: Sealed,
  context: SealContext,
): Promise<Result<Uint8Array>> {
  try {
    return ok(await open(key, sealed, context))
  } catch {
    return refuse('cannot-open', 'ciphertext: does not open under this key')
  }
}

async function open(key: DecryptionKey, sealed: Sealed, context: SealContext): Promise<Uint8Array> {
  const { suite } = key.publicKey
  switch (suite) {
    case 'x25519':
    case 'p256-ecdh':
      return hpkeOpen(suite, key, sealed, context)
    case 'rsa-oaep':
      return rsaOpen(key, sealed, context)
    default:
      return assertNever(suite)
  }
}

/** A new secret to share with the holder of `key`. `info` says on what chain, and what for. Refuses `key-not-usable`. */
export async function sendSecret(key: EncryptionKey, info: Uint8Array): Promise<Result<SharedSecret>> {
  const flaw = sealingFlaw(key)
  if (flaw !== undefined) return refuse('key-not-usable', `key: ${flaw}`)
  const { suite } = key
  return ok(suite === 'rsa-oaep' ? rsaSendSecret(key, info) : await hpkeSendSecret(suite, key, info))
}

/** The secret in `enc`. Refuses `cannot-open`. */
export async function receiveSecret(
  key: DecryptionKey,
  enc: Uint8Array,
  info: Uint8Array,
): Promise<Result<Uint8Array>> {
  const { suite } = key.publicKey
  try {
    return ok(
      suite === 'rsa-oaep'
        ? rsaReceiveSecret(key, enc, info)
        : await hpkeReceiveSecret(suite, key, enc, info),
    )
  } catch {
    return refuse('cannot-open', 'enc: does not open under this key')
  }
}
