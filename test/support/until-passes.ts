/** Waiting in a test for what comes by itself: as long as a busy machine may take, since a time-out is no measure of speed. */
import { vi } from 'vitest'

const withinMs = 60_000
const lookEveryMs = 20

/** What `check` gives as soon as it does not throw. */
export function untilPasses<T>(check: () => T | Promise<T>): Promise<T> {
  return vi.waitFor(check, { timeout: withinMs, interval: lookEveryMs })
}
