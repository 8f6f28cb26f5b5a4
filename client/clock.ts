/**
 * The clock of everything that runs: wall time, steady time and timers. Simulations and tests have clocks of their own; a
 * device without a wall clock has one that says so.
 */
import { Milliseconds } from '../chain/brands.ts'

/** Two clocks and timers. `after` never runs its callback before it returns. */
export interface Clock {
  /**
   * The machine's clock: since 1970. It may be wrong and may jump, so it is compared with what others' clocks say
   * (block-time.ts, freshness.ts) or shown to people, and no time-out goes by it.
   */
  wall(): Milliseconds
  /** Milliseconds since some moment before: never goes back, and no change of the wall clock moves it. For every time-out. */
  steady(): number
  /** By the steady clock. Runs `callback` once after `delayMs`; the returned function cancels it. */
  after(delayMs: number, callback: () => void): () => void
}

/** What tells how old something is; without `wall` on a device that has no clock of its own. */
export interface Timepiece extends Pick<Clock, 'steady'> {
  readonly wall?: Clock['wall'] | undefined
}

/** The machine's clocks. Timers do not keep the process alive: what does is a listening socket or an open store. */
export const systemClock: Clock = {
  wall: () => Milliseconds(Date.now()),
  steady: () => performance.now(),
  after: (delayMs, callback) => {
    const timer = setTimeout(callback, delayMs)
    timer.unref()
    return () => clearTimeout(timer)
  },
}

/** The machine's steady clock alone: its wall clock is missing, or not to be gone by. */
export const steadyClock: Timepiece = { steady: systemClock.steady }

/** The same as `systemClock`, with timers that keep the process alive: a program has nothing else to do until they are over. */
export const waitingClock: Clock = {
  ...systemClock,
  after: (delayMs, callback) => {
    const timer = setTimeout(callback, delayMs)
    return () => clearTimeout(timer)
  },
}
