/** Token buckets: `burst` at once, then `perSecond`; what costs more takes more. And places for what lasts (`Places`). */
import { RecentMap } from '../../chain/recent-map.ts'
import { MoteError } from '../../chain/result.ts'
import type { Clock } from '../ports.ts'

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

  /** True if this much more is allowed now. */
  take(cost = 1): boolean {
    const now = this.#clock.steady()
    const earned = (Math.max(0, now - this.#at) / 1000) * this.#rate.perSecond
    this.#tokens = Math.min(this.#rate.burst, this.#tokens + earned)
    this.#at = now
    if (this.#tokens < cost) return false
    this.#tokens -= cost
    return true
  }

  /** How long until this much is allowed, in milliseconds. */
  waitMs(cost = 1): number {
    return Math.ceil((Math.max(0, cost - this.#tokens) / this.#rate.perSecond) * 1000)
  }
}

/** Buckets of those who asked last that are kept at least: more than there can be connections. */
const maxRateLimits = 1024

/** One bucket for each key, which outlives the connections of a peer. */
export class RateLimits<K> {
  readonly #rate: Rate
  readonly #clock: Clock
  readonly #limits = new RecentMap<K, RateLimit>(maxRateLimits)

  constructor(rate: Rate, clock: Clock) {
    this.#rate = rate
    this.#clock = clock
  }

  of(key: K): RateLimit {
    const known = this.#limits.get(key)
    if (known) return known
    const limit = new RateLimit(this.#rate, this.#clock)
    this.#limits.set(key, limit)
    return limit
  }
}

/** Places for what lasts: each key may have some of them, and all keys together no more than there are. */
export class Places<K> {
  readonly #limits: { readonly each: number; readonly all: number }
  readonly #taken = new Map<K, number>()
  #all = 0

  constructor(limits: { readonly each: number; readonly all: number }) {
    this.#limits = limits
  }

  /** Runs `task` in a place of this key. Throws `overloaded` when there is none. */
  async within<T>(key: K, task: () => Promise<T>): Promise<T> {
    const { each, all } = this.#limits
    const taken = this.#taken.get(key) ?? 0
    if (taken >= each || this.#all >= all)
      throw new MoteError(
        'overloaded',
        `expected at most ${each} that wait here of one caller, ${all} in all`,
      )
    this.#taken.set(key, taken + 1)
    this.#all++
    try {
      return await task()
    } finally {
      this.#all--
      const left = (this.#taken.get(key) ?? 1) - 1
      if (left === 0) this.#taken.delete(key)
      else this.#taken.set(key, left)
    }
  }
}
