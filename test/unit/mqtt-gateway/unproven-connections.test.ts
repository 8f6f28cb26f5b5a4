/** Whose share a connection is of, and when an address is known. */
import { expect, test } from 'vitest'
import { shareOf, UnprovenConnections } from '../../../mqtt-gateway/server/unproven-connections.ts'

test.each([
  ['192.0.2.7', '192.0.2.7'],
  ['::ffff:192.0.2.7', '192.0.2.7'],
  ['2001:db8:1:2:3:4:5:6', '2001:db8:1:2::/64'],
  ['2001:db8:1:2::6', '2001:db8:1:2::/64'],
  ['2001:db8::6', '2001:db8:0:0::/64'],
  ['::1', '0:0:0:0::/64'],
  ['fe80::1', 'fe80:0:0:0::/64'],
])('unproven connections: %s is of the share of %s', (address, share) => {
  expect(shareOf(address)).toBe(share)
})

test('unproven connections: an address is known while a device is there, and for a while after', () => {
  const connections = new UnprovenConnections({ inAll: 8, perAddress: 8 })
  const [one, other, stranger] = ['a', 'a', 'b'].map(address => connections.add(address, () => {}))
  one!.prove()
  other!.prove()
  stranger!.end()
  one!.end()
  expect([connections.isKnown('a'), connections.isKnown('b')]).toEqual([true, false])
  other!.end()
  expect(connections.isKnown('a')).toBe(true)
})

test('unproven connections: of known addresses too the oldest goes when there are no others', () => {
  const connections = new UnprovenConnections({ inAll: 2, perAddress: 2 })
  for (const address of ['a', 'b', 'c']) connections.add(address, () => {}).prove()
  const closed: string[] = []
  for (const address of ['a', 'b', 'c']) connections.add(address, () => closed.push(address))
  expect(closed).toEqual(['a'])
})
