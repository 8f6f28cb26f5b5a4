/**
 * How the body of a message may be sealed, by number (docs/FORMATS.md, "Envelope"). The recipient's key decides: each suite
 * is for keys of one encryption suite, that of a group for epoch keys. The chain knows them because it says which of them
 * are allowed; sealing and opening is for devices (mqtt-gateway/device/).
 *
 * Numbers are never reused. Reserved: 2 for HPKE with ChaCha20-Poly1305, 5 for HPKE with X-Wing
 * (docs/decisions/0020-envelope-suites.md).
 */
import type { EncryptionSuite } from './keys.ts'

interface SuiteRow {
  readonly number: number
  /** The suite of the keys that it seals to; undefined for a group's epoch key. */
  readonly key: EncryptionSuite | undefined
  /** Lengths of `enc`, in bytes. */
  readonly encBytes: readonly number[]
}

export const envelopeSuites = {
  'hpke-x25519-aes128gcm': { number: 1, key: 'x25519', encBytes: [32] },
  'rsa-oaep-sha256-aes256gcm': { number: 3, key: 'rsa-oaep', encBytes: [256, 384] },
  'hpke-p256-aes128gcm': { number: 4, key: 'p256-ecdh', encBytes: [65] },
  'group-hkdf-sha256-aes256gcm': { number: 16, key: undefined, encBytes: [0] },
} as const satisfies Record<string, SuiteRow>

export type EnvelopeSuite = keyof typeof envelopeSuites

/** The suite that seals to keys of this encryption suite. */
export const suiteForKey: Readonly<Record<EncryptionSuite, EnvelopeSuite>> = {
  x25519: 'hpke-x25519-aes128gcm',
  'rsa-oaep': 'rsa-oaep-sha256-aes256gcm',
  'p256-ecdh': 'hpke-p256-aes128gcm',
}
/** The suite of messages to a group. */
export const groupSuite: EnvelopeSuite = 'group-hkdf-sha256-aes256gcm'

export function suiteRow(suite: EnvelopeSuite): SuiteRow {
  return envelopeSuites[suite]
}
