/** Limits of submission, and what it is made of: the types of submission.ts. */
import type { Height, Milliseconds, TransactionId } from '../chain/brands.ts'
import type { SignatureVerifier } from '../chain/keys.ts'
import type { Forwarder } from './forwarder.ts'
import type { LiveChain, RecentOutcome } from './live-chain.ts'
import type { Mempool } from './mempool.ts'
import type { Clock } from './ports.ts'
import type { Leadership } from './replica.ts'

export interface SubmissionLimits {
  readonly inFlightMax: number
  /** A watch without an outcome ends after this time with what is known. */
  readonly watchMs: number
  /** Sent on again if nothing was heard for this long. */
  readonly forwardAgainMs: number
  readonly sweepMs: number
}

export const defaultSubmissionLimits: SubmissionLimits = {
  inFlightMax: 20_000,
  watchMs: 15_000,
  forwardAgainMs: 1_500,
  sweepMs: 250,
}

export interface SubmissionParts {
  readonly chain: LiveChain
  readonly mempool: Mempool
  readonly verifier: SignatureVerifier
  readonly clock: Clock
  /** What block time is near: the voters' time, or the newest block's while nobody can say. */
  readonly time: () => Milliseconds
  readonly forwarder: Forwarder
  readonly leadership: () => Leadership
  /** How far the log is applied here, and where it ends. */
  readonly log: () => { readonly applied: number; readonly last: number }
  readonly certifiedHeight: () => Height
  /** Something was added to the mempool of this leader. */
  readonly admitted: () => void
  /** What storage knows of a transaction that left memory. */
  readonly lookUp: (id: TransactionId) => Promise<RecentOutcome | undefined>
  readonly limits?: SubmissionLimits
}
