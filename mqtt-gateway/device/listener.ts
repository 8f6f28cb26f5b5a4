/**
 * The receiving half of the agent: takes ciphertext off the wire and gives out messages that are proven to be from
 * who they say (docs/ARCHITECTURE.md, "Life of a message").
 *
 * The gateway is not trusted with any of it. Checked here, against the device's own view of the chain: the sender is
 * active and signed with a valid key; for a group, it is a member, for an open topic one that may publish; the envelope is in time; it opens; its counter was
 * not used, which is marked durably when the message has been taken: a message that was lost on its way to a disk comes again.
 *
 * Messages of one source (the device itself, or one group or topic) are taken one after another, in order of arrival; a group
 * whose key is still on its way holds up no other source.
 */

import type { DeviceId, KeyId, Milliseconds } from '../../chain/brands.ts'
import type { SignatureVerifier } from '../../chain/keys.ts'
import { findKey, isKeyValidAt } from '../../chain/records.ts'
import { ok, type Result, refuse } from '../../chain/result.ts'
import { checkFresh } from '../../client/freshness.ts'
import { OrderedQueue } from '../../client/ordered-queue.ts'
import type { Content } from '../protocol/content.ts'
import {
  checkAllowed,
  checkDeliveryTime,
  deliverableUntil,
  type Envelope,
  type EnvelopeTarget,
  notKept,
  verifyEnvelope,
} from '../protocol/envelope.ts'
import type { AgentChain } from './agent-chain.ts'
import type { EpochKeys } from './agent-epochs.ts'
import type { DecryptionKey, DecryptionKeys } from './decryption-key.ts'
import { type OpeningKey, openEnvelope } from './envelope-sealing.ts'
import type { KeptTransfers, WholeMessage } from './kept-transfers.ts'
import { ReceivedSecrets } from './light-secrets.ts'
import type { ListeningPlace } from './listening-place.ts'
import { Transfers } from './transfers.ts'

/** A message as the application gets it. */
export interface DeliveredMessage {
  readonly from: DeviceId
  readonly to: Envelope['header']['target']
  readonly channel: string
  /** At most 16 MiB. */
  readonly content: Uint8Array
  /** Of its envelope; of a message in chunks, of the one that came last. */
  readonly messageId: string
  /** When it was accepted here. */
  readonly at: Milliseconds
  /** Until when its envelope could come again. */
  readonly until: Milliseconds
}

/** Takes a message: it comes again if this rejects, and does not once it has resolved. */
export type TakeMessage = (message: DeliveredMessage) => void | Promise<void>

export interface ListenerOptions {
  readonly device: DeviceId
  readonly decryptionKeys: Pick<DecryptionKeys, 'find'>
  readonly chain: AgentChain
  /** Remembers what was accepted. */
  readonly place: Pick<ListeningPlace, 'acceptOnce'>
  /** Chunks of messages that were kept. */
  readonly kept: Pick<KeptTransfers, 'add'>
  readonly epochs: EpochKeys
  readonly verifier: SignatureVerifier
  readonly trustTtlMs: number
}

/** How long a message may wait for the box with its epoch key. */
const boxWaitMs = 5_000

export class Listener {
  readonly #options: ListenerOptions
  /** Of light messages, by the key that they are sealed to. */
  readonly #secrets = new WeakMap<DecryptionKey, ReceivedSecrets>()
  readonly #transfers = new Transfers()

  constructor(options: ListenerOptions) {
    this.#options = options
  }

  /**
   * Gives the message in an envelope, or of which it is the last chunk, to `take`. Nothing happens for another chunk, and if it is not for
   * this device (another's, a group it is not in, its own). Gives the message once its counter is marked as used.
   * Refuses with the reason if it is for this device, and must not be believed. Throws when the chain is out of reach, and what `take` throws.
   */
  async receive(envelope: Envelope, take: TakeMessage): Promise<Result<DeliveredMessage | undefined>> {
    const { chain, device, place } = this.#options
    const { header, channel, messageId } = envelope
    if (header.sender === device || !(await this.#isForMe(envelope))) return ok(undefined)
    const authentic = await this.#authenticate(envelope)
    if (!authentic.ok) return authentic
    const opened = await this.#open(envelope)
    if (!opened.ok) return opened
    const { sender: from, senderKeyId: keyId, counter, target: to } = header
    const until = deliverableUntil(header)
    let forget: WholeMessage['forget'] | undefined
    const taken = await place.acceptOnce({ keyId, counter, expiry: until }, chain.head().time, async () => {
      const whole = await this.#whole(envelope, opened.value)
      if (!whole.ok || whole.value === undefined) return whole as Result<undefined>
      forget = whole.value.forget
      const message = { from, to, channel, content: whole.value.bytes, messageId, at: chain.now(), until }
      await take(message)
      return ok(message)
    })
    if (taken.ok) await forget?.()
    return taken
  }

  /** The message that is whole with this content; undefined for a chunk that does not complete one. */
  async #whole({ header }: Envelope, { bytes, place }: Content): Promise<Result<WholeMessage | undefined>> {
    const forget = async () => {}
    if (!place) return ok({ bytes, forget })
    const source = { sender: header.sender, target: header.target.id }
    if (header.keepUntil !== notKept) {
      const until = deliverableUntil(header)
      return this.#options.kept.add({ ...source, place, bytes, until }, this.#options.chain.head().time)
    }
    const whole = this.#transfers.add(source, place, bytes)
    return whole.ok && whole.value ? ok({ bytes: whole.value, forget }) : (whole as Result<undefined>)
  }

  async #isForMe({ header: { target } }: Envelope): Promise<boolean> {
    const { chain, device } = this.#options
    if (target.type === 'device') return target.id === device
    return (await chain.group(target.id)).value?.members.includes(device) ?? false
  }

  async #authenticate(envelope: Envelope): Promise<Result<void>> {
    const { chain, verifier, trustTtlMs } = this.#options
    const { suite, sender, senderKeyId, seenHeight } = envelope.header
    if (chain.head().height < seenHeight) await chain.refresh()
    const { value: record } = await chain.device(sender)
    const fresh = checkFresh(chain.ageMs(), trustTtlMs)
    if (!fresh.ok) return fresh
    if (!record) return refuse('unknown-signer', `sender ${sender} is not on the chain`)
    if (record.status !== 'active') return refuse('signer-not-active', `sender ${sender} is ${record.status}`)
    const entry = findKey(record, senderKeyId)
    if (entry?.purpose !== 'sign' || !isKeyValidAt(entry, chain.now()))
      return refuse('key-not-valid', `senderKeyId: ${senderKeyId} is no valid signing key of ${sender}`)
    if (!verifyEnvelope(envelope, entry.key, verifier))
      return refuse('bad-signature', `signature: does not verify under key ${senderKeyId}`)
    const writer = await this.#checkWriter(envelope)
    if (!writer.ok) return writer
    const allowed = checkAllowed(suite, await chain.allowedSuites())
    if (!allowed.ok) return allowed
    return checkDeliveryTime(envelope.header, { head: chain.head().time, now: chain.now() })
  }

  /** Refuses `not-member`; `suite-mismatch` for a message to a group that is an open topic, and the other way round. */
  async #checkWriter({ header: { sender, target } }: Envelope): Promise<Result<void>> {
    const { chain } = this.#options
    if (target.type === 'device') return ok(undefined)
    const group = (await chain.group(target.id)).value
    const topic = group?.record.topic
    if ((target.type === 'topic') !== (topic !== undefined))
      return refuse('suite-mismatch', `target: ${target.id} is ${topic ? 'an open topic' : 'a group'}`)
    const writers = topic?.publishers ? (await chain.group(topic.publishers)).value : group
    const isOpen = topic !== undefined && topic.publishers === undefined
    return isOpen || writers?.members.includes(sender)
      ? ok(undefined)
      : refuse('not-member', `sender ${sender} is not in group ${topic?.publishers ?? target.id}`)
  }

  async #open(envelope: Envelope): Promise<Result<Content>> {
    const { chain } = this.#options
    const key = await this.#openingKey(envelope.header.target)
    return key.ok ? openEnvelope(chain.chainId, envelope, key.value) : key
  }

  async #openingKey(target: EnvelopeTarget): Promise<Result<OpeningKey>> {
    const { chain, epochs } = this.#options
    if (target.type === 'device') return this.#ownKey(target.keyId)
    const { type, id, epoch } = target
    const current = (await chain.group(id)).value?.record.epoch ?? 0
    const waitMs = epoch < current ? 0 : boxWaitMs
    const none = refuse('cannot-open', `${type} ${id}: no key of epoch ${epoch}`)
    if (target.type === 'group') {
      const epochKey = await epochs.key(id, epoch, waitMs, target.epochKeyHash)
      return epochKey ? ok({ type: 'group', epochKey }) : none
    }
    const key = await epochs.topicPair(id, epoch, waitMs, target.keyId)
    return key ? ok({ type: 'topic', key }) : none
  }

  async #ownKey(keyId: KeyId): Promise<Result<OpeningKey>> {
    const { chain, decryptionKeys } = this.#options
    const key = await decryptionKeys.find(keyId, chain.now())
    if (!key)
      return refuse('cannot-open', `target.keyId: sealed to key ${keyId}, which is not here, or not any more`)
    const secrets = this.#secrets.get(key) ?? new ReceivedSecrets(chain.chainId, key)
    this.#secrets.set(key, secrets)
    return ok({ type: 'device', key, secrets })
  }
}

/** Messages of one source that may wait; more are refused as `overloaded`. */
const maxWaiting = 256

/** Bytes of all of them together: two largest messages for each of four senders. */
const maxWaitingBytes = 128 * 1024 * 1024

/** Runs steps of one lane one after another, and the lanes beside each other. */
export class Lanes {
  readonly #lanes = new Map<string, OrderedQueue>()
  #bytes = 0

  /**
   * False if too many steps wait in this lane already, or too many bytes in all. `step` must not reject; `bytes` is what it holds
   * until it is done.
   */
  add(name: string, step: () => Promise<void>, bytes = 0): boolean {
    const lane = this.#lanes.get(name) ?? new OrderedQueue()
    if (lane.length >= maxWaiting || this.#bytes + bytes > maxWaitingBytes) return false
    this.#bytes += bytes
    this.#lanes.set(name, lane)
    void lane.run(step).finally(() => {
      this.#bytes -= bytes
      if (lane.length === 0) this.#lanes.delete(name)
    })
    return true
  }
}
