/** The wall clock of a simulated machine: it drifts, somebody sets it, and what it showed is remembered. */
import type { Timeline } from './timeline.ts'

const clockStart = 1_700_000_100_000
/** So long after a clock was set, what it showed before may still count somewhere: a reading's life, and its way. */
const rememberedMs = 25_000
/** Clocks go at most this much faster than others. */
const driftMax = 0.25

interface Era {
  readonly endedAt: number
  readonly shown: number
}

export class SimulatedClock {
  readonly #timeline: Timeline
  #skewMs = 0
  #rate = 1
  #eras: Era[] = []

  constructor(timeline: Timeline) {
    this.#timeline = timeline
  }

  get now(): number {
    return clockStart + this.#skewMs + this.#timeline.now * this.#rate
  }

  get rate(): number {
    return this.#rate
  }

  /** Somebody sets it to be so far ahead; a rate is for a clock that has not run yet. */
  set(skewMs: number, rate = this.#rate): void {
    const at = this.#timeline.now
    this.#eras = this.#eras.filter(({ endedAt }) => at - endedAt <= rememberedMs)
    this.#eras.push({ endedAt: at, shown: this.now })
    this.#skewMs = skewMs
    this.#rate = rate
  }

  /** The latest time that somebody who has heard of this clock can take it to show. */
  get reached(): number {
    const at = this.#timeline.now
    const earlier = this.#eras
      .filter(({ endedAt }) => at - endedAt <= rememberedMs)
      .map(({ endedAt, shown }) => shown + (at - endedAt) * (1 + driftMax))
    return Math.max(this.now, ...earlier)
  }
}
