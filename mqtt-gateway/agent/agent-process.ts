/**
 * The agent beside an application that stays as it is (Hsu C1): what it publishes on the local ports goes through the routes into the
 * queue of a `DeviceClient`, and what arrives comes out on local topics. `mote device agent` runs one in the foreground.
 *
 * A local PUBLISH is acknowledged when the message is on the disk. A message that arrived leaves the disk when a local subscriber has
 * acknowledged it (or, at QoS 0 and over CoAP, was sent it); without a subscriber it waits. One that no route takes is refused and
 * told: the configuration decides what the application hears. What an application is refused, it is told (application-news.ts).
 */
import { join } from 'node:path'
import { errorTable } from '../../chain/errors.ts'
import { maxRecordPayloadBytes, maxRecordValues } from '../../chain/limits.ts'
import type { RecordValue } from '../../chain/record-bodies.ts'
import { MoteError, ok, type Refusal, type Result, refusalOf, unwrap } from '../../chain/result.ts'
import { Deadline } from '../../client/deadline.ts'
import { MessageStore } from '../../client/message-store.ts'
import { type AgentConfig, contractNamesOf } from './agent-config.ts'
import { ApplicationNews } from './application-news.ts'
import {
  type ClientEvent,
  createDeviceClient,
  type DeviceClient,
  type DeviceClientOptions,
} from './device-client.ts'
import type { ReceivedText } from './inbox.ts'
import type { LocalMessage } from './local-client.ts'
import { LocalCoap } from './local-coap.ts'
import { LocalDecisions } from './local-decisions.ts'
import { defaultLocalLimits, type LocalAddress, LocalMqtt } from './local-mqtt.ts'
import {
  incoming,
  type LocalNames,
  type LocalRoutes,
  localPayload,
  outgoing,
  type PublishRoute,
} from './local-routes.ts'
import type { QueuedMessage } from './outbox.ts'
import { flagName, withFlag } from './record-format.ts'
import type { QueuedRecord } from './record-outbox.ts'
import { type PassedReading, type RouteReading, StreamRules } from './stream-rules.ts'

export interface AgentProcessOptions {
  readonly client: Omit<DeviceClientOptions, 'onEvent' | 'limits' | 'store'>
  readonly config: AgentConfig
  readonly names: LocalNames
  readonly onEvent: (event: AgentEvent) => void
}

export type AgentEvent =
  | ClientEvent
  /** What an application sent or asked for and does not get. */
  | { readonly type: 'local'; readonly reason: Refusal }

export interface RunningAgent {
  readonly client: DeviceClient
  readonly mqtt: LocalAddress
  readonly coap: { readonly host: string; readonly port: number } | undefined
  /** Takes no more from the application, lets go of the gateway; what is on the disk stays. */
  stop(): Promise<void>
}

/** How long a message waits for a subscriber before those that are there are asked once more. */
const deliverAgainMs = 1_000

/** Throws `config-invalid`, `contract-invalid`, `not-found`, `in-use`, `start-failed`, `storage-corrupt`, `storage-failed`. */
export async function startAgent(options: AgentProcessOptions): Promise<RunningAgent> {
  const closing: (() => Promise<unknown>)[] = []
  const stop = async (): Promise<void> => {
    for (const close of closing.toReversed()) await close()
  }
  try {
    return { ...(await startParts(options, closing)), stop }
  } catch (error) {
    await stop()
    throw error
  }
}

/** @param closing how to end what has been started so far; the last one first */
async function startParts(
  { client: clientOptions, config, names, onEvent }: AgentProcessOptions,
  closing: (() => Promise<unknown>)[],
): Promise<Omit<RunningAgent, 'stop'>> {
  const { keys, chain, stateDirectory } = clientOptions
  const { queue = {}, routes, decide } = config
  const store = await MessageStore.open(join(stateDirectory, 'queues'))
  closing.push(() => store.close())
  const prefix = `${keys.id}/`
  const rules = await StreamRules.open({ store, prefix, chain, names, named: contractNamesOf(config) })
  const news = new ApplicationNews()
  const client = await createDeviceClient({
    ...clientOptions,
    store,
    limits: { outbox: queue, inbox: queue, records: queue },
    onEvent: event => {
      onEvent(event)
      if (event.type === 'recorded') news.settled(event.outcome)
    },
  })
  closing.push(() => client.close())
  const subscriptions = new Subscriptions()
  const local = { routes, names, rules, onEvent }
  const ports = {
    accept: async (message: LocalMessage) => {
      const accepted = await acceptLocal(local, client, message)
      if (!accepted.ok) news.refused(message.topicName, accepted.error)
      return accepted
    },
    onSubscribed: () => subscriptions.changed(),
    onRefused: (reason: Refusal) => onEvent({ type: 'local', reason }),
  }
  const mqtt = new LocalMqtt({ ...ports, address: config.mqtt, limits: defaultLocalLimits })
  news.open(mqtt)
  const coap = config.coap && new LocalCoap({ ...ports, address: config.coap })
  const decisions = new LocalDecisions({
    device: keys.id,
    decisions: decide,
    rules,
    store,
    prefix: `${prefix}contract/`,
    now: () => chain.now(),
    publish: async message => {
      coap?.deliver(message)
      await mqtt.deliver(message)
    },
    onFailure: reason => onEvent({ type: 'refused', reason }),
  })
  subscriptions.onChanged(() => decisions.run())
  closing.push(
    () => mqtt.close(),
    async () => coap?.close(),
    () => decisions.stop(),
  )
  const bound = { mqtt: await mqtt.listen(), coap: await coap?.listen() }
  client.listen((message, signal) => deliverLocal(local, { mqtt, coap, subscriptions }, message, signal))
  return { client, ...bound }
}

/** What local messages go by. */
export interface LocalTraffic {
  readonly routes: LocalRoutes
  readonly names: LocalNames
  readonly rules: StreamRules
  readonly onEvent: (event: AgentEvent) => void
}

/** Puts an application's message into a queue of its device; resolves when it is on the disk. */
export async function acceptLocal(
  { routes, names, rules }: Omit<LocalTraffic, 'onEvent'>,
  client: DeviceClient,
  message: LocalMessage,
): Promise<Result<Pick<QueuedMessage, 'sequence'>>> {
  try {
    const sent = unwrap(await outgoing(routes, names, message))
    const { route, to, recordTopic: topic, content, channel, delivery, keepMs } = sent
    const reading = { device: client.device, topic, content, at: client.now() }
    return ok(
      await rules.pass<Pick<QueuedMessage, 'sequence'>>(route, reading, async passed =>
        to
          ? client.sendTo(to, { content: marked(content, passed), channel, delivery, keepMs })
          : record(client, rules, route, reading, passed),
      ),
    )
  } catch (error) {
    return { ok: false, error: refusalOf(error) }
  }
}

/** A record holds the bytes as they are; the mark of one that violates a rule is among its values. */
async function record(
  client: DeviceClient,
  { contracts }: Pick<StreamRules, 'contracts'>,
  { contract, publish }: Pick<PublishRoute, 'contract' | 'publish'>,
  { topic, content: payload, at: claimedTime }: RouteReading,
  passed: PassedReading,
): Promise<QueuedRecord> {
  if (payload.length > maxRecordPayloadBytes)
    throw new MoteError(
      'too-large',
      `payload: expected at most ${maxRecordPayloadBytes} bytes in a record, got ${payload.length}`,
    )
  const made = { topic, payload, values: markedValues(passed), claimedTime, messageId: undefined }
  if (contract === undefined) return client.record(made)
  const { address } = await contracts.get(contract)
  return client.act({ contract: address, publishTopic: publish, input: { record: made } })
}

function marked(content: Uint8Array, { violation }: PassedReading): Uint8Array {
  return violation === undefined ? content : unwrap(withFlag(content, violation))
}

function markedValues({ values, violation }: PassedReading): readonly RecordValue[] {
  if (violation === undefined) return values
  const others = values.filter(({ name }) => name !== flagName).slice(0, maxRecordValues - 1)
  return [...others, { name: flagName, value: violation }].sort((a, b) => (a.name < b.name ? -1 : 1))
}

export interface LocalPorts {
  readonly mqtt: LocalMqtt
  readonly coap: LocalCoap | undefined
  readonly subscriptions: Subscriptions
  /** In front of every topic. */
  readonly prefix?: string
}

/** Resolves when the application has the message, or will not get it. Rejects when this program ends first, and when what judges it is out of reach. */
export async function deliverLocal(
  { routes, names, rules, onEvent }: LocalTraffic,
  ports: LocalPorts,
  received: ReceivedText,
  signal: AbortSignal,
): Promise<void> {
  try {
    const { from: device, at, content, messageId } = received
    const { route, topicName, recordTopic: topic } = unwrap(await incoming(routes, names, received))
    const payload = await rules.pass(route, { device, at, content, topic, messageId }, async passed =>
      unwrap(localPayload(route, marked(content, passed))),
    )
    // Contracts here have it by now, whether an application has subscribed or not.
    if (topicName !== undefined) await giveToApplication(ports, { topicName, payload }, signal)
  } catch (error) {
    signal.throwIfAborted()
    const reason = refusalOf(error)
    onEvent({ type: 'refused', reason })
    // It stays in the inbox, and is tried again.
    if (errorTable[reason.code].retry) throw error
  }
}

async function giveToApplication(
  { mqtt, coap, subscriptions, prefix = '' }: LocalPorts,
  { topicName, payload }: LocalMessage,
  signal: AbortSignal,
): Promise<void> {
  const message = { topicName: `${prefix}${topicName}`, payload }
  const isObserved = coap?.deliver(message) ?? false
  for (;;) {
    const next = subscriptions.next
    const outcome = await mqtt.deliver(message)
    if (outcome === 'taken' || (outcome === 'nobody' && isObserved)) return
    await new Deadline(deliverAgainMs, { signal }).race(next)
    signal.throwIfAborted()
  }
}

/** Tells those who wait that somebody has subscribed. */
export class Subscriptions {
  #next = Promise.withResolvers<void>()
  readonly #listeners: (() => void)[] = []

  onChanged(listener: () => void): void {
    this.#listeners.push(listener)
  }

  get next(): Promise<void> {
    return this.#next.promise
  }

  changed(): void {
    this.#next.resolve()
    this.#next = Promise.withResolvers<void>()
    for (const listener of this.#listeners) listener()
  }
}
