/**
 * A device's connection to the gateway: mqtt.js with a fresh assertion for every attempt, since each is good for one.
 *
 * A connection that breaks is opened again, and its subscriptions with it, unless the gateway said that the device may
 * not connect, or whoever uses it opens another one by itself: then `ended` tells why. Messages come out in the order in
 * which they arrived.
 */

import { randomBytes } from 'node:crypto'
import mqtt, { type MqttClient } from 'mqtt'
import type { ChainId, DeviceId, Milliseconds } from '../../chain/brands.ts'
import type { Signer } from '../../chain/keys.ts'
import { MoteError } from '../../chain/result.ts'
import { Deadline } from '../../client/deadline.ts'
import { makeAssertion } from '../protocol/assertion.ts'

/** Where the gateway's MQTT listens. */
export interface GatewayAddress {
  readonly host: string
  readonly port: number
}

export interface ConnectionOptions {
  readonly gateway: GatewayAddress
  readonly chainId: ChainId
  readonly device: DeviceId
  readonly signer: Signer
  readonly now: () => Milliseconds
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
/** CONNACK return codes 4 and 5: the same attempt would be refused again (MQTT 3.1.1, section 3.2.2.3). */
const finalReturnCodes: readonly unknown[] = [4, 5]
/** CONNACK return code "server unavailable": the gateway is there, and takes nobody now. */
const unavailableReturnCode = 3

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

  private constructor(client: MqttClient, timeoutMs: number) {
    this.#client = client
    this.#timeoutMs = timeoutMs
    client.on('message', (topicName, payload) => {
      const message = { topicName, payload: Uint8Array.from(payload) }
      for (const listener of this.#listeners) listener(message)
    })
  }

  /** Resolves when the gateway has accepted the device. Throws `not-authorised`, `not-ready`, `unreachable`, `timeout`. */
  static async open(options: ConnectionOptions): Promise<MqttConnection> {
    const { gateway, timeoutMs, device, reconnects = true } = options
    // Several connections of one device must not end each other [MQTT-3.1.4-2].
    const clientId = `${device}.${randomBytes(6).toString('hex')}`
    const { username, password } = makeCredentials(options, clientId)
    const client = mqtt.connect({
      ...gateway,
      clientId,
      username,
      password,
      protocolVersion: 4,
      clean: true,
      keepalive: 30,
      reconnectPeriod: reconnects ? reconnectPeriodMs : 0,
      connectTimeout: timeoutMs,
    })
    const connection = new MqttConnection(client, timeoutMs)
    client.on('reconnect', () => {
      client.options.password = makeCredentials(options, clientId).password
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

  /** Resolves when the gateway has granted the subscription. Throws `not-authorised`. */
  async subscribe(topicFilter: string): Promise<void> {
    const subscription = this.#client.subscribeAsync(topicFilter, { qos: 1 }).catch((error: unknown) => {
      // mqtt.js calls a return code of 128 (section 3.9.3) an error, and hands the packet on with it.
      if (!isSubackFailure(error)) throw error
      throw new MoteError('not-authorised', `subscription to ${topicFilter}: refused`)
    })
    await this.#within(subscription, 'SUBACK')
  }

  /** Resolves when the gateway has acknowledged. */
  async publish(topicName: string, payload: Uint8Array): Promise<void> {
    await this.#within(this.#client.publishAsync(topicName, Buffer.from(payload), { qos: 1 }), 'PUBACK')
  }

  async close(): Promise<void> {
    this.#ended.resolve(new MoteError('interrupted', 'connection: closed by this program'))
    await this.#client.endAsync(true)
  }

  #within<T>(step: Promise<T>, what: string): Promise<T> {
    const late = () => new MoteError('timeout', `gateway: no ${what} within ${this.#timeoutMs} ms`)
    return new Deadline(this.#timeoutMs).within(step, late)
  }
}

function isSubackFailure(error: unknown): boolean {
  const { packet } = error as { readonly packet?: { readonly cmd?: unknown } }
  return packet?.cmd === 'suback'
}

function connectionFailure(error: Error): MoteError {
  const { code } = error as { readonly code?: unknown }
  if (finalReturnCodes.includes(code)) return new MoteError('not-authorised', `gateway: ${error.message}`)
  if (code !== unavailableReturnCode) return new MoteError('unreachable', `gateway: ${error.message}`)
  return new MoteError(
    'not-ready',
    'gateway: takes nobody now: its trust data is older than trustTtl, the chain out of its reach, or it is overloaded',
  )
}
