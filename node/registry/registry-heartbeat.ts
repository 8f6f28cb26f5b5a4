/**
 * A full node tells every coordination node that it knows, from its configuration or by a signed address, that it lives
 * (Qiu A4). Lost beats are not repeated.
 */
import type { DeviceId } from '../../chain/brands.ts'
import { Height, Milliseconds } from '../../chain/brands.ts'
import type { NodeStatus } from '../../client/chain-source.ts'
import { type Heartbeat, registryReports } from '../network/request-table.ts'
import { ask } from '../network/requests.ts'
import type { Clock, Network } from '../ports.ts'
import { heartbeatEveryMs } from './live-nodes.ts'

export interface RegistryHeartbeatParts {
  readonly network: Pick<Network, 'request' | 'peers'>
  readonly clock: Clock
  /** Those to be told now. */
  readonly coordination: () => Iterable<DeviceId>
  readonly status: () => NodeStatus
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
    const { network, clock, coordination, status, clients } = this.#parts
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
