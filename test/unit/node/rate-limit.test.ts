import { expect, test } from 'vitest'
import { RateLimit } from '../../../node/network/rate-limit.ts'
import { ManualClock } from '../../support/manual-clock.ts'

test('rate limit: a burst, then so many a second, whatever the wall clock is set to', () => {
  const clock = new ManualClock()
  const limit = new RateLimit({ burst: 2, perSecond: 1 }, clock)
  const take = () => limit.take()
  expect([take(), take(), take()]).toEqual([true, true, false])
  clock.shift(3_600_000)
  expect(take()).toBe(false)
  clock.shift(-7_200_000)
  clock.advance(1_000)
  expect([take(), take()]).toEqual([true, false])
})
