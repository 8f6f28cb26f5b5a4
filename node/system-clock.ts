/** The machine's clocks. Timers do not keep the process alive: what does is a listening socket or an open store. */
import { Milliseconds } from '../chain/brands.ts'
import type { Clock } from './ports.ts'

export const systemClock: Clock = {
  wall: () => Milliseconds(Date.now()),
  steady: () => performance.now(),
  after: (delayMs, callback) => {
    const timer = setTimeout(callback, delayMs)
    timer.unref()
    return () => clearTimeout(timer)
  },
}
