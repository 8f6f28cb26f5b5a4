/**
 * The first half of sending (docs/ARCHITECTURE.md, "Life of a message"): which key a message is sealed to, by this device's copy of it, under
 * which counter; and what becomes of a copy that is not the chain's.
 *
 * A copy is used as it stands: whether it is the chain's, the gateway says. One that is no key at all is an `Error` of this device's own.
 * None is replaced unless somebody asks for it (`refreshContact`), or, for who keeps on sending without anybody there, with a line in the
 * decision log (`replaceCopy`).
 */
import type { DeviceId, GroupId, Milliseconds } from '../../chain/brands.ts'
import { type Codec, digest, struct, union } from '../../chain/codec.ts'
import type { EnvelopeSuite } from '../../chain/envelope-suites.ts'
import { keyIdOf, type Signer } from '../../chain/keys.ts'
import { MoteError, unwrap } from '../../chain/result.ts'
import type { ChunkPlace } from '../protocol/content.ts'
import type { DecisionLine } from '../protocol/decision-log.ts'
import { checkAllowed, type EncodedEnvelope, notKept } from '../protocol/envelope.ts'
import type { AgentChain } from './agent-chain.ts'
import type { EpochKeys } from './agent-epochs.ts'
import { judgeUnusableCopy, type RefreshedContact, refreshContact, replacedCopyLine } from './contacts.ts'
import type { DeviceState } from './device-state.ts'
import { type SealTarget, sealEnvelope, suiteOf } from './envelope-sealing.ts'
import type { SentSecrets } from './light-secrets.ts'
import { refreshTopicCopy, TopicCopies } from './topic-copies.ts'
import type { GatewayVerdict } from './verdict-inbox.ts'

/** Whom a message is for. */
export type Recipient =
  | { readonly type: 'device'; readonly id: DeviceId }
  | { readonly type: 'group'; readonly id: GroupId }
  /** An open topic (Hsu-Lu B4), of which this device need not be a member. */
  | { readonly type: 'topic'; readonly id: GroupId }

/** A recipient in a queue on the disk. */
export const recipientCodec: Codec<Recipient> = union<Recipient>({
  device: [1, struct({ id: digest<DeviceId>() })],
  group: [2, struct({ id: digest<GroupId>() })],
  topic: [3, struct({ id: digest<GroupId>() })],
})

/** What goes into one envelope. */
export interface OutgoingContent {
  /** At most 1 MiB. */
  readonly content: Uint8Array
  /** Where it belongs, if it is a chunk. */
  readonly place?: ChunkPlace | undefined
  /** The sender's name for the stream; '' by default. */
  readonly channel?: string
  /** How long the envelope is good for; 60 s by default, less than `maxEnvelopeLifetimeMs`. */
  readonly lifetimeMs?: number
  /** How long the gateway keeps it for a recipient that is away; at most `maxKeepMs`. Not kept by default. */
  readonly keepMs?: number | undefined
}

/** A message as bytes that may be sent again until there is a verdict, or why there are none. */
export type SealOutcome =
  | { readonly type: 'sealed'; readonly envelope: EncodedEnvelope }
  | { readonly type: 'refused'; readonly verdict: GatewayVerdict }

/** How long an envelope is good for. */
const envelopeLifetimeMs = 60_000

export interface MessageSealingOptions {
  readonly device: DeviceId
  readonly signer: Signer
  readonly chain: AgentChain
  readonly state: DeviceState
  readonly epochs: EpochKeys
  /** Undefined unless messages to devices are to be light. */
  readonly sent: SentSecrets | undefined
  readonly onDecision: (line: DecisionLine) => void | Promise<void>
}

export class MessageSealing {
  readonly #options: MessageSealingOptions
  readonly #topics: TopicCopies

  constructor(options: MessageSealingOptions) {
    this.#options = options
    this.#topics = new TopicCopies(options)
  }

  /** Throws `recipient-not-active`, `unknown-subject`, `not-member`, `suite-not-allowed`, `too-large`. */
  async seal(to: Recipient, content: OutgoingContent): Promise<SealOutcome> {
    const { epochs, state, sent } = this.#options
    if (to.type === 'group') return this.#sealFor(await epochs.sealTarget(to.id), content)
    if (to.type === 'topic') {
      const found = await this.#topics.target(to.id)
      return found.type === 'refused' ? found : this.#sealFor(found.target, content)
    }
    const copy = await state.contact(to.id)
    if (!copy.ok) return this.#refuseCopy(to.id, copy.error.detail)
    const { key } = copy.value ?? (await this.refreshContact(to.id))
    try {
      const light = sent && unwrap(await sent.secretFor(key))
      return await this.#sealFor({ ...to, key, ...(light && { light }) }, content)
    } catch (error) {
      if (error instanceof MoteError && error.code === 'key-not-usable')
        return this.#refuseCopy(to.id, `copy: ${error.detail}`)
      throw error
    }
  }

  /** Replaces the copy of a device's key by the chain's. Throws `recipient-not-active`. */
  refreshContact(id: DeviceId): Promise<RefreshedContact> {
    const { state, chain } = this.#options
    return refreshContact(state, chain, id, chain.now())
  }

  /**
   * Replaces a copy that the gateway, or this device itself, found to be not the chain's, with a line in the decision log that has both:
   * the key was rotated, or the copy was altered. False if it is the chain's; then nothing is written. Throws as `refreshContact` and
   * `refreshTopicCopy` do.
   */
  async replaceCopy(to: Recipient): Promise<boolean> {
    if (to.type === 'group') return false
    const { device, chain, state, onDecision } = this.#options
    await chain.refresh()
    const { key, before, height } = await (to.type === 'device'
      ? this.refreshContact(to.id)
      : refreshTopicCopy(state, chain, to.id))
    const onChain = keyIdOf(key)
    if (before === onChain) return false
    const about = { sender: device, recipient: to.id, inCopy: before ?? 'none', onChain }
    await onDecision(replacedCopyLine(about, { height, ageMs: chain.ageMs() }))
    return true
  }

  async #refuseCopy(recipient: DeviceId, problem: string): Promise<SealOutcome> {
    const { device, chain, onDecision } = this.#options
    const about = { sender: device, recipient, problem }
    const { verdict, line } = await judgeUnusableCopy(chain, about, chain.now())
    await onDecision(line)
    return { type: 'refused', verdict }
  }

  /** Throws `suite-not-allowed`. Where the chain is out of reach the gateway judges, as it does in any case. */
  async #requireAllowed(suite: EnvelopeSuite): Promise<void> {
    const allowed = await this.#options.chain.allowedSuites().catch((error: unknown) => {
      if (error instanceof MoteError) return undefined
      throw error
    })
    if (allowed) unwrap(checkAllowed(suite, allowed))
  }

  async #sealFor(
    target: SealTarget,
    { content, place, channel = '', lifetimeMs = envelopeLifetimeMs, keepMs }: OutgoingContent,
  ): Promise<Extract<SealOutcome, { type: 'sealed' }>> {
    const { device, signer, chain, state } = this.#options
    await this.#requireAllowed(suiteOf(target))
    const now = chain.now()
    const keepUntil = keepMs === undefined ? notKept : ((now + keepMs) as Milliseconds)
    const counter = await state.nextCounter(keyIdOf(signer.publicKey))
    const envelope = unwrap(
      await sealEnvelope({
        chainId: chain.chainId,
        sender: device,
        signer,
        target,
        counter,
        seenHeight: chain.head().height,
        // A time to keep it that is shorter than the usual one is all the time that it has.
        expiry: (now + Math.min(lifetimeMs, (keepMs ?? Infinity) - 1)) as Milliseconds,
        keepUntil,
        channel,
        content,
        place,
      }),
    )
    return { type: 'sealed', envelope }
  }
}
