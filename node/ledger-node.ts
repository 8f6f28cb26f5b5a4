/**
 * The inside of a full node, composed over the ports of node/ports.ts: events, chain, certification, replica, submission
 * and service. A node process puts LevelDB, libp2p and the system clock around it (full-node.ts), the simulator its own
 * world; nothing in here knows which.
 *
 * Every part is made of parts that are there already. What a later one has to do when something happens to an earlier one, it
 * does as a listener of the node's events (ledger/node-events.ts); in which order they hear of it, `#subscribe` says.
 *
 * It registers the `query` and `member` handlers and is the receiver of the network's events, so it must be made before the
 * network starts. It does not open or close what it is given.
 */
import type { DeviceId } from '../chain/brands.ts'
import { certificateCodec } from '../chain/certificate.ts'
import { encode } from '../chain/codec.ts'
import type { SignatureVerifier, Signer } from '../chain/keys.ts'
import { assertNever, MoteError } from '../chain/result.ts'
import type { NodeStatus } from '../client/chain-source.ts'
import { Deadline } from '../client/deadline.ts'
import type { Random } from '../consensus/types.ts'
import type { LedgerSettings } from './effective-configuration.ts'
import { Certifier } from './ledger/certifier.ts'
import type { RecoveredChain } from './ledger/chain-recovery.ts'
import { HandoverProofs } from './ledger/handovers.ts'
import type { LiveChain } from './ledger/live-chain.ts'
import { FullMembers, MemberGate, type Members } from './ledger/members.ts'
import type { NodeEvents } from './ledger/node-events.ts'
import { PeerRechecks } from './ledger/peer-identities.ts'
import { Retention } from './ledger/retention.ts'
import { Announcements } from './ledger/signatures.ts'
import { Snapshots } from './ledger/snapshots.ts'
import { queryHandler } from './network/requests.ts'
import type { Clock, Network, NetworkEvents, NodeLog, PeerMessage, Storage } from './ports.ts'
import type { Acknowledgements } from './replica/acknowledgements.ts'
import { Admission } from './replica/admission.ts'
import { ClockExchange } from './replica/block-time.ts'
import { KnownVoters } from './replica/known-voters.ts'
import { LinearizableReads } from './replica/linearizable-reads.ts'
import { MemberServer } from './replica/member-server.ts'
import { MembershipDriver } from './replica/membership-driver.ts'
import { Mempool } from './replica/mempool.ts'
import { Producer } from './replica/producer.ts'
import { Replica } from './replica/replica.ts'
import { FullNodeStatus, type TransferReport, transferLeadership } from './service/administration.ts'
import { NodeService } from './service/node-service.ts'
import { Forwarder, Submission } from './service/submission.ts'
import { watchCorruption } from './storage/store-records.ts'

export interface LedgerNodeParts {
  readonly name: string
  readonly id: DeviceId
  readonly signer: Signer
  /** What this node and its followers acknowledge, and its key for that. */
  readonly acknowledgements: Acknowledgements
  readonly recovered: RecoveredChain
  /** Made of `recovered`: a network judges its peers by it before there is a node. */
  readonly chain: LiveChain
  readonly events: NodeEvents
  readonly storage: Storage
  readonly network: Network
  readonly clock: Clock
  readonly random: Random
  readonly verifier: SignatureVerifier
  readonly settings: LedgerSettings
  readonly processId: number
  readonly log: NodeLog
  /** Signed addresses of coordination nodes, as they hold now. None unless given. */
  readonly coordination?: () => readonly Uint8Array[]
  /** Made of `recovered`, for the same reason. */
  readonly members: Members
  /** The node cannot go on: its disk fails (`storage-failed`, `storage-corrupt`). */
  readonly onFailed: (error: MoteError) => void
}

/** Time for open transactions to be answered when the node stops. */
const drainMs = 2_000
const drainPollMs = 10

export class LedgerNode implements NetworkEvents {
  readonly chain: LiveChain
  readonly certifier: Certifier
  readonly handovers: HandoverProofs
  readonly clocks: ClockExchange
  readonly mempool: Mempool
  readonly replica: Replica
  readonly reads: LinearizableReads
  readonly submission: Submission
  readonly service: NodeService
  readonly #parts: LedgerNodeParts
  readonly #members: Members
  readonly #gate: MemberGate
  readonly #snapshots: Snapshots
  readonly #retention: Retention
  readonly #memberServer: MemberServer
  readonly #knownVoters: KnownVoters
  readonly #admission: Admission
  readonly #status: FullNodeStatus

  constructor(parts: LedgerNodeParts) {
    this.#parts = parts
    const { name, id, recovered, chain, members, events, network, clock } = parts
    const { signer, acknowledgements, verifier, settings, processId } = parts
    const { handovers } = recovered
    const { chainId, incarnation } = recovered.ledger.header
    const log = (detail: object, message: string) => parts.log.info(detail, message)
    const complain = (detail: object, message: string) => parts.log.error(detail, message)
    const storage = watchCorruption(parts.storage, error => events.fault(error))

    // The ledger: who keeps the chain, what is certified, what others are given of it.
    const gate = new MemberGate(network, events)
    const announcements = new Announcements(id, network, members, chain)
    const certifier = certifierOf(parts, announcements)
    this.handovers = new HandoverProofs({ id, handovers, chain, storage, network, certifier, members, log })
    const snapshots = new Snapshots({
      recovered,
      handovers,
      chain,
      network,
      clock,
      verifier,
      log,
      compaction: settings.compaction,
      fetch: settings.snapshotFetch,
    })
    const fullMembers = new FullMembers(chain)
    const retention = new Retention({ chain, storage, clock, events, limits: settings.retention })

    // The replica: what makes the chain grow.
    const clocks = new ClockExchange({ id, clock, network, members, chain, log: complain })
    const membership = new MembershipDriver({ chain, handovers: this.handovers, fullMembers, log })
    const { tickMs, ...core } = settings.raft
    const mempool = new Mempool(settings.mempool)
    const replica = new Replica({
      id,
      raft: { id, ...core },
      recovered: recovered.raft,
      rebuildUpTo: recovered.rebuildUpTo,
      random: parts.random,
      tickMs,
      storage,
      network: gate,
      clock,
      clocks,
      acknowledgements,
      chain,
      certifier,
      snapshots,
      membership,
      producer: new Producer(mempool, settings.producer),
      events,
    })
    const asked = { network, storage, clock, replica, certifier, snapshots, handovers, members, gate }
    const proofs = { chainId, incarnation, signer, verifier, acknowledgements }
    this.#memberServer = new MemberServer({ ...asked, ...proofs, events })
    this.#knownVoters = new KnownVoters({ chain, members, network, clock, verifier, replica, events, log })
    this.reads = new LinearizableReads({ clock, network, chain, replica })
    const admission = new Admission({ chain, mempool, verifier, clocks, replica })

    // The service: what others ask of this node.
    this.submission = new Submission({
      chain,
      storage,
      clock,
      mempool,
      admission,
      forwarder: new Forwarder(network, clock),
      replica,
      limits: settings.submission,
    })
    const seen = { network, chain, certifier, clocks, members, membership, replica }
    this.#status = new FullNodeStatus({ name, id, processId, ...seen })
    this.service = new NodeService({
      name,
      chain,
      storage,
      clock,
      submission: this.submission,
      certifier,
      handovers,
      status: this.#status,
      coordination: parts.coordination ?? (() => []),
      certificationLagMax: settings.producer.certificationLagMax,
    })
    network.handle(
      'query',
      queryHandler(this.service, count => handovers.newest(count)),
    )

    this.chain = chain
    this.mempool = mempool
    this.certifier = certifier
    this.clocks = clocks
    this.replica = replica
    this.#members = members
    this.#gate = gate
    this.#snapshots = snapshots
    this.#retention = retention
    this.#admission = admission
    this.#subscribe(storage, fullMembers, announcements)
    this.#knownVoters.begin()
  }

  /**
   * Who hears of what happens, in order:
   *   - who keeps the chain changes first, so that everybody after it judges peers alike;
   *   - a handover is proven before its certificate counts, or the next signers would be unknown to who asks;
   *   - a certificate counts in memory, and is on its way to the disk, before anybody is answered with it;
   *   - the mempool forgets what was executed before submission sends anything on;
   *   - the replica is last: what it does next may cause events of its own, and everybody has heard of this one by then.
   */
  #subscribe(storage: Storage, fullMembers: FullMembers, announcements: Announcements): void {
    const { events, network, clock, log } = this.#parts
    const { chain } = this
    const members = this.#members
    events.subscribe(
      members,
      fullMembers,
      announcements,
      this.handovers,
      { certified: certificate => chain.adopt(certificate) },
      {
        certified: certificate =>
          storage.putCertificate(certificate.height, encode(certificateCodec, certificate)),
      },
      { leadershipChanged: leadership => log.info(leadership, 'leadership') },
      this.#status,
      { failed: error => this.#failed(error) },
      this.#knownVoters,
      this.#memberServer,
      this.#admission,
      this.submission,
      this.reads,
      this.service,
      this.#retention,
      new PeerRechecks(network, clock, members),
      this.replica,
    )
  }

  /** Why the node does not serve, if it does not. */
  get failure(): MoteError | undefined {
    return this.#status.failure
  }

  /** Begins to take part; the network has started. */
  start(): void {
    const { certificateAhead, uncertified, handovers } = this.#parts.recovered
    const { certifiedHeight } = this.chain
    this.certifier.restore({
      certifiedHeight,
      consenters: handovers.signersAt(certifiedHeight + 1),
      now: this.#parts.clock.steady(),
    })
    for (const block of uncertified) this.certifier.collect(block)
    this.certifier.sign(uncertified)
    if (certificateAhead) this.certifier.adopt(certificateAhead)
    this.replica.start()
    this.submission.start()
  }

  /** The HTTP API listens at this base URL. */
  listens(api: string): void {
    this.#status.api = api
  }

  /** Transfers leadership, answers what is open, and waits until everything begun is on disk. */
  async stop(): Promise<void> {
    this.service.drain()
    if (this.replica.leadership.role === 'leader' && !this.failure)
      await this.transfer().catch((error: MoteError) =>
        this.#parts.log.info({ detail: error.detail }, 'leadership not transferred'),
      )
    await new Deadline(drainMs, { clock: this.#parts.clock }).until(
      () => this.submission.open === 0,
      drainPollMs,
    )
    this.service.stop()
    this.submission.stop()
    this.#snapshots.stop()
    this.#retention.stop()
    this.#memberServer.stop()
    await this.replica.stop()
  }

  /** Transfers leadership, to `to` if given. Throws what `transferLeadership` does. */
  transfer(to?: DeviceId): Promise<TransferReport> {
    const { id, clock, network } = this.#parts
    return transferLeadership(id, { replica: this.replica, network, clock }, to)
  }

  /** Raft, signatures and forwarded transactions are between those who keep this chain; others are not heard. */
  message(from: DeviceId, message: PeerMessage): void {
    if (message.type === 'raft') this.#knownVoters.meets(from, message.message)
    if (!this.#members.hears(from, message.type)) return
    switch (message.type) {
      case 'raft':
        if (!this.#gate.passes(from)) return
        this.#parts.acknowledgements.heard(message.message)
        this.replica.receive(message.message)
        return
      case 'clocks':
        this.clocks.heard(from, message.samples)
        this.replica.wake()
        return
      case 'signatures':
        this.certifier.receive(from, message.signatures)
        return
      case 'transactions': {
        const refusals = this.#admission.admit(message.transactions)
        if (refusals.length > 0) this.#parts.network.send(from, { type: 'refusals', refusals })
        return
      }
      case 'refusals':
        this.submission.refused(from, message.refusals)
        return
      default:
        assertNever(message)
    }
  }

  unreachable(peer: DeviceId): void {
    this.#parts.events.unreachable(peer)
  }

  /** A member that connects is asked what it remembers, and told what it may have missed. */
  peer(peer: DeviceId, state: 'connected' | 'disconnected'): void {
    if (state === 'disconnected' || !this.#members.others.has(peer)) return
    this.#gate.passes(peer)
    this.clocks.connected(peer)
    this.certifier.connected(peer)
  }

  isCounted(peer: DeviceId): boolean {
    return !this.#members.isKnownVoter(peer)
  }

  status(): NodeStatus {
    return this.#status.now()
  }

  #failed(error: MoteError): void {
    this.#parts.log.error({ code: error.code, detail: error.detail }, 'the node has stopped serving')
    // One that diverged stays up and says so; one without a disk has nothing left to say.
    if (error.code !== 'execution-diverged') this.#parts.onFailed(error)
  }
}

/** Signs for this node and tells the others. What it finds out, everybody hears as an event. */
function certifierOf(parts: LedgerNodeParts, announcements: Announcements): Certifier {
  const { id, signer, recovered, events, verifier, log } = parts
  const { header, parameters } = recovered.ledger
  const { chainId, incarnation } = header
  return new Certifier(
    { chainId, incarnation, consenters: parameters.consenters, self: { id, signer }, verifier },
    {
      announce: (to, signatures) => announcements.send(to, signatures),
      certified: (certificate, handover) => events.certified(certificate, handover),
      wanted: height => events.certificateMissing(height),
      disagreement: disagreement => log.error(disagreement, 'a consenter signed another header'),
      diverged: detail => events.fault(new MoteError('execution-diverged', detail)),
    },
  )
}
