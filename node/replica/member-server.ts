/**
 * `/mote/member/1`, both ways: answers those who keep this chain (snapshots, reads, what this node remembers of them), and
 * asks each of them once what it remembers of this node (amnesia-check.ts) before Raft may speak with it.
 */
import type { DeviceId } from '../../chain/brands.ts'
import { MoteError } from '../../chain/result.ts'
import type { Certifier } from '../ledger/certifier.ts'
import type { Handovers } from '../ledger/handovers.ts'
import type { MemberGate, Members } from '../ledger/members.ts'
import type { NodeEvents, NodeListener } from '../ledger/node-events.ts'
import type { Snapshots } from '../ledger/snapshots.ts'
import { type AmnesiaEvidence, memberRequests } from '../network/request-table.ts'
import { ask, requestHandler } from '../network/requests.ts'
import type { Clock, Network, Storage } from '../ports.ts'
import { amnesiaEvidenceOf, lostState } from './amnesia-check.ts'
import type { Replica } from './replica.ts'

export interface MemberServerParts {
  readonly network: Network
  readonly storage: Storage
  readonly clock: Clock
  readonly replica: Replica
  readonly certifier: Certifier
  readonly snapshots: Snapshots
  readonly handovers: Pick<Handovers, 'signersAt'>
  readonly incarnation: number
  readonly members: Members
  /** Opened for a peer whose answer speaks not against this node. */
  readonly gate: MemberGate
  /** Gets a fault when a peer remembers more of this node than its directory does. */
  readonly events: Pick<NodeEvents, 'fault'>
}

const askTimeoutMs = 2_000
const askAgainMs = 250

export class MemberServer implements NodeListener {
  readonly #parts: MemberServerParts
  readonly #asking = new Set<DeviceId>()
  #stopped = false

  constructor(parts: MemberServerParts) {
    this.#parts = parts
    const { network, replica, snapshots, members } = parts
    const served = requestHandler(
      memberRequests,
      {
        snapshot: ({ lastIncludedIndex, chunk }, { deviceId }) =>
          snapshots.chunk(deviceId, lastIncludedIndex, chunk),
        amnesiaCheck: (_, { deviceId }) => this.#evidence(deviceId),
        read: async () => ({ index: await replica.readIndex() }),
      },
      ({ deviceId }, { name }) =>
        deviceId !== undefined && members.mayAsk(deviceId, name)
          ? undefined
          : new MoteError('not-authorised', 'member: only those who keep this chain may ask'),
    )
    network.handle('member', served)
  }

  unasked(peer: DeviceId): void {
    if (!this.#asking.has(peer) && !this.#stopped) void this.#ask(peer)
  }

  stop(): void {
    this.#stopped = true
  }

  async #ask(peer: DeviceId): Promise<void> {
    const { network, storage, clock, replica, gate, events } = this.#parts
    this.#asking.add(peer)
    try {
      const evidence = await ask(network, peer, memberRequests.amnesiaCheck, {}, askTimeoutMs)
      const against = await lostState(peer, evidence, { storage, raft: replica.consensus })
      if (this.#stopped) return
      if (against) {
        this.#stopped = true
        events.fault(against)
        return
      }
      this.#asking.delete(peer)
      gate.open(peer)
    } catch {
      // Not connected, or not a member there yet: the next message asks again, but not at once.
      clock.after(askAgainMs, () => this.#asking.delete(peer))
    }
  }

  #evidence(id: DeviceId): Promise<AmnesiaEvidence> {
    const { storage, replica, certifier, handovers, incarnation } = this.#parts
    return amnesiaEvidenceOf(id, { storage, raft: replica.consensus, certifier, handovers, incarnation })
  }
}
