import { expect, test } from 'vitest'
import type { DeviceId } from '../../../chain/brands.ts'
import type { QuorumPolicy } from '../../../chain/consenters.ts'
import { Announcements } from '../../../node/ledger/announcements.ts'
import type { LiveChain } from '../../../node/ledger/live-chain.ts'

const [a, b, c] = ['a', 'b', 'c'] as DeviceId[] as [DeviceId, DeviceId, DeviceId]

/** What node `a` of a chain with so many consenters sends to whom, and how. */
function announced(
  count: number,
  leader: DeviceId | undefined,
  to: DeviceId | 'all' = 'all',
  policy: QuorumPolicy = 'majority',
) {
  const happened: string[] = []
  const consenters = { consenters: Array.from({ length: count }), policy }
  const announcements = new Announcements({
    network: {
      send: (peer, _message, leaves) => happened.push(`${peer} ${leaves ?? 'now'}`),
      flush: () => happened.push('flush'),
    },
    members: { others: new Set([b, c]) },
    chain: { ledger: { parameters: { consenters } } } as unknown as LiveChain,
  })
  if (leader) announcements.leadershipChanged({ role: leader === a ? 'leader' : 'follower', term: 1, leader })
  announcements.send(to, [])
  return happened
}

test('announcements: a signature leaves at once, and to another follower of three with the next message', () => {
  expect(announced(3, b)).toEqual(['b now', 'c soon', 'flush'])
  expect(announced(3, b, c), 'who has asked').toEqual(['c now', 'flush'])
})

test('announcements: nothing waits where it may be needed: at a leader, without one, for a larger quorum', () => {
  const allNow = ['b now', 'c now', 'flush']
  expect(announced(3, a)).toEqual(allNow)
  expect(announced(3, undefined)).toEqual(allNow)
  expect(announced(4, b)).toEqual(allNow)
  expect(announced(3, b, 'all', 'two-thirds')).toEqual(allNow)
})
