/** A token bucket: `burst` at once, then `perSecond`. */
import type { Clock } from './ports.ts'

export interface Rate {
  readonly burst: number
  readonly perSecond: number
}

export class RateLimit {
  readonly #rate: Rate
  readonly #clock: Clock
  #tokens: number
  #at: number

  constructor(rate: Rate, clock: Clock) {
    this.#rate = rate
    this.#clock = clock
    this.#tokens = rate.burst
    this.#at = clock.steady()
  }

  /** True if one more is allowed now. */
  take(): boolean {
    const now = this.#clock.steady()
    const earned = (Math.max(0, now - this.#at) / 1000) * this.#rate.perSecond
    this.#tokens = Math.min(this.#rate.burst, this.#tokens + earned)
    this.#at = now
    if (this.#tokens < 1) return false
    this.#tokens--
    return true
  }
}
