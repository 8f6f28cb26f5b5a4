/** Clocks that move when they are told to. */
import { Milliseconds } from '../../chain/brands.ts'
import type { Clock } from '../../node/ports.ts'

export class ManualClock implements Clock {
  #wall: number
  #steady = 0
  #timers: { at: number; callback: () => void }[] = []

  constructor(start = 1_790_000_000_000) {
    this.#wall = start
  }

  wall(): Milliseconds {
    return Milliseconds(this.#wall)
  }

  steady(): number {
    return this.#steady
  }

  /** Somebody sets the wall clock; no time passes. */
  shift(ms: number): void {
    this.#wall += ms
  }

  after(delayMs: number, callback: () => void): () => void {
    const timer = { at: this.#steady + delayMs, callback }
    this.#timers.push(timer)
    return () => {
      this.#timers = this.#timers.filter(other => other !== timer)
    }
  }

  advance(ms: number): void {
    this.#wall += ms
    this.#steady += ms
    const due = this.#timers.filter(timer => timer.at <= this.#steady)
    this.#timers = this.#timers.filter(timer => timer.at > this.#steady)
    for (const timer of due) timer.callback()
  }
}
