import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { ageOf, ChainTime, checkFresh, futureBoundMs } from '../../../client/freshness.ts'

const now = 1_700_000_000_000
const hour = 3_600_000
const clocks = (wall: number | undefined, steady = 10_000) => ({ wall, steady })

describe('age of a head', () => {
  test.each([
    ['just arrived, clocks agree', { time: now, arrivedAt: 10_000 }, clocks(now), 0],
    [
      'old by the wall clock: its source held it back',
      { time: now - 500, arrivedAt: 10_000 },
      clocks(now),
      500,
    ],
    [
      'the chain ran ahead within the bound: steady time counts',
      { time: now + 4_000, arrivedAt: 1_000 },
      clocks(now),
      9_000,
    ],
    ['the wall clock was set back', { time: now, arrivedAt: 1_000 }, clocks(now - 4_000), 9_000],
    [
      'from the future beyond the bound',
      { time: now + futureBoundMs + 1, arrivedAt: 10_000 },
      clocks(now),
      Infinity,
    ],
    ['a wall clock that is an hour behind', { time: now, arrivedAt: 10_000 }, clocks(now - hour), Infinity],
    ['without a clock: steady time alone', { time: now + hour, arrivedAt: 1_000 }, clocks(undefined), 9_000],
    [
      'without a clock, from an earlier process',
      { time: now, arrivedAt: undefined },
      clocks(undefined),
      Infinity,
    ],
    ['from an earlier process, by the wall clock', { time: now - 70, arrivedAt: undefined }, clocks(now), 70],
  ])('%s', (_, arrival, at, expected) => {
    expect(ageOf(arrival, at)).toBe(expected)
  })

  test('once nothing arrives it is over the limit after that time, whatever the wall clock is set to', () => {
    const wall = fc.option(fc.integer({ min: now - 900 * hour, max: now + 900 * hour }), { nil: undefined })
    fc.assert(
      fc.property(wall, wall => {
        const age = ageOf({ time: now, arrivedAt: 1_000 }, { wall, steady: 1_000 + 180_001 })
        expect(checkFresh(age, 180_000).ok).toBe(false)
      }),
    )
  })
})

describe("the chain's time", () => {
  test("is the head's, carried on by the steady clock, and never goes back", () => {
    const time = new ChainTime()
    const head = { time: now, arrivedAt: 1_000 }
    expect(time.now(head, clocks(now + 400 * 24 * hour, 3_000))).toBe(now + 2_000)
    expect(time.now({ time: now + 1_000, arrivedAt: 3_000 }, clocks(0, 3_000))).toBe(now + 2_000)
    expect(time.now({ time: now + 1_000, arrivedAt: 3_000 }, clocks(undefined, 5_000))).toBe(now + 3_000)
  })

  test('is the wall clock as long as nothing has arrived', () => {
    expect(new ChainTime().now({ time: 5, arrivedAt: undefined }, clocks(now))).toBe(now)
    expect(new ChainTime().now({ time: 5, arrivedAt: undefined }, clocks(undefined))).toBe(5)
  })

  test('forgets a wrong guess when a header comes', () => {
    const time = new ChainTime()
    expect(time.now({ time: 5, arrivedAt: undefined }, clocks(now + hour))).toBe(now + hour)
    expect(time.now({ time: now, arrivedAt: 1_000 }, clocks(now + hour, 1_000))).toBe(now)
  })
})
