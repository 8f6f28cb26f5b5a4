import { expect, test } from 'vitest'
import { proposalCodec } from '../../../chain/block.ts'
import { type DeviceId, Milliseconds } from '../../../chain/brands.ts'
import { encode } from '../../../chain/codec.ts'
import type { Entry } from '../../../consensus/types.ts'
import { clockSampleMaxAgeMs } from '../../../node/network/wire.ts'
import {
  ClockExchange,
  type ClockExchangeParts,
  clockBoundMs,
  LateProposals,
} from '../../../node/replica/block-time.ts'
import { ManualClock } from '../../support/manual-clock.ts'

const start = 1_700_000_000_000
const hour = 3_600_000
const [a, b, c, d, e, f] = ['a', 'b', 'c', 'd', 'e', 'f'] as DeviceId[] as [
  DeviceId,
  DeviceId,
  DeviceId,
  DeviceId,
  DeviceId,
  DeviceId,
]

/** The exchange of `a`, whose newest certified block is an hour old. */
function setUp(voters: readonly DeviceId[], votersOutgoing: readonly DeviceId[] = []) {
  const clock = new ManualClock(start)
  const certified = { header: { time: start - hour } }
  const exchange = new ClockExchange({
    id: a,
    clock,
    network: { send: () => {} },
    members: { others: new Set<string>(), inForce: { voters, votersOutgoing, learners: [] } },
    chain: { certified } as unknown as ClockExchangeParts['chain'],
    log: () => {},
  })
  const hear = (id: DeviceId, wall: number) =>
    exchange.heard(id, [{ id, wall: Milliseconds(wall), ageMs: 0 }])
  return { clock, certified, exchange, hear }
}

test('a follower takes proposals up to its own estimate and the bound, whatever one clock shows', () => {
  const { clock, exchange, hear } = setUp([a, b, c])
  hear(b, start + hour)
  expect(exchange.latestAcceptable()).toBe(start + clockBoundMs)
  hear(c, start + 400)
  expect(exchange.latestAcceptable()).toBe(start + 400 + clockBoundMs)
  clock.advance(1_000)
  expect(exchange.latestAcceptable()).toBe(start + 1_400 + clockBoundMs)
})

test('a follower takes proposals up to the newest certified time, however early its estimate is', () => {
  const { certified, exchange, hear } = setUp([a, b, c])
  hear(b, start)
  certified.header.time = start + clockBoundMs
  expect(exchange.latestAcceptable()).toBe(start + clockBoundMs)
  certified.header.time = start + hour
  expect(exchange.latestAcceptable()).toBe(start + hour)
})

test('without the clocks of a majority a follower goes by the newest certified time alone', () => {
  const { clock, exchange, hear } = setUp([a, b, c])
  expect(exchange.latestAcceptable()).toBe(start - hour)
  hear(b, start)
  expect(exchange.latestAcceptable()).toBe(start + clockBoundMs)
  clock.advance(clockSampleMaxAgeMs + 1)
  expect(exchange.latestAcceptable()).toBe(start - hour)
})

test('in joint consensus the estimate is that of the half that is later', () => {
  const { exchange, hear } = setUp([a, b, c], [d, e, f])
  for (const id of [b, c]) hear(id, start)
  for (const id of [d, e, f]) hear(id, start + 2_000)
  expect(exchange.latestAcceptable()).toBe(start + 2_000 + clockBoundMs)
})

test.each([
  ['one voter', [a], [], Number.POSITIVE_INFINITY],
  ['two voters', [a, b], [], Number.POSITIVE_INFINITY],
  ['three voters', [a, b, c], [], start - hour],
  ['two voters that were three', [a, b], [a, b, c], start - hour],
])('of one or two voters none is a minority, and there is no bound: %s', (_, voters, outgoing, expected) => {
  expect(setUp(voters, outgoing).exchange.latestAcceptable()).toBe(expected)
})

test('an append is cut by this bound as it is when the append comes', () => {
  const { clock, certified, exchange, hear } = setUp([a, b, c])
  hear(b, start)
  const late = new LateProposals(exchange, 10, [])
  const entries = [start, start + clockBoundMs, start + clockBoundMs + 1].map(
    (time, i): Entry => ({
      index: i + 1,
      term: 1,
      type: 'command',
      data: encode(proposalCodec, { version: 1, type: 'block', time: Milliseconds(time), transactions: [] }),
    }),
  )
  const taken = () => {
    const append = { type: 'append-entries', from: b, term: 1, prevLogIndex: 0, prevLogTerm: 0 } as const
    const { message, withheld } = late.withheldFrom({ ...append, entries, leaderCommit: 0, readContext: 0 })
    return [message.entries.length, withheld]
  }
  expect(taken()).toEqual([2, true])
  clock.advance(1)
  expect(taken()).toEqual([3, false])
  clock.shift(-hour)
  expect(taken()).toEqual([0, true])
  certified.header.time = start + clockBoundMs + 1
  expect(taken()).toEqual([3, false])
})
