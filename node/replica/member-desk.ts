/**
 * Where a full node speaks with the other members of its chain beside Raft: who may speak at all (member-desk.ts), the
 * requests of `/mote/member/1` both ways, and the reads that need the leader.
 */
import type { DeviceId } from '../../chain/brands.ts'
import type { ConsenterSet } from '../../chain/consenters.ts'
import type { SignatureVerifier } from '../../chain/keys.ts'
import { MoteError } from '../../chain/result.ts'
import type { Certifier } from '../ledger/certifier.ts'
import type { LiveChain } from '../ledger/live-chain.ts'
import type { Snapshots } from '../ledger/snapshots.ts'
import { memberRequests, type Witness } from '../network/request-table.ts'
import { ask, requestHandler } from '../network/requests.ts'
import type { Clock, Network, NodeLog, PeerMessage, Storage } from '../ports.ts'
import type { ChainMembers } from './chain-members.ts'
import { LinearizableReads } from './linearizable-reads.ts'
import { NewerTerms } from './newer-terms.ts'
import type { Replica } from './replica.ts'
import { lostState, witnessOf } from './state-witness.ts'

export interface MemberDeskParts {
  readonly network: Network
  readonly storage: Storage
  readonly clock: Clock
  readonly replica: Replica
  readonly certifier: Certifier
  readonly chain: Pick<LiveChain, 'height' | 'certified'>
  readonly verifier: SignatureVerifier
  readonly log: Pick<NodeLog, 'info'>
  readonly snapshots: Snapshots
  readonly signersAt: (height: number) => ConsenterSet
  readonly incarnation: number
  readonly members: ChainMembers
  /** A peer remembers more of this node than its directory does. */
  readonly onStateLost: (error: MoteError) => void
}

const askTimeoutMs = 2_000

export class MemberDesk {
  readonly reads: LinearizableReads
  readonly #parts: MemberDeskParts
  readonly #gate: MemberGate
  readonly #newerTerms: NewerTerms

  constructor(parts: MemberDeskParts) {
    this.#parts = parts
    const { network, clock, replica, certifier, chain, members, onStateLost } = parts
    this.#gate = new MemberGate({
      clock,
      ask: peer => this.#askWitness(peer),
      opened: peer => replica.unreachable(peer),
      refused: onStateLost,
    })
    this.reads = new LinearizableReads({
      clock,
      leadership: () => replica.leadership,
      readIndex: () => replica.readIndex(),
      askLeader: async leader => (await ask(network, leader, memberRequests.read, {}, askTimeoutMs)).index,
      appliedIndex: () => replica.appliedIndex,
      height: () => chain.height,
      certifiedHeight: () => certifier.certifiedHeight,
    })
    this.#newerTerms = new NewerTerms({
      chain,
      network,
      clock,
      verifier: parts.verifier,
      currentTerm: () => replica.leadership.term,
      certified: term => replica.certified(term),
      log: (detail, message) => parts.log.info(detail, message),
    })
    const served = requestHandler(
      memberRequests,
      {
        snapshot: ({ lastIncludedIndex, chunk }, { deviceId }) =>
          parts.snapshots.chunk(deviceId, lastIncludedIndex, chunk),
        witness: (_, { deviceId }) => this.#witness(deviceId),
        read: async () => ({ index: await replica.readIndex() }),
      },
      ({ deviceId }, { name }) =>
        deviceId !== undefined && members.mayAsk(deviceId, name)
          ? undefined
          : new MoteError('not-authorised', 'member: only those who keep this chain may ask'),
    )
    network.handle('member', served)
  }

  /** A peer connected: a member is asked at once. */
  greet(peer: DeviceId): void {
    if (this.#parts.members.others.has(peer)) this.#gate.passes(peer)
  }

  /** True if this member's message of this term may be heard. The first message of each waits for what it remembers of this node. */
  hears(peer: DeviceId, term: number): boolean {
    if (!this.#gate.passes(peer)) return false
    this.#newerTerms.meets(peer, term)
    return true
  }

  /** Raft's messages, held back from peers that have not been asked yet. */
  send(to: DeviceId, message: PeerMessage): void {
    if (this.#gate.passes(to)) this.#parts.network.send(to, message)
  }

  stop(): void {
    this.#gate.stop()
  }

  async #askWitness(peer: DeviceId): Promise<MoteError | undefined> {
    const { network, storage, replica } = this.#parts
    const witness = await ask(network, peer, memberRequests.witness, {}, askTimeoutMs)
    return lostState(peer, witness, { storage, raft: replica.consensus })
  }

  #witness(id: DeviceId): Promise<Witness> {
    const { storage, replica, certifier, signersAt, incarnation } = this.#parts
    const latestSignatureOf = (id: DeviceId) => certifier.latestSignatureOf(id)
    const raft = replica.consensus
    return witnessOf(id, { storage, signersAt, incarnation, raft, latestSignatureOf })
  }
}

/*
 * Keeps Raft messages to and from a peer back until the peer has been asked what it remembers of this node
 * (state-witness.ts), once in the life of the process: nobody can be part of a quorum with this node before.
 */

export interface MemberGateParts {
  readonly clock: Clock
  /** Asks the peer; an error if it speaks against this node. Rejects when there was no answer. */
  readonly ask: (peer: DeviceId) => Promise<MoteError | undefined>
  /** Nothing speaks against this node: what was held back until now is to be sent anew. */
  readonly opened: (peer: DeviceId) => void
  readonly refused: (error: MoteError) => void
}

const askAgainMs = 250

export class MemberGate {
  readonly #parts: MemberGateParts
  readonly #open = new Set<DeviceId>()
  readonly #asking = new Set<DeviceId>()
  #stopped = false

  constructor(parts: MemberGateParts) {
    this.#parts = parts
  }

  /** True if messages may pass; else the peer is asked, if that is not under way. */
  passes(peer: DeviceId): boolean {
    if (this.#open.has(peer)) return true
    if (!this.#asking.has(peer) && !this.#stopped) void this.#ask(peer)
    return false
  }

  stop(): void {
    this.#stopped = true
  }

  async #ask(peer: DeviceId): Promise<void> {
    this.#asking.add(peer)
    try {
      const against = await this.#parts.ask(peer)
      if (this.#stopped) return
      if (against) {
        this.#stopped = true
        this.#parts.refused(against)
        return
      }
      this.#open.add(peer)
      this.#asking.delete(peer)
      this.#parts.opened(peer)
    } catch {
      // Not connected, or not a member there yet: the next message asks again, but not at once.
      this.#parts.clock.after(askAgainMs, () => this.#asking.delete(peer))
    }
  }
}
