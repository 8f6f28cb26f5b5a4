/** Records and contracts in execution: each refusal of execute-records.ts and execute-contracts.ts, and what a failure leaves. */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import {
  type ChainEvent,
  devicesOf,
  type Receipt,
  receiptCodec,
  receiptsCodec,
} from '../../../chain/block.ts'
import { ContractAddress } from '../../../chain/brands.ts'
import { type Codec, decode, decodeOwn, encode, encodedList } from '../../../chain/codec.ts'
import { type Contract, contractCodec, encodedContract } from '../../../chain/contracts/contract.ts'
import { contractOfDocument } from '../../../chain/contracts/document.ts'
import {
  maxBatchRecords,
  maxBlockReceiptBytes,
  maxBlockSteps,
  maxReceiptBytes,
  maxTransactionSteps,
} from '../../../chain/limits.ts'
import {
  contractRecordCodec,
  contractStateCodec,
  readingCodec,
  stateKeyOf,
  streamIdOf,
  topicIdOf,
  topicRulesCodec,
} from '../../../chain/records.ts'
import { unwrap } from '../../../chain/result.ts'
import { noRights } from '../../../chain/rights.ts'
import type { Scalar } from '../../../chain/scalars.ts'
import { get } from '../../../chain/state-tree.ts'
import {
  type ActionInput,
  type DeviceRecord,
  parseTransaction,
  type TransactionBody,
} from '../../../chain/transaction.ts'
import { sampleContract } from '../../support/sample-contract.ts'
import { sampleRecord } from '../../support/sample-record.ts'
import { repositoryRoot } from '../../support/source-files.ts'
import { type Actor, devices, operator, restoredOf, SampleLedger, secondOperator } from './sample-ledger.ts'

const [sensor, other, gateway, stranger] = devices as [Actor, Actor, Actor, Actor]

const fire = unwrap(
  contractOfDocument(JSON.parse(readFileSync(join(repositoryRoot, 'examples/fire-index.json'), 'utf8'))),
)
const inputs = (CS: number) => ({ CS, H0: 40, H1: 45, H2: 50, H3: 55, H4: 60, P: 20 })
/** Water may move by 2 from one reading to the next. */
const guard = sampleContract({
  inputs: { level: 'number' },
  streams: { before: { topic: 'tank', field: 'level' } },
  rules: ['range = level >= 0', 'step = not has(before) or abs(level - before) <= 2'],
})
/** Counts what it sees, signed readings only. */
const counter = sampleContract({
  name: 'counter',
  inputs: { level: 'number' },
  streams: { before: { topic: 'tank', field: 'level' } },
  state: { count: 0, change: 0 },
  let: ['delta = if(has(before), level - before, 0)'],
  values: ['delta', 'level'],
  set: ['count = count + 1', 'change = 100 / (level - 50)'],
})
const addressOf = (contract: Contract) => encodedContract(contract).address

function valuesOf(values: Readonly<Record<string, Scalar>>) {
  return Object.entries(values)
    .map(([name, value]) => ({ name, value }))
    .sort((a, b) => (a.name < b.name ? -1 : 1))
}

function record(values: Readonly<Record<string, Scalar>>, more: Partial<DeviceRecord> = {}): DeviceRecord {
  return sampleRecord({ payload: Uint8Array.of(1, 2, 3), values: valuesOf(values), ...more })
}

class Records {
  readonly chain: SampleLedger

  constructor(chain = new SampleLedger()) {
    this.chain = chain
  }

  run(who: Actor, body: TransactionBody): Receipt {
    return this.chain.execute(this.chain.sign(who, body)).receipts[0]!
  }

  deploy(contract: Contract, who = operator): Receipt {
    return this.run(who, { type: 'contract.deploy', contract: encode(contractCodec, contract) })
  }

  retire(contract: Contract): Receipt {
    return this.run(operator, { type: 'contract.retire', contract: addressOf(contract) })
  }

  guard(topic: string, contracts: readonly Contract[], expectedVersion = 0, who = operator): Receipt {
    const guards = contracts.map(addressOf).sort()
    return this.run(who, { type: 'contract.guard', topic, expectedVersion, guards })
  }

  add(values: Readonly<Record<string, Scalar>>, more: Partial<DeviceRecord> = {}, who = sensor): Receipt {
    return this.run(who, { type: 'record.one', qos: 1, record: record(values, more) })
  }

  act(
    contract: Contract | ContractAddress,
    input: ActionInput,
    publishTopic?: string,
    who = sensor,
  ): Receipt {
    const address = typeof contract === 'string' ? contract : addressOf(contract)
    return this.run(who, { type: 'contract.action', qos: 1, contract: address, input, publishTopic })
  }

  call(contract: Contract, values: Readonly<Record<string, Scalar>>, who = sensor): Receipt {
    return this.act(contract, { type: 'call', source: undefined, values: valuesOf(values) }, undefined, who)
  }

  letGatewayAttest(): this {
    this.run(operator, {
      type: 'identity.rights',
      subject: gateway.id,
      expectedVersion: 0,
      ...noRights,
      gateway: true,
    })
    return this
  }

  leaf<T>(key: Parameters<typeof get>[1], codec: Codec<T>): T | undefined {
    const value = get(this.chain.ledger.tree, key)
    return value && decodeOwn(codec, value)
  }

  stateOf(contract: Contract) {
    return this.leaf(stateKeyOf.contractState(addressOf(contract)), contractStateCodec)
  }

  reading(who: Actor, attested = false, topic = 'tank') {
    return this.leaf(stateKeyOf.reading(streamIdOf({ device: who.id, topic, attested })), readingCodec)
  }
}

function decisionOf({ events }: Receipt): Extract<ChainEvent, { type: 'contract.decided' }> {
  return events.find(event => event.type === 'contract.decided')!
}

describe('contracts on the chain', () => {
  test('deploy: an operator alone, once, and only what makes sense', () => {
    const records = new Records()
    expect(records.deploy(fire, sensor).code).toBe('not-authorised')
    expect(records.deploy(fire)).toMatchObject({
      code: 'ok',
      events: [{ type: 'contract.deployed', contract: addressOf(fire) }],
    })
    expect(records.leaf(stateKeyOf.contract(addressOf(fire)), contractRecordCodec)).toMatchObject({
      contract: fire,
      deployer: operator.id,
      steps: 108,
      retiredAt: undefined,
    })
    expect(records.stateOf(fire)).toMatchObject({ version: 0, values: [0, 0] })
    expect(records.deploy(fire, secondOperator).code).toBe('already-exists')
    const senseless = { ...fire, values: ['nothing'] }
    expect(records.deploy(senseless).code).toBe('contract-invalid')
    const noContract = { type: 'contract.deploy', contract: Uint8Array.of(0x90) } as const
    expect(records.run(operator, noContract).code).toBe('contract-invalid')
  })

  test('retire: it decides no more, and is never deployed again; a guard is not retired', () => {
    const records = new Records()
    expect(records.retire(fire).code).toBe('unknown-subject')
    records.deploy(fire)
    records.deploy(guard)
    expect(records.guard('tank', [guard]).code).toBe('ok')
    expect(records.retire(guard).code).toBe('invalid-state')
    expect(records.retire(fire).code).toBe('ok')
    expect(records.retire(fire).code).toBe('invalid-state')
    expect(records.deploy(fire).code).toBe('already-exists')
    expect(decisionOf(records.call(fire, inputs(500)))).toMatchObject({
      failed: true,
      decision: 'failed: unknown-contract',
    })
    expect(records.guard('tank', [], 1).code).toBe('ok')
    expect(records.retire(guard).code).toBe('ok')
  })

  test('guard: an operator alone, by version, and only contracts that are there', () => {
    const records = new Records()
    records.deploy(guard)
    expect(records.guard('tank', [guard], 0, sensor).code).toBe('not-authorised')
    expect(records.guard('tank', [guard], 1).code).toBe('version-conflict')
    expect(records.guard('tank', [fire]).code).toBe('unknown-subject')
    expect(records.guard('tank', [guard])).toMatchObject({
      code: 'ok',
      events: [{ type: 'contract.guards', topic: 'tank', version: 1 }],
    })
    expect(records.guard('tank', [guard], 1).code).toBe('ok')
    const rules = records.leaf(stateKeyOf.topic(topicIdOf('tank')), topicRulesCodec)
    expect(rules).toEqual({ topic: 'tank', version: 2, guards: [addressOf(guard)], readers: 1 })
    expect(records.leaf(stateKeyOf.contract(addressOf(guard)), contractRecordCodec)?.guarded).toBe(1)
  })
})

describe('records', () => {
  test('records: stand with a receipt, and are no leaves', () => {
    const records = new Records()
    const before = records.chain.ledger.tree
    const block = records.chain.execute(
      records.chain.sign(sensor, { type: 'record.one', qos: 1, record: record({ level: 3 }) }),
    )
    expect(block.receipts[0]).toMatchObject({
      code: 'ok',
      events: [{ type: 'record.added', item: 0, device: sensor.id, attested: false }],
    })
    expect(block.changes).toEqual([])
    expect(records.chain.ledger.tree).toEqual(before)
  })

  test('records: a reading is kept as long as a contract reads the topic', () => {
    const records = new Records()
    records.deploy(counter)
    records.add({ level: 3, dry: true })
    expect(records.reading(sensor)).toMatchObject({
      device: sensor.id,
      values: valuesOf({ level: 3, dry: true }),
      time: records.chain.time,
    })
    records.add({ level: 1 }, { topic: 'sea' })
    expect(records.reading(sensor, false, 'sea')).toBeUndefined()
    records.retire(counter)
    records.add({ level: 4 })
    expect(records.reading(sensor)?.values).toEqual(valuesOf({ dry: true, level: 3 }))
  })

  test('records: what a guard rejects, or fails on, is not recorded, and the receipt says by which rule (Hsu C6, C8)', () => {
    const records = new Records()
    records.deploy(guard)
    records.guard('tank', [guard])
    const refused = (receipt: Receipt, reason: string) =>
      expect(receipt).toMatchObject({
        code: 'rule-violated',
        events: [{ type: 'record.refused', item: 0, contract: addressOf(guard), reason }],
      })
    expect(records.add({ level: 20 }).code).toBe('ok')
    refused(records.add({ level: -1 }), 'range')
    refused(records.add({ level: 23 }), 'step')
    refused(records.add({}), 'missing-input in level')
    expect(records.reading(sensor)?.values).toEqual(valuesOf({ level: 20 }))
    expect(records.add({ level: 22 }).code).toBe('ok')
    expect(records.add({ level: 90 }, {}, other).code).toBe('ok')
    expect(records.add({ level: -1 }, { topic: 'sea' }).code).toBe('ok')
  })

  test('records: those of a batch stand or fall each by itself, and see those before', () => {
    const records = new Records()
    records.deploy(guard)
    records.guard('tank', [guard])
    const batch = (...levels: readonly number[]) =>
      records.run(sensor, { type: 'record.batch', qos: 1, records: levels.map(level => record({ level })) })
    expect(batch(20, 22, 30, 24)).toMatchObject({
      code: 'ok',
      events: [
        { type: 'record.added', item: 0 },
        { type: 'record.added', item: 1 },
        { type: 'record.refused', item: 2, reason: 'step' },
        { type: 'record.added', item: 3 },
      ],
    })
    expect(records.reading(sensor)?.values).toEqual(valuesOf({ level: 24 }))
    const none = batch(50, -3)
    expect(none).toMatchObject({ code: 'rule-violated', events: [{ reason: 'step' }, { reason: 'range' }] })
    expect(decode(receiptCodec, encode(receiptCodec, none))).toEqual({ ok: true, value: none })
  })

  test('records: a gateway attests by its right, for active devices, and every trace says so', () => {
    const records = new Records()
    const said = { source: sensor.id }
    expect(records.add({ level: 1 }, said, gateway).code).toBe('not-authorised')
    records.letGatewayAttest()
    records.deploy(counter)
    expect(records.add({ level: 1 }, said, gateway)).toMatchObject({
      code: 'ok',
      events: [{ device: sensor.id, attested: true }],
    })
    expect(records.reading(sensor)).toBeUndefined()
    expect(records.reading(sensor, true)).toMatchObject({ attested: true, device: sensor.id })
    const call = { type: 'call', source: sensor.id, values: valuesOf({ level: 1 }) } as const
    expect(decisionOf(records.act(counter, call, undefined, gateway))).toMatchObject({
      failed: true,
      decision: 'failed: attested-not-allowed',
      attested: true,
      caller: sensor.id,
    })
    expect(records.act(counter, call, undefined, stranger).code).toBe('not-authorised')
    records.chain.suspend(sensor)
    expect(records.add({ level: 1 }, said, gateway)).toMatchObject({
      code: 'invalid-state',
      events: [{ type: 'record.refused', contract: undefined, reason: 'source is suspended' }],
    })
    expect(records.act(counter, call, undefined, gateway).code).toBe('invalid-state')
    expect(records.add({ level: 1 }, {}, sensor).code).toBe('signer-not-active')
  })

  test('records: a guard takes what a gateway attests only if it says so: its rules may look at signed readings', () => {
    const records = new Records().letGatewayAttest()
    records.deploy(guard)
    records.guard('tank', [guard])
    const said = { source: sensor.id }
    expect(records.add({ level: 90 }, said, gateway)).toMatchObject({
      code: 'rule-violated',
      events: [{ type: 'record.refused', contract: addressOf(guard), reason: 'attested-not-allowed' }],
    })
    const streams = { before: { topic: 'tank', field: 'level', attested: true } }
    const rules = ['step = not has(before) or abs(level - before) <= 2']
    const opted = sampleContract({
      name: 'opted',
      attested: true,
      inputs: { level: 'number' },
      streams,
      rules,
    })
    records.deploy(opted)
    records.guard('tank', [opted], 1)
    expect(records.add({ level: 90 }, said, gateway).code).toBe('ok')
    expect(records.add({ level: 95 }, said, gateway)).toMatchObject({ events: [{ reason: 'step' }] })
  })

  test('records: the history of a device has what a gateway attested for it', () => {
    const records = new Records()
    const bodies: readonly TransactionBody[] = [
      { type: 'record.one', qos: 1, record: record({}, { source: sensor.id }) },
      { type: 'record.batch', qos: 1, records: [record({}), record({}, { source: sensor.id })] },
      {
        type: 'contract.action',
        qos: 1,
        contract: ContractAddress('ab'.repeat(32)),
        input: { type: 'call', source: sensor.id, values: [] },
        publishTopic: undefined,
      },
    ]
    for (const body of bodies) {
      const { unsigned } = unwrap(parseTransaction(records.chain.sign(gateway, body)))
      expect(devicesOf(unsigned)).toEqual([gateway.id, sensor.id])
    }
  })
})

describe('actions (Altaş D4)', () => {
  test('actions: recorded, executed, decided; the contract remembers', () => {
    const records = new Records()
    records.deploy(fire)
    const receipt = records.act(
      fire,
      { type: 'record', record: record(inputs(30), { topic: 'forest/north' }) },
      'fire/north',
    )
    expect(receipt).toMatchObject({
      code: 'ok',
      events: [
        { type: 'record.added', device: sensor.id },
        {
          type: 'contract.decided',
          contract: addressOf(fire),
          caller: sensor.id,
          attested: false,
          failed: false,
          decision: 'extreme',
          publishTopic: 'fire/north',
        },
      ],
    })
    expect(decode(receiptCodec, encode(receiptCodec, receipt))).toEqual({ ok: true, value: receipt })
    const [DI] = decisionOf(receipt).values
    expect(records.stateOf(fire)).toMatchObject({ version: 1, values: [DI!.value, 1] })
    expect(decisionOf(records.call(fire, inputs(500)))).toMatchObject({
      decision: 'low',
      publishTopic: undefined,
    })
    expect(records.stateOf(fire)).toMatchObject({ version: 2, values: [29.037075, 2] })
  })

  test('actions: a failure leaves the record, and nothing else', () => {
    const records = new Records()
    records.deploy(counter)
    records.call(counter, { level: 40 })
    const remembered = records.stateOf(counter)
    const failed = records.act(counter, { type: 'record', record: record({ level: 50 }) }, undefined)
    expect(failed.code).toBe('ok')
    expect(failed.events.map(({ type }) => type)).toEqual(['record.added', 'contract.decided'])
    expect(decisionOf(failed)).toMatchObject({
      failed: true,
      decision: 'failed: division-by-zero in set change',
      values: [],
      publishTopic: undefined,
    })
    expect(records.stateOf(counter)).toEqual(remembered)
    expect(records.reading(sensor)?.values).toEqual(valuesOf({ level: 50 }))
  })

  test('actions: a contract sees the reading before the record of its own action', () => {
    const records = new Records()
    records.deploy(counter)
    const act = (level: number) =>
      decisionOf(records.act(counter, { type: 'record', record: record({ level }) })).values
    expect(act(10)).toEqual(valuesOf({ delta: 0, level: 10 }))
    expect(act(13)).toEqual(valuesOf({ delta: 3, level: 13 }))
    expect(act(12)).toEqual(valuesOf({ delta: -1, level: 12 }))
  })

  test('actions: the event has the QoS of the request', () => {
    const records = new Records()
    records.deploy(fire)
    const input = { type: 'call', source: undefined, values: valuesOf(inputs(30)) } as const
    const body = {
      type: 'contract.action',
      contract: addressOf(fire),
      input,
      publishTopic: undefined,
    } as const
    const decided = ([0, 1, 2] as const).map(qos => decisionOf(records.run(sensor, { ...body, qos })))
    expect(decided).toMatchObject([{ qos: 0 }, { qos: 1 }, { qos: 2 }])
  })

  test('actions: callers and topics are those that the contract lists', () => {
    const closed = sampleContract({ name: 'closed', callers: [other.id], publish: ['valve/#'] })
    const records = new Records()
    records.deploy(closed)
    const act = (who: Actor, topic?: string) =>
      decisionOf(records.act(closed, { type: 'call', source: undefined, values: [] }, topic, who))
    expect(act(sensor)).toMatchObject({ failed: true, decision: 'failed: caller-not-allowed' })
    expect(act(other)).toMatchObject({ failed: false, decision: 'done' })
    expect(act(other, 'valve/3')).toMatchObject({ failed: false, publishTopic: 'valve/3' })
    expect(act(other, 'door/3')).toMatchObject({ failed: true, decision: 'failed: topic-not-allowed' })
    expect(records.stateOf(closed)?.version).toBe(2)
  })

  test('actions: with a record that a guard rejects nothing runs', () => {
    const records = new Records()
    records.deploy(counter)
    records.deploy(guard)
    records.guard('tank', [guard])
    const receipt = records.act(counter, { type: 'record', record: record({ level: -1 }) })
    expect(receipt.code).toBe('rule-violated')
    expect(receipt.events.map(({ type }) => type)).toEqual(['record.refused'])
    expect(records.stateOf(counter)?.version).toBe(0)
  })
})

describe('blocks', () => {
  test('blocks: steps of contracts are bounded; what is over is overloaded, and can be sent again', () => {
    const records = new Records()
    const long = sampleContract({
      name: 'long',
      inputs: { level: 'number' },
      let: Array.from(
        { length: 61 },
        (_, i) => `a${i} = ${Array.from({ length: 8 }, () => 'level').join(' + ')}`,
      ),
    })
    records.deploy(long)
    records.guard('tank', [long])
    const { steps } = records.leaf(stateKeyOf.contract(addressOf(long)), contractRecordCodec)!
    expect(steps).toBeGreaterThan(1000)
    const batch = {
      type: 'record.batch',
      qos: 1,
      records: Array.from({ length: 64 }, () => record({ level: 1 })),
    } as const
    const fitting = Math.floor((maxBlockSteps - maxTransactionSteps) / (64 * steps)) + 1
    const transactions = Array.from({ length: fitting + 2 }, () => records.chain.sign(sensor, batch))
    const codes = records.chain.execute(...transactions).receipts.map(({ code }) => code)
    expect(codes).toEqual([...Array.from({ length: fitting }, () => 'ok'), 'overloaded', 'overloaded'])
    expect(records.chain.execute(transactions.at(-1)!).receipts[0]?.code).toBe('ok')
  })

  test('blocks: what receipts take is bounded, however short the records are; a block is read again whole', () => {
    const records = new Records()
    const short = { ...record({}), topic: 't', payload: new Uint8Array(0) }
    const batch = { type: 'record.batch', qos: 1, records: new Array(maxBatchRecords).fill(short) } as const
    const [alone] = records.chain.execute(records.chain.sign(sensor, batch)).encodedReceipts
    const fitting = Math.floor((maxBlockReceiptBytes - maxReceiptBytes) / alone!.length) + 1
    const transactions = Array.from({ length: fitting + 2 }, () => records.chain.sign(sensor, batch))
    const { receipts, encodedReceipts } = records.chain.execute(...transactions)
    expect(receipts.findIndex(({ code }) => code === 'overloaded')).toBe(fitting)
    const encoded = encodedList(encodedReceipts)
    expect(encoded.length).toBeLessThan(maxBlockReceiptBytes)
    expect(encoded.length).toBeGreaterThan(maxBlockReceiptBytes - 2 * maxReceiptBytes)
    const read = decode(receiptsCodec, encoded, Number.MAX_SAFE_INTEGER)
    expect(read.ok && read.value.length).toBe(receipts.length)
    expect(records.chain.execute(transactions.at(-1)!).receipts[0]?.code).toBe('ok')
  })

  test('blocks: a ledger that is restored goes on with the same roots', () => {
    const records = new Records()
    records.deploy(counter)
    records.add({ level: 4 })
    records.call(counter, { level: 9 })
    const restored = new SampleLedger()
    restored.ledger = restoredOf(records.chain.ledger)
    restored.time = records.chain.time
    const body: TransactionBody = {
      type: 'contract.action',
      qos: 1,
      contract: addressOf(counter),
      input: { type: 'record', record: record({ level: 5 }) },
      publishTopic: undefined,
    }
    const wire = records.chain.sign(sensor, body)
    expect(restored.execute(wire).headerHash).toBe(records.chain.execute(wire).headerHash)
  })
})
