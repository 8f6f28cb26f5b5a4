/**
 * A device on the network, as a library (Hsu C1), for an application that is written for it. A thin layer over `DeviceAgent`
 * with what an application expects: a connection that comes back by itself, queues on the disk, handlers.
 *
 *   const client = await createDeviceClient({ keys, chain, gateway, stateDirectory })
 *   client.listen(({ from, content }) => { … })
 *   const { outcome } = await client.send(to, { content, delivery: 'received' })
 *
 * What holds, on this side and through `kill -9`:
 * - `send` resolves when the message is on the disk; it is sent until it is confirmed, dropped with the reason, or too old;
 * - messages to one recipient keep their order; with `received` they come exactly once (outbox.ts);
 * - a message that has come is on the disk before anybody is told so, and stays until the handler has taken it;
 * - `record` and `act` resolve when it is on the disk; it is sent, under the device's own signature, until the chain has certified or refused it
 *   (record-outbox.ts).
 */
import { join } from 'node:path'
import type { DeviceId, GroupId, Milliseconds } from '../../chain/brands.ts'
import type {
  ContractActionBody,
  DeviceRecord,
  Qos,
  RecordValue,
  ReportBody,
} from '../../chain/record-bodies.ts'
import { MoteError, type Refusal, refusalOf, unwrap } from '../../chain/result.ts'
import { Deadline } from '../../client/deadline.ts'
import type { QueueLimits } from '../../client/durable-queue.ts'
import { MessageStore } from '../../client/message-store.ts'
import { type AgentOptions, DeviceAgent } from '../device/agent.ts'
import type { DeliveredMessage } from '../device/listener.ts'
import type { Recipient } from '../device/message-sealing.ts'
import { AgentLink, type LinkEvent } from './agent-link.ts'
import { ConfirmationsUnderWay, type MessageNumber, PendingConfirmations } from './confirmations.ts'
import { defaultInboxLimits, Inbox, type TextHandler } from './inbox.ts'
import {
  type DeliveryOutcome,
  defaultOutboxLimits,
  Outbox,
  type QueuedMessage,
  sendConfirmation,
} from './outbox.ts'
import type { Delivery } from './outgoing-message.ts'
import {
  type DeviceRecordOutcome,
  defaultRecordLimits,
  type QueuedRecord,
  RecordOutbox,
} from './record-outbox.ts'

export interface DeviceClientOptions extends Omit<AgentOptions, 'reconnects'> {
  /** Where the queues lie, for a process of many devices; by default in `stateDirectory`, for this device alone. */
  readonly store?: MessageStore
  /**
   * Asked for the keys to use from now on, and the chain that goes with them, at each connection and when something is sealed to a key that
   * is not here; by default those above, for ever.
   */
  readonly identity?: () => Promise<Pick<AgentOptions, 'keys' | 'chain'>>
  /** False: what is sent to this device is left to others, and `received` cannot be asked for. Default true. */
  readonly receives?: boolean
  /** How long the confirmation of a first attempt is waited for; 2 s by default. */
  readonly confirmationWaitMs?: number
  /** Longest pause between two attempts to connect; 15 s by default. */
  readonly reconnectDelayMsMax?: number
  /** Of what waits to be sent, and of what has come and was not taken. */
  readonly limits?: {
    readonly outbox?: Partial<QueueLimits>
    readonly inbox?: Partial<QueueLimits>
    readonly records?: Partial<QueueLimits>
  }
  /** Told of everything that an operator may want to know; never of a content. */
  readonly onEvent?: (event: ClientEvent) => void
}

export type ClientEvent =
  | LinkEvent
  /** A message waits: the gateway or the chain refused it for now, or no confirmation came. */
  | { readonly type: 'waiting'; readonly to: Recipient; readonly reason: Refusal }
  | { readonly type: 'outcome'; readonly outcome: DeliveryOutcome }
  /** The same of records and calls. */
  | { readonly type: 'record-waiting'; readonly reason: Refusal }
  | { readonly type: 'recorded'; readonly outcome: DeviceRecordOutcome }
  /** What arrived and was not taken: it must not be believed, or there was no room. */
  | { readonly type: 'refused'; readonly reason: Refusal }

export interface ClientText {
  /** At most 16 MiB. */
  readonly content: Uint8Array
  /** The sender's name for the stream; '' by default; at most 34 characters with `received`, else 64; not beginning with `mote.`. */
  readonly channel?: string
  /** What counts as delivered; `relayed` by default. `received` needs an agent at the other end, and is for a device alone. */
  readonly delivery?: Delivery
  /** How long the gateway keeps it for who is away: 1 minute to 7 days. Not kept by default, and not with `received`. */
  readonly keepMs?: number | undefined
}

/** What a device reports, by itself. */
export type ClientRecord = Omit<DeviceRecord, 'source'>

export interface ClientAction extends Pick<ContractActionBody, 'contract' | 'publishTopic'> {
  /** By which the decision is to be published; 1 by default. */
  readonly qos?: Qos
  readonly input: { readonly record: ClientRecord } | { readonly values: readonly RecordValue[] }
}

/** The queue on the disk delivers at least once. */
const ownQos = 1

/** Time that handlers and attempts under way have when the client closes. */
const closePatienceMs = 2_000

/**
 * Opens the queues of a device and begins to connect. Throws `in-use` if another process has them open, `storage-corrupt`,
 * `storage-failed`; a gateway that is away is no failure.
 */
export async function createDeviceClient(options: DeviceClientOptions): Promise<DeviceClient> {
  const { keys, chain, stateDirectory, limits = {}, onEvent = () => {} } = options
  const store = options.store ?? (await MessageStore.open(join(stateDirectory, 'queues')))
  const shared = { store, prefix: `${keys.id}/`, now: () => chain.now() }
  try {
    const inbox = await Inbox.open({
      ...shared,
      limits: { ...defaultInboxLimits, ...limits.inbox },
      onDropped: reason => onEvent({ type: 'refused', reason }),
    })
    const confirmations = new PendingConfirmations()
    const arrivals = new Arrivals(inbox, confirmations, onEvent)
    const link = new AgentLink({
      open: async () => {
        // An assertion is dated by the chain's time, which a program that has just started does not know yet.
        if (chain.ageMs() > (options.trustTtlMs ?? 180_000)) await chain.refresh()
        const { identity } = options
        const reloadKeys = identity && (async () => (await identity()).keys)
        return DeviceAgent.connect({ reloadKeys, ...options, ...(await identity?.()), reconnects: false })
      },
      prepare: async agent => {
        if (options.receives ?? true) await arrivals.listen(agent)
      },
      onEvent,
      delayMsMax: options.reconnectDelayMsMax,
    })
    const outbox = await Outbox.open({
      ...shared,
      limits: { ...defaultOutboxLimits, ...limits.outbox },
      link,
      confirmations,
      confirmationWaitMs: options.confirmationWaitMs,
      onOutcome: outcome => onEvent({ type: 'outcome', outcome }),
      onWaiting: (to, reason) => onEvent({ type: 'waiting', to, reason }),
    })
    const records = await RecordOutbox.open({
      ...shared,
      limits: { ...defaultRecordLimits, ...limits.records },
      link,
      onOutcome: outcome => onEvent({ type: 'recorded', outcome }),
      onWaiting: reason => onEvent({ type: 'record-waiting', reason }),
    })
    const ownStore = options.store ? undefined : store
    return new DeviceClient({ options, link, inbox, outbox, records, ownStore })
  } catch (error) {
    if (!options.store) await store.close()
    throw error
  }
}

interface ClientParts {
  readonly options: DeviceClientOptions
  readonly link: AgentLink
  readonly inbox: Inbox
  readonly outbox: Outbox
  readonly records: RecordOutbox
  /** Closed with the client. */
  readonly ownStore: MessageStore | undefined
}

export class DeviceClient {
  readonly #parts: ClientParts

  /** Use `createDeviceClient`. */
  constructor(parts: ClientParts) {
    this.#parts = parts
    parts.link.start()
    parts.outbox.start()
    parts.records.start()
  }

  get device(): DeviceId {
    return this.#parts.options.keys.id
  }

  /** The chain's time, as the queues go by it. */
  now(): Milliseconds {
    return this.#parts.options.chain.now()
  }

  /** Messages that wait to be sent, that came and wait to be taken, and records and calls that are not certified. */
  get waiting(): { readonly outbox: number; readonly inbox: number; readonly records: number } {
    const { outbox, inbox, records } = this.#parts
    return { outbox: outbox.count, inbox: inbox.count, records: records.count }
  }

  /** Resolves when there is a connection. Throws `timeout`, or why the last attempt failed. */
  async connected(timeoutMs: number): Promise<void> {
    const { link } = this.#parts
    const late = () => {
      const { code, detail } = link.lastFailure ?? {
        code: 'timeout',
        detail: `gateway: no connection within ${timeoutMs} ms`,
      }
      return new MoteError(code, detail)
    }
    await new Deadline(timeoutMs).within(link.agent(), late)
  }

  /**
   * Keeps a message for a device until it is confirmed; resolves when it is on the disk. Throws `overloaded` when the queue is
   * full, `too-large`, `malformed`, `storage-failed`.
   */
  send(to: DeviceId, text: ClientText): Promise<QueuedMessage> {
    return this.sendTo({ type: 'device', id: to }, text)
  }

  /** The same for a group, of which this device is a member. `received` is refused: a group has no confirmations. */
  sendToGroup(to: GroupId, text: ClientText): Promise<QueuedMessage> {
    return this.sendTo({ type: 'group', id: to }, text)
  }

  /** The same for an open topic, whose member this device need not be. */
  publish(to: GroupId, text: ClientText): Promise<QueuedMessage> {
    return this.sendTo({ type: 'topic', id: to }, text)
  }

  /** The same for whoever it is. */
  async sendTo(
    to: Recipient,
    { content, channel = '', delivery = 'relayed', keepMs }: ClientText,
  ): Promise<QueuedMessage> {
    if (delivery === 'received' && this.#parts.options.receives === false)
      throw new MoteError('usage', 'delivery: received needs a client that receives')
    return unwrap(await this.#parts.outbox.add({ to, content, channel, delivery, keepMs }))
  }

  /**
   * Keeps a record, or several that are one transaction, until the chain has certified it under this device's signature, or refused it for good;
   * resolves when it is on the disk. Throws `overloaded` when the queue is full, `too-large`, `storage-failed`.
   */
  record(record: ClientRecord | readonly ClientRecord[]): Promise<QueuedRecord> {
    return this.#sign(
      'topic' in record
        ? { type: 'record.one', record: ownRecord(record), qos: ownQos }
        : { type: 'record.batch', records: record.map(ownRecord), qos: ownQos },
    )
  }

  /** The same for a record that a contract is given, or for a call of it with values alone. */
  act({ input, qos = ownQos, ...action }: ClientAction): Promise<QueuedRecord> {
    return this.#sign({
      type: 'contract.action',
      ...action,
      qos,
      input:
        'record' in input
          ? { type: 'record', record: ownRecord(input.record) }
          : { type: 'call', source: undefined, values: input.values },
    })
  }

  async #sign(body: ReportBody): Promise<QueuedRecord> {
    return unwrap(await this.#parts.records.add(body))
  }

  /** Gives every message that has come or comes to `handler`, those of one source in order. A second call replaces the handler. */
  listen(handler: TextHandler): void {
    this.#parts.inbox.handle(handler)
  }

  /** Connects anew, with the keys that `identity` gives now: after a rotation. What is on the disk is sent with them. */
  async renew(): Promise<void> {
    await this.#parts.link.renew()
  }

  /** Ends in order: what is on the disk stays there for the next client. */
  async close(): Promise<void> {
    const { link, ownStore, ...queues } = this.#parts
    const closing = [queues.inbox, queues.outbox, queues.records].map(queue => queue.close(closePatienceMs))
    await Promise.all([...closing, link.close()])
    await ownStore?.close()
  }
}

function ownRecord(record: ClientRecord): DeviceRecord {
  return { ...record, source: undefined }
}

/** What comes off the wire, on its way into the inbox. */
class Arrivals {
  readonly #inbox: Inbox
  readonly #confirmations: PendingConfirmations
  readonly #onEvent: (event: ClientEvent) => void
  readonly #confirming = new ConfirmationsUnderWay()

  constructor(inbox: Inbox, confirmations: PendingConfirmations, onEvent: (event: ClientEvent) => void) {
    this.#inbox = inbox
    this.#confirmations = confirmations
    this.#onEvent = onEvent
  }

  async listen(agent: DeviceAgent): Promise<void> {
    await agent.listen({
      message: message => this.#take(agent, message),
      settled: message => this.#inbox.settled(message),
      refused: reason => this.#onEvent({ type: 'refused', reason }),
    })
  }

  async #take(agent: DeviceAgent, message: DeliveredMessage): Promise<void> {
    const arrived = await this.#inbox.accept(message)
    if (arrived.type === 'confirmation') this.#confirmations.arrived(message.from, arrived.number)
    // Nothing waits for it here: the next message need not.
    else if (arrived.confirmation) void this.#confirm(agent, message.from, arrived.confirmation)
  }

  /** It is asked for again if it does not arrive. */
  async #confirm(agent: DeviceAgent, to: DeviceId, number: MessageNumber): Promise<void> {
    try {
      await this.#confirming.send(to, number, () => sendConfirmation(agent, to, number))
    } catch (error) {
      this.#onEvent({ type: 'waiting', to: { type: 'device', id: to }, reason: refusalOf(error) })
    }
  }
}
