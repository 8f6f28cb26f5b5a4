import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import type { DeviceId, Milliseconds } from '../../../chain/brands.ts'
import { clockSampleMaxAgeMs } from '../../../node/network/wire.ts'
import { clockBoundMs, VoterClocks, votersTime } from '../../../node/replica/block-time.ts'
import { ManualClock } from '../../support/manual-clock.ts'

const hour = 3_600_000
const ids = ['a', 'b', 'c', 'd', 'e', 'f', 'g'] as DeviceId[]
const votersOf = (count: number, votersOutgoing: DeviceId[] = []) => ({
  voters: ids.slice(0, count),
  votersOutgoing,
})
const readings = (...times: (number | undefined)[]) =>
  new Map(times.flatMap((time, i) => (time === undefined ? [] : [[ids[i]!, time] as const])))

describe("the voters' time", () => {
  test.each([
    ['a lone voter is the majority', 1, [7], 7],
    ['of two, both have to have reached it', 2, [7, 5], 5],
    ['of three, the second latest', 3, [1, 9, 5], 5],
    ['of four, the third latest', 4, [1, 9, 5, 4], 4],
    ['of five, the third latest', 5, [1, 9, 5, 4, 8], 5],
    ['a voter that is not heard has reached nothing', 5, [9, 8, 7, undefined, undefined], 7],
    ['without a majority of readings there is none', 5, [9, 8, undefined, undefined, undefined], undefined],
  ])('%s', (_, count, times, expected) => {
    expect(votersTime(readings(...times), votersOf(count))).toBe(expected)
  })

  test('in joint consensus a majority of either half has reached it', () => {
    const voters = { voters: ids.slice(0, 3), votersOutgoing: ids.slice(2, 5) }
    expect(votersTime(readings(9, 9, 9, 1, 2), voters)).toBe(2)
    expect(votersTime(readings(1, 2, 9, 9, 9), voters)).toBe(2)
    expect(votersTime(readings(9, 9, 9), voters)).toBe(undefined)
  })

  test('a minority of wrong clocks brings it neither beyond the right ones nor below them', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 7 }),
        fc.array(fc.integer({ min: 1_000_000, max: 1_000_500 }), { minLength: 7, maxLength: 7 }),
        fc.array(fc.integer({ min: 0, max: 9_000_000 }), { minLength: 7, maxLength: 7 }),
        (count, right, wrong) => {
          const minority = Math.ceil(count / 2) - 1
          const times = right.slice(0, count).map((time, i) => (i < minority ? wrong[i] : time))
          const time = votersTime(readings(...times), votersOf(count))!
          const honest = right.slice(minority, count)
          expect(time).toBeGreaterThanOrEqual(Math.min(...honest))
          expect(time).toBeLessThanOrEqual(Math.max(...honest))
        },
      ),
    )
  })

  test('more readings never make it earlier, so a follower that hears its leader is not behind it', () => {
    const times = fc.array(fc.option(fc.nat(1_000), { nil: undefined }), { minLength: 7, maxLength: 7 })
    fc.assert(
      fc.property(times, fc.nat(6), fc.nat(1_000), fc.integer({ min: 1, max: 7 }), (some, i, more, count) => {
        const before = votersTime(readings(...some), votersOf(count, ids.slice(1, 4)))
        if (some[i] !== undefined) return
        const after = votersTime(readings(...some.with(i, more)), votersOf(count, ids.slice(1, 4)))
        if (before !== undefined) expect(after).toBeGreaterThanOrEqual(before)
      }),
    )
  })
})

describe('voter clocks', () => {
  const start = 1_700_000_000_000
  const three = votersOf(3)
  const [a, b, c] = ids as [DeviceId, DeviceId, DeviceId]
  const own = (id: DeviceId, wall: number, ageMs = 0) => [{ id, wall: wall as Milliseconds, ageMs }]

  function setUp() {
    const clock = new ManualClock(start)
    return { clock, clocks: new VoterClocks(a, clock) }
  }

  test('a reading is carried on by the steady clock, and forgotten after its time', () => {
    const { clock, clocks } = setUp()
    clocks.heard(b, own(b, start + 100), three)
    clock.advance(1_000)
    expect(clocks.time(three)).toBe(start + 1_000)
    clock.shift(hour)
    expect(clocks.time(three)).toBe(start + 1_100)
    clock.advance(clockSampleMaxAgeMs - 1_000)
    expect(clocks.time(three)).toBe(start + 100 + clockSampleMaxAgeMs)
    clock.advance(1)
    expect(clocks.time(three)).toBe(undefined)
  })

  test("what another passes on counts, with its age, but never in place of a clock's own fresh word", () => {
    const { clocks } = setUp()
    clocks.heard(b, own(c, start - 4_000, 4_000), three)
    expect(clocks.time(three)).toBe(start)
    clocks.heard(c, own(c, start - 10), three)
    clocks.heard(b, own(c, start - hour), three)
    expect(clocks.time(three)).toBe(start - 10)
  })

  test('what another says of the own clock, or of who does not vote, is not kept', () => {
    const { clocks } = setUp()
    clocks.heard(b, [...own(a, start + hour), ...own('x' as DeviceId, start)], three)
    expect(clocks.time(three)).toBe(undefined)
    expect(clocks.show(three)).toEqual(own(a, start))
  })

  test('a node shows its clock every two seconds, and at once when somebody has set it', () => {
    const { clock, clocks } = setUp()
    expect(clocks.isDue()).toBe(true)
    clocks.show(three)
    clock.advance(1_999)
    expect(clocks.isDue()).toBe(false)
    clock.shift(-hour)
    expect(clocks.isDue()).toBe(true)
    clocks.show(three)
    clock.advance(2_000)
    expect(clocks.isDue()).toBe(true)
  })

  test('a learner shows what it knows of others, and not its own', () => {
    const clocks = new VoterClocks('g' as DeviceId, new ManualClock(start))
    clocks.heard(b, own(b, start), three)
    expect(clocks.show(three)).toEqual(own(b, start))
  })

  test('a follower in joint consensus goes by the half that is later, or that it can hear', () => {
    const { clocks } = setUp()
    const joint = { voters: ids.slice(0, 3), votersOutgoing: ['a', 'f', 'g'] as DeviceId[] }
    expect(clocks.latest(joint)).toBe(undefined)
    clocks.heard(b, own(b, start), joint)
    expect([clocks.time(joint), clocks.latest(joint)]).toEqual([undefined, start])
    clocks.heard('f' as DeviceId, own('f' as DeviceId, start - hour), joint)
    expect([clocks.time(joint), clocks.latest(joint)]).toEqual([start - hour, start])
  })

  test('a clock beyond the bound is odd, whoever it is', () => {
    const { clock, clocks } = setUp()
    clocks.heard(b, own(b, start), three)
    clocks.heard(c, own(c, start + clockBoundMs), three)
    expect(clocks.odd(three)).toEqual([])
    clock.shift(-70_000)
    expect(clocks.odd(three)).toEqual([{ id: a, offsetMs: -70_000 }])
  })
})
