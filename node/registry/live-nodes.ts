/**
 * Full nodes that live, and which of them serves a lightweight node (Qiu A3, A4): the heartbeat that a full node sends
 * (`RegistryHeartbeat`), the registry that a coordination node keeps of them (`LiveNodes`), and rendezvous hashing over
 * those that live (`assign`).
 *
 * A node is dead when its heartbeats stop for `silenceMs`, or as soon as its last connection is lost: a killed process
 * closes its sockets, a cut cable does not. It lives again with its next heartbeat. Heartbeats are advice, not proof:
 * that the sender is an active full node, the caller has verified.
 */
import { hexToBytes } from '@noble/hashes/utils.js'
import { type DeviceId, Height, Milliseconds } from '../../chain/brands.ts'
import { hashHex } from '../../chain/hashing.ts'
import type { NodeStatus } from '../../client/chain-source.ts'
import type { NodeAddress } from '../../client/join-messages.ts'
import { type Heartbeat, registryReports } from '../network/request-table.ts'
import { ask } from '../network/requests.ts'
import type { Clock, Network } from '../ports.ts'

export interface LiveNode extends NodeAddress {
  readonly heartbeat: Heartbeat
  /** When the heartbeat arrived, by this node's steady clock. */
  readonly at: number
}

/** Full nodes beat every second; three missed ones are a death. */
export const heartbeatEveryMs = 1_000
const defaultSilenceMs = 3 * heartbeatEveryMs

export class LiveNodes {
  readonly #clock: Clock
  readonly #silenceMs: number
  readonly #nodes = new Map<DeviceId, LiveNode>()

  constructor(clock: Clock, silenceMs = defaultSilenceMs) {
    this.#clock = clock
    this.#silenceMs = silenceMs
  }

  /** Takes a heartbeat. True if the node was not alive before. */
  beat(id: DeviceId, heartbeat: Heartbeat): boolean {
    const { api, addresses, signed } = heartbeat
    const isNew = !this.#nodes.has(id)
    this.#nodes.set(id, { id, api, addresses, signed, heartbeat, at: this.#clock.steady() })
    return isNew
  }

  /** Forgets a node whose connection is gone, or whose identity is not active any more. True if it was alive. */
  remove(id: DeviceId): boolean {
    return this.#nodes.delete(id)
  }

  /** Forgets nodes that were silent for too long, and names them. */
  expire(): readonly DeviceId[] {
    const oldest = this.#clock.steady() - this.#silenceMs
    const silent = [...this.#nodes.values()].filter(node => node.at < oldest).map(node => node.id)
    for (const id of silent) this.#nodes.delete(id)
    return silent
  }

  /** Those that live, sorted by id. */
  all(): readonly LiveNode[] {
    return [...this.#nodes.values()].sort((a, b) => (a.id < b.id ? -1 : 1))
  }
}

/*
 * The sending end: a full node tells every coordination node that it knows, from its configuration or by a signed address,
 * that it lives. Lost beats are not repeated.
 */

export interface RegistryHeartbeatParts {
  readonly network: Pick<Network, 'request' | 'peers'>
  readonly clock: Clock
  /** Those to be told now. */
  readonly coordination: () => Iterable<DeviceId>
  readonly status: () => NodeStatus
  /** Signs where this node is reached. */
  readonly sign: (where: { readonly api: string; readonly addresses: readonly string[] }) => Uint8Array
  /** Lightweight nodes connected now. */
  readonly clients: () => number
}

/** Lightweight nodes that one full node is willing to serve; advice to coordination nodes. */
const maxClients = 1_000

export class RegistryHeartbeat {
  readonly #parts: RegistryHeartbeatParts
  #cancel: (() => void) | undefined

  constructor(parts: RegistryHeartbeatParts) {
    this.#parts = parts
  }

  start(): void {
    this.#beat()
    this.#cancel = this.#parts.clock.after(heartbeatEveryMs, () => this.start())
  }

  stop(): void {
    this.#cancel?.()
  }

  #beat(): void {
    const { network, clock, coordination, status, sign, clients } = this.#parts
    const connected = new Set(
      network
        .peers()
        .filter(peer => peer.state === 'connected')
        .map(peer => peer.id),
    )
    const { addresses, api, height, certifiedHeight } = status()
    const beat: Heartbeat = {
      addresses: addresses.slice(0, 8),
      api,
      height: Height(height),
      certifiedHeight: Height(certifiedHeight),
      signed: sign({ api, addresses }),
      clients: clients(),
      maxClients,
      time: Milliseconds(clock.wall()),
    }
    for (const id of coordination())
      if (connected.has(id))
        ask(network, id, registryReports.heartbeat, beat, heartbeatEveryMs).catch(() => {
          // The next beat says the same.
        })
  }
}

/*
 * Which full node serves a lightweight node, and who takes over: rendezvous hashing. Each full node scores `hash(device, node)`; the highest score serves, the next ones are backups. So every
 * coordination node gives the same answer from the same live set without asking the others, the device can check it,
 * load spreads evenly, and when a node dies only the devices it served move: each to the backup it knew already.
 */

/** Backups that are named beside the serving full node. */
const backupCount = 2

/** The full nodes in the order in which they serve `device`. */
export function rendezvousOrder<N extends { readonly id: DeviceId }>(
  device: DeviceId,
  fullNodes: Iterable<N>,
): readonly N[] {
  const score = (node: N) => hashHex('mote/assignment/1', hexToBytes(device), hexToBytes(node.id))
  return [...fullNodes]
    .map(node => ({ node, score: score(node) }))
    .sort((a, b) => (a.score > b.score ? -1 : 1))
    .map(({ node }) => node)
}

/** Who serves `device` and who takes over; undefined if there is no live full node. */
export function assign<N extends { readonly id: DeviceId }>(
  device: DeviceId,
  live: Iterable<N>,
): { readonly fullNode: N; readonly backups: readonly N[] } | undefined {
  const [fullNode, ...others] = rendezvousOrder(device, live)
  return fullNode && { fullNode, backups: others.slice(0, backupCount) }
}
