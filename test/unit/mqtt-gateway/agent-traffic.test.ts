/** What an agent does with a message that arrived and a rule, and what it tells its application of records. */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import type { DeviceId, Milliseconds, TransactionId } from '../../../chain/brands.ts'
import { MessageStore } from '../../../client/message-store.ts'
import {
  type AgentEvent,
  deliverLocal,
  type LocalPorts,
  Subscriptions,
} from '../../../mqtt-gateway/agent/agent-process.ts'
import { ApplicationNews } from '../../../mqtt-gateway/agent/application-news.ts'
import type { LocalMessage } from '../../../mqtt-gateway/agent/local-client.ts'
import { StreamRules } from '../../../mqtt-gateway/agent/stream-rules.ts'
import { until } from '../../support/gateway-fixture.ts'
import { MemoryTrust } from '../../support/memory-trust.ts'
import { sampleContract } from '../../support/sample-contract.ts'

const from = '11'.repeat(32) as DeviceId
const chain = new MemoryTrust()
const address = chain.deploy(
  sampleContract({ name: 'positive', inputs: { level: 'number' }, rules: ['positive = level > 0'] }),
)
const names = {
  device: async () => undefined,
  group: async () => undefined,
  nameOfDevice: async () => '1111',
  nameOfGroup: async () => 'g',
}

let directory: string
let store: MessageStore
let delivered: LocalMessage[]
let events: AgentEvent[]
beforeEach(async () => {
  chain.reachable = true
  port.hasSubscriber = true
  delivered = []
  events = []
  directory = await mkdtemp(join(tmpdir(), 'mote-traffic-'))
  store = await MessageStore.open(directory)
})
afterEach(async () => {
  await store.close()
  await rm(directory, { recursive: true })
})

const port = {
  hasSubscriber: true,
  async deliver(message: LocalMessage) {
    delivered.push(message)
    return this.hasSubscriber ? ('taken' as const) : ('nobody' as const)
  },
}
const texts = () =>
  delivered.map(({ topicName, payload }) => `${topicName} ${new TextDecoder().decode(payload)}`)

const openRules = () => StreamRules.open({ store, prefix: 'a/', chain, names, named: [] })

async function deliver(level: number, signal = new AbortController().signal): Promise<void> {
  const rules = await openRules()
  const rule = { type: 'address', address } as const
  const routes = { publish: [], deliver: [{ topic: 'level', rules: [rule] }] }
  const ports = { mqtt: port, coap: undefined, subscriptions: new Subscriptions() } as unknown as LocalPorts
  const local = { routes, names, rules, onEvent: (event: AgentEvent) => events.push(event) }
  const received = {
    from,
    to: { type: 'device', id: from },
    channel: '',
    content: new TextEncoder().encode(JSON.stringify({ level })),
    messageId: `message ${level}`,
    at: 0 as Milliseconds,
  } as const
  await deliverLocal(local, ports, received, signal)
}

test('agent: a message that violates a rule of its route is told, and reaches no application', async () => {
  await deliver(1)
  await deliver(-1)
  expect(texts()).toEqual(['level {"level":1}'])
  expect(events).toMatchObject([{ type: 'refused', reason: { code: 'rule-violated' } }])
})

test('agent: contracts have a reading as soon as it has passed, although no application has subscribed yet', async () => {
  port.hasSubscriber = false
  const ending = new AbortController()
  const waiting = deliver(7, ending.signal)
  await until(() => delivered.length > 0, 'it is offered')
  const { readings } = await openRules()
  expect(readings.last({ device: from, topic: 'level', attested: false }, 1 as Milliseconds)).toMatchObject({
    values: [{ name: 'level', value: 7 }],
  })
  ending.abort()
  await expect(waiting).rejects.toThrow()
})

test('agent: a message whose rules are out of reach stays where it is', async () => {
  chain.reachable = false
  await expect(deliver(1)).rejects.toMatchObject({ code: 'unreachable' })
  expect(texts()).toEqual([])
})

test('agent: an application hears what the chain recorded and decided, and what it refused', () => {
  const news = new ApplicationNews()
  const transaction = 'ab'.repeat(32) as TransactionId
  const about = { sequence: 1, topic: 'forest/north', transaction }
  const reason = { code: 'rule-violated', detail: 'record: guard c2: range' } as const
  news.settled({ type: 'certified', ...about, decision: undefined })
  expect(texts()).toEqual([])
  news.open(port as unknown as Parameters<ApplicationNews['open']>[0])
  news.settled({ type: 'certified', ...about, decision: 'extreme' })
  news.settled({ type: 'refused', ...about, reason })
  expect(texts()).toEqual([
    `agent/recorded {"topic":"forest/north","transaction":"${transaction}","decision":"extreme"}`,
    'agent/refused {"topic":"forest/north","code":"rule-violated","reason":"record: guard c2: range"}',
  ])
})
