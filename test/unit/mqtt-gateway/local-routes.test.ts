/** Routes and their configuration: what is declared passes, in either direction, and nothing else. */
import { resolve } from 'node:path'
import { expect, test } from 'vitest'
import type { DeviceId, GroupId, Milliseconds } from '../../../chain/brands.ts'
import {
  contractNamesOf,
  parseAgentConfig,
  readAgentConfig,
  standardAgentConfig,
} from '../../../mqtt-gateway/agent/agent-config.ts'
import type { ReceivedText } from '../../../mqtt-gateway/agent/inbox.ts'
import {
  incoming,
  type LocalNames,
  type LocalRoutes,
  outgoing,
} from '../../../mqtt-gateway/agent/local-routes.ts'

const bytes = (text: string) => new TextEncoder().encode(text)
const [d1112, g1] = ['1'.repeat(64) as DeviceId, 'a'.repeat(64) as GroupId]
const names: LocalNames = {
  device: async name => (name === '1112' ? d1112 : undefined),
  group: async name => (name === 'hsu0001' ? g1 : undefined),
  nameOfDevice: async () => '1112',
  nameOfGroup: async () => 'hsu0001',
}
const config = (fields: object) => parseAgentConfig(JSON.stringify({ version: 1, ...fields }), 'agent.json')
const send = async (routes: LocalRoutes, topicName: string, text = 'x') => {
  const sent = await outgoing(routes, names, { topicName, payload: bytes(text) })
  return sent.ok ? sent.value : sent.error.code
}
const received = (changes: Partial<ReceivedText> = {}): ReceivedText => ({
  from: d1112,
  to: { type: 'device', id: d1112 },
  channel: '',
  content: bytes('x'),
  messageId: 'm',
  at: 0 as Milliseconds,
  ...changes,
})
const place = async (routes: LocalRoutes, message: ReceivedText) => {
  const local = await incoming(routes, names, message)
  return local.ok ? local.value.topicName : local.error.code
}

test('local routes: without a configuration every device and group is reached by its name', async () => {
  const { routes } = standardAgentConfig
  expect(await send(routes, 'to/1112')).toMatchObject({
    to: { type: 'device', id: d1112 },
    delivery: 'relayed',
  })
  expect(await send(routes, 'group/hsu0001')).toMatchObject({ to: { type: 'group', id: g1 } })
  expect(await place(routes, received())).toBe('from/1112')
  expect(await place(routes, received({ to: { type: 'group', id: g1 } }))).toBe('group/hsu0001/1112')
  expect(await send(routes, 'topic/hsu0001')).toMatchObject({ to: { type: 'topic', id: g1 } })
  expect(await place(routes, received({ to: { type: 'topic', id: g1 } }))).toBe('topic/hsu0001/1112')
})

test.each([
  ['to/9999', 'not-found'],
  ['group/none', 'not-found'],
  ['to', 'topic-not-allowed'],
  ['to/', 'topic-not-allowed'],
  ['to/1112/more', 'topic-not-allowed'],
  ['other', 'topic-not-allowed'],
])('local routes: %s is %s', async (topicName, code) => {
  expect(await send(standardAgentConfig.routes, topicName)).toBe(code)
})

test('local routes: declared ones replace the standard ones, with channel, delivery and format', async () => {
  const { routes } = config({
    publish: [
      {
        topic: 'room/temperature',
        device: '1112',
        channel: 'celsius',
        delivery: 'received',
        format: { type: 'number', field: 'celsius', rule: { kind: 'number', maximum: 80 } },
      },
    ],
    deliver: [{ sender: '1112', channel: 'valve', topic: 'valve' }],
  })
  const sent = await send(routes, 'room/temperature', '21.5')
  expect(sent).toMatchObject({ channel: 'celsius', delivery: 'received', content: bytes('{"celsius":21.5}') })
  expect(await send(routes, 'room/temperature', '81')).toBe('malformed')
  expect(await send(routes, 'to/1112')).toBe('topic-not-allowed')
  expect(await place(routes, received({ channel: 'valve' }))).toBe('valve')
  expect(await place(routes, received({ channel: 'other' }))).toBe('topic-not-allowed')
  expect(await place(routes, received({ to: { type: 'group', id: g1 }, channel: 'valve' }))).toBe(
    'topic-not-allowed',
  )
})

test('local routes: open topics by declared routes, with how long to keep a message; a group is none', async () => {
  const { routes } = config({
    publish: [{ topic: 'report', openTopic: 'hsu0001', keepMs: 3_600_000 }],
    deliver: [
      { openTopic: 'hsu0001', topic: 'reports/{openTopic}/{sender}' },
      { group: '*', topic: 'group' },
    ],
  })
  expect(await send(routes, 'report')).toMatchObject({ to: { type: 'topic', id: g1 }, keepMs: 3_600_000 })
  expect(await place(routes, received({ to: { type: 'topic', id: g1 } }))).toBe('reports/hsu0001/1112')
  expect(await place(routes, received({ to: { type: 'group', id: g1 } }))).toBe('group')
  expect(await place(routes, received())).toBe('topic-not-allowed')
})

test('local routes: to the chain, with the topic of the record, a contract, and rules by file and by address', async () => {
  const address = 'ab'.repeat(32)
  const { routes, decide } = config({
    publish: [
      {
        topic: 'north',
        record: true,
        recordTopic: 'forest/north',
        contract: address,
        publish: 'fire/north',
        rules: ['guard.json', address],
        onViolation: 'flag',
      },
    ],
    deliver: [{ recordTopic: 'water/temperature' }],
    decide: [{ contract: 'valve.json', topic: 'valve' }],
  })
  const named = [
    { type: 'file', path: resolve('guard.json') },
    { type: 'address', address },
  ]
  expect(await send(routes, 'north')).toMatchObject({
    to: undefined,
    recordTopic: 'forest/north',
    route: { contract: named[1], publish: 'fire/north', rules: named, onViolation: 'flag' },
  })
  expect(await incoming(routes, names, received())).toMatchObject({
    value: { topicName: undefined, recordTopic: 'water/temperature' },
  })
  expect(decide).toEqual([
    { contract: { type: 'file', path: resolve('valve.json') }, topic: 'valve', everyMs: 1_000 },
  ])
})

test.each([
  ['a record with a recipient', { publish: [{ topic: 'a', device: '1112', record: true }] }, 'publish[0]'],
  [
    'a record with a delivery',
    { publish: [{ topic: 'a', record: true, delivery: 'relayed' }] },
    'publish[0].record',
  ],
  [
    'a contract without a record',
    { publish: [{ topic: 'a', device: '1112', contract: 'c.json' }] },
    'contract',
  ],
  [
    'a decision of no contract',
    { publish: [{ topic: 'a', record: true, publish: 'b' }] },
    'publish[0].publish',
  ],
  ['a topic that no record has', { publish: [{ topic: 'é', record: true }] }, 'publish[0].recordTopic'],
  [
    'what to do about no rules',
    { publish: [{ topic: 'a', record: true, onViolation: 'flag' }] },
    'onViolation',
  ],
  ['five rules', { publish: [{ topic: 'a', record: true, rules: ['1', '2', '3', '4', '5'] }] }, 'rules'],
  [
    'a mark in a plain number',
    {
      deliver: [
        {
          topic: 'a',
          rules: ['g.json'],
          onViolation: 'flag',
          format: { type: 'number', field: 't', rule: { kind: 'number' } },
        },
      ],
    },
    'deliver[0].onViolation',
  ],
  ['a message for nobody', { deliver: [{ sender: '1111' }] }, 'deliver[0].topic'],
  [
    'a contract that runs all the time',
    { decide: [{ contract: 'c.json', topic: 'a', everyMs: 1 }] },
    'everyMs',
  ],
  ['an address that others can reach', { mqtt: { host: '0.0.0.0', port: 1883 } }, 'mqtt.host'],
  ['a CoAP address that others can reach', { coap: { host: '192.168.0.1', port: 5683 } }, 'coap.host'],
  ['a route without a recipient', { publish: [{ topic: 'a' }] }, 'publish[0]'],
  ['a route with two recipients', { publish: [{ topic: 'to/{device}', device: '1112' }] }, 'publish[0]'],
  ['a group and an open topic', { publish: [{ topic: 'a', group: 'g', openTopic: 'b' }] }, 'publish[0]'],
  [
    'to keep what waits for its confirmation',
    { publish: [{ topic: 'a', device: '1112', delivery: 'received', keepMs: 60_000 }] },
    'publish[0].keepMs',
  ],
  ['to keep for eight days', { publish: [{ topic: 'a', device: '1112', keepMs: 8 * 86_400_000 }] }, 'keepMs'],
  ['a name in braces that means nothing', { publish: [{ topic: '{x}/a', device: '1112' }] }, 'publish[0]'],
  ['a wildcard as topic', { publish: [{ topic: 'a/#', device: '1112' }] }, 'publish[0].topic'],
  ['a reserved channel', { publish: [{ topic: 'a', device: '1112', channel: 'mote.got/x' }] }, 'channel'],
  ['another field', { password: 'x' }, 'password'],
  ['a queue without room', { queue: { messages: 0 } }, 'queue.messages'],
])('agent configuration: refuses %s', (_what, fields, field) => {
  expect(() => config(fields)).toThrow(field)
})

test('agent configuration: the examples are sound, and name the contracts beside them', async () => {
  for (const [file, contracts] of [
    ['thermometer', ['temperature-guard']],
    ['recorder', ['temperature-guard']],
    ['valve', ['temperature-guard', 'water-valve']],
  ] as const) {
    const named = contractNamesOf(await readAgentConfig(`examples/water-valve/${file}.json`))
    expect(named).toEqual(contracts.map(name => ({ type: 'file', path: resolve(`examples/${name}.json`) })))
  }
})

test('agent configuration: a Unix socket is relative to the file', () => {
  const { mqtt } = parseAgentConfig('{"version":1,"mqtt":{"path":"agent.sock"}}', '/srv/agent/agent.json')
  expect(mqtt).toEqual({ type: 'unix', path: '/srv/agent/agent.sock' })
})
