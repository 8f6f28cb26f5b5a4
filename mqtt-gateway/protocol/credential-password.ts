/**
 * The password of a plain MQTT client that connects again and again: 32 random bytes in base64url without padding, 43 characters
 * (docs/FORMATS.md, "Credentials"). It is a secret that crosses the wire, so a gateway takes it over loopback or TLS only.
 */
import { randomBytes } from 'node:crypto'

const passwordBytes = 32

/** A new password. */
export function makePassword(): { readonly bytes: Uint8Array; readonly text: string } {
  const bytes = randomBytes(passwordBytes)
  return { bytes: Uint8Array.from(bytes), text: bytes.toString('base64url') }
}

/** The bytes of a password; undefined for any other text, an assertion say. */
export function parsePassword(text: string): Uint8Array | undefined {
  const bytes = text.length === 43 ? Buffer.from(text, 'base64url') : undefined
  const isPassword = bytes?.length === passwordBytes && bytes.toString('base64url') === text
  return isPassword ? Uint8Array.from(bytes) : undefined
}
