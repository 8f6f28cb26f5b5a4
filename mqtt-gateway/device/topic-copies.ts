/**
 * A publisher's copy of an open topic's key, against the chain (Hsu-Lu B4, B5): as for a device's key, it is written down at the first
 * publishing and used as it stands, and the gateway compares it with the chain before each message. An epoch that is over is
 * no alteration: the copy is replaced by the newer one's as soon as this device has it.
 */
import type { DeviceId, GroupId } from '../../chain/brands.ts'
import { keyIdOf } from '../../chain/keys.ts'
import { topicKeyOf } from '../../chain/open-topics.ts'
import { MoteError } from '../../chain/result.ts'
import type { DecisionLine } from '../protocol/decision-log.ts'
import { sealingFlaw } from '../protocol/envelope.ts'
import type { AgentChain } from './agent-chain.ts'
import type { EpochKeys } from './agent-epochs.ts'
import type { DeviceState, TopicCopy } from './device-state.ts'
import type { SealTarget } from './envelope-sealing.ts'
import type { GatewayVerdict } from './verdict-inbox.ts'

type Records = Pick<AgentChain, 'group'>

export interface RefreshedTopic extends TopicCopy {
  /** The key id of the copy that was there, or what was wrong with it; undefined if there was none. */
  readonly before: string | undefined
}

/** Replaces the copy of a topic's key by the chain's. Throws `unknown-subject` for no open topic, `epoch-mismatch` for one without a key. */
export async function refreshTopicCopy(
  state: DeviceState,
  chain: Records,
  id: GroupId,
): Promise<RefreshedTopic> {
  const { value: topic, height } = await chain.group(id)
  if (!topic?.record.topic) throw new MoteError('unknown-subject', `topic ${id}: no open topic has this id`)
  const key = topicKeyOf(topic.record)
  if (!key) throw new MoteError('epoch-mismatch', `topic ${id}: no member has made its first key yet`)
  const copy = await state.topicCopy(id)
  const next = { key, epoch: topic.record.epoch, height }
  await state.setTopicCopy(id, next)
  const before = copy.ok ? copy.value && keyIdOf(copy.value.key) : copy.error.detail
  return { ...next, before }
}

export interface TopicCopiesOptions {
  readonly device: DeviceId
  readonly state: DeviceState
  readonly chain: AgentChain
  readonly epochs: Pick<EpochKeys, 'ensureEpoch'>
  /** Told of a message that could not even be sealed: for the device's decision log. */
  readonly onDecision: (line: DecisionLine) => void | Promise<void>
}

/** The copies of one device that publishes. */
export class TopicCopies {
  readonly #options: TopicCopiesOptions

  constructor(options: TopicCopiesOptions) {
    this.#options = options
  }

  /**
   * What to seal to, by the copy; at first contact, and when the chain has a newer epoch, by the chain. For a copy that is no key, an `Error` of this device's own, with both
   * sides in its log. Throws as `refreshTopicCopy`.
   */
  async target(
    id: GroupId,
  ): Promise<
    | { readonly type: 'target'; readonly target: SealTarget }
    | { readonly type: 'refused'; readonly verdict: GatewayVerdict }
  > {
    const { device, state, chain, epochs } = this.#options
    let { value: group } = await chain.group(id)
    // A member need not wait for another to make the key.
    if (group?.record.topic && group.members.includes(device)) group = await epochs.ensureEpoch(group)
    const copy = await state.topicCopy(id)
    if (!copy.ok) return this.#refuse(id, copy.error.detail)
    const isOver = group !== undefined && copy.value !== undefined && copy.value.epoch < group.record.epoch
    const kept = isOver ? undefined : copy.value
    const { key, epoch } = kept ?? (await refreshTopicCopy(state, chain, id))
    const flaw = sealingFlaw(key)
    return flaw === undefined
      ? { type: 'target', target: { type: 'topic', id, epoch, key } }
      : this.#refuse(id, `copy: ${flaw}`)
  }

  async #refuse(
    topic: GroupId,
    problem: string,
  ): Promise<{ readonly type: 'refused'; readonly verdict: GatewayVerdict }> {
    const { device: sender, chain, onDecision } = this.#options
    const { value, height, time } = await chain.group(topic)
    const key = value && topicKeyOf(value.record)
    const onChain = key && keyIdOf(key)
    const judged = {
      verdict: 'Error',
      code: 'recipient-key-mismatch',
      reason: `topic ${topic}: ${problem}; on the chain: ${onChain ?? 'no topic key'}`,
      height,
      ageMs: Math.max(0, chain.now() - time),
    } as const
    const mismatch = { inCopy: problem, onChain }
    await onDecision({
      id: null,
      event: 'message',
      sender,
      recipient: topic,
      topic: null,
      ...judged,
      mismatch,
    })
    return { type: 'refused', verdict: { messageId: null, ...judged } }
  }
}
