/**
 * `/mote/member/1`, both ways: answers those who keep this chain (snapshots, reads, what this node remembers of them), and
 * asks each of them once what it remembers of this node before Raft may speak with it (docs/CONSENSUS.md, amnesia check).
 */
import type { ChainId, DeviceId, Height } from '../../chain/brands.ts'
import { certificateCodec, certificateSigningBytes } from '../../chain/certificate.ts'
import { decode } from '../../chain/codec.ts'
import { indexOfConsenter } from '../../chain/consenters.ts'
import type { SignatureVerifier, Signer } from '../../chain/keys.ts'
import { MoteError } from '../../chain/result.ts'
import type { RaftStatus } from '../../consensus/status.ts'
import type { Certifier } from '../ledger/certifier.ts'
import type { Handovers } from '../ledger/handovers.ts'
import type { MemberGate, Members } from '../ledger/members.ts'
import type { NodeEvents, NodeListener } from '../ledger/node-events.ts'
import type { Snapshots } from '../ledger/snapshots.ts'
import { type AmnesiaEvidence, memberRequests } from '../network/request-table.ts'
import { ask, requestHandler } from '../network/requests.ts'
import type { Clock, HeaderSignature, Network, Storage } from '../ports.ts'
import type { Acknowledgements } from './acknowledgements.ts'
import type { Replica } from './replica.ts'

export interface MemberServerParts {
  readonly network: Network
  readonly storage: Storage
  readonly clock: Clock
  readonly replica: Replica
  readonly certifier: Certifier
  readonly snapshots: Snapshots
  readonly handovers: Pick<Handovers, 'signersAt'>
  readonly chainId: ChainId
  readonly incarnation: number
  readonly signer: Pick<Signer, 'publicKey'>
  readonly verifier: SignatureVerifier
  readonly acknowledgements: Acknowledgements
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
    const { network, clock, replica, gate, events } = this.#parts
    this.#asking.add(peer)
    try {
      const evidence = await ask(network, peer, memberRequests.amnesiaCheck, {}, askTimeoutMs)
      const against = await lostState(peer, evidence, { ...this.#parts, raft: replica.consensus })
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
    return amnesiaEvidenceOf(id, this.#parts)
  }
}

/*
 * What peers remember of a node, against what its directory holds (docs/CONSENSUS.md): a wiped or restored
 * directory has forgotten votes, entries and signatures that others count on, and must not act under the old name.
 *
 * A peer holds two kinds of proof: a later header signature (its own memory, its newest certificates), and the newest
 * acknowledgement that the node gave it as leader. A peer's word is none: each counts by this node's own key alone, whoever
 * shows it. A directory that is merely behind never contradicts them, because a node writes down what it promises before
 * it promises it.
 */

/** Newest certificates that are searched for a signature. */
const certificatesSearched = 64

interface AmnesiaEvidenceSource {
  readonly storage: Pick<Storage, 'latestCertificate' | 'certificate'>
  readonly handovers: Pick<Handovers, 'signersAt'>
  readonly certifier: Pick<Certifier, 'latestSignatureOf'>
  readonly acknowledgements: Pick<Acknowledgements, 'of'>
  readonly incarnation: number
}

/** What this node can show of `id`. */
async function amnesiaEvidenceOf(id: DeviceId, source: AmnesiaEvidenceSource): Promise<AmnesiaEvidence> {
  return {
    signed: source.certifier.latestSignatureOf(id) ?? (await latestCertified(id, source)),
    acknowledged: source.acknowledgements.of(id),
  }
}

async function latestCertified(
  id: DeviceId,
  source: AmnesiaEvidenceSource,
): Promise<HeaderSignature | undefined> {
  const { storage, handovers, incarnation } = source
  const latest = await storage.latestCertificate()
  if (!latest) return undefined
  for (let height = latest.height; height > latest.height - certificatesSearched && height > 0; height--) {
    const bytes = await storage.certificate(height as Height)
    const certificate = bytes && decode(certificateCodec, bytes)
    if (!certificate?.ok) continue
    const { headerHash, signatures } = certificate.value
    const place = indexOfConsenter(handovers.signersAt(height), id)
    const own = signatures.find(({ signer }) => signer === place)
    if (own) return { incarnation, height: height as Height, headerHash, signature: own.signature }
  }
  return undefined
}

interface OwnState {
  readonly storage: Pick<Storage, 'signedHeader'>
  readonly raft: RaftStatus
  readonly chainId: ChainId
  readonly signer: Pick<Signer, 'publicKey'>
  readonly verifier: SignatureVerifier
  readonly acknowledgements: Pick<Acknowledgements, 'isOwn'>
}

/** Why this node must not act under its name, going by what a peer has shown; undefined if nothing speaks against it. */
async function lostState(
  peer: DeviceId,
  { signed, acknowledged }: AmnesiaEvidence,
  own: OwnState,
): Promise<MoteError | undefined> {
  if (signed && isOwnSignature(signed, own)) {
    const record = await own.storage.signedHeader(signed)
    if (record?.headerHash !== signed.headerHash)
      return stateLost(
        `${peer} has shown a signature of this node for height ${signed.height}, of which the data directory knows nothing`,
      )
  }
  if (!acknowledged || !own.acknowledgements.isOwn(acknowledged)) return undefined
  const { currentTerm, lastLogIndex } = own.raft
  const { term, index } = acknowledged
  // Entries that a leader of an older term counts on may have been replaced since.
  if (term < currentTerm || (term === currentTerm && index <= lastLogIndex)) return undefined
  return stateLost(
    `${peer} has shown an acknowledgement of this node for the log up to ${index} in term ${term}; the data directory ends at ${lastLogIndex} in term ${currentTerm}`,
  )
}

function isOwnSignature(
  { incarnation, height, headerHash, signature }: HeaderSignature,
  { chainId, signer, verifier }: OwnState,
): boolean {
  const signed = certificateSigningBytes(chainId, incarnation, height, headerHash)
  return verifier.verify(signer.publicKey, signed, signature)
}

function stateLost(detail: string): MoteError {
  return new MoteError(
    'state-lost',
    `${detail}. It was made with this node's own key, so either the directory is not the newest one, or a second process has the key. ` +
      'Check both before anything is removed: is this the disk and the path that ran last, is there a newer copy, does the key run elsewhere? ' +
      'Then put the newest directory back; if there is none, remove this node from the chain and join as a new member (docs/OPERATIONS.md, "A lost disk")',
  )
}
