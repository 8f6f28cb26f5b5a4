/** Which refused connections get a line of their own in the decision log. */
import { expect, test } from 'vitest'
import { RefusedConnects } from '../../../mqtt-gateway/server/refused-connects.ts'

test('refused connects: the first of each address and code is told, the others are counted until they are taken', () => {
  const refused = new RefusedConnects()
  const first = ['a', 'a', 'b', 'a'].map(address => refused.count(address, 'bad-signature'))
  expect(first).toEqual([true, false, true, false])
  expect(refused.count('a', 'unknown-signer')).toBe(true)
  expect(refused.take()).toEqual([{ address: 'a', code: 'bad-signature', more: 2 }])
  expect(refused.take()).toEqual([])
  expect(refused.count('a', 'bad-signature')).toBe(true)
})

test('refused connects: a stranger with ever new addresses gets a bounded number of lines', () => {
  const refused = new RefusedConnects()
  const lines = Array.from({ length: 10_000 }, (_, i) => refused.count(`address ${i}`, 'unknown-signer'))
  expect(lines.filter(isFirst => isFirst)).toHaveLength(33)
  expect(refused.take()).toEqual([{ address: 'other addresses', code: 'unknown-signer', more: 10_000 - 33 }])
})
