/** What travels between agents over a real broker, for each kind of key, suite and size (Hsu-Lu B2, B3). */

import { randomBytes } from 'node:crypto'
import { bytesToHex } from '@noble/hashes/utils.js'
import { afterEach, beforeEach, expect, test } from 'vitest'
import type { Hash, Milliseconds } from '../../chain/brands.ts'
import { builtSuites, lightSuiteForKey } from '../../chain/envelope-suites.ts'
import type { EncryptionSuite } from '../../chain/keys.ts'
import { unwrap } from '../../chain/result.ts'
import { type IdentityKeys, makeKeys } from '../../client/key-directory.ts'
import type { AgentChain } from '../../mqtt-gateway/device/agent-chain.ts'
import { maxContentBytes, maxTransferBytes } from '../../mqtt-gateway/protocol/content.ts'
import { parseEnvelope } from '../../mqtt-gateway/protocol/envelope.ts'
import { topics } from '../../mqtt-gateway/protocol/topics.ts'
import { defaultOutgoingLimits } from '../../mqtt-gateway/server/outgoing-queues.ts'
import { makeRsaKeys } from '../support/device-keys.ts'
import { GatewayFixture, listen, sentText, until } from '../support/gateway-fixture.ts'
import { sealedMessage } from '../support/sealed-message.ts'

let fixture: GatewayFixture
let d1111: IdentityKeys
let d1113: IdentityKeys
beforeEach(async () => {
  fixture = await GatewayFixture.start({ outgoing: defaultOutgoingLimits })
  d1111 = fixture.device('1111')
  d1113 = fixture.device('1113')
})
afterEach(async () => {
  await fixture.stop()
  expect(fixture.errors).toEqual([])
})

test('gateway: from 1 byte to 16 MiB arrives whole, in envelopes of at most 1 MiB; one byte more is refused', async () => {
  const [sender, reader] = await Promise.all([d1111, d1113].map(keys => fixture.agent(keys)))
  const inbox = await listen(reader!)
  const sizes = [1, maxContentBytes, maxContentBytes + 1, maxTransferBytes]
  for (const [i, size] of sizes.entries()) {
    const content = Uint8Array.from(randomBytes(size))
    const progress: number[] = []
    const verdict = await sender!.send(d1113.id, { content, onProgress: bytes => progress.push(bytes) })
    expect(verdict).toMatchObject({ verdict: 'Check' })
    expect(progress).toHaveLength(Math.ceil(size / maxContentBytes))
    expect(progress.at(-1)).toBe(size)
    await until(() => inbox.messages.length === i + 1, `${size} bytes`)
    expect(Buffer.from(inbox.messages[i]!.content).equals(content)).toBe(true)
    expect(inbox.messages[i]!.messageId).toBe(verdict.messageId)
  }
  expect(inbox.refusals).toEqual([])
  const checked = fixture.decisions.filter(({ event }) => event === 'message').length
  expect(checked, 'the gateway has seen so many messages').toBe(1 + 1 + 2 + 16)
  const tooLarge = sender!.send(d1113.id, { content: new Uint8Array(maxTransferBytes + 1) })
  await expect(tooLarge).rejects.toMatchObject({ code: 'too-large' })
  expect(fixture.decisions.filter(({ event }) => event === 'message')).toHaveLength(checked)
})

test('gateway: a message in chunks to a group; one of which a chunk is refused is not given out in part', async () => {
  const [sender, reader] = await Promise.all([d1111, d1113].map(keys => fixture.agent(keys)))
  const group = fixture.trust.createGroup(d1111.id, 'large')
  fixture.trust.changeMembers(group, { add: [d1113.id] })
  const inbox = await listen(reader!)
  const content = Uint8Array.from(randomBytes(maxContentBytes + 1))
  expect(await sender!.sendToGroup(group, { content })).toMatchObject({ verdict: 'Check' })
  await until(() => inbox.messages.length === 1, 'the message')
  expect(Buffer.from(inbox.messages[0]!.content).equals(content)).toBe(true)
  const cut = sender!.send(d1113.id, {
    content,
    onProgress: () => fixture.trust.setStatus(d1113.id, 'suspended'),
  })
  expect(await cut).toMatchObject({ verdict: 'Error', code: 'recipient-not-active' })
  fixture.trust.setStatus(d1113.id, 'active')
  const again = await fixture.agent(d1113)
  const after = await listen(again)
  expect(await sender!.send(d1113.id, sentText('after'))).toMatchObject({ verdict: 'Check' })
  await until(() => after.messages.length === 1, 'the next message')
  expect(after.texts).toEqual(['after'])
  expect(inbox.messages.length).toBeLessThanOrEqual(2)
  expect(
    inbox.messages.every(({ content: bytes }) => bytes.length > maxContentBytes || bytes.length === 5),
  ).toBe(true)
})

test('gateway: a fifth message of one sender whose chunks are missing is refused by its recipient; other messages are not', async () => {
  const inbox = await listen(await fixture.agent(d1113))
  const client = await fixture.client(fixture.credentials(d1111))
  const now = fixture.trust.now()
  for (let counter = 0; counter < 5; counter++) {
    const place = {
      transfer: new Uint8Array(16).fill(counter),
      index: 0,
      count: 2,
      whole: 'ab'.repeat(32) as Hash,
    }
    const expiry = (now + 60_000) as Milliseconds
    const chunk = { counter, place, expiry, content: new Uint8Array(maxContentBytes) }
    const bytes = await sealedMessage(fixture.trust.chainId, { from: d1111, to: d1113 }, chunk)
    await client.publishAsync(topics.send(d1111.id), Buffer.from(bytes), { qos: 1 })
  }
  await until(() => inbox.refusals.length === 1, 'the refusal')
  expect(inbox).toMatchObject({ refusals: ['overloaded'], messages: [] })
  const other = await fixture.agent(fixture.device('other'))
  expect(await other.send(d1113.id, sentText('of another'))).toMatchObject({ verdict: 'Check' })
  await until(() => inbox.texts.length === 1, 'the message')
  expect(inbox.texts).toEqual(['of another'])
})

test('gateway: light messages are checked and read like others, for each kind of key', async () => {
  const rsa = fixture.device('rsa', makeRsaKeys('rsa'))
  const p256 = fixture.device('p256', makeKeys('p256', { encryption: 'p256' }))
  const sender = await fixture.agent(d1111, undefined, { light: true })
  const seen = await fixture.observe(d1111)
  for (const keys of [rsa, p256, d1113]) {
    const inbox = await listen(await fixture.agent(keys))
    for (const word of ['one', 'two', 'three'])
      expect(await sender.send(keys.id, sentText(word))).toMatchObject({ verdict: 'Check' })
    await until(() => inbox.texts.length === 3, 'three messages')
    expect(inbox).toMatchObject({ texts: ['one', 'two', 'three'], refusals: [] })
  }
  const envelopes = seen
    .filter(({ topic }) => topic.startsWith('mote/1/to/'))
    .map(({ payload }) => unwrap(parseEnvelope(fixture.trust.chainId, payload)))
  const suites = new Set(envelopes.map(({ header }) => header.suite))
  expect([...suites]).toEqual(
    ['rsa-oaep', 'p256-ecdh', 'x25519'].map(key => lightSuiteForKey[key as EncryptionSuite]),
  )
  expect(new Set(envelopes.map(({ sealed }) => bytesToHex(sealed.enc))).size, 'one secret for each key').toBe(
    3,
  )
})

test('gateway: what the chain does not allow is not sealed, not relayed and not read', async () => {
  const rsa = fixture.device('rsa', makeRsaKeys('rsa'))
  const [sender, reader] = await Promise.all([d1111, rsa].map(keys => fixture.agent(keys)))
  const inbox = await listen(reader!)
  expect(await sender!.send(rsa.id, sentText('before'))).toMatchObject({ verdict: 'Check' })
  await until(() => inbox.texts.length === 1, 'the first message')
  fixture.trust.suites = ['hpke-x25519-aes128gcm']
  await expect(sender!.send(rsa.id, sentText('to a key of the wrong kind'))).rejects.toMatchObject({
    code: 'suite-not-allowed',
  })
  expect(await sender!.send(d1113.id, sentText('to another kind'))).toMatchObject({ verdict: 'Check' })
  // A sender that does not care.
  const chain: AgentChain = new Proxy(fixture.trust, {
    get: (trust, name) => {
      const value = name === 'allowedSuites' ? async () => builtSuites : Reflect.get(trust, name)
      return typeof value === 'function' ? value.bind(trust) : value
    },
  })
  const careless = await fixture.agent(d1113, undefined, { chain })
  expect(await careless.send(rsa.id, sentText('all the same'))).toMatchObject({
    verdict: 'Error',
    code: 'suite-not-allowed',
  })
  expect(fixture.decisions.at(-1)).toMatchObject({
    verdict: 'Error',
    code: 'suite-not-allowed',
    recipient: rsa.id,
  })
  expect(inbox).toMatchObject({ texts: ['before'], refusals: [] })
})

test('gateway: a device reads by whatever key it has: RSA as in the paper, P-256, X25519; signed by Ed25519 or P-256', async () => {
  const rsa = fixture.device('rsa', makeRsaKeys('rsa'))
  const p256 = fixture.device('p256', makeKeys('p256', { suite: 'p256', encryption: 'p256' }))
  const everybody = await Promise.all([rsa, p256, d1113].map(keys => fixture.agent(keys)))
  const inboxes = await Promise.all(everybody.map(listen))
  const seen = await fixture.observe(d1111)
  for (const sender of everybody)
    for (const recipient of [rsa, p256, d1113])
      expect(await sender.send(recipient.id, sentText('open valve 3'))).toMatchObject({ verdict: 'Check' })
  // A group's key reaches each of them in a box of its own suite.
  const group = fixture.trust.createGroup(rsa.id, 'kinds')
  fixture.trust.changeMembers(group, { add: [p256.id, d1113.id] })
  expect(await everybody[0]!.sendToGroup(group, sentText('for all kinds'))).toMatchObject({
    verdict: 'Check',
  })
  expect(await everybody[1]!.sendToGroup(group, sentText('from P-256'))).toMatchObject({ verdict: 'Check' })
  const all = ['open valve 3', 'open valve 3', 'for all kinds', 'from P-256']
  const expected = [all.toSpliced(2, 1), all.toSpliced(3, 1), all]
  for (const [i, inbox] of inboxes.entries()) {
    await until(() => inbox.texts.length === expected[i]!.length, 'everything has come')
    expect(inbox.texts.toSorted()).toEqual(expected[i]!.toSorted())
    expect(inbox.refusals).toEqual([])
  }
  for (const { payload } of seen) expect(payload.includes('open valve 3')).toBe(false)
})
