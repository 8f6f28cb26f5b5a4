/**
 * Many devices in one agent process: one disk, one view of the chain, one local MQTT port, on which each device's topics begin with its
 * name (`1111/to/1112`, `1112/from/1111`). For a devnet, a simulator, or a machine that speaks for many small ones.
 */
import { join } from 'node:path'
import { MoteError, type Result, refusalOf, refuse } from '../../chain/result.ts'
import type { IdentityKeys } from '../../client/key-directory.ts'
import { MessageStore } from '../../client/message-store.ts'
import { sideBySide } from '../../client/side-by-side.ts'
import type { AgentChain } from '../device/agent-chain.ts'
import type { GatewayAddress } from '../device/gateway-address.ts'
import {
  type AgentEvent,
  acceptLocal,
  deliverLocal,
  type LocalTraffic,
  Subscriptions,
} from './agent-process.ts'
import { createDeviceClient, type DeviceClient } from './device-client.ts'
import type { LocalMessage } from './local-client.ts'
import { defaultLocalLimits, type LocalAddress, LocalMqtt } from './local-mqtt.ts'
import { type LocalNames, standardRoutes } from './local-routes.ts'
import { StreamRules } from './stream-rules.ts'

export interface FleetOptions {
  readonly devices: readonly IdentityKeys[]
  readonly chainOf: (keys: IdentityKeys) => AgentChain
  /** The keys of a device as they are on the disk now. */
  readonly reloadKeys: (name: string) => Promise<IdentityKeys>
  readonly gateway: GatewayAddress
  /** The state of each device is in a directory of its name in here, the queues of all in `directory`/agents. */
  readonly directory: string
  readonly trustTtlMs: number
  readonly address: LocalAddress
  readonly names: LocalNames
  readonly onEvent: (device: string, event: AgentEvent) => void
  readonly signal: AbortSignal
}

export interface RunningFleet {
  readonly mqtt: LocalAddress
  /** Devices that are connected now. */
  readonly connected: number
  stop(): Promise<void>
}

/** Devices that connect at the same time. */
const connectsAtOnce = 16
/** How long one has for its first connection before the next one begins: it goes on trying by itself. */
const firstConnectionMs = 10_000

/** Resolves when every device has had its turn to connect. Throws `in-use`, `start-failed`, `storage-failed`. */
export async function startFleet(options: FleetOptions): Promise<RunningFleet> {
  const store = await MessageStore.open(join(options.directory, 'agents'))
  const fleet = new Fleet(options, store)
  try {
    const mqtt = await fleet.mqtt.listen()
    await fleet.connectAll()
    return {
      mqtt,
      get connected() {
        return fleet.connected.size
      },
      stop: () => fleet.stop(),
    }
  } catch (error) {
    await fleet.stop()
    throw error
  }
}

interface FleetDevice {
  readonly client: DeviceClient
  readonly local: LocalTraffic
}

class Fleet {
  readonly mqtt: LocalMqtt
  readonly connected = new Set<string>()
  readonly #options: FleetOptions
  readonly #store: MessageStore
  readonly #devices = new Map<string, FleetDevice>()
  readonly #subscriptions = new Subscriptions()

  constructor(options: FleetOptions, store: MessageStore) {
    this.#options = options
    this.#store = store
    this.mqtt = new LocalMqtt({
      address: options.address,
      limits: defaultLocalLimits,
      accept: message => this.#accept(message),
      onSubscribed: () => this.#subscriptions.changed(),
      onRefused: reason => options.onEvent('', { type: 'local', reason }),
    })
  }

  async connectAll(): Promise<void> {
    await sideBySide(this.#options.devices, connectsAtOnce, async keys => {
      if (this.#options.signal.aborted) return
      const client = await this.#open(keys)
      // One that does not come up now goes on by itself.
      await client.connected(firstConnectionMs).catch((error: unknown) => {
        this.#options.onEvent(keys.name, { type: 'local', reason: refusalOf(error) })
      })
    })
    if (this.#options.signal.aborted)
      throw new MoteError('interrupted', 'agents: stopped before all were connected')
  }

  async stop(): Promise<void> {
    await this.mqtt.close()
    await Promise.all([...this.#devices.values()].map(({ client }) => client.close()))
    await this.#store.close()
  }

  async #open(keys: IdentityKeys): Promise<DeviceClient> {
    const { chainOf, reloadKeys, gateway, directory, trustTtlMs, names, onEvent } = this.#options
    const { name } = keys
    const client = await createDeviceClient({
      keys,
      chain: chainOf(keys),
      gateway,
      stateDirectory: join(directory, name),
      store: this.#store,
      identity: async () => {
        const current = await reloadKeys(name)
        return { keys: current, chain: chainOf(current) }
      },
      trustTtlMs,
      onEvent: event => {
        if (event.type === 'connected') this.connected.add(name)
        if (event.type === 'disconnected') this.connected.delete(name)
        onEvent(name, event)
      },
    })
    // Standard routes name no contract.
    const rules = await StreamRules.open({
      store: this.#store,
      prefix: `${keys.id}/`,
      chain: chainOf(keys),
      names,
      named: [],
    })
    const local = {
      routes: standardRoutes,
      names,
      rules,
      onEvent: (event: AgentEvent) => onEvent(name, event),
    }
    this.#devices.set(name, { client, local })
    const ports = { mqtt: this.mqtt, coap: undefined, subscriptions: this.#subscriptions, prefix: `${name}/` }
    client.listen((message, signal) => deliverLocal(local, ports, message, signal))
    return client
  }

  #accept({ topicName, payload }: LocalMessage): Promise<Result<unknown>> {
    const [name = '', ...levels] = topicName.split('/')
    const device = this.#devices.get(name)
    if (!device)
      return Promise.resolve(refuse('topic-not-allowed', 'topic: expected the name of a device first'))
    return acceptLocal(device.local, device.client, { topicName: levels.join('/'), payload })
  }
}
