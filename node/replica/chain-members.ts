/**
 * Who else keeps this chain: the members of the Raft configuration in force, and the peers of this node's own configuration.
 * Only they are heard, and only they may ask `/mote/member/1`.
 *
 * Beside them, at a leader: members that were removed and are still told so (consensus/departing.ts). Of them nothing is
 * taken but Raft messages, whose answers show that they know it; they may ask for the witness, without which they hear no
 * leader that is new to them (member-desk.ts), and for nothing else.
 */
import type { DeviceId } from '../../chain/brands.ts'
import type { Configuration } from '../../consensus/types.ts'
import { memberRequests } from '../network/request-table.ts'
import type { PeerMessage } from '../ports.ts'

export interface ChainMembersParts {
  readonly id: DeviceId
  /** Of this node's configuration. */
  readonly peers: readonly DeviceId[]
  /** In force: another object after each change. */
  readonly configuration: () => Configuration
}

export class ChainMembers {
  readonly #parts: ChainMembersParts
  #known: { readonly configuration: Configuration; readonly others: ReadonlySet<string> } | undefined
  #departing: ReadonlySet<string> = new Set()

  constructor(parts: ChainMembersParts) {
    this.#parts = parts
  }

  /** Everybody else who keeps this chain. */
  get others(): ReadonlySet<string> {
    const { id, peers, configuration: inForce } = this.#parts
    const configuration = inForce()
    if (this.#known?.configuration !== configuration) {
      const { voters, votersOutgoing, learners } = configuration
      const others = new Set<string>([...voters, ...votersOutgoing, ...learners, ...peers])
      others.delete(id)
      this.#known = { configuration, others }
    }
    return this.#known.others
  }

  /** These were removed and are still told so, and nobody else. */
  departing(members: readonly string[]): void {
    this.#departing = new Set(members)
  }

  isDeparting(id: DeviceId): boolean {
    return this.#departing.has(id)
  }

  hears(from: DeviceId, type: PeerMessage['type']): boolean {
    return this.others.has(from) || (type === 'raft' && this.#departing.has(from))
  }

  mayAsk(id: DeviceId, request: string): boolean {
    return this.others.has(id) || (request === memberRequests.witness.name && this.#departing.has(id))
  }
}
