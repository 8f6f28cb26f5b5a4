import { createHmac, hkdfSync } from 'node:crypto'
import { expect, test } from 'vitest'
import { ChainId, type DeviceId } from '../../../chain/brands.ts'
import type { Message } from '../../../consensus/types.ts'
import { Acknowledgements } from '../../../node/replica/acknowledgements.ts'

const chainId = ChainId('c0'.repeat(32))
const seed = new Uint8Array(32).fill(3)
const follower = 'f' as DeviceId

function response(term: number, matchIndex: number, success = true) {
  const rest = { prevLogIndex: 0, conflictIndex: 0, conflictTerm: 0, readContext: 0, full: false }
  return { type: 'append-response', from: follower, term, success, matchIndex, ...rest } as const
}

function macOf(own: Acknowledgements, ...[term, index, success]: Parameters<typeof response>) {
  const sent = own.put(response(term, index, success))
  return sent.type === 'append-response' ? sent.mac : undefined
}

test('acknowledgements: the mac is that of docs/FORMATS.md', () => {
  const info = Buffer.from('mote/acknowledgement/1\0', 'latin1')
  const key = Buffer.from(hkdfSync('sha256', seed, '', info, 32))
  const place = Buffer.from('000000000000000300000001000000ff', 'hex')
  const expected = createHmac('sha256', key).update(Buffer.from(chainId, 'hex')).update(place).digest()
  expect(macOf(new Acknowledgements(chainId, seed), 3, 2 ** 32 + 255)).toEqual(expected)
})

test('acknowledgements: an answer that covers nothing new repeats the newest, and one that covers less has none', () => {
  const own = new Acknowledgements(chainId, seed)
  const newest = macOf(own, 2, 9)
  expect(newest).toBeDefined()
  expect(macOf(own, 2, 9)).toBe(newest)
  expect(macOf(own, 2, 8)).toBeUndefined()
  expect(macOf(own, 2, 10, false)).toBeUndefined()
  expect(macOf(own, 3, 0)).toBeUndefined()
  expect(macOf(own, 3, 1)).not.toEqual(newest)
})

test('acknowledgements: an answer that says what the last one said may wait; nothing else may', () => {
  const own = new Acknowledgements(chainId, seed)
  const leaves = (message: Message) => own.leaves(message, 0, 0)
  expect(leaves(response(2, 9))).toBe('now')
  expect(leaves(response(2, 9))).toBe('soon')
  expect(leaves({ ...response(2, 9), prevLogIndex: 4 })).toBe('soon')
  expect(leaves({ ...response(2, 9), readContext: 1 }), 'a read waits for it').toBe('now')
  expect(leaves({ ...response(2, 9), readContext: 1, full: true })).toBe('now')
  expect(leaves({ ...response(2, 10), readContext: 1, full: true })).toBe('now')
  expect(leaves({ ...response(3, 10), readContext: 1, full: true })).toBe('now')
  expect(leaves(response(3, 0, false))).toBe('now')
  expect(leaves(response(3, 0, false)), 'the leader looks for the place where the logs agree').toBe('now')
  const heard = { type: 'heard', from: follower, term: 3, readContext: 0 } as const
  expect([leaves(heard), leaves(heard)]).toEqual(['now', 'now'])
})

test('acknowledgements: what was just said is not said again, but to each heartbeat it is', () => {
  const own = new Acknowledgements(chainId, seed)
  const at = (time: number, message = response(2, 9)) => own.leaves(message, time, 25)
  expect(at(1_000)).toBe('now')
  expect([at(1_000), at(1_024)]).toEqual(['never', 'never'])
  expect(at(1_025), 'by when the last one left').toBe('soon')
  expect(at(1_049)).toBe('never')
  expect(at(1_049, response(2, 10)), 'news').toBe('now')
  expect(at(1_049, { ...response(2, 10), readContext: 1 }), 'a read waits for it').toBe('now')
  expect([at(1_050, response(2, 10, false)), at(1_050, response(2, 10, false))]).toEqual(['now', 'now'])
})

test('acknowledgements: the newest of a follower is kept, and only by its own key it counts, as it stands', () => {
  const [own, leader] = [
    new Acknowledgements(chainId, seed),
    new Acknowledgements(
      chainId,
      seed.map(b => b + 1),
    ),
  ]
  leader.heard(own.put(response(2, 9)))
  leader.heard(own.put(response(3, 4)))
  leader.heard({ ...response(2, 20), mac: new Uint8Array(32) })
  leader.heard({ ...response(3, 7), mac: undefined })
  const newest = leader.of(follower)!
  expect(newest).toMatchObject({ term: 3, index: 4 })
  expect(own.isOwn(newest)).toBe(true)
  expect(leader.isOwn(newest)).toBe(false)
  const changed = [
    { ...newest, term: 4 },
    { ...newest, index: 5 },
    { ...newest, mac: newest.mac.map(b => b ^ 1) },
    { ...newest, mac: newest.mac.subarray(1) },
  ]
  expect(changed.filter(each => own.isOwn(each))).toEqual([])
  const elsewhere = new Acknowledgements(ChainId('c1'.repeat(32)), seed)
  expect(elsewhere.isOwn(newest)).toBe(false)
})
