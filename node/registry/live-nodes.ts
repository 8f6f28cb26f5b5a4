/**
 * The registry of live full nodes that a coordination node keeps: who beat lately, and where it is reached
 * (Qiu A4).
 *
 * A node is dead when its heartbeats stop for `silenceMs`, or as soon as its last connection is lost: a killed process
 * closes its sockets, a cut cable does not. It lives again with its next heartbeat. Heartbeats are advice, not proof:
 * that the sender is an active full node, the caller has verified.
 */
import type { DeviceId } from '../../chain/brands.ts'
import type { NodeAddress } from '../../client/join-messages.ts'
import type { Heartbeat } from '../network/request-table.ts'
import type { Clock } from '../ports.ts'

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
    const { api, addresses } = heartbeat
    const isNew = !this.#nodes.has(id)
    this.#nodes.set(id, { id, api, addresses, heartbeat, at: this.#clock.steady() })
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
