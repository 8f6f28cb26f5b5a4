/**
 * The agent beside an application that stays as it is (Hsu C1): what it publishes on the local ports goes through the routes into the
 * queue of a `DeviceClient`, and what arrives comes out on local topics. `mote device agent` runs one in the foreground.
 *
 * A local PUBLISH is acknowledged when the message is on the disk. A message that arrived leaves the disk when a local subscriber has
 * acknowledged it (or, at QoS 0 and over CoAP, was sent it); without a subscriber it waits. One that no route takes is refused and
 * told: the configuration decides what the application hears.
 */
import { ok, type Refusal, type Result, refusalOf, unwrap } from '../../chain/result.ts'
import { Deadline } from '../../client/deadline.ts'
import type { AgentConfig } from './agent-config.ts'
import {
  type ClientEvent,
  createDeviceClient,
  type DeviceClient,
  type DeviceClientOptions,
} from './device-client.ts'
import type { ReceivedText } from './inbox.ts'
import type { LocalMessage } from './local-client.ts'
import { LocalCoap } from './local-coap.ts'
import { defaultLocalLimits, type LocalAddress, LocalMqtt } from './local-mqtt.ts'
import { incoming, type LocalNames, type LocalRoutes, outgoing } from './local-routes.ts'
import type { QueuedMessage } from './outbox.ts'

export interface AgentProcessOptions {
  readonly client: Omit<DeviceClientOptions, 'onEvent' | 'limits'>
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

/** Throws `config-invalid`, `in-use`, `start-failed`, `storage-corrupt`, `storage-failed`. */
export async function startAgent(options: AgentProcessOptions): Promise<RunningAgent> {
  const { config, onEvent } = options
  const client = await createDeviceClient({
    ...options.client,
    limits: { outbox: config.queue ?? {}, inbox: config.queue ?? {} },
    onEvent,
  })
  const subscriptions = new Subscriptions()
  const local = { routes: config.routes, names: options.names, onEvent }
  const ports = {
    accept: (message: LocalMessage) => acceptLocal(local, client, message),
    onSubscribed: () => subscriptions.changed(),
    onRefused: (reason: Refusal) => onEvent({ type: 'local', reason }),
  }
  try {
    const mqtt = new LocalMqtt({ ...ports, address: config.mqtt, limits: defaultLocalLimits })
    const coap = config.coap && new LocalCoap({ ...ports, address: config.coap })
    const bound = { mqtt: await mqtt.listen(), coap: await coap?.listen() }
    client.listen((message, signal) => deliverLocal(local, { mqtt, coap, subscriptions }, message, signal))
    const stop = async (): Promise<void> => {
      coap?.close()
      await Promise.all([mqtt.close(), client.close()])
    }
    return { client, ...bound, stop }
  } catch (error) {
    await client.close()
    throw error
  }
}

/** What local messages go by. */
export interface LocalTraffic {
  readonly routes: LocalRoutes
  readonly names: LocalNames
  readonly onEvent: (event: AgentEvent) => void
}

/** Puts an application's message into the queue of its device; resolves when it is on the disk. */
export async function acceptLocal(
  { routes, names }: Pick<LocalTraffic, 'routes' | 'names'>,
  client: DeviceClient,
  message: LocalMessage,
): Promise<Result<QueuedMessage>> {
  try {
    const { to, ...text } = unwrap(await outgoing(routes, names, message))
    return ok(await client.sendTo(to, text))
  } catch (error) {
    return { ok: false, error: refusalOf(error) }
  }
}

export interface LocalPorts {
  readonly mqtt: LocalMqtt
  readonly coap: LocalCoap | undefined
  readonly subscriptions: Subscriptions
  /** In front of every topic. */
  readonly prefix?: string
}

/** Resolves when the application has the message. Rejects when this program ends first. */
export async function deliverLocal(
  { routes, names, onEvent }: LocalTraffic,
  { mqtt, coap, subscriptions, prefix = '' }: LocalPorts,
  received: ReceivedText,
  signal: AbortSignal,
): Promise<void> {
  const local = await incoming(routes, names, received)
  if (!local.ok) return onEvent({ type: 'refused', reason: local.error })
  const message = { ...local.value, topicName: `${prefix}${local.value.topicName}` }
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

  get next(): Promise<void> {
    return this.#next.promise
  }

  changed(): void {
    this.#next.resolve()
    this.#next = Promise.withResolvers<void>()
  }
}
