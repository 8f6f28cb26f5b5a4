/**
 * Sealing and opening an envelope's body, which only a device does (docs/FORMATS.md, "Envelope").
 *
 * Invariant: the key of a body for a group, and of a light one, is derived from a secret for many messages and the header; a counter
 * is never used twice with one sender key (device-state.ts), so no key and nonce are either.
 */
import { hkdf } from '@noble/hashes/hkdf.js'
import { sha256 } from '@noble/hashes/sha2.js'
import { concatBytes, hexToBytes } from '@noble/hashes/utils.js'
import type { ChainId, DeviceId, GroupId, Hash, Height, Milliseconds } from '../../chain/brands.ts'
import {
  type EnvelopeSuite,
  groupSuite,
  isLight,
  lightSuiteForKey,
  suiteForKey,
  topicSuite,
} from '../../chain/envelope-suites.ts'
import { domainBytes, u64be } from '../../chain/hashing.ts'
import { type EncryptionKey, keyIdOf, type Signer } from '../../chain/keys.ts'
import { assert, ok, type Result, refuse } from '../../chain/result.ts'
import {
  type ChunkPlace,
  type Content,
  encodeContent,
  maxContentBytes,
  parseContent,
} from '../protocol/content.ts'
import {
  authenticatedBytes,
  checkSuite,
  type EncodedEnvelope,
  type Envelope,
  type EnvelopeHeader,
  type EnvelopeTarget,
  epochKeyBytes,
  notKept,
  type Sealed,
  signEnvelope,
} from '../protocol/envelope.ts'
import { type DecryptionKey, type SharedSecret, sharedSecretBytes } from './decryption-key.ts'
import { openWithKey, sealToKey } from './key-sealing.ts'
import type { ReceivedSecrets } from './light-secrets.ts'
import { messageKeyBytes, openMessage, sealMessage } from './message-cipher.ts'

/** Whom to seal for, with the secret or public key it takes. */
export type SealTarget =
  | {
      readonly type: 'device'
      readonly id: DeviceId
      readonly key: EncryptionKey
      /** A secret that is shared with the holder of `key`: then the message is a light one. */
      readonly light?: SharedSecret
    }
  | {
      readonly type: 'group'
      readonly id: GroupId
      readonly epoch: number
      readonly epochKeyHash: Hash
      readonly epochKey: Uint8Array
    }
  | {
      readonly type: 'topic'
      readonly id: GroupId
      readonly epoch: number
      readonly key: EncryptionKey
    }

/** How a body for this target is sealed. */
export function suiteOf(target: SealTarget): EnvelopeSuite {
  if (target.type === 'group') return groupSuite
  if (target.type === 'topic') return topicSuite
  return (target.light ? lightSuiteForKey : suiteForKey)[target.key.suite]
}

export interface SealRequest {
  readonly chainId: ChainId
  readonly sender: DeviceId
  readonly signer: Signer
  readonly target: SealTarget
  readonly counter: number
  readonly seenHeight: Height
  readonly expiry: Milliseconds
  /** Until when it is kept for a recipient that is away; `notKept` by default. */
  readonly keepUntil?: Milliseconds
  readonly channel: string
  /** At most 1 MiB. */
  readonly content: Uint8Array
  /** Where it belongs, if it is a chunk of a larger message. */
  readonly place?: ChunkPlace | undefined
}

/** Seals and signs. Refuses `too-large` content and, as `key-not-usable`, a recipient's key that nobody can seal to. */
export async function sealEnvelope(request: SealRequest): Promise<Result<EncodedEnvelope>> {
  const { chainId, sender, signer, target, counter, seenHeight, expiry, channel, content, place } = request
  if (content.length > maxContentBytes)
    return refuse('too-large', `content: expected at most ${maxContentBytes} bytes, got ${content.length}`)
  const header: EnvelopeHeader = {
    suite: suiteOf(target),
    sender,
    senderKeyId: keyIdOf(signer.publicKey),
    target: headerTarget(target),
    counter,
    seenHeight,
    expiry,
    keepUntil: request.keepUntil ?? notKept,
  }
  const aad = authenticatedBytes({ header, channel })
  const body = encodeContent({ bytes: content, place })
  const sealed = await sealBody({ chainId, header, aad }, target, body)
  return sealed.ok ? ok(signEnvelope(chainId, { header, channel }, sealed.value, signer)) : sealed
}

/** What key and nonce of a body are bound to. */
interface BodyContext {
  readonly chainId: ChainId
  readonly header: EnvelopeHeader
  readonly aad: Uint8Array
}

async function sealBody(
  context: BodyContext,
  target: SealTarget,
  content: Uint8Array,
): Promise<Result<Sealed>> {
  const { chainId, aad } = context
  if (target.type === 'group') {
    const messageKey = groupMessageKey(context, target.epochKey)
    return ok({ enc: new Uint8Array(0), ciphertext: sealMessage(messageKey, content, aad) })
  }
  if (target.type === 'topic' || !target.light)
    return sealToKey(target.key, content, { info: envelopeInfo(chainId), aad })
  const { enc } = target.light
  return ok({ enc, ciphertext: sealMessage(lightMessageKey(context, target.light), content, aad) })
}

/** What opens an envelope: the recipient's own key, or the epoch's key or pair that the header names. */
export type OpeningKey =
  | { readonly type: 'device'; readonly key: DecryptionKey; readonly secrets: ReceivedSecrets }
  | { readonly type: 'group'; readonly epochKey: Uint8Array }
  | { readonly type: 'topic'; readonly key: DecryptionKey }

/** The content of an envelope whose signature is verified already. Refuses `cannot-open`, `suite-mismatch`, `malformed`. */
export async function openEnvelope(
  chainId: ChainId,
  envelope: Envelope,
  key: OpeningKey,
): Promise<Result<Content>> {
  const body = await openBody(chainId, envelope, key)
  return body.ok ? parseContent(body.value) : body
}

async function openBody(chainId: ChainId, envelope: Envelope, key: OpeningKey): Promise<Result<Uint8Array>> {
  const { header, channel, sealed } = envelope
  if (key.type !== header.target.type)
    return refuse('cannot-open', `target: expected a ${key.type}, got a ${header.target.type}`)
  const context: BodyContext = { chainId, header, aad: authenticatedBytes({ header, channel }) }
  if (key.type === 'group') return openKeyed(groupMessageKey(context, key.epochKey), sealed, context)
  const mine = checkOwnKey(header, key.key.publicKey)
  if (!mine.ok) return mine
  if (key.type === 'device' && isLight(header.suite)) return openLight(context, sealed, key.secrets)
  return openWithKey(key.key, sealed, { info: envelopeInfo(chainId), aad: context.aad })
}

async function openLight(
  context: BodyContext,
  sealed: Sealed,
  secrets: ReceivedSecrets,
): Promise<Result<Uint8Array>> {
  const { enc } = sealed
  const secret = await secrets.secretOf(enc)
  if (!secret.ok) return secret
  const opened = openKeyed(lightMessageKey(context, { enc, secret: secret.value }), sealed, context)
  if (opened.ok) secrets.keep(enc, secret.value)
  return opened
}

function openKeyed(messageKey: Uint8Array, { ciphertext }: Sealed, { aad }: BodyContext): Result<Uint8Array> {
  const content = openMessage(messageKey, ciphertext, aad)
  return content === undefined
    ? refuse('cannot-open', 'ciphertext: does not open under this key')
    : ok(content)
}

/** The key's id commits to its suite, so the chain's key and one's own are of the same. */
function checkOwnKey({ suite, target }: EnvelopeHeader, key: EncryptionKey): Result<void> {
  return target.type !== 'group' && target.keyId !== keyIdOf(key)
    ? refuse('cannot-open', `target.keyId: sealed to key ${target.keyId}, which is another one`)
    : checkSuite(suite, key)
}

function headerTarget(target: SealTarget): EnvelopeTarget {
  if (target.type === 'device') return { type: 'device', id: target.id, keyId: keyIdOf(target.key) }
  if (target.type === 'topic')
    return { type: 'topic', id: target.id, epoch: target.epoch, keyId: keyIdOf(target.key) }
  const { type, id, epoch, epochKeyHash } = target
  return { type, id, epoch, epochKeyHash }
}

/** Of a message to a group: bound to chain, group, epoch and the whole header. */
function groupMessageKey(
  { chainId, header: { target }, aad }: BodyContext,
  epochKey: Uint8Array,
): Uint8Array {
  assert(epochKey.length === epochKeyBytes, `epochKey: expected ${epochKeyBytes} bytes`)
  assert(target.type === 'group', 'a group message key is for a group')
  const salt = concatBytes(hexToBytes(chainId), hexToBytes(target.id), u64be(target.epoch))
  return messageKeyOf(epochKey, salt, domainBytes('mote/envelope-group-key/1', aad))
}

/** Of a light message: bound to chain, secret and the whole header, which names the recipient's key. */
function lightMessageKey({ chainId, aad }: BodyContext, { enc, secret }: SharedSecret): Uint8Array {
  assert(secret.length === sharedSecretBytes, `secret: expected ${sharedSecretBytes} bytes`)
  const salt = concatBytes(hexToBytes(chainId), enc)
  return messageKeyOf(secret, salt, domainBytes('mote/envelope-light-key/1', aad))
}

/**
 * Key ‖ nonce of one message: HKDF-SHA256 of a secret for many. The header is in `info`, so a device that was restored from an old
 * copy and uses a counter again still has another key, for another expiry.
 */
function messageKeyOf(secret: Uint8Array, salt: Uint8Array, info: Uint8Array): Uint8Array {
  return hkdf(sha256, secret, salt, info, messageKeyBytes)
}

function envelopeInfo(chainId: ChainId): Uint8Array {
  return domainBytes('mote/envelope-info/1', hexToBytes(chainId))
}
