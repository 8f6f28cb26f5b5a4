/**
 * Keeps one peer connected: dials at once, then again after a growing pause with a random part, for ever, until it
 * is stopped. It rests while the peer is connected, whoever dialled.
 */
import type { Clock } from '../ports.ts'

export interface DiallerOptions {
  readonly clock: Clock
  /** Pause before the first attempt after a loss. Of two peers that dial each other one leaves the other time to. */
  readonly firstDelayMs: number
  readonly retryDelayMs: number
  readonly retryDelayMsMax: number
  /** From 0 (inclusive) to 1 (exclusive). */
  readonly random: () => number
  /** One attempt: resolves when the peer is connected, rejects if not. Ends early when `signal` aborts. */
  readonly connect: (signal: AbortSignal) => Promise<void>
  readonly isConnected: () => boolean
  readonly onFailure: (error: unknown, attempt: number) => void
}

export class Dialler {
  readonly #options: DiallerOptions
  readonly #stopping = new AbortController()
  #state: 'connected' | 'dialling' | 'waiting' = 'connected'
  #cancelWait: (() => void) | undefined
  #failures = 0

  constructor(options: DiallerOptions) {
    this.#options = options
  }

  /** The peer is not connected (any more). */
  disconnected(): void {
    if (this.#stopping.signal.aborted || this.#state !== 'connected') return
    this.#wait(this.#options.firstDelayMs)
  }

  /** The peer is connected, by this dialler or by itself. */
  connected(): void {
    this.#cancelWait?.()
    this.#cancelWait = undefined
    this.#failures = 0
    if (this.#state === 'waiting') this.#state = 'connected'
  }

  stop(): void {
    this.#stopping.abort()
    this.#cancelWait?.()
  }

  #attempt(): void {
    this.#state = 'dialling'
    this.#options.connect(this.#stopping.signal).then(
      () => {
        this.#state = 'connected'
        this.#failures = 0
        if (!this.#options.isConnected()) this.disconnected()
      },
      error => this.#retryAfter(error),
    )
  }

  #retryAfter(error: unknown): void {
    if (this.#stopping.signal.aborted) return
    this.#options.onFailure(error, ++this.#failures)
    if (this.#options.isConnected()) {
      this.#state = 'connected'
      return
    }
    const { retryDelayMs, retryDelayMsMax, random } = this.#options
    const delay = Math.min(retryDelayMsMax, retryDelayMs * 2 ** Math.min(this.#failures - 1, 16))
    this.#wait(delay * (0.5 + random() / 2))
  }

  #wait(delayMs: number): void {
    this.#state = 'waiting'
    this.#cancelWait = this.#options.clock.after(delayMs, () => this.#attempt())
  }
}
