/**
 * Sealing and opening an envelope's body, which only a device does (docs/FORMATS.md, "Envelope"; RFC 9180 for one recipient).
 *
 * Invariant: a group body's key is derived from the epoch key and the header; a counter is never used twice with one sender
 * key (device-state.ts), so no key and nonce are either.
 */
import { gcm } from '@noble/ciphers/aes.js'
import { hkdf } from '@noble/hashes/hkdf.js'
import { sha256 } from '@noble/hashes/sha2.js'
import { concatBytes, hexToBytes } from '@noble/hashes/utils.js'
import type { ChainId, DeviceId, GroupId, Hash, Height, Milliseconds } from '../../chain/brands.ts'
import { domainBytes, u64be } from '../../chain/hashing.ts'
import { type EncryptionKey, keyIdOf, type Signer } from '../../chain/keys.ts'
import { assert, ok, type Result, refuse } from '../../chain/result.ts'
import {
  authenticatedBytes,
  type EncodedEnvelope,
  type Envelope,
  type EnvelopeHeader,
  type EnvelopeTarget,
  epochKeyBytes,
  maxContentBytes,
  type Sealed,
  signEnvelope,
  suiteOf,
} from '../protocol/envelope.ts'
import { hpkeOpen, hpkeSeal } from './hpke-seal.ts'

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
export async function sealEnvelope(request: SealRequest): Promise<Result<EncodedEnvelope>> {
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
  const aad = authenticatedBytes({ header, channel })
  const sealed =
    target.type === 'device'
      ? await hpkeSeal(target.key, content, { info: envelopeInfo(chainId), aad })
      : ok(sealForGroup(chainId, header, target.epochKey, content, aad))
  return sealed.ok ? ok(signEnvelope(chainId, { header, channel }, sealed.value, signer)) : sealed
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
  const aad = authenticatedBytes({ header, channel })
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
  const info = domainBytes('mote/envelope-group-key/1', aad)
  const material = hkdf(sha256, epochKey, salt, info, 44)
  return { key: material.subarray(0, 32), nonce: material.subarray(32) }
}

function envelopeInfo(chainId: ChainId): Uint8Array {
  return domainBytes('mote/envelope-info/1', hexToBytes(chainId))
}
