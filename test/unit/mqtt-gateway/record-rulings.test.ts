/** What becomes of a message that is to be recorded: who may, what is handed to the recorder, and what is acknowledged. */
import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import type { ContractAddress, DeviceId } from '../../../chain/brands.ts'
import { stateKeyOf, streamIdOf, topicIdOf } from '../../../chain/records.ts'
import { MoteError, ok, refuse } from '../../../chain/result.ts'
import { type IdentityKeys, makeKeys } from '../../../client/key-directory.ts'
import { noPlainTopics, type PlainTopics } from '../../../mqtt-gateway/protocol/plain-topics.ts'
import { topics } from '../../../mqtt-gateway/protocol/topics.ts'
import { exchangeDigest, type RecordOutcome } from '../../../mqtt-gateway/records/recorder.ts'
import { RecordRulings, type RecordTopic } from '../../../mqtt-gateway/server/record-rulings.ts'
import type { Ruling } from '../../../mqtt-gateway/server/ruling.ts'
import { certifiedAs, MemoryRecorder, memoryTransaction } from '../../support/memory-recorder.ts'
import { MemoryTrust } from '../../support/memory-trust.ts'
import { sampleContract } from '../../support/sample-contract.ts'

const contract = '22'.repeat(32) as ContractAddress
let trust: MemoryTrust
let recorder: MemoryRecorder
let keys: IdentityKeys
let gateway: DeviceId
let device: DeviceId
let errors: unknown[]

beforeEach(() => {
  trust = new MemoryTrust()
  recorder = new MemoryRecorder()
  errors = []
  keys = makeKeys('1111')
  const own = makeKeys('gateway')
  for (const each of [keys, own]) trust.register(each)
  device = keys.id
  gateway = own.id
  trust.setRights(gateway, { gateway: true })
  trust.setRights(device, { publish: ['forest/#'] })
})

afterEach(() => vi.restoreAllMocks())

const exchange = { client: 'c', incarnation: '1', packetIdentifier: 9, qos: 2, isRepeat: false } as const

interface Sent {
  readonly text?: string
  readonly topic?: string
  readonly plain?: PlainTopics
  readonly trustTtlMs?: number
  readonly isOver?: () => boolean
  readonly asOfNow?: boolean
}

/** What a message comes to, and whether the gateway had it on its disk. */
async function rule({ text = '{"Payload":{"CS":5}}', topic = 'forest/north', ...more }: Sent = {}) {
  const { plain = noPlainTopics, trustTtlMs = 60_000, isOver, asOfNow } = more
  const rulings = new RecordRulings(
    { recorder, gateway, plain },
    { trust, trustTtlMs, onError: error => errors.push(error) },
  )
  return settled(
    rulings.rule(
      sessionOf(device),
      { type: 'report', device, topic },
      {
        ...messageOf(text, topics.report(device, topic)),
        ...(isOver && { isOver }),
        ...(asOfNow && { asOfNow }),
      },
    ),
  )
}

const sessionOf = (id: DeviceId) => ({ clientId: id, device: id, login: { type: 'account' } }) as const
const messageOf = (text: string, topicName: string) => {
  const { qos } = exchange
  return { topicName, payload: Buffer.from(text), qos, exchange }
}

async function settled(ruling: ReturnType<RecordRulings['rule']>): Promise<Ruling & { kept?: boolean }> {
  const given = await ruling
  return 'later' in given ? { ...(await given.later), kept: await given.kept } : given
}

const refusedAs = (code: string, outcome: 'acknowledge' | 'close', more: object = {}) => ({
  event: 'record',
  decision: { verdict: 'Error', code },
  record: { outcome, place: undefined, ...more },
})

test('record: of a device with the right, attested by the gateway, under the exchange that it came in', async () => {
  const text = '{"Payload":{"CS":5},"MessageId":"7"}'
  expect(await rule({ text })).toMatchObject({
    event: 'record',
    id: memoryTransaction,
    kept: true,
    decision: { verdict: 'Check' },
    record: { messageId: '7', outcome: 'acknowledge', place: { height: 7, index: 3 }, failure: undefined },
  })
  const digest = exchangeDigest(topics.report(device, 'forest/north'), Buffer.from(text))
  expect(recorder.requests).toMatchObject([
    {
      device,
      messageId: '7',
      exchange: { ...exchange, digest },
      content: {
        type: 'attested',
        body: { type: 'record.one', qos: 2, record: { source: device, topic: 'forest/north' } },
      },
    },
  ])
})

test('record: a topic outside its rights is refused for good, the one that the message names as well', async () => {
  expect(await rule({ topic: 'hall' })).toMatchObject(refusedAs('topic-not-allowed', 'acknowledge'))
  const elsewhere = '{"Payload":1,"Topic":"hall"}'
  expect(await rule({ text: elsewhere })).toMatchObject(refusedAs('topic-not-allowed', 'acknowledge'))
  expect(recorder.requests).toEqual([])
})

test('record: where topics are open every active device may, and no other', async () => {
  const plain = { ...noPlainTopics, open: true }
  expect(await rule({ topic: 'hall', plain })).toMatchObject({ decision: { verdict: 'Check' } })
  trust.setStatus(device, 'suspended')
  const text = '{"Payload":2}'
  expect(await rule({ text, topic: 'hall', plain })).toMatchObject(
    refusedAs('signer-not-active', 'acknowledge'),
  )
  expect(recorder.requests).toHaveLength(1)
})

test('record: a repeat of what was accepted has that outcome, also when the right has gone meanwhile', async () => {
  const first = await rule()
  trust.setRights(device, {})
  expect(await rule()).toEqual(first)
  trust.setStatus(device, 'suspended')
  expect(await rule()).toEqual(first)
  expect(await rule({ text: '{"Payload":2}' })).toMatchObject(refusedAs('signer-not-active', 'acknowledge'))
})

test('record: whose connection ended while it was judged is left to its repeat', async () => {
  const isOver = () => true
  expect(await rule({ isOver })).toMatchObject(refusedAs('interrupted', 'close'))
  expect(recorder.requests).toEqual([])
})

test('record: beside a broker that has acknowledged it, nothing is refused for good by a view of the chain that is a block old', async () => {
  const asOfNow = true
  const given = [
    () => trust.setRights(device, { publish: ['forest/#'] }),
    () => trust.setStatus(device, 'active'),
    () => trust.setRights(gateway, { gateway: true }),
  ]
  const taken = [
    () => trust.setRights(device, {}),
    () => trust.setStatus(device, 'suspended'),
    () => trust.setRights(gateway, {}),
  ]
  const codes = ['topic-not-allowed', 'signer-not-active', 'not-authorised']
  for (const [i, code] of codes.entries()) {
    taken[i]!()
    trust.ahead = given[i]
    const text = `{"Payload":${i}}`
    expect(await rule({ text })).toMatchObject(refusedAs(code, 'acknowledge'))
    expect(await rule({ text, asOfNow })).toMatchObject({ decision: { verdict: 'Check' }, kept: true })
  }
  // What stands by what the chain has now is refused for good; while nobody says what it has, nothing is.
  taken[0]!()
  expect(await rule({ text: '{"Payload":8}', asOfNow })).toMatchObject(
    refusedAs('topic-not-allowed', 'acknowledge'),
  )
  vi.spyOn(trust, 'refresh').mockRejectedValueOnce(new MoteError('not-found', 'one'))
  expect(await rule({ text: '{"Payload":9}', asOfNow })).toMatchObject({ record: { outcome: 'close' } })
  expect(recorder.requests).toHaveLength(3)
})

test('record: beside such a broker the recorder too refuses for good what it refuses twice', async () => {
  let refusals = 1
  const taken = ok({ transaction: memoryTransaction, outcome: Promise.resolve(certifiedAs()) })
  recorder.answer = async () => (refusals-- > 0 ? refuse('expiry-too-far', 'by an old head') : taken)
  expect(await rule({ asOfNow: true })).toMatchObject({ kept: true, decision: { verdict: 'Check' } })
  refusals = 2
  expect(await rule({ text: '{"Payload":2}', asOfNow: true })).toMatchObject({
    kept: true,
    decision: { code: 'expiry-too-far' },
  })
})

test('record: of a device with too many on their way it comes again; beside a broker that has acknowledged it, it waits for a bounded time', async () => {
  recorder.answer = async () => refuse('rate-limited', 'too many')
  expect(await rule()).toMatchObject({ ...refusedAs('rate-limited', 'close'), kept: false })
  // Ten seconds are over after a tenth of one.
  vi.spyOn(performance, 'now').mockImplementation(() => 100 * Date.now())
  expect(await rule({ asOfNow: true })).toMatchObject({ ...refusedAs('rate-limited', 'close'), kept: true })
  // The broker sends it again on the next connection.
  let isOver = false
  recorder.answer = async () => {
    isOver = true
    return refuse('rate-limited', 'too many')
  }
  expect(await rule({ asOfNow: true, isOver: () => isOver })).toMatchObject({
    ...refusedAs('interrupted', 'close'),
    kept: false,
  })
  let refusals = 2
  const taken = ok({ transaction: memoryTransaction, outcome: Promise.resolve(certifiedAs()) })
  recorder.answer = async () => (refusals-- > 0 ? refuse('rate-limited', 'too many') : taken)
  expect(await rule({ asOfNow: true })).toMatchObject({ decision: { verdict: 'Check' }, kept: true })
  recorder.answer = async () => refuse('overloaded', 'full')
  expect(await rule({ asOfNow: true })).toMatchObject({ ...refusedAs('overloaded', 'close'), kept: false })
})

test('record: a gateway without the right to attest says so, and what to do', async () => {
  trust.setRights(gateway, {})
  const ruling = await rule()
  expect(ruling).toMatchObject(refusedAs('not-authorised', 'acknowledge'))
  expect(ruling.decision).toMatchObject({
    reason: expect.stringContaining(`mote device rights ${gateway} --gateway`),
  })
  expect(recorder.requests).toEqual([])
})

test('record: nothing without fresh trust data, and it is to come again', async () => {
  expect(await rule({ trustTtlMs: -1 })).toMatchObject(refusedAs('stale', 'close'))
  trust.reachable = false
  expect(await rule()).toMatchObject(refusedAs('unreachable', 'close'))
  expect(recorder.requests).toEqual([])
})

test('record: a message that has another form is refused for good', async () => {
  expect(await rule({ text: '{"Topic":"hall"}' })).toMatchObject(refusedAs('malformed', 'acknowledge'))
})

test('record: without room it is to come again; a refusal of the recorder may be for good', async () => {
  recorder.answer = async () => refuse('overloaded', 'queue: full')
  expect(await rule()).toMatchObject({ ...refusedAs('overloaded', 'close'), kept: false })
  recorder.answer = async () => refuse('already-exists', 'message id: of another message')
  expect(await rule()).toMatchObject({ ...refusedAs('already-exists', 'acknowledge'), kept: true })
})

test('record: no failure of the gateway, nor a chain out of reach, is a refusal for good', async () => {
  recorder.answer = async () => {
    throw new MoteError('storage-failed', 'disk: full')
  }
  expect(await rule()).toMatchObject({ ...refusedAs('storage-failed', 'close'), kept: false })
  recorder.answer = undefined
  for (const code of ['interrupted', 'timeout', 'storage-failed'] as const) {
    recorder.outcome = () => Promise.reject(new MoteError(code, 'not yet'))
    expect(await rule()).toMatchObject({ ...refusedAs(code, 'close'), kept: true })
  }
  recorder.outcome = () => Promise.reject(new Error('secret of the inside'))
  const failed = await rule()
  expect(failed).toMatchObject(refusedAs('internal', 'close'))
  expect(JSON.stringify(failed)).not.toContain('secret')
  expect(errors).toHaveLength(1)
})

test('record: what the chain refuses is refused for good, and told in its words', async () => {
  const detail = `record: guard ${contract}: range`
  recorder.outcome = async () => ({
    type: 'refused',
    transaction: memoryTransaction,
    code: 'rule-violated',
    detail,
  })
  expect(await rule()).toMatchObject({
    ...refusedAs('rule-violated', 'acknowledge'),
    id: memoryTransaction,
    decision: { reason: detail },
  })
})

const decided = (decision: string) =>
  ({
    type: 'contract.decided',
    contract,
    caller: device,
    attested: true,
    failed: decision.startsWith('failed: '),
    decision,
    values: [],
    publishTopic: undefined,
    qos: 2,
  }) as const
const added = () => ({ type: 'record.added', item: 0, device, attested: true }) as const
const action = `{"Payload":{"CS":5},"MessageContent":{"Address":"${contract}"}}`

test('record: a decision that failed is told, and the record stands', async () => {
  recorder.outcome = async () => certifiedAs({ events: [added(), decided('failed: unknown-contract')] })
  expect(await rule({ text: action })).toMatchObject({
    recipient: contract,
    decision: { verdict: 'Check' },
    record: {
      outcome: 'acknowledge',
      place: { type: 'record', decision: 'failed: unknown-contract' },
      failure: { code: 'unknown-contract' },
    },
  })
  recorder.outcome = async () => certifiedAs({ events: [decided('failed: division by zero in DI')] })
  expect(await rule({ text: action })).toMatchObject({
    record: {
      place: { type: 'call' },
      failure: { code: 'decision-failed', detail: expect.stringContaining('division by zero in DI') },
    },
  })
})

test('record: a decision is no failure', async () => {
  recorder.outcome = async () => certifiedAs({ events: [added(), decided('low')] })
  expect(await rule({ text: action })).toMatchObject({
    record: { place: { decision: 'low' }, failure: undefined },
  })
})

test('record: what a device has signed is handed on as it is, whatever its rights and the gateway’s', async () => {
  trust.setRights(gateway, {})
  trust.setRights(device, {})
  const rulings = new RecordRulings(
    { recorder, gateway, plain: noPlainTopics },
    { trust, trustTtlMs: 60_000, onError: () => {} },
  )
  const topic: RecordTopic = { type: 'record', device }
  const ruling = await settled(
    rulings.rule(sessionOf(device), topic, messageOf('signed', topics.record(device))),
  )
  expect(ruling).toMatchObject({ decision: { verdict: 'Check' } })
  expect(recorder.requests).toMatchObject([
    { content: { type: 'signed', transaction: Buffer.from('signed') }, messageId: undefined },
  ])
})

test('record: of a batch of which a part is refused the rest stands, and the sender is told', async () => {
  const refusal = { type: 'record.refused', item: 1, contract, reason: 'range' } as const
  recorder.outcome = async () => certifiedAs({ events: [added(), refusal] })
  expect(await rule()).toMatchObject({
    decision: { verdict: 'Check' },
    record: { failure: { code: 'rule-violated', detail: `record 1: guard ${contract}: range` } },
  })
})

const topic = 'forest/north'

/** CS may not be below 5, nor below the last reading that was attested. */
function guardForest(): void {
  const guard = sampleContract({
    attested: true,
    inputs: { CS: 'number' },
    streams: { before: { topic, field: 'CS', attested: true } },
    rules: ['range = CS >= 5', 'step = not has(before) or CS >= before'],
  })
  trust.leaves.set(stateKeyOf.topic(topicIdOf(topic)), { topic, version: 1, guards: [contract], readers: 1 })
  trust.leaves.set(stateKeyOf.contract(contract), { address: contract, contract: guard, steps: 1 })
  trust.leaves.set(stateKeyOf.contractState(contract), { address: contract, version: 0, values: [] })
}

function lastReading(CS: number): void {
  const key = stateKeyOf.reading(streamIdOf({ device, topic, attested: true }))
  trust.leaves.set(key, { values: [{ name: 'CS', value: CS }], time: 1 })
}

test('record: what a guard rejects costs no transaction, and is refused for good with the name of the rule', async () => {
  guardForest()
  const text = '{"Payload":{"CS":4},"MessageId":"7"}'
  expect(await rule({ text })).toMatchObject({
    ...refusedAs('rule-violated', 'acknowledge', { messageId: '7' }),
    decision: { reason: `record: guard ${contract}: range` },
  })
  lastReading(6)
  expect(await rule()).toMatchObject({ decision: { reason: `record: guard ${contract}: step` } })
  const asked = `{"Payload":{"CS":4},"MessageContent":{"Address":"${contract}"}}`
  expect(await rule({ text: asked })).toMatchObject({ decision: { code: 'rule-violated' } })
  expect(recorder.requests).toEqual([])
  expect(await rule({ text: '{"Payload":{"CS":6}}' })).toMatchObject({ decision: { verdict: 'Check' } })
})

test('record: a repeat of a message that stands is not judged by what it changed', async () => {
  guardForest()
  const text = '{"Payload":{"CS":5}}'
  expect(await rule({ text })).toMatchObject({ decision: { verdict: 'Check' } })
  lastReading(9)
  expect(await rule({ text })).toMatchObject({ decision: { verdict: 'Check' } })
  expect(recorder.requests).toHaveLength(2)
})

test('record: guards that cannot be read refuse for now', async () => {
  guardForest()
  trust.leaf = async () => {
    throw new MoteError('unreachable', 'switched off')
  }
  expect(await rule()).toMatchObject(refusedAs('unreachable', 'close'))
  expect(recorder.requests).toEqual([])
})

test('record: what comes behind messages of the device that are on their way is left to the chain', async () => {
  guardForest()
  const rulings = new RecordRulings(
    { recorder, gateway, plain: noPlainTopics },
    { trust, trustTtlMs: 60_000, onError: error => errors.push(error) },
  )
  const send = (CS: number) =>
    rulings.rule(
      sessionOf(device),
      { type: 'report', device, topic },
      messageOf(JSON.stringify({ Payload: { CS } }), topics.report(device, topic)),
    )
  const first = Promise.withResolvers<RecordOutcome>()
  lastReading(6)
  recorder.outcome = () => first.promise
  const before = await send(8)
  // What it is compared with is not proven yet.
  const behind = await send(5)
  expect(behind).toHaveProperty('later')
  first.resolve(certifiedAs())
  for (const given of [before, behind]) if ('later' in given) await given.later
  expect(await send(5.5)).toMatchObject(refusedAs('rule-violated', 'acknowledge'))
})
