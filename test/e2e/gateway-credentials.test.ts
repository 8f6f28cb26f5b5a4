/** Passwords whose hash is on the chain, at a real gateway: plain MQTT clients that connect again and again, until they may not. */
import { afterEach, beforeEach, expect, test } from 'vitest'
import type { Milliseconds } from '../../chain/brands.ts'
import { type CredentialScope, credentialHash } from '../../chain/credentials.ts'
import { nobleVerifier } from '../../chain/noble-crypto.ts'
import type { IdentityKeys } from '../../client/key-directory.ts'
import { makePassword } from '../../mqtt-gateway/protocol/credential-password.ts'
import { Sessions } from '../../mqtt-gateway/server/sessions.ts'
import { GatewayFixture, until } from '../support/gateway-fixture.ts'

let fixture: GatewayFixture
let d1111: IdentityKeys
let d1112: IdentityKeys
beforeEach(async () => {
  fixture = await GatewayFixture.start()
  d1111 = fixture.device('1111')
  d1112 = fixture.device('1112')
})
afterEach(() => fixture.stop())

/** Gives the device one credential, and the login that goes with it. */
function login(keys: IdentityKeys, { scope = 'send' as CredentialScope, lifetimeMs = 60_000 } = {}) {
  const { bytes, text: password } = makePassword()
  const hash = credentialHash(fixture.trust.chainId, keys.id, bytes)
  const expiresAt = (Date.now() + lifetimeMs) as Milliseconds
  fixture.trust.setCredentials(keys.id, [{ hash, expiresAt, scope }])
  return { clientId: keys.id, username: keys.id, password }
}

const refusal = (client: Promise<unknown>) =>
  client.then(
    () => 'connected',
    (error: { code?: number }) => error.code,
  )

test('credentials: a plain client connects again and again with one password, and gets what is sent to its device', async () => {
  const credentials = login(d1112)
  const sender = await fixture.agent(d1111)
  for (const text of ['first', 'second']) {
    const client = await fixture.client(credentials)
    const topics: string[] = []
    client.on('message', topicName => topics.push(topicName))
    await client.subscribeAsync(`mote/1/to/${d1112.id}/#`, { qos: 1 })
    await sender.send(d1112.id, { content: new TextEncoder().encode(text) })
    await until(() => topics.length === 1, 'the sealed message')
    await client.endAsync()
  }
})

test('credentials: a wrong password, that of another device, and an expired one are refused (CONNACK 4)', async () => {
  const credentials = login(d1111)
  const wrong = makePassword().text
  expect(await refusal(fixture.client({ ...credentials, password: wrong }))).toBe(4)
  const other = { ...credentials, clientId: d1112.id, username: d1112.id }
  expect(await refusal(fixture.client(other))).toBe(4)
  expect(await refusal(fixture.client(login(d1111, { lifetimeMs: -1 })))).toBe(4)
  expect(fixture.decisions.map(({ code }) => code)).toContain('credential-invalid')
})

test('credentials: the session ends when the credential is revoked, and when it has expired', async () => {
  const revoked = await fixture.client(login(d1111))
  const [ended, over] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()]
  revoked.on('close', () => ended.resolve())
  fixture.trust.setCredentials(d1111.id, [])
  await ended.promise
  const short = await fixture.client(login(d1112, { lifetimeMs: 400 }))
  short.on('close', () => over.resolve())
  const expired = Date.now() + 400
  await until(() => Date.now() > expired, 'the expiry')
  fixture.trust.heartbeat()
  await over.promise
  expect(fixture.decisions.filter(({ event }) => event === 'cut').map(({ code }) => code)).toEqual([
    'credential-invalid',
    'credential-invalid',
  ])
})

test('credentials: a suspended device has no use of them', async () => {
  const credentials = login(d1111)
  fixture.trust.setStatus(d1111.id, 'suspended')
  expect(await refusal(fixture.client(credentials))).toBe(5)
})

test('credentials: who may receive only publishes nothing', async () => {
  const client = await fixture.client(login(d1111, { scope: 'receive' }))
  await client.publishAsync(`mote/1/send/${d1111.id}`, 'x', { qos: 1 })
  expect(fixture.decisions.at(-1)).toMatchObject({ code: 'topic-not-allowed', sender: d1111.id })
  const other = await fixture.client(login(d1112))
  await other.publishAsync(`mote/1/send/${d1112.id}`, 'x', { qos: 1 })
  expect(fixture.decisions.at(-1)).toMatchObject({ code: 'malformed' })
})

test('credentials: a password that crossed a network is refused before it is compared', async () => {
  const { trust, trustTtlMs } = fixture
  const sessions = new Sessions({ trust, verifier: nobleVerifier, trustTtlMs })
  const credentials = { ...login(d1111), address: '192.0.2.1' }
  expect(await sessions.open({ ...credentials, isPrivate: false })).toMatchObject({
    error: { code: 'not-authorised' },
  })
  expect(await sessions.open({ ...credentials, isPrivate: true })).toMatchObject({ ok: true })
})
