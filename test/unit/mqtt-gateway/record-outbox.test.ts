/** Records under a device's own signature: the same bytes until it is known what came of them, others only when those are over. */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import type { ChainId, DeviceId, Milliseconds } from '../../../chain/brands.ts'
import type { ErrorCode } from '../../../chain/errors.ts'
import type { ReportBody } from '../../../chain/record-bodies.ts'
import { MoteError, type Refusal, unwrap } from '../../../chain/result.ts'
import { parseTransaction } from '../../../chain/transaction.ts'
import { makeKeys } from '../../../client/key-directory.ts'
import { MessageStore } from '../../../client/message-store.ts'
import { type DeviceRecordOutcome, RecordOutbox } from '../../../mqtt-gateway/agent/record-outbox.ts'
import type { DeviceAgent } from '../../../mqtt-gateway/device/agent.ts'
import { type SignedRecord, signRecord } from '../../../mqtt-gateway/device/signed-record.ts'
import { until } from '../../support/gateway-fixture.ts'
import { sampleRecord } from '../../support/sample-record.ts'

const keys = makeKeys('1111')
const chainId = 'c4'.repeat(32) as ChainId
const oneRecord = (topic = 'tank'): ReportBody => ({
  type: 'record.one',
  qos: 1,
  record: sampleRecord({ topic }),
})

/** A gateway in place of the connection to one: answers what the test says, and remembers every transaction that it was handed. */
class AnsweringGateway {
  readonly submitted: SignedRecord[] = []
  /** Of the newest header that the device has proven. */
  time = 1_000 as Milliseconds
  /** One for each submission; the last one for all that follow. Undefined: certified. */
  answers: (ErrorCode | 'silence' | undefined)[] = [undefined]
  renewed = 0
  isAway = false

  readonly agent = {
    sign: (body: ReportBody) => {
      const chain = { chainId, ageMs: () => 0, refresh: async () => {}, now: () => this.time }
      return signRecord({ chain, keys, trustTtlMs: 1 }, body)
    },
    submit: async (signed: SignedRecord) => {
      this.submitted.push(signed)
      const code = this.answers.length > 1 ? this.answers.shift() : this.answers[0]
      if (code === 'silence') throw new MoteError('timeout', 'gateway: no verdict')
      return {
        messageId: signed.id,
        verdict: code ? 'Error' : 'Check',
        ...(code && { code }),
        height: 1,
        ageMs: 0,
      }
    },
    provenTime: async () => this.time,
  } as unknown as DeviceAgent

  readonly link = {
    agent: async () => (this.isAway ? new Promise<undefined>(() => {}) : this.agent),
    renew: async () => {
      this.renewed += 1
    },
  }
}

let directory: string
let store: MessageStore
let gateway: AnsweringGateway
const open = new Set<RecordOutbox>()
const waited: Refusal[] = []
beforeEach(async () => {
  waited.length = 0
  gateway = new AnsweringGateway()
  directory = await mkdtemp(join(tmpdir(), 'mote-records-'))
  store = await MessageStore.open(directory)
})
afterEach(async () => {
  await Promise.all([...open].map(outbox => outbox.close(50)))
  open.clear()
  await store.close()
  await rm(directory, { recursive: true })
})

async function start(messages = 10): Promise<RecordOutbox> {
  const outbox = await RecordOutbox.open({
    store,
    prefix: 'a/',
    limits: { messages, bytes: 100_000, ageMs: 600_000 },
    link: gateway.link,
    now: () => gateway.time,
    onOutcome: () => {},
    onWaiting: reason => waited.push(reason),
  })
  open.add(outbox)
  outbox.start()
  return outbox
}

async function outcomeOf(outbox: RecordOutbox, body = oneRecord()): Promise<DeviceRecordOutcome> {
  return unwrap(await outbox.add(body)).outcome
}

const ids = () => gateway.submitted.map(({ id }) => id)

test('records: what is certified is signed by the device, five minutes ahead of the time that it has proven, and leaves the disk', async () => {
  const outbox = await start()
  const outcome = await outcomeOf(outbox)
  const [signed] = gateway.submitted
  expect(outcome).toEqual({
    type: 'certified',
    sequence: 0,
    topic: 'tank',
    transaction: signed!.id,
    decision: undefined,
  })
  expect(unwrap(parseTransaction(signed!.bytes))).toMatchObject({
    id: signed!.id,
    unsigned: { body: oneRecord(), signer: { deviceId: keys.id }, expiry: 301_000 },
  })
  await until(() => outbox.count === 0, 'the disk is empty')
  expect(await store.all('a/record/entry/')).toEqual([])
  expect(await store.all('a/record/signed/')).toEqual([])
})

test('records: the same bytes are sent until there is an answer, whatever may pass', async () => {
  gateway.answers = ['silence', 'overloaded', 'stale', undefined]
  expect(await outcomeOf(await start())).toMatchObject({ type: 'certified' })
  expect(ids()).toHaveLength(4)
  expect(new Set(ids()).size).toBe(1)
  expect(waited.map(({ code }) => code)).toEqual(['timeout', 'overloaded', 'stale'])
})

test('records: the same bytes are sent again after a crash', async () => {
  gateway.answers = ['silence']
  const first = await start()
  await first.add(oneRecord())
  await until(() => gateway.submitted.length > 0, 'it was sent')
  await first.close(50)
  gateway.answers = [undefined]
  const second = await start()
  await until(() => second.count === 0, 'it is certified')
  expect(new Set(ids()).size).toBe(1)
})

test.each(['rule-violated', 'malformed', 'signer-not-active', 'not-authorised'] as const)(
  'records: %s is for good, and told with the transaction',
  async code => {
    gateway.answers = [code]
    const outbox = await start()
    const outcome = await outcomeOf(outbox)
    expect(outcome).toMatchObject({ type: 'refused', transaction: ids()[0], reason: { code } })
    await until(() => outbox.count === 0, 'the disk is empty')
  },
)

test('records: bytes that are called expired before the chain is there are sent again, and no others are signed', async () => {
  gateway.answers = ['transaction-expired', undefined]
  expect(await outcomeOf(await start())).toMatchObject({ type: 'certified' })
  expect(new Set(ids()).size).toBe(1)
})

test.each(['transaction-expired', 'key-not-valid'] as const)(
  'records: after %s, past an expiry that is proven, other bytes of the same record are signed',
  async code => {
    gateway.answers = ['silence', code, undefined]
    const outbox = await start()
    const added = unwrap(await outbox.add(oneRecord()))
    await until(() => gateway.submitted.length > 0, 'it was sent')
    gateway.time = 301_000 as Milliseconds
    const outcome = await added.outcome
    const [first, second, third] = ids()
    expect(second).toBe(first)
    expect(third).not.toBe(first)
    expect(outcome).toMatchObject({ type: 'certified', transaction: third })
    expect(gateway.renewed).toBe(code === 'key-not-valid' ? 1 : 0)
  },
)

test('records: an expiry that is called too far ahead makes no second transaction', async () => {
  gateway.answers = ['silence', 'expiry-too-far', undefined]
  const outbox = await start()
  const added = unwrap(await outbox.add(oneRecord()))
  await until(() => gateway.submitted.length > 0, 'it was sent')
  gateway.time = 301_000 as Milliseconds
  await added.outcome
  expect(new Set(ids()).size).toBe(1)
})

test('records: one topic keeps its order, and holds up no other', async () => {
  gateway.answers = ['silence', undefined]
  const outbox = await start()
  const topics: string[] = []
  const added = await Promise.all(['a', 'a', 'b'].map(topic => outbox.add(oneRecord(topic))))
  await Promise.all(added.map(each => unwrap(each).outcome))
  for (const { bytes } of gateway.submitted) {
    const { body } = unwrap(parseTransaction(bytes)).unsigned
    if (body.type === 'record.one') topics.push(body.record.topic)
  }
  expect(topics.toSorted()).toEqual(['a', 'a', 'a', 'b'])
  expect(topics.lastIndexOf('a')).toBe(3)
  expect(new Set(ids()).size).toBe(3)
})

test('records: what does not fit is refused: a full queue, and what no transaction has room for', async () => {
  gateway.isAway = true
  const outbox = await start(2)
  await outbox.add(oneRecord())
  await outbox.add(oneRecord())
  expect(await outbox.add(oneRecord())).toMatchObject({ error: { code: 'overloaded' } })
  const records = Array.from({ length: 3 }, () => sampleRecord({ payload: new Uint8Array(8_000) }))
  expect(await outbox.add({ type: 'record.batch', qos: 1, records })).toMatchObject({
    error: { code: 'too-large' },
  })
})

test('records: one that was never signed is dropped when it is too old', async () => {
  gateway.isAway = true
  const first = await start()
  await first.add(oneRecord())
  await first.close(50)
  gateway.isAway = false
  gateway.time = 601_001 as Milliseconds
  const outbox = await start()
  await until(() => outbox.count === 0, 'it is dropped')
  expect(gateway.submitted).toEqual([])
})

test('records: a device signs for nobody else', async () => {
  const source = 'ab'.repeat(32) as DeviceId
  await expect(
    gateway.agent.sign({ type: 'record.one', qos: 1, record: sampleRecord({ source }) }),
  ).rejects.toMatchObject({ code: 'malformed' })
})
