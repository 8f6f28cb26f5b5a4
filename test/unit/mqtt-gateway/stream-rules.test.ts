/** Rules about readings in an agent: each reading is judged against the one before it, and what violates a rule is refused or marked. */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import type { ContractAddress, DeviceId, Height, Milliseconds } from '../../../chain/brands.ts'
import { MoteError } from '../../../chain/result.ts'
import { MessageStore } from '../../../client/message-store.ts'
import { LastReadings } from '../../../mqtt-gateway/agent/last-readings.ts'
import type { ContractName } from '../../../mqtt-gateway/agent/named-contracts.ts'
import { fromRecord, withFlag } from '../../../mqtt-gateway/agent/record-format.ts'
import { type ReadingRoute, StreamRules } from '../../../mqtt-gateway/agent/stream-rules.ts'
import { MemoryTrust } from '../../support/memory-trust.ts'
import { sampleContract } from '../../support/sample-contract.ts'

const device = '11'.repeat(32) as DeviceId
const topic = 'water/temperature'
const guard: ContractName = { type: 'file', path: 'examples/temperature-guard.json' }
const minute = 60_000
const bytes = (value: unknown) =>
  new TextEncoder().encode(typeof value === 'string' ? value : JSON.stringify(value))

let directory: string
let store: MessageStore
let trust: MemoryTrust
beforeEach(async () => {
  trust = new MemoryTrust()
  directory = await mkdtemp(join(tmpdir(), 'mote-rules-'))
  store = await MessageStore.open(directory)
})
afterEach(async () => {
  await store.close()
  await rm(directory, { recursive: true })
})

const names = { device: async () => undefined }
/** As an agent has them that has just started. */
const start = (named: readonly ContractName[] = [guard]) =>
  StreamRules.open({ store, prefix: 'a/', chain: trust, names, named })

/** Whether a reading passes, and with which mark; or the code and the reason of its refusal. */
async function outcome(
  rules: StreamRules,
  route: ReadingRoute,
  { content, at = 0, from = device }: { content: unknown; at?: number; from?: DeviceId },
): Promise<string> {
  const reading = { device: from, topic, content: bytes(content), at: at as Milliseconds }
  try {
    return await rules.pass(route, reading, async ({ violation }) => violation ?? 'passes')
  } catch (error) {
    return error instanceof MoteError ? `${error.code}: ${error.detail}` : `${error}`
  }
}

/** Readings of one device, a minute apart. */
async function stream(rules: StreamRules, route: ReadingRoute, ...readings: readonly number[]) {
  const outcomes: string[] = []
  for (const [i, temperature] of readings.entries())
    outcomes.push(await outcome(rules, route, { content: { temperature }, at: i * minute }))
  return outcomes
}

test('rules: a thermometer that falls by 4 degrees and goes on from there is marked once, at the fall', async () => {
  const route: ReadingRoute = { rules: [guard], onViolation: 'flag' }
  expect(await stream(await start(), route, 20, 21, 22, 23, 24, 20, 21)).toEqual([
    'passes',
    'passes',
    'passes',
    'passes',
    'passes',
    'temperature-guard: step',
    'passes',
  ])
})

test('rules: readings that come faster than the rate are refused, and the next one in time passes', async () => {
  const address = trust.deploy(
    sampleContract({
      name: 'unhurried',
      streams: { before: { device: 'sender', topic, field: 'temperature' } },
      rules: ['rate = not has(before) or now - time(before) >= 1000'],
    }),
  )
  const route: ReadingRoute = { rules: [{ type: 'address', address }] }
  const rules = await start(route.rules)
  const outcomes = []
  for (const at of [0, 999, 1_000, 1_500])
    outcomes.push(await outcome(rules, route, { content: { temperature: 20 }, at }))
  const refused = 'rule-violated: reading on water/temperature: unhurried: rate'
  expect(outcomes).toEqual(['passes', refused, 'passes', refused])
})

test('rules: one that lies by 5 degrees from its first reading on violates none', async () => {
  const readings = [15, 16, 17, 18, 19, 20]
  expect(await stream(await start(), { rules: [guard] }, ...readings)).toEqual(readings.map(() => 'passes'))
})

test('rules: what is refused is told with contract and rule, and the next reading is measured from the one before it', async () => {
  const rules = await start()
  const refused = 'rule-violated: reading on water/temperature: temperature-guard: '
  expect(await stream(rules, { rules: [guard] }, 24, 20, 23)).toEqual(['passes', `${refused}step`, 'passes'])
  expect(await outcome(rules, { rules: [guard] }, { content: { temperature: 120 } })).toBe(`${refused}range`)
})

test('rules: the reading before is on the disk: a restart does not forget what a step is measured from', async () => {
  expect(await stream(await start(), { rules: [guard] }, 24)).toEqual(['passes'])
  const again = await start()
  expect(await outcome(again, { rules: [guard] }, { content: { temperature: 20 }, at: 1 })).toContain('step')
  const other = '22'.repeat(32) as DeviceId
  expect(await outcome(again, { rules: [guard] }, { content: { temperature: 20 }, at: 1, from: other })).toBe(
    'passes',
  )
})

test.each([
  ['another value', { degrees: 20 }],
  ['a text', { temperature: '20' }],
  ['no object', '20'],
  ['no JSON', '{'],
])('rules: a reading with %s passes no rule that needs it', async (_, content) => {
  expect(await outcome(await start(), { rules: [guard] }, { content })).toMatch(
    /^rule-violated: .*temperature-guard: (missing|wrong)-input in temperature$/,
  )
})

test('rules: a reading that is larger than what is looked at is refused', async () => {
  const content = { temperature: 20, more: 'x'.repeat(64 * 1024) }
  expect(await outcome(await start(), { rules: [guard] }, { content })).toContain('too-large')
})

test('rules: readings that come side by side are judged one after another', async () => {
  const rules = await start()
  const judged = [20, 24, 20].map(temperature =>
    outcome(rules, { rules: [guard] }, { content: { temperature } }),
  )
  expect((await Promise.all(judged)).map(text => text.split(':')[0])).toEqual([
    'passes',
    'rule-violated',
    'passes',
  ])
})

test('rules: a reading that is not taken is not kept', async () => {
  const rules = await start()
  const reading = { device, topic, content: bytes({ temperature: 20 }), at: 0 as Milliseconds }
  await expect(
    rules.pass({ rules: [guard] }, reading, async () => {
      throw new MoteError('overloaded', 'full')
    }),
  ).rejects.toThrow('full')
  expect(await outcome(rules, { rules: [guard] }, { content: { temperature: 90 }, at: 1 })).toBe('passes')
})

test('rules: a message that comes again after a crash passes as it did the first time', async () => {
  const route: ReadingRoute = { rules: [guard], onViolation: 'flag' }
  await stream(await start(), route, 24)
  const fall = { device, topic, content: bytes({ temperature: 20 }), at: 1 as Milliseconds, messageId: 'ab' }
  const judge = async (rules: StreamRules) => rules.pass(route, fall, async ({ violation }) => violation)
  expect(await judge(await start())).toBe('temperature-guard: step')
  expect(await judge(await start())).toBe('temperature-guard: step')
})

test('rules: a route without rules keeps readings if it names their topic, and only then', async () => {
  const rules = await start()
  await outcome(rules, {}, { content: { temperature: 20 } })
  expect(rules.readings.last({ device, topic, attested: false }, 1 as Milliseconds)).toBeUndefined()
  await outcome(rules, { recordTopic: topic }, { content: { temperature: 20, unit: 'C' }, at: 7 })
  expect(rules.readings.last({ device, topic, attested: false }, 9 as Milliseconds)).toEqual({
    values: [{ name: 'temperature', value: 20 }],
    time: 7,
    messageId: undefined,
    violation: undefined,
  })
  expect(rules.readings.last({ device, topic, attested: true }, 9 as Milliseconds)).toBeUndefined()
})

test('rules: a contract by its address is fetched with its proof, and nothing passes before it is there', async () => {
  const contract = sampleContract({
    name: 'positive',
    inputs: { level: 'number' },
    rules: ['positive = level > 0'],
  })
  const address = trust.deploy(contract)
  const route: ReadingRoute = { rules: [{ type: 'address', address }] }
  const rules = await start(route.rules)
  trust.reachable = false
  expect(await outcome(rules, route, { content: { level: 1 } })).toContain('unreachable')
  trust.reachable = true
  expect(await outcome(rules, route, { content: { level: 1 } })).toBe('passes')
  trust.reachable = false
  expect(await outcome(rules, route, { content: { level: 0 } })).toContain('positive: positive')
})

test.each([
  ['that is not on the chain', () => 'ab'.repeat(32) as ContractAddress],
  ['that is retired', () => trust.deploy(sampleContract(), 1 as Height)],
])('rules: a contract %s lets nothing pass', async (_, addressOf) => {
  const rule: ContractName = { type: 'address', address: addressOf() }
  const route: ReadingRoute = { rules: [rule] }
  expect(await outcome(await start([rule]), route, { content: {} })).toContain('unknown-contract')
})

test('rules: a file that is no contract, or names an unknown device, is refused when the agent starts', async () => {
  await expect(start([{ type: 'file', path: 'package.json' }])).rejects.toMatchObject({
    code: 'contract-invalid',
  })
  await expect(start([{ type: 'file', path: 'examples/water-valve.json' }])).rejects.toThrow(/inlet.*1111/)
  await expect(start([{ type: 'file', path: 'examples/none.json' }])).rejects.toMatchObject({
    code: 'not-found',
  })
})

test('last readings: one from the future counts as of now from then on', async () => {
  const rules = await start()
  await outcome(rules, { recordTopic: topic }, { content: { temperature: 20 }, at: 1_000 })
  const place = { device, topic, attested: false }
  expect(rules.readings.last(place, 10 as Milliseconds)?.time).toBe(10)
  expect(rules.readings.last(place, 50 as Milliseconds)?.time).toBe(10)
})

test('last readings: for more places than there is room, readings are refused', async () => {
  await outcome(await start(), { recordTopic: topic }, { content: { temperature: 20 } })
  const [[, value] = []] = await store.all('a/reading/')
  const others = Array.from({ length: 4_095 }, (_, i) => ({ key: `a/reading/${i}/t`, value }))
  await store.write(others)
  const full = await start()
  const from = '22'.repeat(32) as DeviceId
  expect(await outcome(full, { recordTopic: topic }, { content: {}, from })).toContain('overloaded')
  expect(await outcome(full, { recordTopic: topic }, { content: {} })).toBe('passes')
  const readings = await LastReadings.open({ store, prefix: 'a/reading/' })
  expect(() => readings.requireRoom(from, topic)).toThrow('overloaded')
})

const marked = (content: unknown) => {
  const made = withFlag(bytes(content), 'g: step')
  return made.ok ? new TextDecoder().decode(made.value) : made.error.code
}

test('marks: a reading is marked without another change, keeps the mark that it has, and cannot stand in its way', () => {
  expect(marked('{ "t":1.0 } ')).toBe('{ "t":1.0 ,"flagged":"g: step"}')
  expect(marked('{}')).toBe('{"flagged":"g: step"}')
  expect(marked('{"flagged":"other"}')).toBe('{"flagged":"other"}')
  for (const content of ['{"flagged":false}', '{"flagged":""}', '20', '{'])
    expect(marked(content)).toBe('rule-violated')
})

test('marks: they come through a format that does not declare them, and not into a plain number', () => {
  const record = bytes('{"t":20,"flagged":"g: step"}')
  const convert = (format: Parameters<typeof fromRecord>[0]) => {
    const made = fromRecord(format, record)
    return made.ok ? new TextDecoder().decode(made.value) : made.error.code
  }
  expect(JSON.parse(convert({ type: 'json', fields: { t: { kind: 'number' } } }))).toEqual({
    t: 20,
    flagged: 'g: step',
  })
  expect(convert({ type: 'number', field: 't', rule: { kind: 'number' } })).toBe('rule-violated')
})
