/** When an address is known. */
import { expect, test } from 'vitest'
import { UnprovenConnections } from '../../../mqtt-gateway/server/unproven-connections.ts'

test('unproven connections: an address is known while a device is there, and for a while after', () => {
  const connections = new UnprovenConnections({ all: 8, perAddress: 8 })
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
  const connections = new UnprovenConnections({ all: 2, perAddress: 2 })
  for (const address of ['a', 'b', 'c']) connections.add(address, () => {}).prove()
  const closed: string[] = []
  for (const address of ['a', 'b', 'c']) connections.add(address, () => closed.push(address))
  expect(closed).toEqual(['a'])
})
