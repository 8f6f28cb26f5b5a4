/**
 * A real gateway on loopback, real aedes and real mqtt.js, with a chain of one process behind the trust port: what
 * the tests of the gateway's own behaviour run on.
 */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import mqtt, { type IClientOptions, type MqttClient } from 'mqtt'
import type { DeviceId, Milliseconds } from '../../chain/brands.ts'
import type { Signer } from '../../chain/keys.ts'
import { nobleVerifier } from '../../chain/noble-crypto.ts'
import { type IdentityKeys, makeKeys, signerOf } from '../../client/key-directory.ts'
import { type AgentOptions, DeviceAgent } from '../../mqtt-gateway/device/agent.ts'
import type { DeliveredMessage } from '../../mqtt-gateway/device/listener.ts'
import { type Credentials, makeCredentials } from '../../mqtt-gateway/device/mqtt-connection.ts'
import { maxContentBytes } from '../../mqtt-gateway/protocol/content.ts'
import type { DecisionLine } from '../../mqtt-gateway/protocol/decision-log.ts'
import { filters, topics } from '../../mqtt-gateway/protocol/topics.ts'
import { type AedesLimits, aedesBroker } from '../../mqtt-gateway/server/aedes-broker.ts'
import { memoryBoxStore } from '../../mqtt-gateway/server/boxes.ts'
import type { BrokerFactory, Listening } from '../../mqtt-gateway/server/broker.ts'
import { Gateway, type GatewayOptions } from '../../mqtt-gateway/server/gateway.ts'
import type { SecureListener } from '../../mqtt-gateway/server/listeners.ts'
import { MemoryTrust } from './memory-trust.ts'

/** Text as an agent sends it. */
export const sentText = (content: string) => ({ content: new TextEncoder().encode(content) })

export const testLimits: AedesLimits = {
  packetBytesMax: 1024 * 1024 + 2048,
  connectionsMax: 32,
  unproven: { all: 40, perAddress: 20 },
  subscriptionsPerClientMax: 8,
  input: { messages: 500, bytes: 16 * 1024 * 1024 },
  rate: { messagesPerSecond: 100_000, bytesPerSecond: 1024 * 1024 * 1024 },
  keepAliveSecondsMax: 600,
  connectTimeoutMs: 1_000,
  outgoing: { messages: 2_000, bytes: 16 * 1024 * 1024, bytesInAll: 32 * 1024 * 1024, stalledMs: 2_000 },
}

const host = '127.0.0.1'

/** A message as an independent client sees it. */
export interface SeenMessage {
  readonly topic: string
  readonly payload: Buffer
}

export interface FixtureOptions
  extends Partial<
    Pick<GatewayOptions, 'refusedSummaryMs' | 'mailboxes' | 'redeliverMs' | 'boxes' | 'records'>
  > {
  readonly secure?: SecureListener
  readonly trust?: MemoryTrust
  /** A broker that others wrote in place of the embedded one, and the gateway beside it. */
  readonly attached?: { readonly factory: BrokerFactory; readonly gateway: DeviceId }
}

export class GatewayFixture {
  readonly trust: MemoryTrust
  readonly decisions: DecisionLine[] = []
  readonly errors: unknown[] = []
  readonly trustTtlMs = 60_000
  readonly #directories: string[] = []
  #isStopped = false
  readonly #closing: (() => Promise<unknown>)[] = []
  address: Listening = { host, port: 0 }
  gateway: Gateway
  readonly #limits: Partial<AedesLimits>
  readonly #more: FixtureOptions

  private constructor(limits: Partial<AedesLimits>, more: FixtureOptions) {
    this.trust = more.trust ?? new MemoryTrust()
    this.#limits = limits
    this.#more = more
    this.gateway = this.#make()
  }

  #make(): Gateway {
    const { attached, secure, trust: _, ...more } = this.#more
    return new Gateway({
      trust: this.trust,
      verifier: nobleVerifier,
      broker:
        attached?.factory ??
        aedesBroker({ host, port: this.address.port, secure }, { ...testLimits, ...this.#limits }),
      boxes: memoryBoxStore(),
      log: { write: line => this.decisions.push(line), close: async () => {} },
      trustTtlMs: this.trustTtlMs,
      onError: error => this.errors.push(error),
      catchUpMs: 200,
      ...more,
    })
  }

  /** Starts another gateway at the same address, once `gateway.stop()` has ended the first: it remembers nothing but the chain. */
  async startAgain(): Promise<void> {
    this.gateway = this.#make()
    await this.gateway.start()
  }

  static async start(limits: Partial<AedesLimits> = {}, more: FixtureOptions = {}): Promise<GatewayFixture> {
    const fixture = new GatewayFixture(limits, more)
    fixture.address = await fixture.gateway.start()
    return fixture
  }

  /** Ends the gateway alone: agents and clients stay. */
  async stopGateway(): Promise<void> {
    await this.gateway.stop()
    this.#isStopped = true
  }

  async stop(): Promise<void> {
    await Promise.all(this.#closing.map(close => close()))
    if (!this.#isStopped) await this.stopGateway()
    await Promise.all(
      this.#directories.map(directory => rm(directory, { recursive: true, force: true, maxRetries: 5 })),
    )
  }

  /** Keys of a device that the chain knows. */
  device(name: string, keys: IdentityKeys = makeKeys(name)): IdentityKeys {
    this.trust.register(keys)
    return keys
  }

  async stateDirectory(): Promise<string> {
    const directory = await mkdtemp(join(tmpdir(), 'mote-agent-'))
    this.#directories.push(directory)
    return directory
  }

  async agent(
    keys: IdentityKeys,
    stateDirectory?: string,
    more: Partial<AgentOptions> = {},
  ): Promise<DeviceAgent> {
    const agent = await DeviceAgent.connect({
      keys,
      chain: this.trust,
      gateway: { ...this.address, brokerOf: this.#more.attached?.gateway },
      stateDirectory: stateDirectory ?? (await this.stateDirectory()),
      timeoutMs: 5_000,
      trustTtlMs: this.trustTtlMs,
      ...more,
    })
    this.#closing.push(() => agent.close())
    return agent
  }

  /** @param signer who signs them: the device itself, unless a test forges them */
  credentials(keys: IdentityKeys, signer: Signer = signerOf(keys)): Credentials {
    return makeCredentials({
      chainId: this.trust.chainId,
      device: keys.id,
      signer,
      now: () => Date.now() as Milliseconds,
    })
  }

  /** An mqtt.js client that has nothing of ours but the credentials. Rejects when the gateway refuses. */
  async client(credentials: Partial<Credentials>, options: IClientOptions = {}): Promise<MqttClient> {
    const { expiresAt: _, ...login } = credentials
    const client = await mqtt.connectAsync({
      ...this.address,
      ...login,
      protocolVersion: 4,
      reconnectPeriod: 0,
      connectTimeout: 20_000,
      ...options,
    })
    client.on('error', () => {})
    this.#closing.push(() => client.endAsync(true))
    return client
  }

  /** Everything that is delivered to anybody, and what the gateway tells a client with these keys, which gets the right to observe. */
  async observe(keys: IdentityKeys): Promise<SeenMessage[]> {
    this.trust.setRights(keys.id, { observe: true })
    const client = await this.client(this.credentials(keys))
    return this.subscribed(client, filters.anyDelivery, topics.verdict(keys.id), topics.error(keys.id))
  }

  /** What a client gets on these filters, from now on. */
  async subscribed(client: MqttClient, ...topicFilters: readonly string[]): Promise<SeenMessage[]> {
    const seen: SeenMessage[] = []
    client.on('message', (topic, payload) => seen.push({ topic, payload }))
    await client.subscribeAsync([...topicFilters], { qos: 1 })
    return seen
  }
}

/** Waits until `condition` gives something, looking again after each turn of the event loop. */
export async function until<T>(
  condition: () => T | undefined | false,
  what: string,
  withinMs = 60_000,
): Promise<T> {
  const deadline = performance.now() + withinMs
  for (;;) {
    const value = condition()
    if (value) return value
    if (performance.now() > deadline) throw new Error(`not within ${withinMs} ms: ${what}`)
    await new Promise(resolve => setTimeout(resolve, 2))
  }
}

/** What an agent has taken, and why it has refused the rest. */
interface Inbox {
  /** Empty in place of what came in chunks. */
  readonly texts: string[]
  readonly messages: DeliveredMessage[]
  readonly refusals: string[]
}

/** Begins to listen. */
export async function listen(agent: DeviceAgent): Promise<Inbox> {
  const inbox: Inbox = { texts: [], messages: [], refusals: [] }
  await agent.listen({
    message: message => {
      inbox.messages.push(message)
      inbox.texts.push(
        message.content.length > maxContentBytes ? '' : new TextDecoder().decode(message.content),
      )
    },
    refused: ({ code }) => inbox.refusals.push(code),
  })
  return inbox
}
