/**
 * AES-256-GCM (NIST SP 800-38D) under a key and a nonce that are used for one message and never again. Where they come from
 * is each suite's own matter: derived from an epoch key, or drawn and wrapped for an RSA key.
 */
import { createCipheriv, createDecipheriv } from 'node:crypto'
import { assert } from '../../chain/result.ts'
import { tagBytes } from '../protocol/envelope.ts'

const keyBytes = 32
const nonceBytes = 12
/** Key ‖ nonce of one message. */
export const messageKeyBytes = keyBytes + nonceBytes

/** The ciphertext, and 16 bytes of tag at its end. `messageKey` is key ‖ nonce, 44 bytes. */
export function sealMessage(messageKey: Uint8Array, content: Uint8Array, aad: Uint8Array): Uint8Array {
  const cipher = createCipheriv('aes-256-gcm', keyOf(messageKey), nonceOf(messageKey))
  cipher.setAAD(aad)
  const body = cipher.update(content)
  assert(cipher.final().length === 0, 'AES-GCM: expected no bytes at the end')
  const sealed = new Uint8Array(content.length + tagBytes)
  sealed.set(body)
  sealed.set(cipher.getAuthTag(), content.length)
  return sealed
}

/** The content; undefined for whatever does not open. */
export function openMessage(
  messageKey: Uint8Array,
  ciphertext: Uint8Array,
  aad: Uint8Array,
): Uint8Array | undefined {
  const end = ciphertext.length - tagBytes
  if (end < 0) return undefined
  const decipher = createDecipheriv('aes-256-gcm', keyOf(messageKey), nonceOf(messageKey))
  decipher.setAAD(aad)
  decipher.setAuthTag(ciphertext.subarray(end))
  const content = decipher.update(ciphertext.subarray(0, end))
  try {
    decipher.final()
  } catch {
    return undefined
  }
  return Uint8Array.from(content)
}

function keyOf(messageKey: Uint8Array): Uint8Array {
  assert(messageKey.length === messageKeyBytes, `messageKey: expected ${messageKeyBytes} bytes`)
  return messageKey.subarray(0, keyBytes)
}

function nonceOf(messageKey: Uint8Array): Uint8Array {
  return messageKey.subarray(keyBytes)
}
