/**
 * The inside of a full node: chain, certifier, replica, submission and service, wired together over the ports of
 * node/ports.ts. A node process puts LevelDB, libp2p and the system clock around it (full-node.ts), the simulator its
 * own world; nothing in here knows which.
 *
 * It registers the `query` handler and is the receiver of the network's events, so it must be made before the network
 * starts. It does not open or close what it is given.
 */
import type { DeviceId, Height } from '../chain/brands.ts'
import { type Certificate, certificateCodec } from '../chain/certificate.ts'
import { encode } from '../chain/codec.ts'
import type { Handover } from '../chain/light-client.ts'
import { assertNever, MoteError } from '../chain/result.ts'
import type { NodeStatus } from '../client/chain-source.ts'
import { Certifier, genesisHeight } from './ledger/certifier.ts'
import { FullMembers, identityKinds } from './ledger/full-members.ts'
import { HandoverDesk } from './ledger/handover-desk.ts'
import { LiveChain } from './ledger/live-chain.ts'
import type { Execution } from './ledger/replicated-chain.ts'
import { Snapshots } from './ledger/snapshots.ts'
import { coreConfig, type LedgerNodeParts } from './ledger-node-parts.ts'
import { queryHandler } from './network/query-protocol.ts'
import type { NetworkEvents, PeerMessage, SignatureMessage } from './ports.ts'
import { ChainMembers } from './replica/chain-members.ts'
import { ClockExchange } from './replica/clock-exchange.ts'
import { type TransferReport, transferLeadership } from './replica/leader-transfer.ts'
import { MemberDesk } from './replica/member-desk.ts'
import { MembershipDriver } from './replica/membership-driver.ts'
import { Mempool } from './replica/mempool.ts'
import { defaultProducerLimits, Producer } from './replica/producer.ts'
import { type Leadership, Replica } from './replica/replica.ts'
import { Forwarder } from './service/forwarder.ts'
import { NodeService, storedOutcome } from './service/node-service.ts'
import { fullNodeStatus } from './service/node-status.ts'
import { Submission } from './service/submission.ts'
import { watchCorruption } from './storage/corruption-watch.ts'

export type { LedgerNodeParts, RaftLimits } from './ledger-node-parts.ts'

/** Time for open transactions to be answered when the node stops. */
const drainMs = 2_000
/** Who is removed from the members because it was revoked may hear that from the leader before its connection is judged. */
const farewellMs = 500

export class LedgerNode implements NetworkEvents {
  readonly chain: LiveChain
  readonly mempool = new Mempool()
  readonly certifier: Certifier
  readonly clocks: ClockExchange
  readonly replica: Replica
  readonly snapshots: Snapshots
  readonly submission: Submission
  readonly service: NodeService
  readonly members: MemberDesk
  readonly handovers: HandoverDesk
  readonly #fullMembers: FullMembers
  readonly #members: ChainMembers
  readonly #membership: MembershipDriver
  readonly #parts: LedgerNodeParts
  /** Devices whose records executed blocks may have changed that are not certified yet, with the newest such block. */
  readonly #writtenRecords = new Map<DeviceId, Height>()
  #failure: MoteError | undefined

  constructor(parts: LedgerNodeParts) {
    const storage = watchCorruption(parts.storage, error => this.replica.fail(error))
    this.#parts = { ...parts, storage }
    const { id, peers = [], recovered, verifier, network, clock } = parts
    this.#members = new ChainMembers({ id, peers, configuration: () => this.replica.configuration })
    const earlier = recovered.earlier.map(({ ledger }) => ledger)
    this.chain = new LiveChain(recovered.ledger, verifier, earlier)
    this.certifier = this.#makeCertifier()
    const certifiedHeight = () => this.certifier.certifiedHeight
    const { handovers } = recovered
    this.handovers = new HandoverDesk({
      id: parts.id,
      handovers,
      chain: this.chain,
      storage,
      network,
      certifier: () => this.certifier,
      others: () => this.#members.others,
      log: (detail, message) => parts.log.info(detail, message),
    })
    this.snapshots = new Snapshots({
      recovered,
      handovers,
      chain: this.chain,
      network,
      clock,
      verifier,
      certifiedHeight,
      changesAt: height => this.service.recentChanges(height),
      onInstalled: () => this.#installed(),
      log: (detail, message) => parts.log.info(detail, message),
      compaction: parts.compaction,
    })
    this.clocks = new ClockExchange({
      id: parts.id,
      clock,
      network,
      others: () => this.#members.others,
      configuration: () => this.replica.configuration,
      certifiedTime: () => this.chain.certified.header.time,
      log: (detail, message) => parts.log.error(detail, message),
    })
    this.#fullMembers = new FullMembers(this.chain.ledger)
    this.#membership = new MembershipDriver({
      view: () => ({
        consenters: this.chain.ledger.parameters.consenters,
        nextConsenters: this.chain.ledger.parameters.nextConsenters,
        inStep: id => this.#isInStep(id),
        handoverLacks: () => this.handovers.lacks(),
        fullNodes: this.#fullMembers.ids,
      }),
      log: (detail, message) => parts.log.info(detail, message),
    })
    this.replica = this.#makeReplica()
    this.submission = new Submission({
      chain: this.chain,
      mempool: this.mempool,
      verifier,
      clock,
      time: () => this.clocks.time() ?? this.chain.time,
      forwarder: new Forwarder(network, clock),
      leadership: () => this.replica.leadership,
      log: () => ({ applied: this.replica.appliedIndex, last: this.replica.consensus.lastLogIndex }),
      certifiedHeight,
      admitted: () => this.replica.wake(),
      lookUp: id => storedOutcome(storage, id),
    })
    this.service = new NodeService({
      name: parts.name,
      chain: this.chain,
      storage,
      clock,
      submission: this.submission,
      certifiedHeight,
      heardHeight: () => this.certifier.heardHeight,
      handovers,
      status: () => this.status(),
      failure: () => this.#failure,
      coordination: parts.coordination ?? (() => []),
    })
    network.handle(
      'query',
      queryHandler(this.service, count => this.handovers.newest(count)),
    )
    this.members = new MemberDesk({
      log: this.#parts.log,
      verifier: this.#parts.verifier,
      network,
      storage,
      clock,
      replica: this.replica,
      certifier: this.certifier,
      chain: this.chain,
      snapshots: this.snapshots,
      signersAt: height => handovers.signersAt(height),
      incarnation: recovered.ledger.header.incarnation,
      members: this.#members,
      onStateLost: error => this.replica.fail(error),
    })
  }

  /** Why the node does not serve, if it does not. */
  get failure(): MoteError | undefined {
    return this.#failure
  }

  /** Begins to take part; the network has started. */
  start(): void {
    const { certificate, certificateAhead, uncertified, handovers } = this.#parts.recovered
    if (certificate) this.chain.adopt(certificate)
    const certifiedHeight = certificate?.height ?? genesisHeight
    this.certifier.restore({
      certifiedHeight,
      consenters: handovers.signersAt(certifiedHeight + 1),
      now: this.#parts.clock.steady(),
    })
    for (const block of uncertified) this.certifier.executed(block)
    this.certifier.durable(uncertified)
    if (certificateAhead) this.certifier.adopt(certificateAhead)
    this.replica.start()
    this.submission.start()
  }

  /** Hands leadership over, answers what is open, and waits until everything begun is on disk. */
  async stop(): Promise<void> {
    this.service.drain()
    if (this.replica.leadership.role === 'leader' && !this.#failure)
      await this.transfer().catch((error: MoteError) =>
        this.#parts.log.info({ detail: error.detail }, 'leadership not handed over'),
      )
    await this.#until(drainMs, () => this.submission.open === 0)
    this.service.stop()
    this.submission.stop()
    this.snapshots.stop()
    this.members.stop()
    await this.replica.stop()
  }

  /** Hands leadership over, to `to` if given. Throws what `transferLeadership` does. */
  transfer(to?: DeviceId): Promise<TransferReport> {
    const { id, clock, network } = this.#parts
    return transferLeadership({ id, replica: this.replica, clock, peers: () => network.peers() }, to)
  }

  /** Raft, signatures and forwarded transactions are between those who keep this chain; others are not heard. */
  message(from: DeviceId, message: PeerMessage): void {
    if (!this.#members.hears(from, message.type)) return
    switch (message.type) {
      case 'raft':
        if (this.members.hears(from, message.message.term)) this.replica.receive(message.message)
        return
      case 'clocks':
        this.clocks.heard(from, message.samples)
        this.replica.wake()
        return
      case 'signatures':
        this.certifier.receive(from, message.signatures)
        return
      case 'transactions': {
        const refusals = this.submission.admit(message.transactions)
        if (refusals.length > 0) this.#parts.network.send(from, { type: 'refusals', refusals })
        return
      }
      case 'refusals':
        this.submission.refused(message.refusals)
        return
      default:
        assertNever(message)
    }
  }

  unreachable(peer: DeviceId): void {
    this.replica.unreachable(peer)
  }

  peer(peer: DeviceId, state: 'connected' | 'disconnected'): void {
    if (state === 'disconnected') return
    this.members.greet(peer)
    this.clocks.connected(peer)
    this.certifier.connected(peer)
  }

  status(): NodeStatus {
    return fullNodeStatus(this, this.#parts, this.#change)
  }

  /** What a change of the members waits for, or that one is under way. */
  get #change(): string | undefined {
    const { votersOutgoing } = this.replica.configuration
    return (
      this.#membership.refusal ?? (votersOutgoing.length > 0 ? 'joint consensus is not left yet' : undefined)
    )
  }

  /** At the leader: this full node takes the log and has answered lately, so its disk keeps up. */
  #isInStep(id: DeviceId): boolean {
    const { electionTimeoutTicks } = this.#parts.raft
    const follower = this.replica.consensus.followers.get(id)
    const answers = follower?.state === 'replicate' && follower.silentTicks <= electionTimeoutTicks
    return answers || id === this.#parts.id
  }

  #makeCertifier(): Certifier {
    const { recovered, verifier, id, signer, log } = this.#parts
    const { header, parameters } = recovered.ledger
    const { chainId, incarnation } = header
    const self = { id, signer }
    return new Certifier(
      { chainId, incarnation, consenters: parameters.consenters, self, verifier },
      {
        announce: (to, signatures) => this.#announce(to, signatures),
        certified: (certificate, handover) => this.#certified(certificate, handover),
        wanted: height => this.handovers.wanted(height),
        disagreement: disagreement => log.error(disagreement, 'a consenter signed another header'),
        diverged: detail => this.replica.fail(new MoteError('execution-diverged', detail)),
      },
    )
  }

  #makeReplica(): Replica {
    const { id, recovered, raft, random, storage, clock, heartbeatMs, producer } = this.#parts
    const { header, parameters } = recovered.ledger
    const { blockTransactions, blockBytes } = parameters.limits
    const limits = {
      ...defaultProducerLimits,
      transactionsPerBlock: blockTransactions,
      bytesPerBlock: blockBytes,
      heartbeatMs: heartbeatMs ?? parameters.heartbeatMs,
      ...producer,
    }
    const { tickMs, ...timing } = raft
    return new Replica({
      id,
      incarnation: header.incarnation,
      raft: coreConfig(id, timing, blockBytes),
      recovered: recovered.raft,
      random,
      tickMs,
      storage,
      network: { send: (to, message) => this.members.send(to, message) },
      clock,
      clocks: this.clocks,
      chain: this.chain,
      certifier: this.certifier,
      snapshots: this.snapshots,
      membership: this.#membership,
      rebuildUpTo: recovered.rebuildUpTo,
      producer: new Producer(this.mempool, limits),
      events: {
        executed: execution => this.#executed(execution),
        applied: index => {
          this.members.reads.progress()
          this.submission.applied(index)
        },
        leadership: leadership => this.#leadershipChanged(leadership),
        departing: members => this.#members.departing(members),
        failed: error => this.#failed(error),
      },
    })
  }

  #announce(to: DeviceId | 'all', signatures: readonly SignatureMessage[]): void {
    const { network } = this.#parts
    for (const peer of to === 'all' ? this.#members.others : [to])
      network.send(peer as DeviceId, { type: 'signatures', signatures })
  }

  #executed(execution: Execution): void {
    this.handovers.executed(execution)
    this.#fullMembers.executed(execution.write, this.chain.ledger)
    for (const { kind, devices } of execution.write.transactions)
      if (identityKinds.has(kind))
        for (const device of devices) this.#writtenRecords.set(device, execution.write.height)
    this.service.executed(execution.write)
    this.submission.executed(execution)
  }

  #certified(certificate: Certificate, handover: Handover | undefined): void {
    const { storage } = this.#parts
    this.handovers.certified(certificate, handover)
    this.chain.adopt(certificate)
    storage.putCertificate(certificate.height, encode(certificateCodec, certificate)).catch(() => {
      // The replica meets the same disk with its next write, and stops there.
    })
    this.submission.certified(certificate.height)
    this.members.reads.progress()
    this.service.certified(certificate.height)
    if (this.#writtenRecords.size > 0) this.#recheckPeers(certificate.height)
    this.replica.wake()
  }

  /** Connections of peers whose changed records are certified now are judged again. */
  #recheckPeers(certified: Height): void {
    for (const [id, height] of this.#writtenRecords) {
      if (height > certified) continue
      this.#writtenRecords.delete(id)
      const { clock, network } = this.#parts
      if (this.#members.isDeparting(id)) clock.after(farewellMs, () => network.recheck(id))
      else network.recheck(id)
    }
  }

  /** A snapshot: the records of everybody may have changed. */
  #installed(): void {
    this.#fullMembers.reset(this.chain.ledger)
    const { network } = this.#parts
    this.submission.installed()
    for (const { id } of network.peers()) network.recheck(id)
  }

  #leadershipChanged(leadership: Leadership): void {
    this.#parts.log.info(leadership, 'leadership')
    this.submission.leadership(leadership)
  }

  #failed(error: MoteError): void {
    this.#failure = error
    this.#parts.log.error({ code: error.code, detail: error.detail }, 'the node has stopped serving')
    // One that diverged stays up and says so; one without a disk has nothing left to say.
    if (error.code !== 'execution-diverged') this.#parts.onFailed(error)
  }

  /** Waits until `condition` holds, at most `timeoutMs`. */
  async #until(timeoutMs: number, condition: () => boolean): Promise<void> {
    const { clock } = this.#parts
    const deadline = clock.steady() + timeoutMs
    while (!condition() && clock.steady() < deadline)
      await new Promise<void>(resolve => clock.after(10, () => resolve()))
  }
}
