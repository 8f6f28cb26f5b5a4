/**
 * What an application has handed over and the gateway, or the recipient, has not confirmed: on the disk, in order for each
 * recipient, bounded, sent again until there is an answer.
 *
 * Two kinds of delivery:
 * - `relayed`: the gateway's `Check`. The sealed bytes are on the disk before they leave, and the same bytes are sent again after
 *   a crash, so that the recipient's replay window knows them. Only when their expiry passes without any answer are they
 *   sealed anew, and then the message may come twice;
 * - `received`: the recipient's agent has it on its disk (confirmations.ts). Each attempt is sealed anew and its number is the same, so
 *   that it is taken once and in order, whoever crashes and whatever is lost on the way. To a device only.
 *
 * One message of a recipient is under way at a time: an order that holds through every failure leaves no other way without
 * numbers that the recipient checks.
 */
import { randomBytes } from 'node:crypto'
import type { DeviceId, GroupId, Milliseconds } from '../../chain/brands.ts'
import { encode } from '../../chain/codec.ts'
import type { ErrorCode } from '../../chain/errors.ts'
import { MoteError, type Refusal, type Result, refusalOf, unwrap } from '../../chain/result.ts'
import { Deadline } from '../../client/deadline.ts'
import { DurableQueue, maxEntryBytes, type QueueEntry, type QueueLimits } from '../../client/durable-queue.ts'
import type { MessageStore } from '../../client/message-store.ts'
import { decodeStored } from '../../client/stored-value.ts'
import type { DeviceAgent } from '../device/agent.ts'
import type { Recipient } from '../device/message-sealing.ts'
import { chunkWaitMs, contentsOf, newTransferId } from '../device/transfers.ts'
import type { Content } from '../protocol/content.ts'
import { maxEnvelopeLifetimeMs } from '../protocol/envelope.ts'
import type { AgentLink } from './agent-link.ts'
import { ConfirmationWaits } from './confirmation-waits.ts'
import {
  askingChannel,
  type Confirmation,
  confirmationChannel,
  type MessageNumber,
  type PendingConfirmations,
} from './confirmations.ts'
import {
  type Delivery,
  flawOf,
  formatVersion,
  maxProgressBytes,
  messageCodec,
  type OutboxMessage,
  type SealedBytes,
  type StoredMessage,
  sendingProgressCodec,
} from './outgoing-message.ts'
import { type Queued, QueuedWork } from './queued-work.ts'

export const defaultOutboxLimits: QueueLimits = {
  messages: 10_000,
  bytes: 64 * 1024 * 1024,
  ageMs: 7 * 24 * 60 * 60_000,
}

/** Below `maxEnvelopeLifetimeMs` by what the clocks of sender and gateway may differ. */
const sealedLifetimeMs = maxEnvelopeLifetimeMs - 60_000
/** How long a confirmation is waited for at first before the message is sent again (confirmation-waits.ts). */
const defaultConfirmationWaitMs = 2_000
/** Pause after a failure; doubles up to the second. */
const retryDelayMsMin = 200
const resealDelayMsMax = 15_000

/** What came of a message in the end. */
export type DeliveryOutcome =
  | { readonly type: Delivery; readonly sequence: number }
  | { readonly type: 'dropped'; readonly sequence: number; readonly to: Recipient; readonly reason: Refusal }

/** A message on the disk. */
export type QueuedMessage = Queued<DeliveryOutcome>

/** Refusals that no time mends: the message is dropped, and whoever sent it is told. */
const finalRefusals: readonly ErrorCode[] = [
  'malformed',
  'too-large',
  'not-member',
  'unknown-subject',
  'recipient-not-active',
  'topic-not-allowed',
]
/** Refusals after which the same bytes would be refused again. */
const spoiled: readonly ErrorCode[] = [
  'envelope-expired',
  'epoch-mismatch',
  'replayed',
  // Whether it was relayed, nobody knows: twice is better than not at all.
  'counter-too-old',
  'key-not-valid',
  'bad-signature',
]

export interface OutboxOptions {
  readonly store: MessageStore
  readonly prefix: string
  readonly limits: QueueLimits
  readonly link: Pick<AgentLink, 'agent' | 'renew'>
  readonly confirmations: PendingConfirmations
  readonly now: () => Milliseconds
  /** How long the confirmation of a first attempt is waited for. */
  readonly confirmationWaitMs?: number | undefined
  readonly onOutcome: (outcome: DeliveryOutcome) => void
  /** Told why a message waits, each time. */
  readonly onWaiting: (to: Recipient, reason: Refusal) => void
}

export class Outbox {
  readonly #options: OutboxOptions
  readonly #queue: DurableQueue
  readonly #stream: string
  readonly #work: QueuedWork<DeliveryOutcome>
  readonly #waits: ConfirmationWaits

  private constructor(options: OutboxOptions, queue: DurableQueue, stream: string) {
    this.#options = options
    this.#queue = queue
    this.#stream = stream
    this.#waits = new ConfirmationWaits(options.confirmationWaitMs ?? defaultConfirmationWaitMs)
    this.#work = new QueuedWork({
      queue,
      work: (entry, signal) => this.#deliver(entry, signal),
      progressKey: entry => progressKey(options, entry),
      onOutcome: options.onOutcome,
      onFailure: (lane, reason) => options.onWaiting(recipientOf(lane), reason),
    })
  }

  /** The queue as it was left; `start` goes on with it. Throws `storage-corrupt`, `storage-failed`. */
  static async open(options: OutboxOptions): Promise<Outbox> {
    const { store, prefix, limits } = options
    const queue = await DurableQueue.open(store, `${prefix}out/`, limits)
    const key = `${prefix}stream`
    const stream = (await store.get(key)) ?? Uint8Array.from(randomBytes(4))
    await store.write([{ key, value: stream }])
    return new Outbox(options, queue, Buffer.from(stream).toString('hex'))
  }

  get count(): number {
    return this.#work.count
  }

  start(): void {
    this.#work.start()
  }

  /**
   * Resolves when the message is on the disk. Refuses `overloaded` when there is no room, `too-large`, `malformed`. Throws
   * `storage-failed`.
   */
  async add(message: OutboxMessage): Promise<Result<QueuedMessage>> {
    const flaw = flawOf(message)
    if (flaw) return { ok: false, error: flaw }
    const { type, id } = message.to
    const body = encode(messageCodec, { version: formatVersion, keepMs: undefined, ...message })
    return this.#work.add(`${type}/${id}`, body, this.#options.now())
  }

  /** Resolves when nothing is sent any more, or `patienceMs` later. */
  close(patienceMs: number): Promise<void> {
    return this.#work.close(patienceMs)
  }

  /** What comes of an entry, in as many attempts as it takes; undefined when this is closed first. */
  async #deliver(entry: QueueEntry, signal: AbortSignal): Promise<DeliveryOutcome | undefined> {
    const attempts = await Attempts.open(this.#options, entry, await this.#read(entry))
    const { to, delivery } = attempts.message
    if (delivery === 'relayed') return this.#try(attempts, agent => attempts.relay(agent), signal)
    const number = { stream: this.#stream, sequence: entry.sequence }
    // Until the end: one that comes late, between two attempts, is one.
    const confirmation = this.#options.confirmations.expect(to.id, number)
    try {
      const ask = (agent: DeviceAgent) => this.#ask(attempts, agent, { number, confirmation }, signal)
      return await this.#try(attempts, ask, signal, confirmation)
    } finally {
      confirmation.stop()
    }
  }

  /** @param attempt gives why it came to nothing */
  async #try(
    { entry, message: { to, delivery } }: Attempts,
    attempt: (agent: DeviceAgent) => Promise<Refusal | undefined>,
    signal: AbortSignal,
    confirmation?: Confirmation,
  ): Promise<DeliveryOutcome | undefined> {
    const { link, limits, now, onWaiting } = this.#options
    const { sequence } = entry
    const dropped = (reason: Refusal) => ({ type: 'dropped', sequence, to, reason }) as const
    for (let delayMs = retryDelayMsMin; ; delayMs = Math.min(2 * delayMs, resealDelayMsMax)) {
      if (confirmation?.isThere()) return { type: delivery, sequence }
      const agent = await link.agent()
      if (!agent || signal.aborted) return undefined
      if (now() - entry.acceptedAt > limits.ageMs)
        return dropped({ code: 'envelope-expired', detail: `message ${sequence}: it waited too long` })
      const failure = await attempt(agent)
      if (!failure || confirmation?.isThere()) return { type: delivery, sequence }
      if (finalRefusals.includes(failure.code)) return dropped(failure)
      if (signal.aborted) return undefined
      onWaiting(to, failure)
      if (failure.code === 'recipient-key-mismatch' && (await replaceCopy(agent, to, onWaiting))) continue
      // The key was rotated: the next connection has the one that is in force.
      if (failure.code === 'key-not-valid') await link.renew()
      const delay = new Deadline(delayMs * (0.5 + Math.random() / 2), { signal })
      await (confirmation ? delay.race(confirmation.arrived) : delay.pause(delayMs))
    }
  }

  /** One attempt that ends with a confirmation, or with why there is none. */
  async #ask(
    attempts: Attempts,
    agent: DeviceAgent,
    { number, confirmation }: { readonly number: MessageNumber; readonly confirmation: Confirmation },
    signal: AbortSignal,
  ): Promise<Refusal | undefined> {
    const { to } = attempts.message
    const startedAt = performance.now()
    const refused = await Promise.race([
      attempts.ask(agent, number, confirmation),
      confirmation.arrived.then(() => undefined),
    ])
    if (refused) return refused
    const decidedAt = performance.now()
    this.#waits.decided(decidedAt - startedAt)
    const ended = Promise.race([confirmation.arrived, agent.ended.then(() => false as const)])
    const restMs = () => this.#waits.of(to.id) - (performance.now() - decidedAt)
    let isThere: boolean | undefined
    // Verdicts on other messages may say meanwhile that the gateway is slower than that.
    do isThere = await new Deadline(restMs(), { signal }).race(ended)
    while (isThere === undefined && !signal.aborted && restMs() > 0)
    if (isThere) {
      if (attempts.count === 1) this.#waits.confirmed(to.id, performance.now() - startedAt)
      return undefined
    }
    const waitMs = this.#waits.of(to.id)
    if (isThere === undefined) this.#waits.over(to.id)
    return { code: 'timeout', detail: `${to.type} ${to.id}: no confirmation within ${waitMs} ms` }
  }

  async #read(entry: QueueEntry): Promise<StoredMessage> {
    const body = await this.#queue.read(entry)
    return decodeStored(messageCodec, body, `outbox: entry ${entry.sequence}`, maxEntryBytes)
  }
}

function progressKey({ prefix }: Pick<OutboxOptions, 'prefix'>, { sequence }: QueueEntry): string {
  return `${prefix}out/progress/${sequence}`
}

/** The attempts to deliver one message, and what is kept from one to the next. */
class Attempts {
  readonly entry: QueueEntry
  readonly message: StoredMessage
  readonly #options: OutboxOptions
  /** The name of its transfer, if it goes in chunks, and the next one of them. */
  #transfer = newTransferId()
  #index = 0
  /** When a chunk was sealed or relayed last. */
  #activeAt = 0
  /** That one, sealed before. */
  #sealed: SealedBytes | undefined
  count = 0

  private constructor(options: OutboxOptions, entry: QueueEntry, message: StoredMessage) {
    this.#options = options
    this.entry = entry
    this.message = message
  }

  /** Goes on where an earlier run ended. Throws `storage-corrupt`, `storage-failed`. */
  static async open(options: OutboxOptions, entry: QueueEntry, message: StoredMessage): Promise<Attempts> {
    const attempts = new Attempts(options, entry, message)
    const stored = await options.store.get(progressKey(options, entry))
    if (!stored) return attempts
    const name = `outbox: entry ${entry.sequence}`
    const { transfer, index, sealed } = decodeStored(sendingProgressCodec, stored, name, maxProgressBytes)
    attempts.#transfer = transfer
    attempts.#index = index
    attempts.#sealed = sealed
    attempts.#activeAt = sealed.expiry - sealedLifetimeMs
    return attempts
  }

  /** Undefined when the gateway has relayed all of it, now or at earlier attempts. */
  async relay(agent: DeviceAgent): Promise<Refusal | undefined> {
    try {
      if (this.#isGivenUp()) {
        this.#transfer = newTransferId()
        this.#index = 0
        this.#sealed = undefined
      }
      const contents = unwrap(contentsOf(this.message.content, this.#transfer))
      for (; this.#index < contents.length; this.#index++) {
        const refused = await this.#relayContent(agent, contents[this.#index] as Content)
        if (refused) return refused
      }
      return undefined
    } catch (error) {
      return refusalOf(error)
    }
  }

  /** A recipient that listens drops the chunks of a message whose next one does not come; kept ones wait. */
  #isGivenUp(): boolean {
    const isHeld = this.#index === 0 || this.message.keepMs !== undefined
    return !isHeld && this.#options.now() - this.#activeAt > chunkWaitMs
  }

  async #relayContent(agent: DeviceAgent, content: Content): Promise<Refusal | undefined> {
    const earlier = this.#sealed && this.#sealed.expiry > this.#options.now() ? this.#sealed : undefined
    const sealed = earlier ?? (await this.#seal(agent, this.message.channel, content))
    if (!earlier) await this.#keep(sealed)
    const { code, reason = '' } = await agent.relay(sealed)
    const isOver = code !== undefined && (spoiled.includes(code) || code === 'recipient-key-mismatch')
    // The gateway knows these very bytes: it relayed them, and its answer was lost.
    const isRelayed = code === undefined || (code === 'replayed' && earlier !== undefined)
    if (isRelayed) this.#activeAt = this.#options.now()
    if (isRelayed || isOver) this.#sealed = undefined
    return isRelayed ? undefined : { code, detail: reason }
  }

  /** Undefined when the gateway has relayed a message that asks for a confirmation, or there is one. */
  async ask(
    agent: DeviceAgent,
    number: MessageNumber,
    confirmation: Pick<Confirmation, 'isThere'>,
  ): Promise<Refusal | undefined> {
    this.count += 1
    try {
      const channel = askingChannel(number, this.message.channel)
      for (const content of unwrap(contentsOf(this.message.content))) {
        if (confirmation.isThere()) return undefined
        const { code, reason = '' } = await agent.relay(await this.#seal(agent, channel, content))
        if (code !== undefined) return { code, detail: reason }
      }
      return undefined
    } catch (error) {
      return refusalOf(error)
    }
  }

  async #seal(agent: DeviceAgent, channel: string, { bytes: content, place }: Content): Promise<SealedBytes> {
    const { to, keepMs } = this.message
    const expiry = (this.#options.now() + sealedLifetimeMs) as Milliseconds
    const sealed = await agent.seal(to, { content, place, channel, lifetimeMs: sealedLifetimeMs, keepMs })
    if (sealed.type === 'sealed') return { ...sealed.envelope, expiry }
    const { code = 'internal', reason = '' } = sealed.verdict
    throw new MoteError(code, reason)
  }

  async #keep(sealed: SealedBytes): Promise<void> {
    const progress = { version: formatVersion, transfer: this.#transfer, index: this.#index, sealed }
    const key = progressKey(this.#options, this.entry)
    await this.#options.store.write([{ key, value: encode(sendingProgressCodec, progress) }])
    this.#sealed = sealed
    this.#activeAt = this.#options.now()
  }
}

/** Sends a confirmation; it is asked for again if it gets lost. */
export async function sendConfirmation(
  agent: DeviceAgent,
  to: DeviceId,
  number: MessageNumber,
): Promise<void> {
  const channel = confirmationChannel(number)
  // As long as the message: one that is over when it comes has the message sent again, and confirmed by the next one.
  const confirm = () => agent.send(to, { content: new Uint8Array(), channel, lifetimeMs: sealedLifetimeMs })
  const { code } = await confirm()
  if (code === 'recipient-key-mismatch' && (await agent.replaceCopy({ type: 'device', id: to })))
    await confirm()
}

/**
 * Nobody is there to ask for the chain's key in place of a copy that is not it: the recipient has rotated its key, say. True if there is
 * another copy now, which the decision log has a line of.
 */
async function replaceCopy(
  agent: DeviceAgent,
  to: Recipient,
  onWaiting: OutboxOptions['onWaiting'],
): Promise<boolean> {
  try {
    return await agent.replaceCopy(to)
  } catch (error) {
    onWaiting(to, refusalOf(error))
    return false
  }
}

function recipientOf(lane: string): Recipient {
  const [type, id = ''] = lane.split('/')
  return type === 'group' || type === 'topic'
    ? { type, id: id as GroupId }
    : { type: 'device', id: id as DeviceId }
}
