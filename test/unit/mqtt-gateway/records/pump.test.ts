/** What the pump does with a batch of which something is not final: a full queue must not keep it from going on. */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import type { Height, TransactionId } from '../../../../chain/brands.ts'
import { MoteError, unwrap } from '../../../../chain/result.ts'
import { type ParsedTransaction, parseTransaction } from '../../../../chain/transaction.ts'
import { MessageStore } from '../../../../client/message-store.ts'
import { signedBody } from '../../../../client/submission.ts'
import { LevelQueue } from '../../../../mqtt-gateway/records/level-queue.ts'
import { runPump } from '../../../../mqtt-gateway/records/pump.ts'
import type { Settlement } from '../../../../mqtt-gateway/records/settling.ts'
import { queued } from '../../../../mqtt-gateway/records/transaction-queue.ts'
import { gatewayKeys, recorderChain, sensorKeys } from '../../../support/recorder-world.ts'
import { sampleRecord } from '../../../support/sample-record.ts'
import { untilPasses } from '../../../support/until-passes.ts'

const { chainId, time } = recorderChain()
const shard = queued(transaction()).shard
const unconfirmed: Settlement = { type: 'unconfirmed', detail: 'one node alone' }
const refused: Settlement = { type: 'refused', code: 'bad-signature', detail: 'two nodes' }

function transaction(): ParsedTransaction {
  const body = { type: 'record.one', qos: 1, record: sampleRecord({ source: sensorKeys.id }) } as const
  return unwrap(parseTransaction(signedBody({ chainId, body, keys: gatewayKeys, time })))
}

let directory: string
let store: MessageStore
let stopping: AbortController
let pumping: Promise<void>
const settled: TransactionId[] = []
const errors: unknown[] = []
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'mote-pump-'))
  store = await MessageStore.open(directory)
  stopping = new AbortController()
  settled.length = 0
  errors.length = 0
})
afterEach(async () => {
  stopping.abort()
  await pumping
  vi.restoreAllMocks()
  await store.close()
  await rm(directory, { recursive: true })
})

/** A queue that is full with these. */
async function fullOf(transactions: readonly ParsedTransaction[]): Promise<LevelQueue> {
  const queue = await LevelQueue.open(store, { messages: transactions.length, bytes: 1024 * 1024 })
  for (const each of transactions) unwrap(await queue.add(queued(each)))
  expect(await queue.add(queued(transaction()))).toMatchObject({ error: { code: 'overloaded' } })
  return queue
}

function pump(queue: LevelQueue, settlementOf: (id: TransactionId) => Settlement): void {
  pumping = runPump({
    queue,
    settler: { settle: all => all.map(async ({ id }) => settlementOf(id)) },
    shards: [shard],
    signal: stopping.signal,
    onSettled: ({ id }) => settled.push(id),
    onError: error => errors.push(error),
  })
}

test('pump: what is unconfirmed goes behind what came later, also when the queue is full', async () => {
  const [doubtful, ...others] = Array.from({ length: 70 }, transaction)
  const queue = await fullOf([doubtful!, ...others])
  let isDoubtful = true
  pump(queue, id => {
    if (id !== doubtful!.id || !isDoubtful) return refused
    isDoubtful = false
    return unconfirmed
  })
  await untilPasses(() => expect(settled).toHaveLength(70))
  expect(settled).toEqual([...others, doubtful!].map(({ id }) => id))
  expect(errors).toEqual([])
  expect(await queue.add(queued(transaction()))).toMatchObject({ ok: true })
})

test('pump: a batch that cannot leave the queue is settled again, and goes when nothing of it is open any more', async () => {
  const all = Array.from({ length: 3 }, transaction)
  const queue = await fullOf(all)
  const done = queue.done.bind(queue)
  vi.spyOn(queue, 'done').mockImplementation(async (batch, back = []) => {
    if (back.length > 0) throw new MoteError('overloaded', 'queue: no room')
    return done(batch)
  })
  let asked = 0
  pump(queue, id => {
    if (id !== all[1]!.id) return refused
    asked += 1
    return asked < 3 ? unconfirmed : { type: 'executed', height: 1 as Height, index: 0, receipt: {} as never }
  })
  await untilPasses(() => expect(settled).toEqual([all[0]!.id, all[2]!.id, all[1]!.id]))
  expect(errors).toMatchObject([{ code: 'overloaded' }, { code: 'overloaded' }])
  await untilPasses(async () => expect(await queue.add(queued(transaction()))).toMatchObject({ ok: true }))
})
