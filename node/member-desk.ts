/**
 * Where a full node speaks with the other members of its chain beside Raft: who may speak at all (member-gate.ts), the
 * requests of `/mote/member/1` both ways, and the reads that need the leader.
 */
import type { DeviceId } from '../chain/brands.ts'
import type { ConsenterSet } from '../chain/consenters.ts'
import type { SignatureVerifier } from '../chain/keys.ts'
import type { MoteError } from '../chain/result.ts'
import type { Certifier } from './certifier.ts'
import type { ChainMembers } from './chain-members.ts'
import type { NodeLog } from './ledger-node-parts.ts'
import { LinearizableReads } from './linearizable-reads.ts'
import type { LiveChain } from './live-chain.ts'
import { MemberGate } from './member-gate.ts'
import { decodeReadIndex, encodeMemberRequest, encodeReadIndex, memberHandler } from './member-protocol.ts'
import { NewerTerms } from './newer-terms.ts'
import type { Clock, Network, PeerMessage, Storage } from './ports.ts'
import type { Replica } from './replica.ts'
import type { Snapshots } from './snapshots.ts'
import { encodeWitness, lostState } from './state-witness.ts'

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
      askLeader: async leader => decodeReadIndex(await this.#ask(leader, { type: 'read' })),
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
    const handler = memberHandler({
      mayAsk: (id, type) => members.mayAsk(id, type),
      snapshotChunk: (from, index, chunk) => parts.snapshots.chunk(from, index, chunk),
      witness: from => this.#witness(from),
      readIndex: async () => encodeReadIndex(await replica.readIndex()),
    })
    network.handle('member', handler)
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

  #ask(peer: DeviceId, request: Parameters<typeof encodeMemberRequest>[0]): Promise<Uint8Array> {
    return this.#parts.network.request(peer, 'member', encodeMemberRequest(request), askTimeoutMs)
  }

  async #askWitness(peer: DeviceId): Promise<MoteError | undefined> {
    const answer = await this.#ask(peer, { type: 'witness' })
    const { storage, replica } = this.#parts
    return lostState(peer, answer, { storage, raft: replica.consensus })
  }

  #witness(id: DeviceId): Promise<Uint8Array> {
    const { storage, replica, certifier, signersAt, incarnation } = this.#parts
    const latestSignatureOf = (id: DeviceId) => certifier.latestSignatureOf(id)
    const raft = replica.consensus
    return encodeWitness(id, { storage, signersAt, incarnation, raft, latestSignatureOf })
  }
}
