/**
 * `/mote/member/1`, both ways: answers those who keep this chain (snapshots, reads, what this node remembers of them), and
 * asks each of them once what it remembers of this node before Raft may speak with it (docs/CONSENSUS.md, amnesia check).
 */
import type { DeviceId, Height } from '../../chain/brands.ts'
import { certificateCodec } from '../../chain/certificate.ts'
import { decode } from '../../chain/codec.ts'
import { indexOfConsenter } from '../../chain/consenters.ts'
import { MoteError } from '../../chain/result.ts'
import type { RaftStatus } from '../../consensus/status.ts'
import type { Certifier } from '../ledger/certifier.ts'
import type { Handovers } from '../ledger/handovers.ts'
import type { MemberGate, Members } from '../ledger/members.ts'
import type { NodeEvents, NodeListener } from '../ledger/node-events.ts'
import type { Snapshots } from '../ledger/snapshots.ts'
import { type AmnesiaEvidence, memberRequests } from '../network/request-table.ts'
import { ask, requestHandler } from '../network/requests.ts'
import type { Clock, Network, SignedHeader, Storage } from '../ports.ts'
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

/*
 * What peers remember of a node, against what its directory holds (docs/CONSENSUS.md): a wiped or restored
 * directory has forgotten votes, entries and signatures that others count on, and must not act under the old name.
 *
 * A peer holds two kinds of proof: a later header signature (its own memory, its newest certificates), and, while it
 * leads, what the node acknowledged in its term. A directory that is merely behind never contradicts them, because a
 * node writes down what it promises before it promises it.
 */

/** Newest certificates that are searched for a signature. */
const certificatesSearched = 64

interface AmnesiaEvidenceSource {
  readonly storage: Pick<Storage, 'latestCertificate' | 'certificate'>
  readonly handovers: Pick<Handovers, 'signersAt'>
  readonly certifier: Pick<Certifier, 'latestSignatureOf'>
  readonly incarnation: number
  readonly raft: RaftStatus
}

/** What this node knows of `id`. */
async function amnesiaEvidenceOf(id: DeviceId, source: AmnesiaEvidenceSource): Promise<AmnesiaEvidence> {
  const { raft } = source
  return {
    signed: source.certifier.latestSignatureOf(id) ?? (await latestCertified(id, source)),
    term: raft.currentTerm,
    acknowledged: raft.followers.get(id)?.matchIndex ?? 0,
  }
}

async function latestCertified(
  id: DeviceId,
  source: AmnesiaEvidenceSource,
): Promise<SignedHeader | undefined> {
  const { storage, handovers, incarnation } = source
  const latest = await storage.latestCertificate()
  if (!latest) return undefined
  for (let height = latest.height; height > latest.height - certificatesSearched && height > 0; height--) {
    const bytes = await storage.certificate(height as Height)
    const certificate = bytes && decode(certificateCodec, bytes)
    const place = indexOfConsenter(handovers.signersAt(height), id)
    if (certificate?.ok && certificate.value.signatures.some(({ signer }) => signer === place))
      return { incarnation, height: height as Height, headerHash: certificate.value.headerHash }
  }
  return undefined
}

interface OwnState {
  readonly storage: Pick<Storage, 'signedHeader'>
  readonly raft: RaftStatus
}

/** Why this node must not act under its name, going by a peer's answer; undefined if nothing speaks against it. */
async function lostState(
  peer: DeviceId,
  { signed, term, acknowledged }: AmnesiaEvidence,
  own: OwnState,
): Promise<MoteError | undefined> {
  if (signed) {
    const record = await own.storage.signedHeader(signed)
    if (record?.headerHash !== signed.headerHash)
      return stateLost(
        `${peer} holds a signature of this node for height ${signed.height}, of which the data directory knows nothing`,
      )
  }
  const { currentTerm, lastLogIndex } = own.raft
  // Entries that a leader of an older term counts on may have been replaced since.
  if (acknowledged === 0 || term < currentTerm) return undefined
  if (term === currentTerm && acknowledged <= lastLogIndex) return undefined
  return stateLost(
    `${peer} holds an acknowledgement of this node for the log up to ${acknowledged} in term ${term}; the data directory ends at ${lastLogIndex} in term ${currentTerm}`,
  )
}

function stateLost(detail: string): MoteError {
  return new MoteError(
    'state-lost',
    `${detail}; put the newest data directory back, or remove this node from the chain and join as a new member (docs/OPERATIONS.md)`,
  )
}
