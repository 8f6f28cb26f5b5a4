/** A chain of one process, a real Mosquitto with the accounts that this chain says, and gateways beside it. */
import { randomBytes } from 'node:crypto'
import { type IdentityKeys, makeKeys } from '../../client/key-directory.ts'
import { AttachedGateway } from '../../mqtt-gateway/attach.ts'
import { noPlainTopics } from '../../mqtt-gateway/protocol/plain-topics.ts'
import { allShards, type Shard } from '../../mqtt-gateway/protocol/sharded-topics.ts'
import { gatewayLogins } from '../../mqtt-gateway/server/gateway-logins.ts'
import type { MosquittoTls } from '../../mqtt-gateway/server/mosquitto-files.ts'
import { type FixtureOptions, GatewayFixture } from './gateway-fixture.ts'
import { MemoryTrust } from './memory-trust.ts'
import { Mosquitto } from './mosquitto.ts'

/** A gateway, and what it told its log. */
export interface AttachedUnderTest {
  readonly fixture: GatewayFixture
  readonly edge: AttachedGateway
  readonly logged: readonly string[]
  /** Ends it; the agents of its fixture stay. */
  stopGateway(): Promise<void>
}

export class AttachedFixture {
  readonly trust: MemoryTrust
  readonly mosquitto: Mosquitto
  /** Of every gateway here: they share an identity. */
  readonly keys: IdentityKeys
  readonly #running = new Set<AttachedUnderTest>()

  private constructor(trust: MemoryTrust, mosquitto: Mosquitto, keys: IdentityKeys) {
    this.trust = trust
    this.mosquitto = mosquitto
    this.keys = keys
  }

  static async start(tls?: MosquittoTls): Promise<AttachedFixture> {
    const [trust, keys] = [new MemoryTrust(), makeKeys('gateway')]
    trust.register(keys)
    const mosquitto = await Mosquitto.start([], gatewayLogins(trust.chainId, keys), tls)
    return new AttachedFixture(trust, mosquitto, keys)
  }

  async gateway(
    shards: readonly Shard[] = allShards,
    more: Omit<FixtureOptions, 'trust' | 'attached'> = {},
    ca?: string,
  ): Promise<AttachedUnderTest> {
    const logged: string[] = []
    const say = (fields: object, text: string) => void logged.push(`${text} ${JSON.stringify(fields)}`)
    const edge = new AttachedGateway({
      edge: { address: this.mosquitto.address, shards, accounts: 'mosquitto' },
      ca,
      keys: this.keys,
      devicePage: () => this.trust.devicePage(),
      trust: this.trust,
      plain: more.records?.plain ?? noPlainTopics,
      storeId: randomBytes(8).toString('hex'),
      queuedPerDevice: 500,
      log: { debug: say, info: say, warn: say } as never,
    })
    await edge.start()
    const { trust } = this
    const attached = { factory: edge.factory, gateway: this.keys.id }
    const fixture = await GatewayFixture.start({}, { ...more, trust, attached })
    const running: AttachedUnderTest = {
      fixture,
      edge,
      logged,
      stopGateway: async () => {
        await fixture.stopGateway()
        await edge.stop()
      },
    }
    this.#running.add(running)
    return running
  }

  async stop(): Promise<void> {
    for (const { fixture, edge } of this.#running) {
      await fixture.stop()
      await edge.stop()
    }
    await this.mosquitto[Symbol.asyncDispose]()
  }
}
