/** What plain clients report, on a real MQTT wire: to whom it goes, who may, and what is told of it. Behind the gateway is no chain. */
import type { MqttClient } from 'mqtt'
import { afterEach, beforeEach, expect, test } from 'vitest'
import type { IdentityKeys } from '../../client/key-directory.ts'
import { makeKeys } from '../../client/key-directory.ts'
import { topics } from '../../mqtt-gateway/protocol/topics.ts'
import { GatewayFixture, until } from '../support/gateway-fixture.ts'
import { MemoryRecorder, memoryTransaction } from '../support/memory-recorder.ts'
import { MemoryTrust } from '../support/memory-trust.ts'

let fixture: GatewayFixture
let recorder: MemoryRecorder
let d1111: IdentityKeys
let client: MqttClient

beforeEach(async () => {
  const [trust, own] = [new MemoryTrust(), makeKeys('gateway')]
  trust.register(own)
  trust.setRights(own.id, { gateway: true })
  recorder = new MemoryRecorder()
  const plain = { in: ['forest/#'], out: ['fire/#'], open: false }
  fixture = await GatewayFixture.start({}, { trust, records: { recorder, gateway: own.id, plain } })
  d1111 = fixture.device('1111')
  fixture.trust.setRights(d1111.id, { publish: ['fire/#', 'forest/#'], subscribe: ['fire/#', 'forest/#'] })
  client = await fixture.client(fixture.credentials(d1111))
})
afterEach(() => fixture.stop())

/** Answers to the device, and everything on the mapped topics. */
const ears = async () =>
  fixture.subscribed(client, topics.verdict(d1111.id), topics.error(d1111.id), 'forest/#', 'fire/#')

test('gateway: what is published to a mapped topic is recorded under it and passed on to nobody', async () => {
  const seen = await ears()
  const secret = 'reading-4711'
  await client.publishAsync('forest/north', JSON.stringify({ Payload: { secret }, MessageId: 'm' }), {
    qos: 2,
  })
  await until(() => seen.length > 0, 'the verdict')
  expect(recorder.requests).toMatchObject([
    {
      device: d1111.id,
      exchange: { client: d1111.id, incarnation: 'life 1', qos: 2, isRepeat: false },
      content: { body: { record: { topic: 'forest/north', source: d1111.id } } },
    },
  ])
  expect(seen.map(({ topic }) => topic)).toEqual([topics.verdict(d1111.id)])
  expect(JSON.parse(String(seen[0]?.payload))).toMatchObject({
    messageId: 'm',
    verdict: 'Check',
    call: memoryTransaction,
    height: 7,
    index: 3,
  })
  expect(fixture.decisions.at(-1)).toMatchObject({ event: 'record', id: memoryTransaction, verdict: 'Check' })
  expect(JSON.stringify(fixture.decisions)).not.toContain(secret)
  await until(() => recorder.releases.length > 0, 'PUBREL')
  expect(recorder.sessions).toEqual([`${d1111.id} clean`])
})

test('gateway: nobody publishes a decision but gateways, whatever right it has', async () => {
  const seen = await ears()
  await client.publishAsync('fire/north', '{"Decision":"forged"}', { qos: 1 })
  client.publish(topics.decision('fire/north'), '{"Decision":"forged"}', { qos: 1 })
  await until(() => seen.length >= 3, 'the refusals')
  expect(seen.filter(({ topic }) => topic.startsWith('fire/'))).toEqual([])
  expect(fixture.decisions.filter(({ code }) => code === 'topic-not-allowed')).toHaveLength(2)
  await fixture.gateway.publishDecision({ topicName: 'fire/north', payload: Buffer.from('genuine') })
  await until(() => seen.some(({ topic }) => topic === 'fire/north'), 'the decision')
})

test('gateway: a device reports in its own name only', async () => {
  const other = fixture.device('1112')
  const seen = await ears()
  await client.publishAsync(topics.report(other.id, 'forest/north'), '{"Payload":1}', { qos: 1 })
  await until(() => seen.length > 0, 'the refusal')
  expect(JSON.parse(String(seen[0]?.payload))).toMatchObject({ code: 'topic-not-allowed', retry: false })
  expect(recorder.requests).toEqual([])
})

test('gateway: without an outcome there is no acknowledgement, and the connection is closed', async () => {
  recorder.outcome = () => Promise.reject(new Error('no chain'))
  const closed = new Promise<void>(resolve => client.once('close', () => resolve()))
  let acknowledged = false
  client.publish('forest/north', '{"Payload":1}', { qos: 1 }, error => {
    acknowledged = !error
  })
  await closed
  expect(acknowledged).toBe(false)
  expect(fixture.decisions.at(-1)).toMatchObject({ event: 'record', verdict: 'Error', code: 'internal' })
})
