/**
 * The message format: an authenticated header, a sealed body, the sender's signature (docs/FORMATS.md, "Envelope").
 *
 *   envelope = [version, payload, signature]       payload = [header, channel, enc, ciphertext]
 *
 * Source: Hsu-Lu B2, B3 (the requirement), RFC 9180 (the body for one recipient).
 * Invariants:
 * - encrypt, then sign: the signature covers header, channel and ciphertext under the chain's id, so a gateway
 *   verifies without opening, and an envelope of one chain means nothing on another;
 * - header and channel are also the `aad` of the cipher, so a body cannot be moved under another header;
 * - a group body's key is derived from the epoch key and the header; a counter is never used twice with one sender
 *   key (device-state.ts), so no key and nonce are either;
 * - the topic is no part of it: topics only put a prefix before recipient and channel.
 *
 * Whether sender and recipient are who the chain says is not judged here (verification.ts).
 */
import { gcm } from '@noble/ciphers/aes.js'
import { hkdf } from '@noble/hashes/hkdf.js'
import { sha256 } from '@noble/hashes/sha2.js'
import { concatBytes, hexToBytes } from '@noble/hashes/utils.js'
import type { ChainId, DeviceId, GroupId, Hash, Height, KeyId, Milliseconds } from '../chain/brands.ts'
import {
  bytes,
  type Codec,
  constant,
  decode,
  digest,
  encode,
  oneOf,
  struct,
  text,
  uint,
  union,
} from '../chain/codec.ts'
import { domainBytes, hashHex, u64be } from '../chain/hashing.ts'
import {
  type EncryptionKey,
  keyIdOf,
  type PublicKey,
  type SignatureVerifier,
  type Signer,
} from '../chain/keys.ts'
import { assert, ok, type Result, refuse } from '../chain/result.ts'
import { hpkeOpen, hpkeSeal, type Sealed } from './hpke-seal.ts'

/**
 * How the body is sealed. Numbers are never reused; 2 is reserved for HPKE with ChaCha20-Poly1305, 3 for RSA-OAEP with
 * AES-GCM.
 */
export type EnvelopeSuite = 'hpke-x25519-aes128gcm' | 'group-hkdf-sha256-aes256gcm'
const suiteNumbers: Readonly<Record<EnvelopeSuite, number>> = {
  'hpke-x25519-aes128gcm': 1,
  'group-hkdf-sha256-aes256gcm': 16,
}

/** Largest body before sealing: 1 MiB. */
export const maxContentBytes = 1024 * 1024
/** Largest envelope: the body and at most 1 KiB around it. */
export const maxEnvelopeBytes = maxContentBytes + 1024
/** Furthest that an expiry may lie ahead, in milliseconds: 10 minutes. Bounds how long a replay window must remember. */
export const maxEnvelopeLifetimeMs = 10 * 60 * 1000
/** Bytes of a group's epoch key. */
export const epochKeyBytes = 32

/** Whom an envelope is for, with the key that the sender holds to be the current one. */
export type EnvelopeTarget =
  | { readonly type: 'device'; readonly id: DeviceId; readonly keyId: KeyId }
  | { readonly type: 'group'; readonly id: GroupId; readonly epoch: number; readonly epochKeyHash: Hash }

export interface EnvelopeHeader {
  readonly suite: EnvelopeSuite
  readonly sender: DeviceId
  readonly senderKeyId: KeyId
  readonly target: EnvelopeTarget
  /** Strictly used once per sender key. */
  readonly counter: number
  /** Height of the newest certified header that the sender had seen. */
  readonly seenHeight: Height
  /** The gateway and the recipient refuse the envelope after this time. */
  readonly expiry: Milliseconds
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
})
const headerCodec: Codec<EnvelopeHeader> = struct<EnvelopeHeader>({
  suite: oneOf(suiteNumbers),
  sender: digest<DeviceId>(),
  senderKeyId: digest<KeyId>(),
  target: targetCodec,
  counter: uint(),
  seenHeight: uint<Height>(),
  expiry: uint<Milliseconds>(),
})
/** At most 64 characters; levels are never empty, so a topic made from it has none either. */
export const channelCodec: Codec<string> = text(64, /^$|^[A-Za-z0-9._-]+(\/[A-Za-z0-9._-]+)*$/)

interface AuthenticatedFields {
  readonly header: EnvelopeHeader
  readonly channel: string
}
const authenticatedCodec = struct<AuthenticatedFields>({ header: headerCodec, channel: channelCodec })

interface Payload extends AuthenticatedFields {
  readonly enc: Uint8Array
  readonly ciphertext: Uint8Array
}
const payloadCodec = struct<Payload>({
  header: headerCodec,
  channel: channelCodec,
  enc: bytes(0, 32),
  ciphertext: bytes(16, maxContentBytes + 16),
})
const formatVersion = 1 as const
const envelopeCodec = struct<{ version: typeof formatVersion; payload: Uint8Array; signature: Uint8Array }>({
  version: constant(formatVersion),
  payload: bytes(1, maxEnvelopeBytes),
  signature: bytes(64),
})

const suiteOf: Readonly<Record<EnvelopeTarget['type'], EnvelopeSuite>> = {
  device: 'hpke-x25519-aes128gcm',
  group: 'group-hkdf-sha256-aes256gcm',
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
  if (header.suite !== suiteOf[header.target.type])
    return refuse('malformed', `header.suite: ${header.suite} is not for a ${header.target.type}`)
  if (enc.length !== (header.target.type === 'device' ? 32 : 0))
    return refuse('malformed', `enc: ${enc.length} bytes do not fit ${header.suite}`)
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

/** Whom to seal for, with the secret or public key it takes. */
export type SealTarget =
  | { readonly type: 'device'; readonly id: DeviceId; readonly key: EncryptionKey }
  | {
      readonly type: 'group'
      readonly id: GroupId
      readonly epoch: number
      readonly epochKeyHash: Hash
      readonly epochKey: Uint8Array
    }

export interface SealRequest {
  readonly chainId: ChainId
  readonly sender: DeviceId
  readonly signer: Signer
  readonly target: SealTarget
  readonly counter: number
  readonly seenHeight: Height
  readonly expiry: Milliseconds
  readonly channel: string
  /** At most 1 MiB. */
  readonly content: Uint8Array
}

/** Seals and signs. Refuses `too-large` content and, as `key-not-usable`, a recipient's key that nobody can seal to. */
export async function sealEnvelope(
  request: SealRequest,
): Promise<Result<{ readonly bytes: Uint8Array; readonly messageId: Hash }>> {
  const { chainId, sender, signer, target, counter, seenHeight, expiry, channel, content } = request
  if (content.length > maxContentBytes)
    return refuse('too-large', `content: expected at most ${maxContentBytes} bytes, got ${content.length}`)
  const header: EnvelopeHeader = {
    suite: suiteOf[target.type],
    sender,
    senderKeyId: keyIdOf(signer.publicKey),
    target: headerTarget(target),
    counter,
    seenHeight,
    expiry,
  }
  const aad = encode(authenticatedCodec, { header, channel })
  const sealed =
    target.type === 'device'
      ? await hpkeSeal(target.key, content, { info: envelopeInfo(chainId), aad })
      : ok(sealForGroup(chainId, header, target.epochKey, content, aad))
  if (!sealed.ok) return sealed
  const payload = encode(payloadCodec, { header, channel, ...sealed.value })
  const messageId = messageIdOf(chainId, payload)
  const signature = signer.sign(signingBytes(messageId))
  return ok({ bytes: encode(envelopeCodec, { version: formatVersion, payload, signature }), messageId })
}

/** The secret that opens an envelope: the recipient's X25519 secret, or the epoch key that the header names. */
export type OpeningKey =
  | { readonly type: 'device'; readonly secret: Uint8Array }
  | { readonly type: 'group'; readonly epochKey: Uint8Array }

/** The content of an envelope whose signature is verified already. Refuses `cannot-open`. */
export async function openEnvelope(
  chainId: ChainId,
  envelope: Envelope,
  key: OpeningKey,
): Promise<Result<Uint8Array>> {
  const { header, channel, sealed } = envelope
  if (key.type !== header.target.type)
    return refuse('cannot-open', `target: expected a ${key.type}, got a ${header.target.type}`)
  const aad = encode(authenticatedCodec, { header, channel })
  if (key.type === 'device') return hpkeOpen(key.secret, sealed, { info: envelopeInfo(chainId), aad })
  const { key: messageKey, nonce } = groupMessageKey(chainId, header, key.epochKey, aad)
  try {
    return ok(gcm(messageKey, nonce, aad).decrypt(sealed.ciphertext))
  } catch {
    return refuse('cannot-open', 'ciphertext: does not open under this epoch key')
  }
}

function headerTarget(target: SealTarget): EnvelopeTarget {
  if (target.type === 'device') return { type: 'device', id: target.id, keyId: keyIdOf(target.key) }
  const { type, id, epoch, epochKeyHash } = target
  return { type, id, epoch, epochKeyHash }
}

function sealForGroup(
  chainId: ChainId,
  header: EnvelopeHeader,
  epochKey: Uint8Array,
  content: Uint8Array,
  aad: Uint8Array,
): Sealed {
  const { key, nonce } = groupMessageKey(chainId, header, epochKey, aad)
  return { enc: new Uint8Array(0), ciphertext: gcm(key, nonce, aad).encrypt(content) }
}

/**
 * Key and nonce of one message: HKDF-SHA256 of the epoch key, bound to chain, group, epoch and the whole header. So
 * a device that was restored from an old copy and uses a counter again still has another key, for another expiry.
 */
function groupMessageKey(
  chainId: ChainId,
  header: EnvelopeHeader,
  epochKey: Uint8Array,
  aad: Uint8Array,
): { readonly key: Uint8Array; readonly nonce: Uint8Array } {
  assert(epochKey.length === epochKeyBytes, `epochKey: expected ${epochKeyBytes} bytes`)
  assert(header.target.type === 'group', 'a group message key is for a group')
  const salt = concatBytes(hexToBytes(chainId), hexToBytes(header.target.id), u64be(header.target.epoch))
  const info = domainBytes('mote/envelope/1', aad)
  const material = hkdf(sha256, epochKey, salt, info, 44)
  return { key: material.subarray(0, 32), nonce: material.subarray(32) }
}

function envelopeInfo(chainId: ChainId): Uint8Array {
  return domainBytes('mote/envelope/1', hexToBytes(chainId))
}

function messageIdOf(chainId: ChainId, payload: Uint8Array): Hash {
  return hashHex('mote/envelope/1', hexToBytes(chainId), payload)
}

function signingBytes(messageId: Hash): Uint8Array {
  return domainBytes('mote/envelope/1', hexToBytes(messageId))
}
