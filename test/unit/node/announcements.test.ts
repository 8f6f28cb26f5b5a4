import { expect, test } from 'vitest'
import type { DeviceId } from '../../../chain/brands.ts'
import type { QuorumPolicy } from '../../../chain/consenters.ts'
import type { LiveChain } from '../../../node/ledger/live-chain.ts'
import { Announcements } from '../../../node/ledger/signatures.ts'

const [a, b, c] = ['a', 'b', 'c'] as DeviceId[] as [DeviceId, DeviceId, DeviceId]
const three = [a, b, c]

/** What node `a` of a chain with these consenters sends to whom, and how. */
function announced(
  ids: readonly string[],
  leader: DeviceId | undefined,
  to: DeviceId | 'all' = 'all',
  policy: QuorumPolicy = 'majority',
) {
  const happened: string[] = []
  const consenters = { consenters: ids.map(id => ({ id })), policy }
  const announcements = new Announcements(
    a,
    {
      send: (peer, _message, leaves) => happened.push(`${peer} ${leaves ?? 'now'}`),
      flush: () => happened.push('flush'),
    },
    { others: new Set([b, c]) },
    { ledger: { parameters: { consenters } } } as unknown as LiveChain,
  )
  if (leader) announcements.leadershipChanged({ role: leader === a ? 'leader' : 'follower', term: 1, leader })
  announcements.send(to, [])
  return happened
}

test('announcements: a signature leaves at once, and to another follower of three with the next message', () => {
  expect(announced(three, b)).toEqual(['b now', 'c soon', 'flush'])
  expect(announced(three, b, c), 'who has asked').toEqual(['c now', 'flush'])
})

test('announcements: nothing waits where it may be needed: at a leader, without one, for a larger quorum', () => {
  const allNow = ['b now', 'c now', 'flush']
  expect(announced(three, a)).toEqual(allNow)
  expect(announced(three, undefined)).toEqual(allNow)
  expect(announced([...three, 'd'], b)).toEqual(allNow)
  expect(announced(three, b, 'all', 'two-thirds')).toEqual(allNow)
})

test('announcements: nothing waits for who lacks one of the first two: it does not sign, or the leader does not', () => {
  const allNow = ['b now', 'c now', 'flush']
  expect(announced([a, b, 'd'], b), 'c is a full node beside them').toEqual(allNow)
  expect(announced([a, c, 'd'], b), 'a leader that was voted out').toEqual(allNow)
  expect(announced([b, c, 'd'], b), 'the next set needs what the last one signs').toEqual(allNow)
})
