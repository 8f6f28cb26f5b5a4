/** What the certifier is made of, what it is told and what it tells: the types of certifier.ts. */
import type { ChainId, DeviceId, Hash, Height, Term } from '../chain/brands.ts'
import type { Certificate } from '../chain/certificate.ts'
import type { ConsenterSet } from '../chain/consenters.ts'
import type { SignatureVerifier, Signer } from '../chain/keys.ts'
import type { Handover } from '../chain/light-client.ts'
import type { SignatureMessage } from './ports.ts'

/** A block that this node has executed. */
export interface ExecutedBlock {
  readonly height: Height
  readonly term: Term
  readonly headerHash: Hash
  /** The set that signs what follows, if this is a handover block. */
  readonly handover?: ConsenterSet | undefined
}

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
