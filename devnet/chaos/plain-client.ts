/**
 * A client with nothing but a plain retry: it sends the same bytes again, to the next node after a failure, until the
 * outcome is final. What every attempt met is counted by code.
 */

import type { Height, Term, TransactionId } from '../../chain/brands.ts'
import { type ErrorCode, errorTable } from '../../chain/errors.ts'
import { MoteError } from '../../chain/result.ts'
import type { ChainSource } from '../../client/chain-source.ts'
import { pause } from '../../client/deadline.ts'
import { nowMs } from './timing.ts'

export type SubmissionOutcome =
  | {
      readonly type: 'acknowledged'
      readonly id: TransactionId
      readonly height: Height
      readonly term: Term
      readonly atMs: number
    }
  /** Executed and failed, or refused for good: final. */
  | { readonly type: 'invalid'; readonly code: ErrorCode; readonly atMs: number }
  /** Nobody said before the client was stopped. */
  | { readonly type: 'open' }

export interface PlainClientOptions {
  readonly sources: readonly ChainSource[]
  /** Which of them is its own: it goes back there. */
  readonly first?: number
  readonly retryMs?: number
}

/** How long a node that failed is passed over. */
const avoidMs = 2_000

export class PlainClient {
  /** How often an attempt ended with which code. */
  readonly met = new Map<ErrorCode, number>()
  readonly #options: PlainClientOptions
  readonly #failedAtMs = new Map<ChainSource, number>()

  constructor(options: PlainClientOptions) {
    this.#options = options
  }

  /** Its own node, or the next that has not failed just now; if all have, the one for which that is longest ago. */
  get source(): ChainSource {
    const { sources, first = 0 } = this.#options
    const inTurn = sources.map((_, i) => sources[(first + i) % sources.length] as ChainSource)
    const failedAt = (source: ChainSource): number => this.#failedAtMs.get(source) ?? Number.NEGATIVE_INFINITY
    const [oldest] = [...inTurn].sort((a, b) => failedAt(a) - failedAt(b))
    const source = inTurn.find(each => nowMs() - failedAt(each) > avoidMs) ?? oldest
    if (!source) throw new MoteError('unreachable', 'sources: none is known')
    return source
  }

  /** Tries `operation` on one node after the other until it answers; undefined when stopped. Throws what a retry does not help. */
  async ask<T>(
    operation: (source: ChainSource, signal: AbortSignal) => Promise<T | undefined>,
    stopping: AbortSignal,
  ): Promise<T | undefined> {
    const { retryMs = 20 } = this.#options
    while (!stopping.aborted) {
      const { source } = this
      try {
        const answer = await operation(source, stopping)
        if (answer !== undefined) return answer
      } catch (error) {
        if (stopping.aborted) return undefined
        this.#failed(source, error)
      }
      await pause(retryMs, stopping)
    }
    return undefined
  }

  /** Sends the bytes until their outcome is final. */
  async submit(bytes: Uint8Array, stopping: AbortSignal): Promise<SubmissionOutcome> {
    const outcome = await this.ask(async (source, signal): Promise<SubmissionOutcome | undefined> => {
      const { id, status, height, term, code } = await source.submit(bytes, 'certified', { signal })
      const atMs = nowMs()
      if (status === 'certified' && height !== undefined && term !== undefined)
        return { type: 'acknowledged', id, height, term, atMs }
      if (status === 'invalid') return { type: 'invalid', code: code ?? 'internal', atMs }
      if (status === 'refused' && code && !errorTable[code].retry) return { type: 'invalid', code, atMs }
      throw new MoteError(code ?? 'not-ready', `transaction ${id}: ${status}`)
    }, stopping)
    return outcome ?? { type: 'open' }
  }

  /** Counts a failure; throws it if a retry does not help. */
  #failed(source: ChainSource, error: unknown): void {
    const { code } = error instanceof MoteError ? error : new MoteError('internal', String(error))
    this.met.set(code, (this.met.get(code) ?? 0) + 1)
    if (!errorTable[code].retry) throw error
    this.#failedAtMs.set(source, nowMs())
  }
}
