/**
 * A member's epoch keys: takes them out of the boxes that the gateway retains, and makes new ones (Hsu C3, C4).
 *
 * A key is believed only if the chain's `epochKeyHash` confirms it. A new epoch is a compare-and-set on the chain:
 * of two members that re-key at once, one succeeds and the other takes the first one's key. If a member dies between
 * the transaction and the boxes, nobody else has the key: whoever misses it makes the next epoch.
 * Of an open topic the public key on the chain must be the one that follows from the epoch key, too (topic-keys.ts).
 */

import { randomBytes } from 'node:crypto'
import type { DeviceId, GroupId, Hash, KeyId } from '../../chain/brands.ts'
import { suiteForKey } from '../../chain/envelope-suites.ts'
import { type EncryptionKey, keyIdOf } from '../../chain/keys.ts'
import type { TopicRecord } from '../../chain/open-topics.ts'
import { RecentMap } from '../../chain/recent-map.ts'
import { currentEncryptionKey } from '../../chain/records.ts'
import { MoteError, ok, type Refusal, type Result, refusalOf, refuse, unwrap } from '../../chain/result.ts'
import { Deadline } from '../../client/deadline.ts'
import { canSealTo, checkAllowed, epochKeyBytes } from '../protocol/envelope.ts'
import { boxesHash, type EpochName, epochKeyHash, parseMemberBox } from '../protocol/epoch-boxes.ts'
import { filters, topics } from '../protocol/topics.ts'
import type { TrustedGroup } from '../protocol/trust.ts'
import type { AgentChain } from './agent-chain.ts'
import { type LeftOut, type Member, openMemberBox, type SealedEpoch, sealEpochKey } from './box-sealing.ts'
import type { DecryptionKey, DecryptionKeys } from './decryption-key.ts'
import type { DeviceState } from './device-state.ts'
import type { SealTarget } from './envelope-sealing.ts'
import type { MqttConnection, ReceivedMessage } from './mqtt-connection.ts'
import { topicPairOf } from './topic-keys.ts'
import type { VerdictInbox } from './verdict-inbox.ts'

/** Keys of older epochs that came with messages that had been kept, at least, and twice as many at most: more than a gateway sends at once. */
const maxOlderKeys = 64
/** Rounds in which another member may be faster before that counts as a failure. */
const rekeyRounds = 4
/** How long a sender waits for the box with the current epoch key before it makes a new epoch. */
const senderBoxWaitMs = 2_000
/** Key pairs of topics at least, and twice as many at most, that are kept in memory. */
const maxTopicPairs = 64

export interface EpochsOptions {
  readonly device: DeviceId
  /** What boxes for this device are sealed to. */
  readonly decryptionKeys: Pick<DecryptionKeys, 'find'>
  readonly chain: AgentChain
  readonly state: DeviceState
  readonly connection: MqttConnection
  readonly verdicts: VerdictInbox
  /** Told of every box for this device whose key was not taken, and why. */
  readonly onBoxRefused?: ((refusal: Refusal) => void) | undefined
  /** Told of every member that a new epoch of this device has no box for, and why: it cannot read what is sent under it. */
  readonly onLeftOut?: ((group: GroupId, leftOut: LeftOut) => void) | undefined
}

export class EpochKeys {
  readonly #options: EpochsOptions
  readonly #waiting = new Set<() => void>()
  /** Boxes that are being opened. */
  readonly #opening = new Set<Promise<void>>()
  /** Keys that the chain has no hash of any more, by the hash that a message must name: believed only if a member has signed it in a header. */
  readonly #older = new RecentMap<Hash, Uint8Array>(maxOlderKeys)
  /** Of the topics that were read lately: deriving one costs as much as opening a message. */
  readonly #topicPairs = new RecentMap<KeyId, DecryptionKey>(maxTopicPairs)
  #subscribed: Promise<void> | undefined
  /** Of the groups that this device is in. */
  readonly #sealedToAnother = new Set<GroupId>()
  #onSealedToAnother: (group: GroupId) => void = () => {}

  constructor(options: EpochsOptions) {
    this.#options = options
    options.connection.onMessage(message => {
      if (!isBoxTopic(message.topicName)) return
      const opening: Promise<void> = this.#onBox(message).finally(() => this.#opening.delete(opening))
      this.#opening.add(opening)
    })
  }

  /** Subscribes to this device's boxes; the retained ones come at once. */
  subscribe(): Promise<void> {
    const { connection, device } = this.#options
    this.#subscribed ??= connection.subscribe(filters.boxesOf(device))
    return this.#subscribed
  }

  /**
   * The key of an epoch as soon as it is known here; undefined when the time is over, or as soon as a newer epoch's
   * key has come: the gateway retains the newest box only. With `expected`, which a member has signed as the key's hash, also one that
   * came with a message that was kept; its box is published before the message.
   */
  async key(
    group: GroupId,
    epoch: number,
    timeoutMs: number,
    expected?: Hash,
  ): Promise<Uint8Array | undefined> {
    const { state } = this.#options
    const known = await state.epochKey(group, epoch)
    if (known) return known
    await Promise.all(this.#opening)
    const older = expected && this.#older.get(expected)
    if (older) return older
    const deadline = new Deadline(timeoutMs)
    await this.subscribe()
    for (;;) {
      const news = this.#nextBox(deadline)
      const key = await state.epochKey(group, epoch)
      if (key || (await state.newestEpoch(group)) > epoch || !(await news)) return key
    }
  }

  /** What to seal to for a group, with an epoch that fits it. Throws `unknown-subject`, `not-member`, `suite-mismatch` for an open topic, `cannot-open`. */
  async sealTarget(id: GroupId): Promise<SealTarget> {
    const { chain, device } = this.#options
    const { value } = await chain.group(id)
    if (!value) throw new MoteError('unknown-subject', `group ${id}: not on the chain`)
    if (!value.members.includes(device)) throw new MoteError('not-member', `group ${id}: not a member`)
    if (value.record.topic) throw new MoteError('suite-mismatch', `group ${id}: an open topic; publish to it`)
    const current = await this.ensureEpoch(value)
    const known = await this.key(id, current.record.epoch, senderBoxWaitMs)
    // No box with the current key arrived: the member that made it failed half-way.
    const { epoch } = known ? current.record : (await this.rekey(id)).record
    const epochKey = known ?? (await this.key(id, epoch, senderBoxWaitMs))
    if (!epochKey) throw new MoteError('cannot-open', `group ${id}: no key of epoch ${epoch}`)
    const name = { chainId: chain.chainId, group: id, epoch }
    return { type: 'group', id, epoch, epochKeyHash: epochKeyHash(name, epochKey), epochKey }
  }

  /**
   * The key pair of an open topic in this epoch: `key`, and what follows from it. `keyId` is what the publisher has signed: by that also
   * one of an older epoch, which came with a message that was kept.
   */
  async topicPair(
    group: GroupId,
    epoch: number,
    timeoutMs: number,
    keyId: KeyId,
  ): Promise<DecryptionKey | undefined> {
    const known = this.#topicPairs.get(keyId)
    if (known) return known
    await Promise.all(this.#opening)
    const older = this.#topicPairs.get(keyId)
    if (older) return older
    const epochKey = await this.key(group, epoch, timeoutMs)
    return epochKey && this.#keepTopicPair({ chainId: this.#options.chain.chainId, group, epoch }, epochKey)
  }

  #keepTopicPair(name: EpochName, epochKey: Uint8Array): DecryptionKey {
    const pair = topicPairOf(name, epochKey)
    this.#topicPairs.set(keyIdOf(pair.publicKey), pair)
    return pair
  }

  /**
   * The group with an epoch that fits its membership: makes one if there is none. Throws `not-member`,
   * `epoch-conflict`.
   */
  async ensureEpoch(group: TrustedGroup): Promise<TrustedGroup> {
    return needsEpoch(group) ? this.rekey(group.record.id) : group
  }

  /**
   * Makes the next epoch and hands its key to every member that has a key to seal to, unless another member was faster. Throws
   * `not-member`, `key-not-usable` if that is nobody, `epoch-conflict`.
   */
  async rekey(id: GroupId): Promise<TrustedGroup> {
    const { chain, device } = this.#options
    for (let round = 0; round < rekeyRounds; round++) {
      const { value: group } = await chain.group(id)
      if (!group) throw new MoteError('unknown-subject', `group ${id}: not on the chain`)
      if (!group.members.includes(device)) throw new MoteError('not-member', `group ${id}: not a member`)
      const name = { chainId: chain.chainId, group: id, epoch: group.record.epoch + 1 }
      const epochKey = Uint8Array.from(randomBytes(epochKeyBytes))
      const { boxes, leftOut } = await this.#sealToMembers(name, epochKey, group)
      try {
        const hashes = { epochKeyHash: epochKeyHash(name, epochKey), boxesHash: boxesHash(boxes) }
        const topicKey = group.record.topic && topicPairOf(name, epochKey).publicKey.bytes
        const rekeyed = await chain.rekey({ group, ...hashes, topicKey })
        await this.#keep(id, name.epoch, epochKey)
        for (const each of leftOut) this.#options.onLeftOut?.(id, each)
        await this.#publishBoxes(id, boxes)
        return rekeyed
      } catch (error) {
        if (!(error instanceof MoteError) || error.code !== 'epoch-conflict') throw error
        await chain.refresh()
        const { value: now } = await chain.group(id)
        if (now && !needsEpoch(now)) return now
      }
    }
    throw new MoteError('epoch-conflict', `group ${id}: it keeps changing`)
  }

  async #sealToMembers(name: EpochName, epochKey: Uint8Array, group: TrustedGroup): Promise<SealedEpoch> {
    const isUsable = canSealTo(await this.#options.chain.allowedSuites())
    const members = await Promise.all(group.members.map(id => this.#memberKey(id, isUsable)))
    return unwrap(await sealEpochKey(name, epochKey, members))
  }

  async #memberKey(id: DeviceId, isUsable: (key: EncryptionKey) => boolean): Promise<Member> {
    const { value } = await this.#options.chain.device(id)
    const entry = value && currentEncryptionKey(value, this.#options.chain.now(), isUsable)
    return { id, key: entry?.key }
  }

  async #publishBoxes(id: GroupId, boxes: Uint8Array): Promise<void> {
    const { connection, verdicts } = this.#options
    const verdict = verdicts.expect(boxesHash(boxes))
    connection.publishUntil(verdict, topics.boxes(id), boxes)
    const { code, reason } = await verdict
    if (code) throw new MoteError(code, reason ?? 'the gateway refused the boxes')
  }

  async #onBox({ topicName, payload }: ReceivedMessage): Promise<void> {
    // The retained box of a group that this device has left is cleared by an empty message.
    if (payload.length === 0) return
    try {
      const taken = await this.#takeBox(payload)
      if (!taken.ok) this.#options.onBoxRefused?.(taken.error)
    } catch (error) {
      const { code, detail } = refusalOf(error)
      this.#options.onBoxRefused?.({ code, detail: `${topicName}: ${detail}` })
    }
  }

  /** Refuses `malformed`, `epoch-mismatch`, `suite-not-allowed`, `cannot-open`. Throws when the chain is out of reach. */
  async #takeBox(payload: Uint8Array): Promise<Result<void>> {
    const parsed = parseMemberBox(payload)
    if (!parsed.ok) return parsed
    const { chain, state, decryptionKeys, device } = this.#options
    const { group, epoch, box } = parsed.value
    const what = `box of group ${group}, epoch ${epoch}`
    if (box.member !== device)
      return refuse('malformed', `${what}: expected one for this device, got one for ${box.member}`)
    if (await state.epochKey(group, epoch)) return ok(undefined)
    if (((await chain.group(group)).value?.record.epoch ?? 0) < epoch) await chain.refresh()
    const { record, members } = (await chain.group(group)).value ?? {}
    if (record === undefined || record.epoch < epoch)
      return refuse('epoch-mismatch', `${what}: the chain has epoch ${record?.epoch ?? 'none'}`)
    const key = await decryptionKeys.find(box.keyId, chain.now())
    if (!key) {
      if (record.epoch === epoch && members?.includes(device)) this.#noteSealedToAnother(group)
      return refuse('cannot-open', `${what}: sealed to key ${box.keyId}, which is not here, or not any more`)
    }
    const allowed = checkAllowed(suiteForKey[key.publicKey.suite], await chain.allowedSuites())
    if (!allowed.ok) return allowed
    const opened = await openMemberBox(chain.chainId, parsed.value, key)
    if (!opened.ok) return refuse('cannot-open', `${what}: ${opened.error.detail}`)
    const name = { chainId: chain.chainId, group, epoch }
    const hash = epochKeyHash(name, opened.value)
    if (record.epoch > epoch) {
      if (record.topic) this.#keepTopicPair(name, opened.value)
      else this.#older.set(hash, opened.value)
      return ok(undefined)
    }
    if (hash !== record.epochKeyHash)
      return refuse('cannot-open', `${what}: not the key that the chain has the hash of`)
    const { topic } = record
    if (topic && !isTopicKey(name, opened.value, topic))
      return refuse('cannot-open', `${what}: the topic key on the chain is not the one of this epoch key`)
    await this.#keep(group, epoch, opened.value)
    return ok(undefined)
  }

  /** True for a group whose current box is sealed to a key that this device has not, or not any more. */
  isSealedToAnother(group: GroupId): boolean {
    return this.#sealedToAnother.has(group)
  }

  /** Told of each such group from now on. */
  onSealedToAnother(listener: (group: GroupId) => void): void {
    this.#onSealedToAnother = listener
  }

  #noteSealedToAnother(group: GroupId): void {
    this.#sealedToAnother.add(group)
    this.#onSealedToAnother(group)
  }

  /** From now on the current key; who waits for it goes on, whether it came in a box or was made here. */
  async #keep(group: GroupId, epoch: number, key: Uint8Array): Promise<void> {
    await this.#options.state.putEpochKey(group, epoch, key)
    this.#sealedToAnother.delete(group)
    for (const wake of this.#waiting) wake()
  }

  /** True when a key has come in; false when the time is over. */
  async #nextBox(deadline: Deadline): Promise<boolean> {
    if (deadline.isOver) return false
    const { promise, resolve } = Promise.withResolvers<true>()
    const wake = () => resolve(true)
    this.#waiting.add(wake)
    return (await deadline.race(promise).finally(() => this.#waiting.delete(wake))) ?? false
  }
}

/** True if the group has no epoch key, or one that was made for another membership. */
export function needsEpoch({ record }: TrustedGroup): boolean {
  return record.epoch === 0 || record.epochMembershipVersion !== record.membershipVersion
}

function isBoxTopic(topicName: string): boolean {
  return topicName.split('/')[2] === 'box'
}

function isTopicKey(name: EpochName, epochKey: Uint8Array, { key }: TopicRecord): boolean {
  return key !== undefined && Buffer.from(key).equals(topicPairOf(name, epochKey).publicKey.bytes)
}
