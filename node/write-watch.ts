/**
 * How long the disk has kept the replica waiting. A disk that hangs reports no error, and a leader behind it acknowledges
 * nothing while its heartbeats keep everybody else from leading.
 */
import type { Milliseconds } from '../chain/brands.ts'

/** A leader whose write takes longer hands leadership over. */
export const writeStallMs = 2_000
/** A node whose write takes longer stops: `storage-failed`. */
export const writeDeadlineMs = 30_000

export class WriteWatch {
  /** When each write that is under way began; they end in order. */
  readonly #begun: Milliseconds[] = []
  #idle: (() => void) | undefined

  get inFlight(): number {
    return this.#begun.length
  }

  began(now: Milliseconds): void {
    this.#begun.push(now)
  }

  ended(): void {
    this.#begun.shift()
    if (this.#begun.length === 0) this.#idle?.()
  }

  /** Milliseconds that the oldest write has taken so far; 0 if there is none. */
  waitingMs(now: Milliseconds): number {
    const [oldest] = this.#begun
    return oldest === undefined ? 0 : now - oldest
  }

  /** Resolves when no write is under way. */
  async idle(): Promise<void> {
    if (this.#begun.length > 0) await new Promise<void>(resolve => (this.#idle = resolve))
  }
}
