/**
 * Sealing bytes to a device's RSA key, as the source paper has it (Hsu-Lu B3): the content under a fresh AES key, that key
 * under the RSA key. AES-256-GCM; RSAES-OAEP (RFC 8017, section 7.1) with SHA-256 and MGF1 with SHA-256, whose label is the
 * context's `info`, so that a wrapped key of one chain or purpose opens in no other.
 *
 * `enc` is the wrapped key ‖ nonce, as long as the modulus. OpenSSL unwraps in constant time; what does not unwrap and what does
 * not open look alike to the caller.
 */
import {
  constants,
  createPrivateKey,
  createPublicKey,
  type KeyObject,
  privateDecrypt,
  publicEncrypt,
  randomBytes,
} from 'node:crypto'
import type { EncryptionKey } from '../../chain/keys.ts'
import type { Sealed } from '../protocol/envelope.ts'
import {
  type DecryptionKey,
  type SealContext,
  type SharedSecret,
  sharedSecretBytes,
} from './decryption-key.ts'
import { messageKeyBytes, openMessage, sealMessage } from './message-cipher.ts'

const oaep = (key: KeyObject, label: Uint8Array) => ({
  key,
  padding: constants.RSA_PKCS1_OAEP_PADDING,
  oaepHash: 'sha256',
  oaepLabel: Uint8Array.from(label),
})

export function rsaSeal(key: EncryptionKey, plaintext: Uint8Array, { info, aad }: SealContext): Sealed {
  const messageKey = Uint8Array.from(randomBytes(messageKeyBytes))
  const enc = Uint8Array.from(publicEncrypt(oaep(publicKeyOf(key), info), messageKey))
  return { enc, ciphertext: sealMessage(messageKey, plaintext, aad) }
}

/** Throws for what does not open. */
export function rsaOpen(
  key: DecryptionKey,
  { enc, ciphertext }: Sealed,
  { info, aad }: SealContext,
): Uint8Array {
  const messageKey = Uint8Array.from(privateDecrypt(oaep(privateKeyOf(key), info), enc))
  const content = openMessage(messageKey, ciphertext, aad)
  if (content === undefined) throw new Error('ciphertext: does not open')
  return content
}

/** A new secret of 32 bytes that only the holder of `key` unwraps. */
export function rsaSendSecret(key: EncryptionKey, info: Uint8Array): SharedSecret {
  const secret = Uint8Array.from(randomBytes(sharedSecretBytes))
  return { enc: Uint8Array.from(publicEncrypt(oaep(publicKeyOf(key), info), secret)), secret }
}

/** Throws for what does not unwrap to as many bytes. */
export function rsaReceiveSecret(key: DecryptionKey, enc: Uint8Array, info: Uint8Array): Uint8Array {
  const secret = Uint8Array.from(privateDecrypt(oaep(privateKeyOf(key), info), enc))
  if (secret.length !== sharedSecretBytes) throw new Error('secret: of another length')
  return secret
}

function publicKeyOf(key: EncryptionKey): KeyObject {
  return createPublicKey({ key: Buffer.from(key.bytes), format: 'der', type: 'pkcs1' })
}

/** Parsed once: that takes as long as opening. */
const privateKeys = new WeakMap<DecryptionKey, KeyObject>()

function privateKeyOf(key: DecryptionKey): KeyObject {
  const known = privateKeys.get(key)
  if (known) return known
  const parsed = createPrivateKey({ key: Buffer.from(key.secret), format: 'der', type: 'pkcs8' })
  privateKeys.set(key, parsed)
  return parsed
}
