/**
 * Composition root of a lightweight node (seeds.md A2 to A4): keeps headers, verifies every answer, is served by one
 * full node and knows who takes over.
 *
 * Which full node, a coordination node says: when it is asked, and unasked when one has died. That is advice. The node
 * goes on with a backup by itself as soon as its full node is silent, slow or caught lying, and asks for a new
 * assignment then; without any coordination node it goes on with the full nodes of its configuration.
 */
import type { AddressInfo } from 'node:net'
import { setTimeout as pause } from 'node:timers/promises'
import type { DeviceId } from '../chain/brands.ts'
import { MoteError } from '../chain/result.ts'
import { askAssignment, type CoordinationContact } from '../client/join.ts'
import { type Assignment, assignmentCodec } from '../client/join-messages.ts'
import type { Logger } from '../client/log.ts'
import { createApi } from './api.ts'
import type { NodeConfig } from './config.ts'
import type { RunningNode } from './full-node.ts'
import { LightChain } from './light-chain.ts'
import type { Caller } from './ports.ts'
import { relaySource } from './relay-source.ts'
import { decodeRequest } from './wire.ts'

const askTimeoutMs = 3_000
const askRetryMs = 1_000

/** Starts the lightweight node of a configuration. Throws the `MoteError` that says what is in its way. */
export async function startLightweightNode(config: NodeConfig, log: Logger): Promise<RunningNode> {
  const chain = await LightChain.open(config, log)
  const service = new ServingNodes(chain, log)
  chain.network.handle('registry', (caller, body) => service.told(caller, body))
  let api = ''
  const status = () => ({ ...chain.status(api), ...service.status() })
  const app = createApi({
    source: relaySource({ client: chain.client, status }),
    readiness: () => chain.readiness(),
    failure: () => undefined,
    onUnexpected: error => log.error({ error }, 'unexpected error in a request'),
  })
  await chain.start((peer, state) => service.peer(peer, state))
  chain.inBackground('assignment', service.run())
  await app.listen(config.api)
  const { port } = app.server.address() as AddressInfo
  api = `http://${config.api.host}:${port}`
  log.info({ api, height: chain.client.follower.head.header.height }, 'serving')
  const addresses = chain.network.addresses()
  return {
    ready: { name: config.name, id: chain.keys.id, label: config.label, api, addresses, pid: process.pid },
    ended: new Promise(() => {}),
    stop: async () => {
      await app.close()
      await chain.stop()
      log.info('stopped')
    },
  }
}

/** Which full nodes serve this node, in order. */
class ServingNodes {
  readonly #chain: LightChain
  readonly #log: Logger
  #assignment: Assignment | undefined
  #asksNow = () => {}

  constructor(chain: LightChain, log: Logger) {
    this.#chain = chain
    this.#log = log
    this.#use([])
  }

  status(): object {
    const { preferred } = this.#chain.client.pool
    return {
      assignedFullNode: this.#assignment?.fullNode,
      backups: this.#assignment?.backups ?? [],
      servedBy: preferred?.name,
    }
  }

  /** Asks for an assignment, and again whenever the assigned full node is lost, until the node stops. */
  async run(): Promise<void> {
    const { stopping } = this.#chain
    while (!stopping.aborted) {
      const assignment = await this.#ask()
      if (!assignment) {
        await pause(askRetryMs, undefined, { signal: stopping }).catch(() => {})
        continue
      }
      this.#adopt(assignment)
      await this.#untilLost()
    }
  }

  /** A coordination node's word that another full node serves from now on. */
  async told(caller: Caller, body: Uint8Array): Promise<Uint8Array> {
    const { coordination } = this.#chain.config
    if (!coordination.some(({ id }) => id === caller.deviceId))
      throw new MoteError('not-authorised', 'assignment: expected it from a coordination node of this node')
    const assignment = decodeRequest('registry', assignmentCodec, body)
    if (!assignment.ok) throw new MoteError(assignment.error.code, assignment.error.detail)
    this.#adopt(assignment.value)
    return new Uint8Array(0)
  }

  /** A connection came or went. Losing the assigned full node is reason to ask. */
  peer(peer: DeviceId, state: 'connected' | 'disconnected'): void {
    if (state === 'disconnected' && peer === this.#assignment?.fullNode.id) this.#asksNow()
  }

  async #ask(): Promise<Assignment | undefined> {
    const { config, keys, network } = this.#chain
    for (const { id } of config.coordination) {
      const contact: CoordinationContact = {
        name: id,
        exchange: request => network.request(id, 'join', request, askTimeoutMs),
      }
      try {
        return await askAssignment(contact, keys.id)
      } catch (error) {
        this.#log.debug({ coordination: id, error: String(error) }, 'no assignment')
      }
    }
    return undefined
  }

  #untilLost(): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>()
    this.#asksNow = resolve
    this.#chain.stopping.addEventListener('abort', () => resolve(), { once: true })
    return promise
  }

  #adopt(assignment: Assignment): void {
    const before = this.#assignment?.fullNode.id
    this.#assignment = assignment
    for (const { id, addresses } of [assignment.fullNode, ...assignment.backups]) {
      const [address] = addresses
      if (address) this.#chain.network.keep({ id, address })
    }
    this.#use([assignment.fullNode.id, ...assignment.backups.map(({ id }) => id)])
    if (assignment.fullNode.id === before) return
    const backups = assignment.backups.map(({ id }) => id)
    this.#log.info({ fullNode: assignment.fullNode.id, backups }, 'assigned to a full node')
  }

  /** These first, then whoever else the configuration names. */
  #use(ids: readonly DeviceId[]): void {
    const all = new Set([...ids, ...this.#chain.config.peers.map(({ id }) => id)])
    this.#chain.client.pool.replace([...all].map(id => this.#chain.sourceOf(id)))
  }
}
