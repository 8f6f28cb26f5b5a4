import { expect, test } from 'vitest'
import { Places, RateLimit } from '../../../node/network/rate-limit.ts'
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

test('places: each has some, all have as many as there are, and who leaves makes room', async () => {
  const places = new Places<string>({ each: 2, all: 3 })
  const leave: (() => void)[] = []
  const enter = (key: string) => places.within(key, () => new Promise<void>(resolve => leave.push(resolve)))
  const outcome = (entering: Promise<void>) =>
    Promise.race([
      entering.then(
        () => 'left',
        error => (error as { code: string }).code,
      ),
      new Promise(resolve => setImmediate(resolve, 'in')),
    ])
  expect([await outcome(enter('a')), await outcome(enter('a')), await outcome(enter('a'))]).toEqual([
    'in',
    'in',
    'overloaded',
  ])
  expect([await outcome(enter('b')), await outcome(enter('c'))]).toEqual(['in', 'overloaded'])
  leave[0]!()
  await new Promise(resolve => setImmediate(resolve))
  expect([await outcome(enter('c')), await outcome(enter('a'))]).toEqual(['in', 'overloaded'])
})
