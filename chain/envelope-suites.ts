/**
 * How the body of a message may be sealed, by number (docs/FORMATS.md, "Envelope"). The recipient's key decides: each suite
 * is for keys of one encryption suite, that of a group for epoch keys. The chain knows them because it says which of them
 * are allowed (`envelopeSuites` of its parameters); sealing and opening is for devices (mqtt-gateway/device/).
 *
 * Numbers are never reused. Reserved: 2 for HPKE with ChaCha20-Poly1305, 5 for HPKE with X-Wing
 * (docs/decisions/0020-envelope-suites.md).
 */
import { type Codec, list, oneOf } from './codec.ts'
import type { EncryptionSuite } from './keys.ts'
import { ok, type Result, refuse } from './result.ts'

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
  'light-x25519-aes256gcm': { number: 9, key: 'x25519', encBytes: [32] },
  'light-rsa-oaep-aes256gcm': { number: 11, key: 'rsa-oaep', encBytes: [256, 384] },
  'light-p256-aes256gcm': { number: 12, key: 'p256-ecdh', encBytes: [65] },
  'group-hkdf-sha256-aes256gcm': { number: 16, key: undefined, encBytes: [0] },
} as const satisfies Record<string, SuiteRow>

export type EnvelopeSuite = keyof typeof envelopeSuites

/** The suite that seals to keys of this encryption suite. */
export const suiteForKey: Readonly<Record<EncryptionSuite, EnvelopeSuite>> = {
  x25519: 'hpke-x25519-aes128gcm',
  'rsa-oaep': 'rsa-oaep-sha256-aes256gcm',
  'p256-ecdh': 'hpke-p256-aes128gcm',
}
/** The light one for such keys: a secret for each key is agreed on once, and not for each message. Its number is 8 more. */
export const lightSuiteForKey: Readonly<Record<EncryptionSuite, EnvelopeSuite>> = {
  x25519: 'light-x25519-aes256gcm',
  'rsa-oaep': 'light-rsa-oaep-aes256gcm',
  'p256-ecdh': 'light-p256-aes256gcm',
}

/** True for a suite whose body is keyed by a secret that is agreed on once. */
export function isLight(suite: EnvelopeSuite): boolean {
  return Object.values(lightSuiteForKey).includes(suite)
}

/** The suite of messages to a group. */
export const groupSuite: EnvelopeSuite = 'group-hkdf-sha256-aes256gcm'

/** The suite of messages to an open topic, whose key is of X25519. */
export const topicSuite: EnvelopeSuite = 'hpke-x25519-aes128gcm'

/** All that are built, in the order of their numbers: what a chain allows unless its makers decide otherwise. */
export const builtSuites = Object.keys(envelopeSuites) as readonly EnvelopeSuite[]
const suiteNumbers = Object.fromEntries(
  Object.entries(envelopeSuites).map(([suite, { number }]) => [suite, number]),
) as Readonly<Record<EnvelopeSuite, number>>
export const envelopeSuiteCodec: Codec<EnvelopeSuite> = oneOf(suiteNumbers)
/** What a chain allows; `checkAllowedSuites` says whether it is well formed. */
export const allowedSuitesCodec: Codec<readonly EnvelopeSuite[]> = list(
  envelopeSuiteCodec,
  builtSuites.length,
  1,
)

/** Refuses, as `malformed`, a list that is not in the order of the numbers, or has one twice. */
export function checkAllowedSuites(suites: readonly EnvelopeSuite[]): Result<void> {
  const numbers = suites.map(suite => suiteNumbers[suite])
  return numbers.every((number, i) => i === 0 || (numbers[i - 1] as number) < number)
    ? ok(undefined)
    : refuse(
        'malformed',
        `envelopeSuites: expected each once, by ascending number, got ${numbers.join(', ')}`,
      )
}

export function suiteRow(suite: EnvelopeSuite): SuiteRow {
  return envelopeSuites[suite]
}
