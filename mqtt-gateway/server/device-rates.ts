/**
 * How fast each device may publish: messages and bytes a second, all its connections together, with a burst. A bucket fills with time and may be
 * overdrawn by one message, which the next one waits for.
 */
import { RecentMap } from '../../chain/recent-map.ts'

export interface PublishRate {
  readonly messagesPerSecond: number
  readonly bytesPerSecond: number
}

/** How long a device that was silent may publish at any speed, measured in what it may publish in that time. */
const rateBurstMs = 4_000
/** Devices remembered at least, twice as many at most; one that was forgotten has its burst again. */
const maxRatedDevices = 8192

export class RateBucket {
  readonly #limits: PublishRate
  /** Milliseconds of rate that are left, of messages and of bytes; at most a burst. */
  #messages = rateBurstMs
  #bytes = rateBurstMs
  #filledAt: number

  /** @param now of a steady clock, in milliseconds */
  constructor(limits: PublishRate, now: number) {
    this.#limits = limits
    this.#filledAt = now
  }

  /** Takes a message out; or returns for how many milliseconds, at least 1, it has to wait. */
  take(bytes: number, now = performance.now()): number {
    const passed = now - this.#filledAt
    this.#filledAt = now
    this.#messages = Math.min(rateBurstMs, this.#messages + passed)
    this.#bytes = Math.min(rateBurstMs, this.#bytes + passed)
    const missing = -Math.min(this.#messages, this.#bytes)
    if (missing >= 0) return Math.max(1, Math.ceil(missing))
    this.#messages -= 1000 / this.#limits.messagesPerSecond
    this.#bytes -= (1000 * bytes) / this.#limits.bytesPerSecond
    return 0
  }
}

export class DeviceRates {
  readonly #limits: PublishRate
  readonly #buckets = new RecentMap<string, RateBucket>(maxRatedDevices)

  constructor(limits: PublishRate) {
    this.#limits = limits
  }

  /** The bucket of a device, one for all its connections. */
  of(device: string): RateBucket {
    const known = this.#buckets.get(device)
    if (known) return known
    const bucket = new RateBucket(this.#limits, performance.now())
    this.#buckets.set(device, bucket)
    return bucket
  }
}
