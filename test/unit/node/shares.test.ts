import { expect, test } from 'vitest'
import { Shares } from '../../../node/network/shares.ts'

test('shares: over a limit the oldest goes, of its own address or of the one that has most', () => {
  const closed: string[] = []
  const shares = new Shares<string>({ perAddress: 3, all: 5 }, name => closed.push(name))
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
