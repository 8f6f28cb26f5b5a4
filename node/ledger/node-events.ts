/**
 * What happens in a full node, as one ordered stream: whoever finds something out says so here, and whoever has to do
 * something about it listens. So no part of a node needs another one that is made later.
 *
 * Invariants:
 *   - an event reaches every listener before the call that emits it returns;
 *   - listeners hear each event in the order in which they subscribed (ledger-node.ts says which order that is, and why);
 *   - a listener does not throw.
 */
import type { DeviceId, Height } from '../../chain/brands.ts'
import type { Certificate } from '../../chain/certificate.ts'
import type { Handover } from '../../chain/light-client.ts'
import type { MoteError } from '../../chain/result.ts'
import type { Configuration, Role } from '../../consensus/types.ts'
import type { Execution } from './live-chain.ts'

/** What this node knows of who leads. */
export interface Leadership {
  readonly role: Role
  readonly term: number
  readonly leader: DeviceId | undefined
}

/** What a part of a node wants to hear. */
export interface NodeListener {
  /** A committed block was executed; it need not be on disk yet. */
  executed?(execution: Execution): void
  /** The state of this Raft index is reached; entries without a block move it too. */
  applied?(index: number): void
  /** A block that was executed here is certified, and with it all below. `handover` comes with that of a handover header. */
  certified?(certificate: Certificate, handover: Handover | undefined): void
  /** The certified handover header of this height, or the newest certified header, is to be asked for. */
  certificateMissing?(height: Height | undefined): void
  leadershipChanged?(leadership: Leadership): void
  /** A snapshot took the place of the state: nothing that was derived from the old one holds. */
  installed?(): void
  /** Another configuration of the Raft members is in force: the latest in the log, committed or not. */
  configurationChanged?(configuration: Configuration): void
  /** At a leader: these were removed from the members and are still told so, and nobody else. */
  departing?(members: readonly string[]): void
  /** A header of this term is certified somewhere. */
  termCertified?(term: number): void
  /** Voters by certified state, this node's own or a newer one that a peer has proven: all of them. */
  votersKnown?(ids: readonly DeviceId[]): void
  /** A Raft message is held back: this peer has not been asked yet what it remembers of this node. */
  unasked?(peer: DeviceId): void
  /** Messages to this peer were lost: Raft is to probe again. */
  unreachable?(peer: DeviceId): void
  /** Something was found with which this node must not go on: `storage-corrupt`, `execution-diverged`, `state-lost`. */
  fault?(error: MoteError): void
  /** The replica has stopped for good, for one of these or for `storage-failed`. */
  failed?(error: MoteError): void
}

/** Each method tells all listeners. */
export class NodeEvents implements Required<NodeListener> {
  readonly #listeners: NodeListener[] = []

  /** They hear of everything from now on, after those who have subscribed before. */
  subscribe(...listeners: readonly NodeListener[]): void {
    this.#listeners.push(...listeners)
  }

  executed(execution: Execution): void {
    for (const listener of this.#listeners) listener.executed?.(execution)
  }

  applied(index: number): void {
    for (const listener of this.#listeners) listener.applied?.(index)
  }

  certified(certificate: Certificate, handover: Handover | undefined): void {
    for (const listener of this.#listeners) listener.certified?.(certificate, handover)
  }

  certificateMissing(height: Height | undefined): void {
    for (const listener of this.#listeners) listener.certificateMissing?.(height)
  }

  leadershipChanged(leadership: Leadership): void {
    for (const listener of this.#listeners) listener.leadershipChanged?.(leadership)
  }

  installed(): void {
    for (const listener of this.#listeners) listener.installed?.()
  }

  configurationChanged(configuration: Configuration): void {
    for (const listener of this.#listeners) listener.configurationChanged?.(configuration)
  }

  departing(members: readonly string[]): void {
    for (const listener of this.#listeners) listener.departing?.(members)
  }

  termCertified(term: number): void {
    for (const listener of this.#listeners) listener.termCertified?.(term)
  }

  votersKnown(ids: readonly DeviceId[]): void {
    for (const listener of this.#listeners) listener.votersKnown?.(ids)
  }

  unasked(peer: DeviceId): void {
    for (const listener of this.#listeners) listener.unasked?.(peer)
  }

  unreachable(peer: DeviceId): void {
    for (const listener of this.#listeners) listener.unreachable?.(peer)
  }

  fault(error: MoteError): void {
    for (const listener of this.#listeners) listener.fault?.(error)
  }

  failed(error: MoteError): void {
    for (const listener of this.#listeners) listener.failed?.(error)
  }
}
