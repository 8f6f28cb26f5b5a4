/** Limits of submission, and what it is made of: the types of submission.ts. */
import type { Height, Milliseconds, TransactionId } from '../../chain/brands.ts'
import type { SignatureVerifier } from '../../chain/keys.ts'
import type { LiveChain, RecentOutcome } from '../ledger/live-chain.ts'
import type { Clock } from '../ports.ts'
import type { Mempool } from '../replica/mempool.ts'
import type { Leadership } from '../replica/replica.ts'
import type { Forwarder } from './forwarder.ts'

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

/*
 * Transactions on which a leader cannot pass judgement yet: they speak of something (a new device, a group) that its log may
 * hold and that it has not executed. A leader executes an entry when its own disk has it; two followers with faster disks can
 * have it certified before, and a client that has heard of it may ask for the next thing at once.
 */

interface Held {
  /** Everything that the log held at the time is executed once this index is applied. */
  readonly until: number
  readonly decide: () => void
}

export class HeldJudgements {
  readonly #most: number
  #held: Held[] = []

  constructor(most: number) {
    this.#most = most
  }

  /** False if there is no room: then the judgement is passed now. */
  hold(held: Held): boolean {
    if (this.#held.length >= this.#most) return false
    this.#held.push(held)
    return true
  }

  /** The log is applied up to `index`. */
  applied(index: number): void {
    if (this.#held.length === 0) return
    const due = this.#held.filter(({ until }) => until <= index)
    this.#held = this.#held.filter(({ until }) => until > index)
    for (const { decide } of due) decide()
  }
}
