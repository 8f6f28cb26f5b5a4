/** Wills at a real gateway: judged when they fire, as if their device published them then (MQTT 3.1.1, section 3.1.2.5). */
import type { MqttClient } from 'mqtt'
import { afterEach, beforeEach, expect, test } from 'vitest'
import type { Milliseconds } from '../../chain/brands.ts'
import { credentialHash } from '../../chain/credentials.ts'
import type { IdentityKeys } from '../../client/key-directory.ts'
import type { Credentials } from '../../mqtt-gateway/device/mqtt-connection.ts'
import { makePassword } from '../../mqtt-gateway/protocol/credential-password.ts'
import { filters, topics } from '../../mqtt-gateway/protocol/topics.ts'
import { GatewayFixture, sentText, until } from '../support/gateway-fixture.ts'

let fixture: GatewayFixture
let d1111: IdentityKeys
let d1112: IdentityKeys
beforeEach(async () => {
  fixture = await GatewayFixture.start({ connectTimeoutMs: 30_000 })
  d1111 = fixture.device('1111')
  d1112 = fixture.device('1112')
  fixture.trust.setRights(d1111.id, { publish: ['plant/state'] })
  fixture.trust.setRights(d1112.id, { subscribe: ['plant/#'] })
})
afterEach(() => fixture.stop())

const willDecisions = () => fixture.decisions.filter(({ will }) => will)

function withWill(topic: string, payload: Buffer, login: Partial<Credentials> = fixture.credentials(d1111)) {
  return fixture.client(login, { will: { topic, payload, qos: 1, retain: true } })
}

/** An envelope from 1111 to 1112, as an agent makes it. */
async function envelope(): Promise<Buffer> {
  const observer = fixture.device('observer')
  const seen = await fixture.observe(observer)
  const agent = await fixture.agent(d1111)
  await agent.send(d1112.id, sentText('bye'))
  await agent.close()
  return (await until(() => seen[0], 'the envelope')).payload
}

test('will: in the clear by right it is relayed when the connection breaks, and not after DISCONNECT', async () => {
  const seen = await fixture.subscribed(await fixture.client(fixture.credentials(d1112)), 'plant/#')
  await (await withWill('plant/state', Buffer.from('orderly'))).endAsync()
  const dying = await withWill('plant/state', Buffer.from('gone'))
  dying.stream.destroy()
  await until(() => seen.length > 0, 'the will')
  expect(seen.map(({ payload }) => String(payload))).toEqual(['gone'])
  expect(willDecisions()).toMatchObject([
    { event: 'plain', sender: d1111.id, verdict: 'Check', topic: 'plant/state' },
  ])
})

test('will: a sealed one is judged like any message: an envelope that was relayed before is not relayed again', async () => {
  const payload = await envelope()
  const inbox = await fixture.subscribed(
    await fixture.client(fixture.credentials(d1112)),
    filters.toDevice(d1112.id),
  )
  await (await withWill(topics.send(d1111.id), payload)).stream.destroy()
  await until(() => willDecisions().length === 1, 'the decision')
  expect(willDecisions()).toMatchObject([
    { event: 'message', verdict: 'Check', repeat: true, recipient: d1112.id },
  ])
  expect(inbox).toEqual([])
})

const breaks = (client: MqttClient) => client.stream.destroy()
test.each<[string, string, (client: MqttClient) => unknown]>([
  [
    'a device without the right',
    'topic-not-allowed',
    client => {
      fixture.trust.setRights(d1111.id, {})
      breaks(client)
    },
  ],
  [
    'a device that was revoked, which is why its connection ends',
    'signer-not-active',
    () => fixture.trust.setStatus(d1111.id, 'revoked'),
  ],
  [
    'a session whose key was revoked',
    'key-not-valid',
    () => {
      const record = fixture.trust.record(d1111.id)
      fixture.trust.put({
        ...record,
        keys: record.keys.map(key => ({ ...key, revokedAt: 1 as Milliseconds })),
      })
    },
  ],
  [
    'a device of which the chain says nothing fresh',
    'stale',
    client => {
      fixture.trust.age(fixture.trustTtlMs + 1_000)
      breaks(client)
    },
  ],
])('will: of %s it is refused, with a line: %s', async (_, code, end) => {
  const seen = await fixture.subscribed(await fixture.client(fixture.credentials(d1112)), 'plant/#')
  const client = await withWill('plant/state', Buffer.from('gone'))
  await end(client)
  await until(() => willDecisions().length === 1, 'the decision')
  expect(willDecisions()).toMatchObject([{ sender: d1111.id, verdict: 'Error', code }])
  expect(seen).toEqual([])
})

test('will: of a session whose password was taken away it is refused', async () => {
  const { bytes, text: password } = makePassword()
  const hash = credentialHash(fixture.trust.chainId, d1111.id, bytes)
  const expiresAt = (Date.now() + 60_000) as Milliseconds
  fixture.trust.setCredentials(d1111.id, [{ hash, expiresAt, scope: 'send' }])
  await withWill('plant/state', Buffer.from('gone'), { clientId: d1111.id, username: d1111.id, password })
  fixture.trust.setCredentials(d1111.id, [])
  await until(() => willDecisions().length === 1, 'the decision')
  expect(willDecisions()).toMatchObject([{ verdict: 'Error', code: 'credential-invalid' }])
})
