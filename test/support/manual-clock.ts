/** A clock that moves when it is told to. */
import { Milliseconds } from '../../chain/brands.ts'
import type { Clock } from '../../node/ports.ts'

export class ManualClock implements Clock {
  #now: number
  #timers: { at: number; callback: () => void }[] = []

  constructor(start = 1_790_000_000_000) {
    this.#now = start
  }

  now(): Milliseconds {
    return Milliseconds(this.#now)
  }

  after(delayMs: number, callback: () => void): () => void {
    const timer = { at: this.#now + delayMs, callback }
    this.#timers.push(timer)
    return () => {
      this.#timers = this.#timers.filter(other => other !== timer)
    }
  }

  advance(ms: number): void {
    this.#now += ms
    const due = this.#timers.filter(timer => timer.at <= this.#now)
    this.#timers = this.#timers.filter(timer => timer.at > this.#now)
    for (const timer of due) timer.callback()
  }
}
