/** Look-ups of ids that are on no chain: whose they are, and when there are too many. */
import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { UnknownDevices } from '../../../mqtt-gateway/server/unknown-devices.ts'

beforeEach(() => {
  vi.useFakeTimers()
})
afterEach(() => {
  vi.useRealTimers()
})

test('unknown devices: an address has a share, all have one together, and after a minute they begin anew', () => {
  const unknown = new UnknownDevices({ perAddress: 2, inAll: 3 })
  unknown.count('a')
  expect(unknown.mayAsk('a')).toBe(true)
  unknown.count('a')
  expect([unknown.mayAsk('a'), unknown.mayAsk('b')]).toEqual([false, true])
  unknown.count('b')
  expect([unknown.mayAsk('b'), unknown.mayAsk('c')]).toEqual([false, false])
  vi.advanceTimersByTime(60_001)
  expect(unknown.mayAsk('a')).toBe(true)
})

test('unknown devices: eight are looked up at a time, and one that hangs holds up no lane but its own', async () => {
  const unknown = new UnknownDevices({ perAddress: 99, inAll: 99 })
  const hangs = Promise.withResolvers<void>()
  let running = 0
  let mostAtOnce = 0
  const lookUp = async () => {
    running += 1
    mostAtOnce = Math.max(mostAtOnce, running)
    await Promise.resolve()
    running -= 1
  }
  const hanging = unknown.inTurn(() => hangs.promise)
  const others = Array.from({ length: 20 }, () => unknown.inTurn(lookUp))
  await Promise.race(others.slice(8))
  expect(mostAtOnce).toBe(7)
  hangs.resolve()
  await Promise.all([hanging, ...others])
})
