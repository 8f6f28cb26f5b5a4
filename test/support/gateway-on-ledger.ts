/**
 * The gateway and agents on a real ledger: real transactions, certificates and proofs through the header follower and verified
 * reads, on a real MQTT wire. Only Raft, storage and the network between nodes are left out (test-chain.ts).
 */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { DeviceId, GroupId } from '../../chain/brands.ts'
import type { TopicOpening } from '../../chain/open-topics.ts'
import { ChainClient } from '../../client/chain-client.ts'
import { addMembers, createGroup } from '../../client/group-actions.ts'
import type { IdentityKeys } from '../../client/key-directory.ts'
import { nativeVerifier } from '../../client/native-crypto.ts'
import { DeviceAgent } from '../../mqtt-gateway/device/agent.ts'
import { agentChain } from '../../mqtt-gateway/device/agent-chain.ts'
import { chainTrust } from '../../mqtt-gateway/protocol/chain-trust.ts'
import type { DecisionLine } from '../../mqtt-gateway/protocol/decision-log.ts'
import { aedesBroker } from '../../mqtt-gateway/server/aedes-broker.ts'
import { fileBoxStore } from '../../mqtt-gateway/server/boxes.ts'
import type { BrokerAddress } from '../../mqtt-gateway/server/broker.ts'
import { Gateway } from '../../mqtt-gateway/server/gateway.ts'
import { testLimits, until } from './gateway-fixture.ts'
import { TestChain, type TestSource } from './test-chain.ts'

const trustTtlMs = 60_000

/** An agent that listens, its own view of the chain, and what it has read. */
export interface ListeningAgent {
  readonly keys: IdentityKeys
  readonly agent: DeviceAgent
  readonly client: ChainClient
  readonly texts: string[]
}

export class GatewayOnLedger {
  readonly chain: TestChain
  /** The full node of the gateway. */
  readonly source: TestSource
  readonly directory: string
  gateway!: Gateway
  address!: BrokerAddress
  decisions: DecisionLine[] = []
  readonly #closing: (() => Promise<unknown>)[] = []

  private constructor(chain: TestChain, directory: string) {
    this.chain = chain
    this.directory = directory
    this.source = chain.source('full node of the gateway')
  }

  /** @param devices names of devices that are on the chain from the genesis on */
  static async start(devices: readonly string[]): Promise<GatewayOnLedger> {
    // Blocks of the test chain are a second apart: some room before its time passes the clock's.
    const chain = new TestChain({ devices, startTime: Date.now() - 45_000 })
    chain.append()
    const network = new GatewayOnLedger(chain, await mkdtemp(join(tmpdir(), 'mote-gateway-')))
    await network.startGateway()
    return network
  }

  async startGateway(): Promise<void> {
    const client = await this.#follow(this.source)
    this.decisions = []
    this.gateway = new Gateway({
      trust: chainTrust(client.records, client.pool),
      verifier: nativeVerifier,
      broker: aedesBroker({ host: '127.0.0.1', port: 0 }, testLimits),
      boxes: await fileBoxStore(join(this.directory, 'boxes')),
      log: { write: line => this.decisions.push(line), close: async () => {} },
      trustTtlMs,
      onError: error => {
        throw error
      },
    })
    this.address = await this.gateway.start()
  }

  async stop(): Promise<void> {
    await Promise.all(this.#closing.map(close => close()))
    await this.gateway.stop()
    await rm(this.directory, { recursive: true, force: true, maxRetries: 5 })
  }

  /** What is closed before the gateway is. */
  closeFirst(close: () => Promise<unknown>): void {
    this.#closing.push(close)
  }

  /** @param gateway where it connects, if not to the gateway itself */
  async agent(keys: IdentityKeys, gateway: BrokerAddress = this.address): Promise<ListeningAgent> {
    const client = await this.#follow(this.chain.source(`full node of ${keys.name}`))
    const agent = await DeviceAgent.connect({
      keys,
      chain: agentChain(client, keys),
      gateway,
      stateDirectory: join(this.directory, keys.name),
      trustTtlMs,
    })
    this.closeFirst(() => agent.close())
    const texts: string[] = []
    await agent.listen({ message: ({ content }) => void texts.push(new TextDecoder().decode(content)) })
    return { keys, agent, client, texts }
  }

  /** A group of this owner with these members, or with `topic` an open topic, and its first key. */
  async makeGroup(
    { keys, client, agent }: ListeningAgent,
    name: string,
    { members, topic }: { readonly members: readonly DeviceId[]; readonly topic?: TopicOpening },
  ): Promise<GroupId> {
    const { value } = await createGroup(client, keys, name, { topic })
    const { id } = value.record
    await addMembers(client, keys, { group: id, devices: members })
    await agent.rekey(id)
    return id
  }

  /** Resolves when the gateway knows what the chain has. */
  async followed(): Promise<void> {
    await until(() => this.gateway.status().height === this.chain.height, 'the gateway knows of it')
  }

  /** A client of its own for each program, kept fresh as in a real one. */
  async #follow(source: TestSource): Promise<ChainClient> {
    const client = await ChainClient.open({
      sources: [source],
      checkpoint: this.chain.checkpoint,
      waitMs: 500,
    })
    await client.follower.sync()
    const stopping = new AbortController()
    const run = client.follower.run(stopping.signal)
    this.closeFirst(() => {
      stopping.abort()
      return run
    })
    return client
  }
}
