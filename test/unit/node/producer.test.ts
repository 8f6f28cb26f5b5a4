import { expect, test } from 'vitest'
import { DeviceId, Milliseconds, TransactionId } from '../../../chain/brands.ts'
import { defaultMempoolLimits, Mempool } from '../../../node/replica/mempool.ts'
import { type Cut, defaultProducerLimits, Producer } from '../../../node/replica/producer.ts'

function setUp(limits: Partial<typeof defaultProducerLimits> = {}) {
  const mempool = new Mempool(defaultMempoolLimits)
  const producer = new Producer(mempool, { ...defaultProducerLimits, ...limits })
  let count = 0
  const add = (number = 1) => {
    for (let i = 0; i < number; i++)
      mempool.add({
        id: TransactionId((count++).toString(16).padStart(64, '0')),
        signer: DeviceId(count.toString(16).padStart(64, 'd')),
        expiry: Milliseconds(10_000),
        lane: 'ordinary',
        bytes: new Uint8Array(100),
      })
  }
  return { mempool, producer, add }
}
const view = {
  blockTime: Milliseconds(5000),
  time: Milliseconds(5000),
  committedHeight: 1,
  certifiedHeight: 1,
  quietMs: 0,
}
const contextOf = (cut: Cut) => (cut.type === 'wait' ? -1 : cut.context)
const sizeOf = (cut: Cut) => (cut.type === 'wait' ? 0 : cut.transactions.length)

test('producer: cuts at once when idle', () => {
  const { producer, add } = setUp()
  expect(producer.cut(view)).toEqual({ type: 'wait', reason: 'nothing-to-do' })
  add()
  expect(producer.cut(view)).toMatchObject({ type: 'block', transactions: [new Uint8Array(100)] })
})

test('producer: blocks grow while a proposal is in flight', () => {
  const { producer, add, mempool } = setUp()
  add()
  const first = producer.cut(view)
  add(50)
  expect(producer.cut(view)).toEqual({ type: 'wait', reason: 'in-flight' })
  producer.settled(contextOf(first), 'committed')
  expect(sizeOf(producer.cut(view))).toBe(50)
  expect(mempool.size).toBe(50)
})

test('producer: a second block is in flight only if it carries much', () => {
  const { producer, add } = setUp({ blocksInFlight: 2, pipelinedTransactions: 10, transactionsPerBlock: 15 })
  add()
  producer.cut(view)
  add(9)
  expect(producer.cut(view)).toEqual({ type: 'wait', reason: 'in-flight' })
  add()
  expect(sizeOf(producer.cut(view))).toBe(10)
  add(100)
  expect(producer.cut(view)).toEqual({ type: 'wait', reason: 'in-flight' })
})

test('producer: a block keeps its limits of transactions and bytes', () => {
  const few = setUp({ transactionsPerBlock: 3 })
  few.add(10)
  expect(sizeOf(few.producer.cut(view))).toBe(3)
  const small = setUp({ bytesPerBlock: 450 })
  small.add(10)
  expect(sizeOf(small.producer.cut(view))).toBe(4)
})

test('producer: a heartbeat block after the quiet time, and not before', () => {
  const { producer } = setUp({ heartbeatMs: 1000 })
  expect(producer.cut({ ...view, quietMs: 999 }).type).toBe('wait')
  const heartbeat = producer.cut({ ...view, quietMs: 1000 })
  expect(heartbeat).toMatchObject({ type: 'heartbeat', transactions: [] })
  expect(producer.cut({ ...view, quietMs: 4000 })).toEqual({ type: 'wait', reason: 'in-flight' })
})

test('producer: empty blocks bring block time up to the clock after a long stop', () => {
  const { producer } = setUp({ heartbeatMs: 1000 })
  expect(producer.cut({ ...view, blockTime: Milliseconds(4001) }).type).toBe('wait')
  expect(producer.cut({ ...view, blockTime: Milliseconds(4000) }).type).toBe('heartbeat')
})

test('producer: stops when certification lags behind by more than the limit', () => {
  const { producer, add } = setUp({ certificationLagMax: 64 })
  add()
  expect(producer.cut({ ...view, committedHeight: 66 })).toEqual({
    type: 'wait',
    reason: 'certification-lag',
  })
  expect(producer.cut({ ...view, committedHeight: 65 }).type).toBe('block')
})

test('producer: a refused proposal gives its transactions back', () => {
  const { producer, add, mempool } = setUp()
  add(2)
  const cut = producer.cut(view)
  expect(mempool.waiting).toBe(0)
  producer.settled(contextOf(cut), 'refused')
  expect(mempool.waiting).toBe(2)
  expect(sizeOf(producer.cut(view))).toBe(2)
})
