/**
 * A client with nothing but a plain retry: it sends the same bytes again, to the next node after a failure, until the
 * outcome is final. What every attempt met is counted by code.
 */
import type { Height, Term, TransactionId } from '../chain/brands.ts'
import { type ErrorCode, errorTable } from '../chain/errors.ts'
import { MoteError } from '../chain/result.ts'
import type { ChainSource } from '../client/chain-source.ts'
import { nowMs, pause } from './chaos-clock.ts'

export type Outcome =
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
  /** Which of them to begin with. */
  readonly first?: number
  readonly retryMs?: number
}

export class PlainClient {
  /** How often an attempt ended with which code. */
  readonly met = new Map<ErrorCode, number>()
  readonly #options: PlainClientOptions
  #next: number

  constructor(options: PlainClientOptions) {
    this.#options = options
    this.#next = options.first ?? 0
  }

  /** The node that it talks to now. */
  get source(): ChainSource {
    const { sources } = this.#options
    const source = sources[this.#next % sources.length]
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
      try {
        const answer = await operation(this.source, stopping)
        if (answer !== undefined) return answer
      } catch (error) {
        if (stopping.aborted) return undefined
        this.failed(error)
      }
      await pause(retryMs, stopping)
    }
    return undefined
  }

  /** Sends the bytes until their outcome is final. */
  async submit(bytes: Uint8Array, stopping: AbortSignal): Promise<Outcome> {
    const outcome = await this.ask(async (source, signal): Promise<Outcome | undefined> => {
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

  /** Counts a failure and turns to the next node. Throws it if a retry does not help. */
  failed(error: unknown): void {
    const { code } = error instanceof MoteError ? error : new MoteError('internal', String(error))
    this.met.set(code, (this.met.get(code) ?? 0) + 1)
    if (!errorTable[code].retry) throw error
    this.#next += 1
  }
}
