import { expect, test } from 'vitest'
import { DeviceId, Milliseconds, TransactionId } from '../../../chain/brands.ts'
import { type Lane, Mempool, type PendingTransaction } from '../../../node/replica/mempool.ts'

const limits = {
  transactions: 4,
  bytes: 1000,
  perSigner: 3,
  revocations: 2,
  revocationsPerSigner: 1,
  operatorTransactions: 2,
  perOperator: 1,
}

function pending(
  number: number,
  options: { signer?: number; lane?: Lane; size?: number; expiry?: number } = {},
): PendingTransaction {
  return {
    id: TransactionId(number.toString(16).padStart(64, '0')),
    signer: DeviceId((options.signer ?? number).toString(16).padStart(64, 'd')),
    expiry: Milliseconds(options.expiry ?? 1000),
    lane: options.lane ?? 'ordinary',
    bytes: new Uint8Array(options.size ?? 10),
  }
}
const everything = { transactions: 100, bytes: 100_000 }
const codeOf = (result: ReturnType<Mempool['add']>) => (result.ok ? result.value : result.error.code)

test('mempool: holds an id once', () => {
  const mempool = new Mempool(limits)
  expect(codeOf(mempool.add(pending(1)))).toBe('added')
  expect(codeOf(mempool.add(pending(1)))).toBe('present')
  expect(mempool.size).toBe(1)
})

test('mempool: a taken transaction is still known, and is not taken twice', () => {
  const mempool = new Mempool(limits)
  mempool.add(pending(1))
  expect(mempool.take(everything).map(t => t.id)).toEqual([pending(1).id])
  expect(mempool.take(everything)).toEqual([])
  expect(codeOf(mempool.add(pending(1)))).toBe('present')
})

test('mempool: refuses over its count, its bytes and the quota of one signer', () => {
  const mempool = new Mempool(limits)
  for (let n = 0; n < 4; n++) mempool.add(pending(n))
  expect(codeOf(mempool.add(pending(9)))).toBe('overloaded')
  const large = new Mempool(limits)
  large.add(pending(1, { size: 600 }))
  expect(codeOf(large.add(pending(2, { size: 600 })))).toBe('overloaded')
  const greedy = new Mempool(limits)
  for (let n = 0; n < 3; n++) expect(codeOf(greedy.add(pending(n, { signer: 1 })))).toBe('added')
  expect(codeOf(greedy.add(pending(7, { signer: 1 })))).toBe('rate-limited')
  expect(codeOf(greedy.add(pending(8, { signer: 2 })))).toBe('added')
})

test('mempool: a revocation enters past a full mempool and leaves first', () => {
  const mempool = new Mempool(limits)
  for (let n = 0; n < 4; n++) mempool.add(pending(n))
  expect(codeOf(mempool.add(pending(20, { lane: 'revocation' })))).toBe('added')
  expect(mempool.take(everything)[0]?.id).toBe(pending(20).id)
  expect(codeOf(mempool.add(pending(21, { lane: 'revocation', signer: 20 })))).toBe('rate-limited')
  expect(codeOf(mempool.add(pending(22, { lane: 'revocation' })))).toBe('added')
  expect(codeOf(mempool.add(pending(23, { lane: 'revocation' })))).toBe('overloaded')
})

test("mempool: an operator's transaction enters past every other lane and leaves first; each operator has a place", () => {
  const mempool = new Mempool(limits)
  for (let n = 0; n < 4; n++) mempool.add(pending(n))
  for (let n = 4; n < 6; n++) mempool.add(pending(n, { lane: 'revocation' }))
  expect(codeOf(mempool.add(pending(20, { lane: 'operator' })))).toBe('added')
  expect(codeOf(mempool.add(pending(21, { lane: 'operator', signer: 20 })))).toBe('rate-limited')
  expect(codeOf(mempool.add(pending(22, { lane: 'operator' })))).toBe('added')
  expect(mempool.take(everything).map(({ lane }) => lane)).toEqual([
    ...['operator', 'operator', 'revocation', 'revocation'],
    ...['ordinary', 'ordinary', 'ordinary', 'ordinary'],
  ])
})

test('mempool: takes in admission order within the limits, but at least one', () => {
  const mempool = new Mempool(limits)
  for (let n = 1; n <= 3; n++) mempool.add(pending(n, { size: 100 }))
  expect(mempool.take({ transactions: 10, bytes: 250 })).toHaveLength(2)
  expect(mempool.take({ transactions: 10, bytes: 10 })).toHaveLength(1)
  expect(mempool.waiting).toBe(0)
})

test('mempool: put back makes a transaction waiting again; remove frees its room', () => {
  const mempool = new Mempool(limits)
  for (let n = 0; n < 4; n++) mempool.add(pending(n))
  const taken = mempool.take(everything).map(t => t.id)
  expect(codeOf(mempool.add(pending(9)))).toBe('overloaded')
  mempool.putBack(taken)
  expect(mempool.waiting).toBe(4)
  mempool.remove(taken)
  expect(mempool.size).toBe(0)
  expect(mempool.bytes).toBe(0)
  expect(codeOf(mempool.add(pending(9)))).toBe('added')
})

test('mempool: expires what waits, not what is in a proposed block', () => {
  const mempool = new Mempool(limits)
  mempool.add(pending(1, { expiry: 10 }))
  mempool.take(everything)
  mempool.add(pending(2, { expiry: 10 }))
  mempool.add(pending(3, { expiry: 20 }))
  expect(mempool.expire(Milliseconds(10))).toEqual([])
  expect(mempool.expire(Milliseconds(11))).toEqual([pending(2).id])
  expect(mempool.size).toBe(2)
})
