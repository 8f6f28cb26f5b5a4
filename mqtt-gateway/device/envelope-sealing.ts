/**
 * Sealing and opening an envelope's body, which only a device does (docs/FORMATS.md, "Envelope").
 *
 * Invariant: a group body's key is derived from the epoch key and the header; a counter is never used twice with one sender
 * key (device-state.ts), so no key and nonce are either.
 */
import { hkdf } from '@noble/hashes/hkdf.js'
import { sha256 } from '@noble/hashes/sha2.js'
import { concatBytes, hexToBytes } from '@noble/hashes/utils.js'
import type { ChainId, DeviceId, GroupId, Hash, Height, Milliseconds } from '../../chain/brands.ts'
import { type EnvelopeSuite, groupSuite, suiteForKey } from '../../chain/envelope-suites.ts'
import { domainBytes, u64be } from '../../chain/hashing.ts'
import { type EncryptionKey, keyIdOf, type Signer } from '../../chain/keys.ts'
import { assert, ok, type Result, refuse } from '../../chain/result.ts'
import {
  authenticatedBytes,
  checkSuite,
  type EncodedEnvelope,
  type Envelope,
  type EnvelopeHeader,
  type EnvelopeTarget,
  epochKeyBytes,
  maxContentBytes,
  type Sealed,
  signEnvelope,
} from '../protocol/envelope.ts'
import type { DecryptionKey } from './decryption-key.ts'
import { openWithKey, sealToKey } from './key-sealing.ts'
import { messageKeyBytes, openMessage, sealMessage } from './message-cipher.ts'

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

/** How a body for this target is sealed. */
export function suiteOf(target: SealTarget): EnvelopeSuite {
  return target.type === 'group' ? groupSuite : suiteForKey[target.key.suite]
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
export async function sealEnvelope(request: SealRequest): Promise<Result<EncodedEnvelope>> {
  const { chainId, sender, signer, target, counter, seenHeight, expiry, channel, content } = request
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
  }
  const aad = authenticatedBytes({ header, channel })
  const sealed =
    target.type === 'device'
      ? await sealToKey(target.key, content, { info: envelopeInfo(chainId), aad })
      : ok(sealForGroup(chainId, header, target.epochKey, content, aad))
  return sealed.ok ? ok(signEnvelope(chainId, { header, channel }, sealed.value, signer)) : sealed
}

/** What opens an envelope: the recipient's own key, or the epoch key that the header names. */
export type OpeningKey =
  | { readonly type: 'device'; readonly key: DecryptionKey }
  | { readonly type: 'group'; readonly epochKey: Uint8Array }

/** The content of an envelope whose signature is verified already. Refuses `cannot-open`, `suite-mismatch`. */
export async function openEnvelope(
  chainId: ChainId,
  envelope: Envelope,
  key: OpeningKey,
): Promise<Result<Uint8Array>> {
  const { header, channel, sealed } = envelope
  if (key.type !== header.target.type)
    return refuse('cannot-open', `target: expected a ${key.type}, got a ${header.target.type}`)
  const aad = authenticatedBytes({ header, channel })
  if (key.type === 'device') {
    const mine = checkOwnKey(header, key.key.publicKey)
    return mine.ok ? openWithKey(key.key, sealed, { info: envelopeInfo(chainId), aad }) : mine
  }
  const content = openMessage(groupMessageKey(chainId, header, key.epochKey, aad), sealed.ciphertext, aad)
  return content === undefined
    ? refuse('cannot-open', 'ciphertext: does not open under this epoch key')
    : ok(content)
}

/** The key's id commits to its suite, so the chain's key and one's own are of the same. */
function checkOwnKey({ suite, target }: EnvelopeHeader, key: EncryptionKey): Result<void> {
  return target.type === 'device' && target.keyId !== keyIdOf(key)
    ? refuse('cannot-open', `target.keyId: sealed to key ${target.keyId}, which is not this device's`)
    : checkSuite(suite, key)
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
  const messageKey = groupMessageKey(chainId, header, epochKey, aad)
  return { enc: new Uint8Array(0), ciphertext: sealMessage(messageKey, content, aad) }
}

/**
 * Key ‖ nonce of one message: HKDF-SHA256 of the epoch key, bound to chain, group, epoch and the whole header. So
 * a device that was restored from an old copy and uses a counter again still has another key, for another expiry.
 */
function groupMessageKey(
  chainId: ChainId,
  header: EnvelopeHeader,
  epochKey: Uint8Array,
  aad: Uint8Array,
): Uint8Array {
  assert(epochKey.length === epochKeyBytes, `epochKey: expected ${epochKeyBytes} bytes`)
  assert(header.target.type === 'group', 'a group message key is for a group')
  const salt = concatBytes(hexToBytes(chainId), hexToBytes(header.target.id), u64be(header.target.epoch))
  const info = domainBytes('mote/envelope-group-key/1', aad)
  return hkdf(sha256, epochKey, salt, info, messageKeyBytes)
}

function envelopeInfo(chainId: ChainId): Uint8Array {
  return domainBytes('mote/envelope-info/1', hexToBytes(chainId))
}
