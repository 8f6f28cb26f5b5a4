/**
 * Which full nodes serve a lightweight node, in order: the assigned one, its backups, then those of the configuration.
 *
 * The assignment is kept on disk, so that a restarted node goes on where it was while no coordination node answers. It is
 * advice: what a full node answers is verified, and whom the advice leaves out is still asked last.
 *
 * Advice is bounded, since a coordination node that lies would have this node dial whom it names: active full nodes alone,
 * where they say by their own signatures, a few of them, and no more often than they can die. What was named before is forgotten.
 */

import type { DeviceId } from '../../chain/brands.ts'
import { decode, encode, equalBytes } from '../../chain/codec.ts'
import { MoteError } from '../../chain/result.ts'
import type { ChainSource } from '../../client/chain-source.ts'
import type { CheckpointStore } from '../../client/checkpoint-file.ts'
import { verifiedAssignment } from '../../client/coordination-address.ts'
import { pause } from '../../client/deadline.ts'
import type { FailoverSource } from '../../client/failover-source.ts'
import { askAssignment, type CoordinationContact } from '../../client/join.ts'
import { type Assignment, assignmentCodec, type NodeAddress } from '../../client/join-messages.ts'
import { OrderedQueue } from '../../client/ordered-queue.ts'
import type { NodeConfig } from '../config.ts'
import type { NetworkLog } from '../network/libp2p-network.ts'
import { type Rate, RateLimit } from '../network/rate-limit.ts'
import { joining } from '../network/request-table.ts'
import { ask } from '../network/requests.ts'
import type { Clock, Network } from '../ports.ts'

/** New assignments that are taken unasked: a rolling restart of all full nodes makes two for each. */
const reassignments: Rate = { burst: 10, perSecond: 0.5 }
const askTimeoutMs = 3_000
const askRetryMs = 1_000

/** What it needs of its node. */
export interface ServingChain {
  readonly keys: { readonly id: DeviceId }
  readonly config: Pick<NodeConfig, 'peers' | 'coordination'>
  readonly client: { readonly pool: Pick<FailoverSource, 'serving' | 'replace'> }
  /** Coordination nodes that full nodes know, their addresses verified. */
  coordinationNodes(): Promise<readonly NodeAddress[]>
  readonly network: Pick<Network, 'keep' | 'forget' | 'peers' | 'request'>
  readonly stopping: AbortSignal
  readonly clock: Clock
  sourceOf(id: DeviceId): ChainSource
  /** Where an active full node says by its signature that it is reached. Throws when its record cannot be proven now. */
  fullNodeAt(signed: Uint8Array): Promise<NodeAddress | undefined>
  inBackground(name: string, task: Promise<unknown>): void
}

export class ServingNodes {
  readonly #chain: ServingChain
  readonly #log: Pick<NetworkLog, 'debug' | 'info'>
  readonly #store: CheckpointStore
  #assignment: Assignment | undefined
  /** Coordination nodes beside the configured ones. */
  #found: readonly NodeAddress[] = []
  #asksNow = () => {}
  readonly #adopting = new OrderedQueue()
  readonly #reassignments: RateLimit

  private constructor(chain: ServingChain, store: CheckpointStore, log: Pick<NetworkLog, 'debug' | 'info'>) {
    this.#chain = chain
    this.#reassignments = new RateLimit(reassignments, chain.clock)
    this.#store = store
    this.#log = log
    this.#use([])
  }

  /** Begins with the assignment of the last run, if one is stored. It is advice, as ever: one that is damaged is not used. */
  static async open(
    chain: ServingChain,
    store: CheckpointStore,
    log: Pick<NetworkLog, 'debug' | 'info'>,
  ): Promise<ServingNodes> {
    const nodes = new ServingNodes(chain, store, log)
    const stored = await store.load()
    const assignment = stored && decode(assignmentCodec, stored)
    if (assignment?.ok) nodes.#take(assignment.value)
    return nodes
  }

  status(): object {
    return {
      assignedFullNode: this.#assignment && shown(this.#assignment.fullNode),
      backups: this.#assignment?.backups.map(shown) ?? [],
      servedBy: this.#servedBy(),
    }
  }

  /** The full node that answered last, if the connection to it stands. */
  #servedBy(): DeviceId | undefined {
    const { client, network } = this.#chain
    const serving = client.pool.serving?.name
    return network.peers().find(({ id, state }) => id === serving && state === 'connected')?.id
  }

  /** Asks for an assignment, and again whenever the assigned full node is lost, until the node stops. */
  async run(): Promise<void> {
    const { stopping } = this.#chain
    while (!stopping.aborted) {
      const assignment = await this.#ask()
      if (!assignment) {
        await pause(askRetryMs, stopping)
        continue
      }
      this.#adopt(assignment)
      await this.#untilLost()
    }
  }

  /** A coordination node's word that another full node serves from now on. */
  async reassigned(from: DeviceId, assignment: Assignment): Promise<void> {
    const { coordination } = this.#chain.config
    if (![...coordination, ...this.#found].some(({ id }) => id === from))
      throw new MoteError('not-authorised', 'assignment: expected it from a coordination node of this node')
    if (!this.#reassignments.take())
      throw new MoteError('rate-limited', `assignment: again in ${this.#reassignments.waitMs()} ms`)
    await this.#adopting.run(async () => this.#adopt(await this.#checked(assignment)))
  }

  #checked(assignment: Assignment): Promise<Assignment> {
    return verifiedAssignment(assignment, signed => this.#chain.fullNodeAt(signed))
  }

  /** A connection came or went. Losing the assigned full node is reason to ask. */
  peer(peer: DeviceId, state: 'connected' | 'disconnected'): void {
    if (state === 'disconnected' && peer === this.#assignment?.fullNode.id) this.#asksNow()
  }

  /** Of the configured coordination nodes, or of those that full nodes know. */
  async #ask(): Promise<Assignment | undefined> {
    const { config } = this.#chain
    return (await this.#askThese(config.coordination)) ?? this.#askThese(await this.#search())
  }

  async #askThese(nodes: readonly { readonly id: DeviceId }[]): Promise<Assignment | undefined> {
    const { keys, network } = this.#chain
    for (const { id } of nodes) {
      const contact: CoordinationContact = {
        name: id,
        exchange: request => ask(network, id, joining.message, request, askTimeoutMs),
      }
      try {
        return await this.#checked(await askAssignment(contact, keys.id))
      } catch (error) {
        this.#log.debug({ coordination: id, error: String(error) }, 'no assignment')
      }
    }
    return undefined
  }

  /** Coordination nodes beside the configured ones; connections to those found before and not now are let go. */
  async #search(): Promise<readonly NodeAddress[]> {
    const { network, config } = this.#chain
    const configured = new Set(config.coordination.map(({ id }) => id))
    const found = (await this.#chain.coordinationNodes()).filter(({ id }) => !configured.has(id))
    for (const { id } of this.#found) if (!found.some(node => node.id === id)) network.forget(id)
    this.#found = found
    for (const { id, addresses } of found) {
      const [address] = addresses
      if (address) network.keep({ id, address })
    }
    return found
  }

  #untilLost(): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>()
    this.#asksNow = resolve
    this.#chain.stopping.addEventListener('abort', () => resolve(), { once: true })
    return promise
  }

  #adopt(assignment: Assignment): void {
    const before = this.#assignment
    this.#take(assignment)
    const bytes = encode(assignmentCodec, assignment)
    if (before && equalBytes(encode(assignmentCodec, before), bytes)) return
    this.#chain.inBackground('keeping the assignment', this.#store.save(bytes))
    if (assignment.fullNode.id === before?.fullNode.id) return
    const backups = assignment.backups.map(({ id }) => id)
    this.#log.info({ fullNode: assignment.fullNode.id, backups }, 'assigned to a full node')
  }

  #take(assignment: Assignment): void {
    const { network, config } = this.#chain
    const named = [assignment.fullNode, ...assignment.backups]
    const wanted = new Set([...named, ...config.peers, ...config.coordination].map(({ id }) => id))
    for (const { id } of this.#assignment ? [this.#assignment.fullNode, ...this.#assignment.backups] : [])
      if (!wanted.has(id)) network.forget(id)
    this.#assignment = assignment
    for (const { id, addresses } of named) {
      const [address] = addresses
      if (address) network.keep({ id, address })
    }
    this.#use(named.map(({ id }) => id))
  }

  /** These first, then whoever else the configuration names. */
  #use(ids: readonly DeviceId[]): void {
    const all = new Set([...ids, ...this.#chain.config.peers.map(({ id }) => id)])
    this.#chain.client.pool.replace([...all].map(id => this.#chain.sourceOf(id)))
  }
}

/** For people. */
function shown({ id, api, addresses }: NodeAddress): object {
  return { id, api, addresses }
}
