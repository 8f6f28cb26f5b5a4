import { expect, test } from 'vitest'
import { AddressShares, shareOf } from '../../../client/address-shares.ts'

test('shares: over a limit the oldest goes, of its own address or of the one that has most', () => {
  const closed: string[] = []
  const shares = new AddressShares<string>({ perAddress: 3, all: 5 }, name => closed.push(name))
  for (const name of ['a1', 'b1', 'a2', 'a3', 'a4']) shares.add(name, name.slice(0, 1))
  expect(closed).toEqual(['a1'])
  shares.add('c1', 'c')
  expect(closed).toEqual(['a1'])
  shares.add('d1', 'd')
  expect(closed, 'who has one keeps it').toEqual(['a1', 'a2'])
  shares.remove('a3')
  shares.remove('a3')
  shares.add('e1', 'e')
  expect(closed).toHaveLength(2)
  shares.add('f1', 'f')
  expect(closed, 'nobody has more than one: the oldest of all').toEqual(['a1', 'a2', 'b1'])
})

test('shares: those that are known go only when no other is left', () => {
  const closed: string[] = []
  const known = new Set(['a'])
  const shares = new AddressShares<string>(
    { perAddress: 2, all: 3 },
    name => closed.push(name),
    address => known.has(address),
  )
  for (const name of ['a1', 'a2', 'b1', 'c1']) shares.add(name, name.slice(0, 1))
  expect(closed).toEqual(['b1'])
  known.add('c')
  shares.add('c2', 'c')
  expect(closed, 'c was a stranger').toEqual(['b1', 'c1'])
  shares.add('d1', 'd')
  expect(closed, 'all are known, and who comes gets in').toEqual(['b1', 'c1', 'a1'])
})

test.each([
  ['192.0.2.7', '192.0.2.7'],
  ['/ip4/192.0.2.7/tcp/4001/p2p/12D3', '192.0.2.7'],
  ['::ffff:192.0.2.7', '192.0.2.7'],
  ['::FFFF:c000:207', '192.0.2.7'],
  ['/ip6/::ffff:c000:207/tcp/4001', '192.0.2.7'],
  ['2001:db8:1:2:3:4:5:6', '2001:db8:1:2::/64'],
  ['2001:0DB8:1:02::6', '2001:db8:1:2::/64'],
  ['/ip6/2001:db8:1:2:ffff::6/tcp/4001', '2001:db8:1:2::/64'],
  ['2001:db8::6', '2001:db8:0:0::/64'],
  ['64:ff9b::192.0.2.7', '64:ff9b:0:0::/64'],
  ['::1', '0:0:0:0::/64'],
  ['fe80::1%eth0', 'fe80:0:0:0::/64'],
  ['1:2:3', '1:2:3'],
  ['1::2::3', '1::2::3'],
  ['', ''],
])('shares: %s is of the share of %s', (address, share) => {
  expect(shareOf(address)).toBe(share)
})
