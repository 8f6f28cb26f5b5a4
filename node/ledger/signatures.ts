/**
 * Signatures of consenters over headers: those of one set over one header, on the way to a certificate (`SignatureSet`), what the
 * certifier is told and tells, and how this node's own reach the others (`Announcements`).
 */
import type { ChainId, DeviceId, Hash, Height } from '../../chain/brands.ts'
import type { Certificate } from '../../chain/certificate.ts'
import { type ConsenterSet, indexOfConsenter, quorumOf } from '../../chain/consenters.ts'
import type { PublicKey, SignatureVerifier, Signer } from '../../chain/keys.ts'
import type { Handover } from '../../chain/light-client.ts'
import type { Network, SignatureMessage } from '../ports.ts'
import type { LiveChain } from './live-chain.ts'
import type { Members } from './members.ts'
import type { Leadership, NodeListener } from './node-events.ts'

/** True if `signature` is the holder's over the header of the set. */
export type Verifies = (key: PublicKey, signature: Uint8Array) => boolean

/**
 * The signatures of one consenter set over one header.
 *
 * Verification is lazy: what is offered is verified only as far as the quorum needs it, so a signature that arrives
 * after the quorum costs nothing. One that does not verify is forgotten, and its consenter may offer another.
 */
export class SignatureSet {
  readonly set: ConsenterSet
  readonly #verifies: Verifies
  readonly #offered = new Map<DeviceId, Uint8Array>()
  readonly #verified = new Map<DeviceId, Uint8Array>()

  constructor(set: ConsenterSet, verifies: Verifies) {
    this.set = set
    this.#verifies = verifies
  }

  /** The first signature of each consenter of the set is kept; others' are none of its business. */
  offer(id: DeviceId, signature: Uint8Array): void {
    if (this.#offered.has(id) || this.#verified.has(id) || indexOfConsenter(this.set, id) === undefined)
      return
    this.#offered.set(id, signature)
  }

  /** The signature that this node has just made with the key that the set has of it: it needs no verification. */
  addOwn(id: DeviceId, signature: Uint8Array): void {
    this.#offered.delete(id)
    this.#verified.set(id, signature)
  }

  /** True once a quorum of valid signatures is here. */
  complete(): boolean {
    const quorum = quorumOf(this.set)
    for (const id of this.#offered.keys()) {
      if (this.#verified.size >= quorum) break
      this.signatureOf(id)
    }
    return this.#verified.size >= quorum
  }

  /** This consenter's signature, if it is here and valid. */
  signatureOf(id: DeviceId): Uint8Array | undefined {
    const signature = this.#offered.get(id)
    if (signature) {
      this.#offered.delete(id)
      const key = keyIn(this.set, id)
      if (key && this.#verifies(key, signature)) this.#verified.set(id, signature)
    }
    return this.#verified.get(id)
  }

  /** The certificate of what was verified so far. */
  certificate(height: Height, headerHash: Hash): Certificate {
    const signatures = [...this.#verified]
      .map(([id, signature]) => ({ signer: indexOfConsenter(this.set, id) ?? 0, signature }))
      .sort((a, b) => a.signer - b.signer)
    return { height, headerHash, signatures }
  }
}

/** The key with which this consenter of the set signs. */
export function keyIn(set: ConsenterSet, id: DeviceId): PublicKey | undefined {
  return set.consenters.find(consenter => consenter.id === id)?.key
}

/* What the certifier is made of, what it is told and what it tells: the types of certifier.ts. */

/** A consenter that validly signed another hash than this node computed. */
export interface Disagreement {
  readonly consenter: DeviceId
  readonly height: Height
  readonly theirs: Hash
  readonly ours: Hash
}

/** What the certifier asks of the node around it. */
export interface CertifierOutput {
  announce(to: DeviceId | 'all', signatures: readonly SignatureMessage[]): void
  /** `handover` comes with the certificate of a handover header. */
  certified(certificate: Certificate, handover: Handover | undefined): void
  /** The certified handover header of this height, or the newest certified header, is to be asked for: `adopt`. */
  wanted(height: Height | undefined): void
  disagreement(disagreement: Disagreement): void
  diverged(detail: string): void
}

export interface CertifierConfig {
  readonly chainId: ChainId
  readonly incarnation: number
  /** The set that signs the first height after the genesis, or after what `restore` says. */
  readonly consenters: ConsenterSet
  /** This node's id and signing key, if it may sign. */
  readonly self: { readonly id: DeviceId; readonly signer: Signer } | undefined
  readonly verifier: SignatureVerifier
  /** Signatures for blocks this far above the last executed one are kept until the block comes. */
  readonly aheadMax?: number
  /** Own signatures kept for peers that lag. At least the certification lag at which leaders stop. */
  readonly keptSignatures?: number
  readonly announceAgainMs?: number
}

/*
 * How this node's signatures reach the others. Each waits for those that complete its certificate, so they leave before
 * this node goes on. Where two signatures are a certificate, a consenter that follows has its own and the leader's first: what
 * another follower signs is spare there, and waits for company (`Network.send`). A full node that does not sign needs it.
 */

/** Of the leader and of whoever collects. */
const certificateOfTwo = 2

export class Announcements implements NodeListener {
  readonly #id: DeviceId
  readonly #network: Pick<Network, 'send' | 'flush'>
  readonly #members: Pick<Members, 'others'>
  readonly #chain: Pick<LiveChain, 'ledger'>
  #leadership: Leadership | undefined

  constructor(
    id: DeviceId,
    network: Pick<Network, 'send' | 'flush'>,
    members: Pick<Members, 'others'>,
    chain: Pick<LiveChain, 'ledger'>,
  ) {
    this.#id = id
    this.#network = network
    this.#members = members
    this.#chain = chain
  }

  leadershipChanged(leadership: Leadership): void {
    this.#leadership = leadership
  }

  /** Sends this node's signatures to one peer or to every other member. */
  send(to: DeviceId | 'all', signatures: readonly SignatureMessage[]): void {
    const message = { type: 'signatures', signatures } as const
    if (to === 'all')
      for (const peer of this.#members.others)
        this.#network.send(peer as DeviceId, message, this.#isSpareTo(peer) ? 'soon' : 'now')
    else this.#network.send(to, message)
    this.#network.flush()
  }

  #isSpareTo(peer: string): boolean {
    const { role, leader } = this.#leadership ?? {}
    if (role !== 'follower' || leader === undefined || leader === peer) return false
    const set = this.#chain.ledger.parameters.consenters
    const signers = new Set<string>(set.consenters.map(({ id }) => id))
    return quorumOf(set) <= certificateOfTwo && [this.#id, leader, peer].every(id => signers.has(id))
  }
}
