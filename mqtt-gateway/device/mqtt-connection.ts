/**
 * A device's connection to the gateway: mqtt.js with a fresh assertion for every attempt, since each is good for one. Where the gateway
 * stands beside a broker that others wrote, the connection is to that broker: MQTT 5, the password of the device's account, topics that
 * name the device, and word of itself for the gateway, to which the broker tells nothing (mqtt-gateway/protocol/sharded-topics.ts).
 *
 * A connection that breaks is opened again, and its subscriptions with it, unless the gateway said that the device may
 * not connect, or whoever uses it opens another one by itself: then `ended` tells why. Messages come out in the order in
 * which they arrived.
 */

import { randomBytes } from 'node:crypto'
import mqtt, { type IClientOptions, type MqttClient } from 'mqtt'
import type { ChainId, DeviceId, Milliseconds } from '../../chain/brands.ts'
import type { Signer } from '../../chain/keys.ts'
import { MoteError } from '../../chain/result.ts'
import { Deadline, pause } from '../../client/deadline.ts'
import { makeAssertion } from '../protocol/assertion.ts'
import { encodePresence, type Presence, presenceTopic, shardedTopic } from '../protocol/sharded-topics.ts'
import { filters } from '../protocol/topics.ts'
import { type GatewayAddress, mqttTransportOf, tlsFailure } from './gateway-address.ts'

export interface ConnectionOptions {
  readonly gateway: GatewayAddress
  readonly chainId: ChainId
  readonly device: DeviceId
  readonly signer: Signer
  readonly now: () => Milliseconds
  /** The password of the device's account at a broker that others wrote (account-login.ts); at the gateway itself none. */
  readonly account?: string | undefined
  /** For the connection and for each acknowledgement. */
  readonly timeoutMs: number
  /** False: a connection that breaks is over. Default true. */
  readonly reconnects?: boolean | undefined
}

export interface ReceivedMessage {
  readonly topicName: string
  readonly payload: Uint8Array
}

/** What any MQTT client needs to connect as this device, once, before `expiresAt`. */
export interface Credentials {
  readonly clientId: string
  readonly username: string
  readonly password: string
  readonly expiresAt: Milliseconds
}

const reconnectPeriodMs = 500
/** Codes of CONNACK after which the same attempt would be refused again (MQTT 3.1.1, section 3.2.2.3; MQTT 5, section 3.2.2.2). */
const finalReturnCodes: readonly unknown[] = [4, 5, 0x86, 0x87]
/** CONNACK return code "server unavailable": the gateway is there, and takes nobody now. */
const unavailableReturnCode = 3
/** The gateway makes the account of a device that has just joined when it has heard of it. */
const accountPatienceMs = 5_000
const accountRetryMs = 200
/** Time to an answer, after which the same bytes are sent again where a broker acknowledges by itself; then twice as long each time. */
const repeatAfterMs = 2_000

/** Credentials for one connection. */
export function makeCredentials(
  options: Pick<ConnectionOptions, 'chainId' | 'device' | 'signer' | 'now'>,
  clientId: string = options.device,
): Credentials {
  const { chainId: audience, device, signer, now } = options
  const nonce = Uint8Array.from(randomBytes(16))
  const { password, expiresAt } = makeAssertion({ device, signer, audience, now: now(), nonce })
  return { clientId, username: device, password, expiresAt }
}

export class MqttConnection {
  readonly #client: MqttClient
  readonly #timeoutMs: number
  readonly #listeners = new Set<(message: ReceivedMessage) => void>()
  readonly #ended = Promise.withResolvers<MoteError>()
  /** Undefined at the gateway itself, which sees who is connected. */
  readonly #presence: PresenceTeller | undefined

  private constructor(client: MqttClient, timeoutMs: number, presence?: PresenceTeller) {
    this.#client = client
    this.#timeoutMs = timeoutMs
    this.#presence = presence
    client.on('message', (topicName, payload) => {
      const message = { topicName, payload: Uint8Array.from(payload) }
      for (const listener of this.#listeners) listener(message)
    })
  }

  /** Resolves when the gateway has accepted the device. Throws `not-authorised`, `not-ready`, `unreachable`, `timeout`. */
  static async open(options: ConnectionOptions): Promise<MqttConnection> {
    if (options.account === undefined) return MqttConnection.#openOnce(options)
    const patience = new Deadline(Math.min(accountPatienceMs, options.timeoutMs))
    for (;;) {
      try {
        return await MqttConnection.#openOnce(options)
      } catch (error) {
        if (patience.isOver || !(error instanceof MoteError) || error.code !== 'not-authorised') throw error
        await patience.pause(accountRetryMs)
      }
    }
  }

  static async #openOnce(options: ConnectionOptions): Promise<MqttConnection> {
    const { gateway, timeoutMs, device, account, reconnects = true } = options
    const place = randomBytes(6).toString('hex')
    // Several connections of one device must not end each other [MQTT-3.1.4-2].
    const clientId = `${device}.${place}`
    const login =
      account === undefined ? loginAtGateway(options, clientId) : loginAtBroker(device, account, place)
    const client = mqtt.connect({
      ...mqttTransportOf(gateway),
      clientId,
      ...login,
      clean: true,
      keepalive: 30,
      reconnectPeriod: reconnects ? reconnectPeriodMs : 0,
      connectTimeout: timeoutMs,
    })
    const presence = account === undefined ? undefined : new PresenceTeller(client, device, place)
    const connection = new MqttConnection(client, timeoutMs, presence)
    client.on('reconnect', () => {
      if (account === undefined) client.options.password = makeCredentials(options, clientId).password
    })
    await connection.#opened(reconnects)
    return connection
  }

  /** Resolves, with the reason, when the connection is over for good. */
  get ended(): Promise<MoteError> {
    return this.#ended.promise
  }

  async #opened(reconnects: boolean): Promise<void> {
    const { promise, resolve, reject } = Promise.withResolvers<void>()
    let connected = false
    this.#client.on('connect', () => {
      connected = true
      resolve()
    })
    this.#client.on('error', error => {
      const failure = connectionFailure(error)
      if (failure.code === 'not-authorised' || !connected) this.#end(failure)
      reject(failure)
    })
    if (!reconnects)
      this.#client.on('close', () => {
        const broken = new MoteError('unreachable', 'gateway: the connection broke')
        this.#end(broken)
        reject(broken)
      })
    await this.#within(promise, 'connection').catch((failure: MoteError) => {
      if (!connected) this.#end(failure)
      throw failure
    })
  }

  #end(reason: MoteError): void {
    this.#ended.resolve(reason)
    this.#client.end(true)
  }

  /** Calls `listener` for every message, in order; returns how to stop that. */
  onMessage(listener: (message: ReceivedMessage) => void): () => void {
    this.#listeners.add(listener)
    return () => this.#listeners.delete(listener)
  }

  /** Resolves when the gateway has granted the subscription. Throws `not-authorised`, `timeout`, `unreachable`. */
  async subscribe(topicFilter: string): Promise<void> {
    const deadline = new Deadline(this.#timeoutMs)
    await this.#within(this.#granted(topicFilter, deadline), 'SUBACK', deadline)
    this.#presence?.subscribed(topicFilter)
  }

  /** Asked for on the next connection if this one ends before the answer: Mosquitto cuts whoever gets another right. */
  async #granted(topicFilter: string, deadline: Deadline): Promise<void> {
    for (let resubscribe = false; ; resubscribe = true)
      try {
        // Without `resubscribe` mqtt.js calls one granted that it has asked for before, whatever came of that.
        await this.#client.subscribeAsync(
          Object.assign({ [topicFilter]: { qos: 1 as const } }, { resubscribe }),
        )
        return
      } catch (error) {
        const name = `subscription to ${topicFilter}`
        // mqtt.js calls a return code of 128 (section 3.9.3) an error, and hands the packet on with it.
        if (isSubackFailure(error)) throw new MoteError('not-authorised', `${name}: refused`)
        const { disconnecting, options } = this.#client
        if (disconnecting || options.reconnectPeriod === 0 || deadline.isOver)
          throw new MoteError('unreachable', `${name}: ${(error as Error).message}`)
      }
  }

  /**
   * Publishes; and where the acknowledgement is a broker's, which says nothing of the gateway, the same again now and then until there is
   * an answer. A refusal that may pass later is not acknowledged by a gateway: the answer comes, the acknowledgement does not.
   */
  publishUntil(answer: Promise<unknown>, topicName: string, payload: Uint8Array): void {
    const publish = () => void this.publish(topicName, payload).catch(() => {})
    publish()
    if (!this.#presence) return
    const answered = new AbortController()
    void repeatUntil(answered.signal, publish)
    answer.catch(() => {}).finally(() => answered.abort())
  }

  /** Resolves when the gateway has acknowledged, or a broker that others wrote. */
  async publish(topic: string, payload: Uint8Array): Promise<void> {
    const topicName = this.#presence ? shardedTopic(topic, this.#presence.device) : topic
    await this.#within(this.#client.publishAsync(topicName, Buffer.from(payload), { qos: 1 }), 'PUBACK')
  }

  async close(): Promise<void> {
    this.#ended.resolve(new MoteError('interrupted', 'connection: closed by this program'))
    await this.#client.endAsync(true)
  }

  #within<T>(step: Promise<T>, what: string, deadline = new Deadline(this.#timeoutMs)): Promise<T> {
    const late = () => new MoteError('timeout', `gateway: no ${what} within ${this.#timeoutMs} ms`)
    return deadline.within(step, late)
  }
}

/** Tells a gateway that sees no connections of this one: that it is there, again after each reconnection, and whether it listens. */
class PresenceTeller {
  readonly device: DeviceId
  readonly #client: MqttClient
  readonly #topic: string
  #presence: Presence = 'connected'

  constructor(client: MqttClient, device: DeviceId, place: string) {
    this.device = device
    this.#client = client
    this.#topic = presenceTopic(device, place)
    // After mqtt.js has sent its subscriptions again, which it does as soon as it is connected.
    client.on('connect', () => this.#tell())
  }

  subscribed(topicFilter: string): void {
    if (topicFilter !== filters.toDevice(this.device)) return
    this.#presence = 'listening'
    this.#tell()
  }

  #tell(): void {
    const payload = Buffer.from(encodePresence(this.#presence))
    this.#client.publish(this.#topic, payload, { qos: 1, retain: true }, () => {})
  }
}

/** A gateway that is away, or slow, has to decide on every repeat when it is back. */
async function repeatUntil(signal: AbortSignal, step: () => void): Promise<void> {
  for (let delayMs = repeatAfterMs; ; delayMs *= 2) {
    await pause(delayMs, signal)
    if (signal.aborted) return
    step()
  }
}

type LoginOptions = Pick<IClientOptions, 'username' | 'password' | 'protocolVersion' | 'properties' | 'will'>

function loginAtGateway(options: ConnectionOptions, clientId: string): LoginOptions {
  const { username, password } = makeCredentials(options, clientId)
  return { username, password, protocolVersion: 4 }
}

/** Its will says that it is gone; it comes too when this program ends the connection, which it does without DISCONNECT. */
function loginAtBroker(device: DeviceId, password: string, place: string): LoginOptions {
  const payload = Buffer.from(encodePresence('gone'))
  return {
    username: device,
    password,
    protocolVersion: 5,
    properties: { sessionExpiryInterval: 0 },
    will: { topic: presenceTopic(device, place), payload, qos: 1, retain: true },
  }
}

function isSubackFailure(error: unknown): boolean {
  const { packet } = error as { readonly packet?: { readonly cmd?: unknown } }
  return packet?.cmd === 'suback'
}

function connectionFailure(error: Error): MoteError {
  const { code } = error as { readonly code?: unknown }
  if (finalReturnCodes.includes(code)) return new MoteError('not-authorised', `gateway: ${error.message}`)
  if (code !== unavailableReturnCode)
    return new MoteError('unreachable', `gateway: ${tlsFailure(error) ?? error.message}`)
  return new MoteError(
    'not-ready',
    'gateway: takes nobody now: its trust data is older than trustTtl, the chain out of its reach, or it is overloaded',
  )
}
