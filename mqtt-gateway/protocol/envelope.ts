/**
 * The message format: an authenticated header, a sealed body, the sender's signature (docs/FORMATS.md, "Envelope").
 *
 *   envelope = [version, payload, signature]       payload = [header, channel, enc, ciphertext]
 *
 * Source: Hsu-Lu B2, B3 (the requirement), RFC 9180 and RFC 8017 (the body for one recipient).
 * Invariants:
 * - encrypt, then sign: the signature covers header, channel and ciphertext under the chain's id, so a gateway
 *   verifies without opening, and an envelope of one chain means nothing on another;
 * - header and channel are also the `aad` of the cipher, so a body cannot be moved under another header;
 * - the topic is no part of it: topics only put a prefix before recipient and channel.
 *
 * Only a device seals and opens (envelope-sealing.ts), and only the gateway judges whether sender and recipient
 * are who the chain says (verification.ts).
 */
import { hexToBytes } from '@noble/hashes/utils.js'
import type { ChainId, DeviceId, GroupId, Hash, Height, KeyId, Milliseconds } from '../../chain/brands.ts'
import {
  bytes,
  type Codec,
  constant,
  decode,
  digest,
  encode,
  struct,
  text,
  uint,
  union,
} from '../../chain/codec.ts'
import {
  type EnvelopeSuite,
  envelopeSuiteCodec,
  suiteForKey,
  suiteRow,
  topicSuite,
} from '../../chain/envelope-suites.ts'
import { domainBytes, hashHex } from '../../chain/hashing.ts'
import type { EncryptionKey, PublicKey, SignatureVerifier, Signer } from '../../chain/keys.ts'
import { ok, type Result, refuse } from '../../chain/result.ts'
import { keyFlaw } from '../../chain/usable-keys.ts'
import { maxBodyBytes, maxContentBytes } from './content.ts'
import type { ExpiryTimes } from './trust.ts'

/** Largest envelope: 1 MiB of content, and at most 1 KiB around it. */
export const maxEnvelopeBytes = maxContentBytes + 1024
/** Furthest that an expiry may lie ahead, in milliseconds: 10 minutes. Bounds how long a gateway's replay window must remember. */
export const maxEnvelopeLifetimeMs = 10 * 60 * 1000
/** Longest that a message may be kept for a recipient that is away: 7 days. Bounds how long a recipient's replay window must remember. */
export const maxKeepMs = 7 * 24 * 60 * 60 * 1000
/** A keep time of a message that is not kept. */
export const notKept = 0 as Milliseconds
/** Bytes of a group's epoch key. */
export const epochKeyBytes = 32
/** Longest `enc`: what RSA of 3,072 bits makes. */
export const maxEncBytes = 384
/** Bytes that every cipher adds to the plaintext. */
export const tagBytes = 16

/** A sealed body. */
export interface Sealed {
  /** The encapsulated or wrapped key, as long as the suite has it; none in an envelope for a group. */
  readonly enc: Uint8Array
  /** The plaintext's length and 16 bytes. */
  readonly ciphertext: Uint8Array
}

/** What was found about keys: a point of P-256 costs 0.13 ms, and a message asks more than once. */
const flaws = new WeakMap<EncryptionKey, { readonly flaw: string | undefined }>()

/** Why nothing can be sealed to this key of a device, in words; undefined for a key that can be. Computed once for one object. */
export function sealingFlaw(key: EncryptionKey): string | undefined {
  const known = flaws.get(key)
  if (known) return known.flaw
  const flaw = keyFlaw(key)
  flaws.set(key, { flaw })
  return flaw
}

/** Whether envelopes and boxes may be sealed to a key on a chain that allows these suites. */
export function canSealTo(allowed: readonly EnvelopeSuite[]): (key: EncryptionKey) => boolean {
  return key => allowed.includes(suiteForKey[key.suite]) && sealingFlaw(key) === undefined
}

/** Refuses `suite-not-allowed`: how messages may be sealed is for the chain's makers. */
export function checkAllowed(suite: EnvelopeSuite, allowed: readonly EnvelopeSuite[]): Result<void> {
  return allowed.includes(suite)
    ? ok(undefined)
    : refuse('suite-not-allowed', `suite: expected ${allowed.join(', ')}, got ${suite}`)
}

/** Whom an envelope is for, with the key that the sender holds to be the current one. */
export type EnvelopeTarget =
  | { readonly type: 'device'; readonly id: DeviceId; readonly keyId: KeyId }
  | { readonly type: 'group'; readonly id: GroupId; readonly epoch: number; readonly epochKeyHash: Hash }
  /** An open topic, with the public key of this epoch as the sender has it. */
  | { readonly type: 'topic'; readonly id: GroupId; readonly epoch: number; readonly keyId: KeyId }

export interface EnvelopeHeader {
  readonly suite: EnvelopeSuite
  readonly sender: DeviceId
  readonly senderKeyId: KeyId
  readonly target: EnvelopeTarget
  /** Strictly used once per sender key. */
  readonly counter: number
  /** Height of the newest certified header that the sender had seen. */
  readonly seenHeight: Height
  /** The gateway takes the envelope until this time, and the recipient too unless it is kept for longer. */
  readonly expiry: Milliseconds
  /** The gateway keeps it for who is away, and the recipient takes it, until this time, after `expiry`; `notKept`: 0. */
  readonly keepUntil: Milliseconds
}

/** Until when a recipient takes an envelope, and remembers its counter. */
export function deliverableUntil({ expiry, keepUntil }: EnvelopeHeader): Milliseconds {
  return keepUntil === notKept ? expiry : keepUntil
}

export interface Envelope {
  readonly header: EnvelopeHeader
  /** The sender's name for the stream, '' for none: letters, digits, '.', '_', '-', and '/' between levels. */
  readonly channel: string
  readonly sealed: Sealed
  readonly signature: Uint8Array
  /** Digest of the signed content under the chain's id: what verdicts and logs name. */
  readonly messageId: Hash
}

const targetCodec: Codec<EnvelopeTarget> = union<EnvelopeTarget>({
  device: [1, struct({ id: digest<DeviceId>(), keyId: digest<KeyId>() })],
  group: [2, struct({ id: digest<GroupId>(), epoch: uint(0xffff_ffff), epochKeyHash: digest<Hash>() })],
  topic: [3, struct({ id: digest<GroupId>(), epoch: uint(0xffff_ffff), keyId: digest<KeyId>() })],
})
const headerCodec: Codec<EnvelopeHeader> = struct<EnvelopeHeader>({
  suite: envelopeSuiteCodec,
  sender: digest<DeviceId>(),
  senderKeyId: digest<KeyId>(),
  target: targetCodec,
  counter: uint(),
  seenHeight: uint<Height>(),
  expiry: uint<Milliseconds>(),
  keepUntil: uint<Milliseconds>(),
})
/** At most 64 characters; levels are never empty, so a topic made from it has none either. */
export const channelCodec: Codec<string> = text(64, /^$|^[A-Za-z0-9._-]+(\/[A-Za-z0-9._-]+)*$/)

/** What the cipher authenticates besides the body. */
export interface AuthenticatedFields {
  readonly header: EnvelopeHeader
  readonly channel: string
}
const authenticatedCodec = struct<AuthenticatedFields>({ header: headerCodec, channel: channelCodec })

interface Payload extends AuthenticatedFields, Sealed {}
const payloadCodec = struct<Payload>({
  header: headerCodec,
  channel: channelCodec,
  enc: bytes(0, maxEncBytes),
  ciphertext: bytes(tagBytes, maxBodyBytes + tagBytes),
})
const formatVersion = 1 as const
const envelopeCodec = struct<{ version: typeof formatVersion; payload: Uint8Array; signature: Uint8Array }>({
  version: constant(formatVersion),
  payload: bytes(1, maxEnvelopeBytes),
  signature: bytes(64),
})

/** Refuses `suite-mismatch` for a body that is not sealed as one to this key is. */
export function checkSuite(suite: EnvelopeSuite, key: EncryptionKey): Result<void> {
  return suiteRow(suite).key === key.suite
    ? ok(undefined)
    : refuse('suite-mismatch', `suite: expected one for a key of ${key.suite}, got ${suite}`)
}

/**
 * Reads an envelope from hostile bytes. Judges form only: the signature is `verifyEnvelope`'s.
 * Refuses `too-large`, `unknown-version`, `malformed`.
 */
export function parseEnvelope(chainId: ChainId, wire: Uint8Array): Result<Envelope> {
  // 0x93: an array of three; a version below 128 is one byte.
  if (wire[0] === 0x93 && wire[1] !== 1 && (wire[1] ?? 0xff) < 0x80)
    return refuse('unknown-version', `envelope.version: expected 1, got ${wire[1]}`)
  const outer = decode(envelopeCodec, wire, maxEnvelopeBytes)
  if (!outer.ok) return outer
  const { payload, signature } = outer.value
  const inner = decode(payloadCodec, payload, maxEnvelopeBytes)
  if (!inner.ok) return inner
  const { header, channel, enc, ciphertext } = inner.value
  const suite = suiteRow(header.suite)
  const isTopic = header.target.type === 'topic'
  if (
    (suite.key === undefined) !== (header.target.type === 'group') ||
    (isTopic && header.suite !== topicSuite)
  )
    return refuse('malformed', `header.suite: ${header.suite} is not for a ${header.target.type}`)
  if (!suite.encBytes.includes(enc.length))
    return refuse('malformed', `enc: ${enc.length} bytes do not fit ${header.suite}`)
  if (header.keepUntil !== notKept && header.keepUntil <= header.expiry)
    return refuse('malformed', 'header.keepUntil: expected 0, or a time after the expiry')
  return ok({
    header,
    channel,
    sealed: { enc, ciphertext },
    signature,
    messageId: messageIdOf(chainId, payload),
  })
}

/** True if `key` signed the envelope. The caller has found `key` in the chain's record of the sender. */
export function verifyEnvelope(envelope: Envelope, key: PublicKey, verifier: SignatureVerifier): boolean {
  return verifier.verify(key, signingBytes(envelope.messageId), envelope.signature)
}

/**
 * The rule for who takes an envelope from its sender. Refuses `envelope-expired`, and `expiry-too-far` for one that a replay window
 * could not remember or that would be kept for too long.
 */
export function checkEnvelopeLifetime(
  { expiry, keepUntil }: Pick<EnvelopeHeader, 'expiry' | 'keepUntil'>,
  { head, now }: ExpiryTimes,
): Result<void> {
  if (expiry < head) return refuse('envelope-expired', `expiry: passed ${head - expiry} ms ago`)
  if (expiry - now > maxEnvelopeLifetimeMs)
    return refuse('expiry-too-far', `expiry: expected at most ${maxEnvelopeLifetimeMs} ms ahead`)
  return checkKeepTime(keepUntil, now)
}

/** The rule for who gives an envelope out, or gets it: a kept one counts until `keepUntil`. Refuses as `checkEnvelopeLifetime` does. */
export function checkDeliveryTime(header: EnvelopeHeader, times: ExpiryTimes): Result<void> {
  const { keepUntil } = header
  if (keepUntil === notKept) return checkEnvelopeLifetime(header, times)
  return keepUntil < times.head
    ? refuse('envelope-expired', `keepUntil: passed ${times.head - keepUntil} ms ago`)
    : checkKeepTime(keepUntil, times.now)
}

function checkKeepTime(keepUntil: Milliseconds, now: Milliseconds): Result<void> {
  // The sender's time may be a little ahead of the judge's, as with expiries.
  return keepUntil - now > maxKeepMs + maxEnvelopeLifetimeMs
    ? refuse('expiry-too-far', `keepUntil: expected at most ${maxKeepMs} ms ahead`)
    : ok(undefined)
}

/** The cipher's `aad`. */
export function authenticatedBytes(fields: AuthenticatedFields): Uint8Array {
  return encode(authenticatedCodec, fields)
}

/** An envelope as it is sent. */
export interface EncodedEnvelope {
  readonly bytes: Uint8Array
  readonly messageId: Hash
}

/** Signs and encodes a body that is sealed already, with the header's fields as `aad`. */
export function signEnvelope(
  chainId: ChainId,
  { header, channel }: AuthenticatedFields,
  { enc, ciphertext }: Sealed,
  signer: Signer,
): EncodedEnvelope {
  const payload = encode(payloadCodec, { header, channel, enc, ciphertext })
  const messageId = messageIdOf(chainId, payload)
  const signature = signer.sign(signingBytes(messageId))
  return { bytes: encode(envelopeCodec, { version: formatVersion, payload, signature }), messageId }
}

function messageIdOf(chainId: ChainId, payload: Uint8Array): Hash {
  return hashHex('mote/envelope-id/1', hexToBytes(chainId), payload)
}

function signingBytes(messageId: Hash): Uint8Array {
  return domainBytes('mote/envelope-signature/1', hexToBytes(messageId))
}
