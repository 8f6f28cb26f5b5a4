import fc from 'fast-check'
import { expect, test } from 'vitest'
import { proposalCodec, proposalTime } from '../../../chain/block.ts'
import { Milliseconds } from '../../../chain/brands.ts'
import { encode } from '../../../chain/codec.ts'
import type { Entry } from '../../../consensus/types.ts'
import { LateProposals, withholdLate } from '../../../node/replica/block-time.ts'

const data = (time: number) =>
  encode(proposalCodec, {
    version: 1,
    type: 'block',
    time: Milliseconds(time),
    transactions: [new Uint8Array(300)],
  })
const entries = (from: number, ...times: number[]): Entry[] =>
  times.map((time, i) => ({ index: from + i, term: 1, type: 'command', data: data(time) }))
const append = (list: readonly Entry[], leaderCommit = 0) => ({
  type: 'append-entries' as const,
  from: 'a',
  term: 1,
  prevLogIndex: (list[0]?.index ?? 1) - 1,
  prevLogTerm: 1,
  entries: list,
  leaderCommit,
  readContext: 3,
})

test('proposal time: is read off the first bytes of any proposal', () => {
  fc.assert(
    fc.property(fc.integer({ min: 0, max: Number.MAX_SAFE_INTEGER }), time => {
      expect(proposalTime(data(time))).toBe(time)
    }),
  )
})

test('proposal time: nothing is read off other bytes, and nothing throws', () => {
  expect(proposalTime(new Uint8Array(0))).toBe(undefined)
  expect(proposalTime(Uint8Array.of(0x94, 1, 4, 0))).toBe(undefined)
  fc.assert(fc.property(fc.uint8Array({ maxLength: 20 }), bytes => void proposalTime(bytes)))
  expect(proposalTime(data(2 ** 40).subarray(0, 8))).toBe(undefined)
})

test('an append is cut before its first proposal that is too late, and what is before it is taken', () => {
  const whole = append(entries(5, 10, 20, 99, 30))
  const { message, withheld } = withholdLate(whole, 50)
  expect(withheld).toBe(true)
  expect(message).toEqual({ ...whole, entries: whole.entries.slice(0, 2) })
})

test('an append without one is the same append', () => {
  const whole = append([...entries(5, 10, 20), { index: 7, term: 1, type: 'noop', data: data(99) }])
  expect(withholdLate(whole, 20)).toEqual({ message: whole, withheld: false })
})

test('what is committed passes: a majority holds it already', () => {
  const whole = append(entries(5, 99, 99, 99), 6)
  expect(withholdLate(whole, 20).message.entries.map(({ index }) => index)).toEqual([5, 6])
})

function setUp(timeouts = 10) {
  let latest = 50
  let gave = 0
  const late = new LateProposals({ latestAcceptable: () => latest, gaveWay: () => gave++ }, timeouts, [])
  const leader = { role: 'leader' as const, term: 1, leader: undefined }
  const run = (ticks: number, leadership: Parameters<LateProposals['tick']>[0] = leader) => {
    for (let i = 0; i < ticks; i++) late.tick(leadership)
  }
  return { late, run, gave: () => gave, setLatest: (time: number) => (latest = time) }
}

test('a leader whose proposal stays too late keeps silent, and leads on if nobody else does', () => {
  const { late, run, gave } = setUp()
  late.persists({ entries: entries(1, 10, 99) }, undefined)
  run(30)
  expect(late.sitsOut).toBe(false)
  run(1)
  expect([late.sitsOut, gave()]).toEqual([true, 1])
  run(60)
  expect(late.sitsOut).toBe(false)
})

test.each([
  ['its time comes', (world: ReturnType<typeof setUp>) => world.setLatest(99)],
  ['it is committed', ({ late }: ReturnType<typeof setUp>) => late.committed(2)],
  [
    'it is overwritten',
    ({ late }: ReturnType<typeof setUp>) =>
      late.persists({ truncateAfter: 1, entries: entries(2, 40) }, undefined),
  ],
])('a leader goes on when %s', (_, happen) => {
  const world = setUp()
  world.late.persists({ entries: entries(1, 10, 99) }, undefined)
  world.run(20)
  happen(world)
  world.run(40)
  expect([world.late.sitsOut, world.gave()]).toEqual([false, 0])
})

test('silence ends as soon as another leads', () => {
  const { late, run } = setUp()
  late.persists({ entries: entries(1, 99) }, undefined)
  run(31)
  run(1, { role: 'follower', term: 2, leader: 'b' as never })
  expect(late.sitsOut).toBe(false)
})
