/**
 * Where a full node speaks with the other members of its chain beside Raft: who may speak at all (member-gate.ts), the
 * requests of `/mote/member/1` both ways, and the reads that need the leader.
 */
import type { DeviceId } from '../chain/brands.ts'
import type { ConsenterSet } from '../chain/consenters.ts'
import type { SignatureVerifier } from '../chain/keys.ts'
import { MoteError } from '../chain/result.ts'
import type { Certifier } from './certifier.ts'
import type { ChainMembers } from './chain-members.ts'
import type { NodeLog } from './ledger-node-parts.ts'
import { LinearizableReads } from './linearizable-reads.ts'
import type { LiveChain } from './live-chain.ts'
import { MemberGate } from './member-gate.ts'
import { NewerTerms } from './newer-terms.ts'
import type { Clock, Network, PeerMessage, Storage } from './ports.ts'
import type { Replica } from './replica.ts'
import { memberRequests, type Witness } from './request-table.ts'
import { ask, requestHandler } from './requests.ts'
import type { Snapshots } from './snapshots.ts'
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
