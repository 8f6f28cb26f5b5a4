/**
 * The gateway on a real MQTT wire: real aedes, real mqtt.js, a chain of one process behind the trust port. The same
 * with real chain processes runs in the devnet's tests.
 */
import { readFile, writeFile } from 'node:fs/promises'
import { connect } from 'node:net'
import { join } from 'node:path'
import { bytesToHex } from '@noble/hashes/utils.js'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import type { Height, Milliseconds } from '../../chain/brands.ts'
import { keyIdOf } from '../../chain/keys.ts'
import { type IdentityKeys, makeKeys, signerOf } from '../../client/key-directory.ts'
import type { SealRequest } from '../../mqtt-gateway/device/envelope-sealing.ts'
import type { DecisionLine } from '../../mqtt-gateway/protocol/decision-log.ts'
import { topics } from '../../mqtt-gateway/protocol/topics.ts'
import {
  GatewayFixture,
  listen,
  type SeenMessage,
  sentText,
  testLimits,
  until,
} from '../support/gateway-fixture.ts'
import { malformedPackets, wrongAcknowledgements } from '../support/malformed-packets.ts'
import { sealedMessage } from '../support/sealed-message.ts'

let fixture: GatewayFixture
let d1111: IdentityKeys
let d1112: IdentityKeys
let d1113: IdentityKeys
let d1114: IdentityKeys
beforeEach(async () => {
  fixture = await GatewayFixture.start()
  d1111 = fixture.device('1111')
  d1112 = fixture.device('1112')
  d1113 = fixture.device('1113')
  d1114 = fixture.device('1114')
})
afterEach(async () => {
  await fixture.stop()
  expect(fixture.errors).toEqual([])
})

/** A sealed message as bytes, for clients that are not our agent. */
async function envelope(
  from: IdentityKeys,
  to: IdentityKeys,
  changes: Partial<SealRequest> = {},
): Promise<Buffer> {
  return Buffer.from(await sealedMessage(fixture.trust.chainId, { from, to }, changes))
}

const delivered = (seen: readonly SeenMessage[]): SeenMessage[] =>
  seen.filter(({ topic }) => /^mote\/1\/(to|send)\//.test(topic))

function verdicts(seen: readonly SeenMessage[], keys: IdentityKeys): { verdict: string; code?: string }[] {
  return seen
    .filter(({ topic }) => topic === topics.verdict(keys.id))
    .map(({ payload }) => JSON.parse(payload.toString('utf8')))
}

describe('one recipient (Hsu-Lu B2, B5; Hsu C7)', () => {
  test('gateway: 1113 reads what 1111 sends; 1112 gets nothing, and 1114, which may observe, bytes that it cannot read', async () => {
    const seen = await fixture.observe(d1114)
    const [sender, recipient, other] = await Promise.all(
      [d1111, d1113, d1112].map(keys => fixture.agent(keys)),
    )
    const [inbox, otherInbox] = [await listen(recipient!), await listen(other!)]
    const verdict = await sender!.send(d1113.id, sentText('open valve 3'))
    expect(verdict).toMatchObject({ verdict: 'Check' })
    await until(() => inbox.texts.length === 1, '1113 reads the message')
    expect(inbox.messages[0]).toMatchObject({ from: d1111.id, messageId: verdict.messageId })
    expect(inbox.texts).toEqual(['open valve 3'])
    const ciphertext = await until(() => delivered(seen)[0], 'the observer gets the bytes')
    expect(ciphertext.topic).toBe(`mote/1/to/${d1113.id}`)
    for (const { payload } of seen) expect(payload.includes('open valve 3')).toBe(false)
    expect(otherInbox).toEqual({ texts: [], messages: [], refusals: [] })
  })

  test('gateway: an altered recipient key is an Error with both key ids in the log, and nothing is relayed', async () => {
    const seen = await fixture.observe(d1114)
    const stateDirectory = await fixture.stateDirectory()
    const sender = await fixture.agent(d1111, stateDirectory)
    expect(await sender.send(d1113.id, sentText('before'))).toMatchObject({ verdict: 'Check' })
    await until(() => delivered(seen).length === 1, 'the first message')
    const contacts = join(stateDirectory, 'contacts.json')
    const [genuine, forged] = [d1113, d1112].map(keys => bytesToHex(keys.encryption.publicKey.bytes))
    await writeFile(contacts, (await readFile(contacts, 'utf8')).replace(genuine!, forged!))
    const verdict = await sender.send(d1113.id, sentText('after'))
    expect(verdict).toMatchObject({ verdict: 'Error', code: 'recipient-key-mismatch' })
    expect(fixture.decisions.find(({ code }) => code === 'recipient-key-mismatch')).toMatchObject({
      id: verdict.messageId,
      sender: d1111.id,
      recipient: d1113.id,
      verdict: 'Error',
      mismatch: {
        inEnvelope: keyIdOf(d1112.encryption.publicKey),
        onChain: keyIdOf(d1113.encryption.publicKey),
      },
    })
    await sender.refreshContact(d1113.id)
    expect(await sender.send(d1113.id, sentText('mended'))).toMatchObject({ verdict: 'Check' })
    await until(() => delivered(seen).length === 2, 'the mended message')
    expect(delivered(seen)).toHaveLength(2)
  })

  test('gateway: a copy that is no key is an Error with both sides told, until it is refreshed', async () => {
    const seen = await fixture.observe(d1114)
    const stateDirectory = await fixture.stateDirectory()
    const lines: DecisionLine[] = []
    const sender = await fixture.agent(d1111, stateDirectory, { onDecision: line => void lines.push(line) })
    expect(await sender.send(d1113.id, sentText('before'))).toMatchObject({ verdict: 'Check' })
    const contacts = join(stateDirectory, 'contacts.json')
    const genuine = bytesToHex(d1113.encryption.publicKey.bytes)
    const good = await readFile(contacts, 'utf8')
    const onChain = keyIdOf(d1113.encryption.publicKey)
    for (const spoilt of ['', 'zz', '00'.repeat(32)]) {
      await writeFile(contacts, good.replace(genuine, spoilt))
      const verdict = await sender.send(d1113.id, sentText('to nobody'))
      expect(verdict).toMatchObject({ verdict: 'Error', code: 'recipient-key-mismatch', messageId: null })
      expect(verdict.reason).toContain(`on the chain: ${onChain}`)
      expect(lines.at(-1)).toMatchObject({ sender: d1111.id, recipient: d1113.id, verdict: 'Error' })
      expect(lines.at(-1)!.mismatch).toEqual({ inCopy: expect.stringContaining('copy: '), onChain })
      expect(await readFile(contacts, 'utf8'), 'never repaired silently').not.toContain(genuine)
    }
    expect(await sender.refreshContact(d1113.id)).toMatchObject({
      keyId: onChain,
      before: expect.any(String),
    })
    expect(await sender.send(d1113.id, sentText('mended'))).toMatchObject({ verdict: 'Check' })
    await until(() => delivered(seen).length === 2, 'the mended message')
    expect(delivered(seen)).toHaveLength(2)
  })

  test('gateway: two listeners of one device both give out every message, each once', async () => {
    const stateDirectory = await fixture.stateDirectory()
    const inboxes = [await listen(await fixture.agent(d1113, stateDirectory))]
    const sender = await fixture.agent(d1111)
    await sender.send(d1113.id, sentText('before the second'))
    await until(() => inboxes[0]!.texts.length === 1, 'the first has it')
    inboxes.push(await listen(await fixture.agent(d1113, stateDirectory)))
    const words = ['one', 'two', 'three', 'four']
    for (const word of words)
      expect(await sender.send(d1113.id, sentText(word))).toMatchObject({ verdict: 'Check' })
    await until(() => inboxes.every(({ texts }) => texts.at(-1) === 'four'), 'both have the last')
    expect(inboxes.map(({ texts }) => texts)).toEqual([['before the second', ...words], words])
    expect(inboxes.flatMap(({ refusals }) => refusals)).toEqual([])
  })

  test('gateway: two connections of one device do not end each other', async () => {
    const [listening, sending] = [await fixture.agent(d1111), await fixture.agent(d1111)]
    const inbox = await listen(listening)
    expect(await sending.send(d1112.id, sentText('out'))).toMatchObject({ verdict: 'Check' })
    const other = await fixture.agent(d1112)
    expect(await other.send(d1111.id, sentText('in'))).toMatchObject({ verdict: 'Check' })
    await until(() => inbox.texts.includes('in'), 'the older connection still listens')
  })

  test("gateway: a device's messages arrive in the order in which it sent them", async () => {
    const inbox = await listen(await fixture.agent(d1113))
    const client = await fixture.client(fixture.credentials(d1111))
    const sent = Array.from({ length: 60 }, (_, i) => String(i))
    const wires = await Promise.all(
      sent.map((body, counter) => envelope(d1111, d1113, { counter, ...sentText(body) })),
    )
    await Promise.all(wires.map(wire => client.publishAsync(topics.send(d1111.id), wire, { qos: 1 })))
    await until(() => inbox.texts.length === sent.length, 'every message')
    expect(inbox.texts).toEqual(sent)
  })
})

describe('refusals, each with its reason', () => {
  interface Refused {
    readonly name: string
    readonly code: string
    readonly wire: () => Promise<Buffer>
    readonly topic?: () => string
  }
  const stranger = makeKeys('stranger')
  const rows: readonly Refused[] = [
    { name: 'an unknown sender', code: 'unknown-signer', wire: () => envelope(stranger, d1113) },
    { name: "another device's envelope", code: 'topic-not-allowed', wire: () => envelope(d1112, d1113) },
    {
      name: 'an expired envelope',
      code: 'envelope-expired',
      wire: () => envelope(d1111, d1113, { expiry: (fixture.trust.head().time - 1) as Milliseconds }),
    },
    { name: 'an unknown recipient', code: 'recipient-not-active', wire: () => envelope(d1111, stranger) },
    { name: 'bytes that are no envelope', code: 'malformed', wire: async () => Buffer.from('hello') },
    {
      name: "another device's send topic",
      code: 'topic-not-allowed',
      wire: () => envelope(d1111, d1113),
      topic: () => topics.send(d1112.id),
    },
    {
      name: 'a delivery topic',
      code: 'topic-not-allowed',
      wire: () => envelope(d1111, d1113),
      topic: () => `mote/1/to/${d1113.id}`,
    },
    {
      name: "another device's verdict topic",
      code: 'topic-not-allowed',
      wire: async () => Buffer.from('{"verdict":"Check"}'),
      topic: () => topics.verdict(d1113.id),
    },
  ]

  test.each(rows)('gateway: refuses $name: $code', async ({ code, wire, topic }) => {
    const seen = await fixture.observe(d1114)
    const client = await fixture.client(fixture.credentials(d1111))
    const mine = await fixture.subscribed(client, topics.verdict(d1111.id), topics.error(d1111.id))
    await client.publishAsync(topic?.() ?? topics.send(d1111.id), await wire(), { qos: 1 })
    const [verdict] = await until(() => {
      const all = verdicts(mine, d1111)
      return all.length > 0 && all
    }, 'a verdict')
    expect(verdict).toMatchObject({ verdict: 'Error', code })
    const error = mine.find(({ topic: name }) => name === topics.error(d1111.id))
    expect(JSON.parse(error!.payload.toString('utf8'))).toMatchObject({ code, retry: false })
    expect(fixture.decisions.at(-1)).toMatchObject({ verdict: 'Error', code, sender: d1111.id })
    // A good message after it is relayed, and it is the only one: so nothing of the refused one came through.
    await client.publishAsync(topics.send(d1111.id), await envelope(d1111, d1113, { counter: 77 }), {
      qos: 1,
    })
    await until(() => delivered(seen).length > 0, 'the good message')
    expect(delivered(seen)).toHaveLength(1)
    expect(seen.filter(({ topic: name }) => /\/(verdict|error)\//.test(name))).toEqual([])
  })

  test('gateway: acknowledges an exact repeat and relays it once; another message on its counter is refused', async () => {
    const seen = await fixture.observe(d1114)
    const client = await fixture.client(fixture.credentials(d1111))
    const mine: SeenMessage[] = []
    client.on('message', (name, payload) => mine.push({ topic: name, payload }))
    await client.subscribeAsync(topics.verdict(d1111.id), { qos: 1 })
    const wire = await envelope(d1111, d1113)
    const other = await envelope(d1111, d1113, sentText('another on the same counter'))
    for (const bytes of [wire, wire, other, wire])
      await client.publishAsync(topics.send(d1111.id), bytes, { qos: 1 })
    await until(() => verdicts(mine, d1111).length === 4, 'four verdicts')
    const codes = verdicts(mine, d1111).map(({ verdict, code }) => code ?? verdict)
    expect(codes).toEqual(['Check', 'Check', 'replayed', 'Check'])
    const logged = fixture.decisions.filter(({ event }) => event === 'message')
    expect(logged.map(({ repeat }) => repeat ?? false)).toEqual([false, true, false, true])
    // Sent again after the recipient is gone: it was relayed, and that is what the sender asks.
    fixture.trust.setStatus(d1113.id, 'revoked')
    await client.publishAsync(topics.send(d1111.id), wire, { qos: 1 })
    await until(() => verdicts(mine, d1111).length === 5, 'one more verdict')
    expect(verdicts(mine, d1111).at(-1)).toMatchObject({ verdict: 'Check' })
    fixture.trust.setStatus(d1113.id, 'active')
    const next = await envelope(d1111, d1113, { counter: 2 })
    await client.publishAsync(topics.send(d1111.id), next, { qos: 1 })
    await until(() => delivered(seen).length >= 2, 'the next message')
    expect(delivered(seen).map(({ payload }) => payload.equals(next))).toEqual([false, true])
  })
})

describe('sessions', () => {
  const refusedWith = async (attempt: Promise<unknown>): Promise<unknown> =>
    attempt.then(
      () => 'connected',
      error => (error as { code?: unknown }).code,
    )

  test('gateway: a revoked sender is refused and its live session dropped within a second', async () => {
    const client = await fixture.client(fixture.credentials(d1111))
    const closed = new Promise<void>(resolve => client.once('close', resolve))
    const bystander = await fixture.client(fixture.credentials(d1112))
    const start = performance.now()
    fixture.trust.setStatus(d1111.id, 'revoked')
    await closed
    expect(performance.now() - start).toBeLessThan(1_000)
    expect(bystander.connected).toBe(true)
    expect(await refusedWith(fixture.client(fixture.credentials(d1111)))).toBe(5)
    const cut = fixture.decisions.find(({ event }) => event === 'cut')
    expect(cut).toMatchObject({ sender: d1111.id, code: 'device-revoked' })
  })

  test('gateway: a session ends with the key that opened it', async () => {
    const client = await fixture.client(fixture.credentials(d1111))
    const closed = new Promise<void>(resolve => client.once('close', resolve))
    const record = fixture.trust.record(d1111.id)
    const keys = record.keys.map(entry => ({ ...entry, revokedAt: 1 as Milliseconds }))
    fixture.trust.put({ ...record, keys })
    await closed
    expect(fixture.decisions.find(({ event }) => event === 'cut')).toMatchObject({ code: 'key-not-valid' })
  })

  test('gateway: an agent that is revoked while it listens learns that it is over', async () => {
    const agent = await fixture.agent(d1113)
    fixture.trust.setStatus(d1113.id, 'revoked')
    expect(await agent.ended).toMatchObject({ code: 'not-authorised' })
  })

  test('gateway: an assertion opens one connection, and nobody else can use it', async () => {
    const credentials = fixture.credentials(d1111)
    await fixture.client(credentials)
    expect(await refusedWith(fixture.client(credentials))).toBe(4)
    const stolen = fixture.credentials(d1112)
    const taken = { ...stolen, clientId: d1113.id, username: d1113.id }
    expect(await refusedWith(fixture.client(taken))).toBe(4)
    expect(await refusedWith(fixture.client({ ...stolen, password: 'guess' }))).toBe(4)
    const forger = { publicKey: d1113.signing.publicKey, sign: signerOf(d1112).sign }
    expect(await refusedWith(fixture.client(fixture.credentials(d1113, forger)))).toBe(4)
    expect(fixture.decisions.at(-1)).toMatchObject({ event: 'connect', code: 'bad-signature' })
    expect(await refusedWith(fixture.client(fixture.credentials(makeKeys('unknown'))))).toBe(5)
  })

  test('gateway: offers no more subscriptions than the limit, and none to $ topics', async () => {
    const client = await fixture.client(fixture.credentials(d1111))
    expect((await client.subscribeAsync('$SYS/#').catch(() => [{ qos: 128 }]))[0]?.qos).toBe(128)
    for (let i = 0; i < testLimits.subscriptionsPerClientMax; i++)
      await client.subscribeAsync(`mote/1/to/${d1111.id}/${i}`)
    const over = await client.subscribeAsync(`mote/1/to/${d1111.id}/over`).catch(() => [{ qos: 128 }])
    expect(over[0]?.qos).toBe(128)
  })
})

describe('groups (Hsu C4)', () => {
  test('gateway: 1111 to hsu0001 is read by 1112 and 1113, not by 1114; 1113, removed, cannot read the next', async () => {
    const { trust } = fixture
    const group = trust.createGroup(d1111.id, 'hsu0001')
    trust.changeMembers(group, { add: [d1112.id, d1113.id] })
    const seen = await fixture.observe(d1114)
    const agents = await Promise.all([d1111, d1112, d1113, d1114].map(keys => fixture.agent(keys)))
    const [sender, ...listeners] = agents
    const [in1112, in1113, in1114] = await Promise.all(listeners.map(listen))
    expect(await sender!.sendToGroup(group, sentText('tank is full'))).toMatchObject({ verdict: 'Check' })
    await until(() => in1112!.texts.length === 1 && in1113!.texts.length === 1, 'both members read it')
    expect(in1112!.messages[0]).toMatchObject({ from: d1111.id, to: { type: 'group', id: group, epoch: 1 } })

    trust.changeMembers(group, { remove: [d1113.id] })
    expect(await sender!.sendToGroup(group, sentText('without 1113'))).toMatchObject({ verdict: 'Check' })
    await until(() => in1112!.texts.length === 2, 'the remaining member reads it')
    expect(in1112!.messages[1]).toMatchObject({ to: { epoch: 2 } })
    await until(() => delivered(seen).length === 3, "1114's connection receives the bytes")
    expect(delivered(seen).map(({ topic }) => topic)).toEqual(
      [[d1112.id, d1113.id].toSorted(), d1112.id].flat().map(id => `mote/1/to/${id}`),
    )
    expect(in1112!.texts).toEqual(['tank is full', 'without 1113'])
    expect(in1113!.texts).toEqual(['tank is full'])
    expect(in1114!.texts).toEqual([])
    for (const { payload } of seen) expect(payload.includes('tank is full')).toBe(false)
  })

  test('gateway: one more device reads what is sent from then on, and can send itself', async () => {
    const { trust } = fixture
    const group = trust.createGroup(d1114.id, 'hsu0002')
    const [owner, late] = [await fixture.agent(d1114), await fixture.agent(d1113)]
    const ownerInbox = await listen(owner)
    const inbox = await listen(late)
    await owner.sendToGroup(group, sentText('alone'))
    trust.changeMembers(group, { add: [d1113.id] })
    await owner.sendToGroup(group, sentText('together'))
    await until(() => inbox.texts.length === 1, 'the new member reads')
    expect(inbox.texts).toEqual(['together'])
    expect(await late.sendToGroup(group, sentText('thanks'))).toMatchObject({ verdict: 'Check' })
    await until(() => ownerInbox.texts.includes('thanks'), 'the owner reads the new member')
  })

  test('gateway: a member that was removed is refused, though it still has the old key', async () => {
    const { trust } = fixture
    const group = trust.createGroup(d1111.id, 'hsu0001')
    trust.changeMembers(group, { add: [d1113.id] })
    const [owner, leaver] = [await fixture.agent(d1111), await fixture.agent(d1113)]
    await owner.sendToGroup(group, sentText('hello'))
    expect(await leaver.sendToGroup(group, sentText('hello too'))).toMatchObject({ verdict: 'Check' })
    trust.changeMembers(group, { remove: [d1113.id] })
    await expect(leaver.sendToGroup(group, sentText('still here'))).rejects.toMatchObject({
      code: 'not-member',
    })
    const epochKey = new Uint8Array(32).fill(1)
    const record = (await trust.group(group)).value!.record
    const target = {
      type: 'group',
      id: group,
      epoch: 1,
      epochKeyHash: record.epochKeyHash!,
      epochKey,
    } as const
    const client = await fixture.client(fixture.credentials(d1113))
    await client.publishAsync(topics.send(d1113.id), await envelope(d1113, d1111, { target, counter: 999 }), {
      qos: 1,
    })
    expect(fixture.decisions.at(-1)).toMatchObject({ verdict: 'Error', code: 'not-member' })
  })

  test('gateway: a message under the epoch before a removal is refused at once', async () => {
    const { trust } = fixture
    const group = trust.createGroup(d1111.id, 'hsu0001')
    trust.changeMembers(group, { add: [d1112.id, d1113.id] })
    const owner = await fixture.agent(d1111)
    await owner.sendToGroup(group, sentText('one'))
    trust.changeMembers(group, { remove: [d1113.id] })
    const record = (await trust.group(group)).value!.record
    const target = {
      type: 'group',
      id: group,
      epoch: 1,
      epochKeyHash: record.epochKeyHash!,
      epochKey: new Uint8Array(32),
    } as const
    const client = await fixture.client(fixture.credentials(d1112))
    await client.publishAsync(topics.send(d1112.id), await envelope(d1112, d1111, { target }), { qos: 1 })
    expect(fixture.decisions.at(-1)).toMatchObject({ verdict: 'Error', code: 'epoch-mismatch' })
  })

  test('gateway: boxes that the chain does not name, or of a stranger to the group, are refused', async () => {
    const { trust } = fixture
    const group = trust.createGroup(d1111.id, 'hsu0001')
    const owner = await fixture.agent(d1111)
    await owner.rekey(group)
    const client = await fixture.client(fixture.credentials(d1114))
    await client.publishAsync(topics.boxes(group), Buffer.from('no boxes'), { qos: 1 })
    expect(fixture.decisions.at(-1)).toMatchObject({ event: 'boxes', code: 'malformed' })
  })

  test('gateway: of two members that re-key at once both end up with the same key', async () => {
    const { trust } = fixture
    const group = trust.createGroup(d1111.id, 'hsu0001')
    trust.changeMembers(group, { add: [d1112.id, d1113.id] })
    const [one, two, three] = await Promise.all([d1111, d1112, d1113].map(keys => fixture.agent(keys)))
    const inbox = await listen(three!)
    const sent = await Promise.all([
      one!.sendToGroup(group, sentText('from one')),
      two!.sendToGroup(group, sentText('from two')),
    ])
    expect(sent.map(({ verdict }) => verdict)).toEqual(['Check', 'Check'])
    await until(() => inbox.texts.length === 2, 'both messages')
    expect(inbox.texts.toSorted()).toEqual(['from one', 'from two'])
  })
})

describe('without fresh trust data', () => {
  test('gateway: refuses while its trust data is stale, closes without acknowledging, and recovers', async () => {
    const { trust } = fixture
    const client = await fixture.client(fixture.credentials(d1111))
    const closed = new Promise<void>(resolve => client.once('close', resolve))
    trust.age(fixture.trustTtlMs + 1)
    await expect(fixture.client(fixture.credentials(d1112))).rejects.toMatchObject({ code: 3 })
    expect(fixture.decisions.at(-1)).toMatchObject({ event: 'connect', code: 'stale' })
    let acknowledged = false
    client.publish(topics.send(d1111.id), await envelope(d1111, d1113), { qos: 1 }, error => {
      acknowledged = !error
    })
    await closed
    expect(acknowledged).toBe(false)
    expect(fixture.decisions.at(-1)).toMatchObject({ verdict: 'Error', code: 'stale' })
    expect(fixture.gateway.status().fresh).toBe(false)

    trust.heartbeat()
    const sender = await fixture.agent(d1111)
    expect(await sender.send(d1113.id, sentText('again'))).toMatchObject({ verdict: 'Check' })
  })

  test('gateway: a chain out of reach is no Check either, though the last header is fresh', async () => {
    const client = await fixture.client(fixture.credentials(d1111))
    const closed = new Promise<void>(resolve => client.once('close', resolve))
    fixture.trust.reachable = false
    client.publish(topics.send(d1111.id), await envelope(d1111, d1113), { qos: 1 })
    await closed
    expect(fixture.decisions.at(-1)).toMatchObject({ verdict: 'Error', code: 'unreachable' })
  })

  test('gateway: waits for a header that the sender has seen, and refuses when it does not come', async () => {
    const { trust } = fixture
    const client = await fixture.client(fixture.credentials(d1111))
    const ahead = (trust.head().height + 1) as Height
    const waiting = client.publishAsync(
      topics.send(d1111.id),
      await envelope(d1111, d1113, { seenHeight: ahead }),
      { qos: 1 },
    )
    trust.heartbeat()
    await waiting
    expect(fixture.decisions.at(-1)).toMatchObject({ verdict: 'Check' })
    const closed = new Promise<void>(resolve => client.once('close', resolve))
    const never = await envelope(d1111, d1113, { seenHeight: (ahead + 99) as Height, counter: 2 })
    client.publish(topics.send(d1111.id), never, { qos: 1 })
    await closed
    expect(fixture.decisions.at(-1)).toMatchObject({ verdict: 'Error', code: 'stale' })
  })
})

describe('malformed bytes on the MQTT server', () => {
  /** Sends raw bytes and resolves when the gateway has closed the connection. */
  function raw(bytes: Uint8Array, withinMs = 3_000): Promise<void> {
    const { promise, resolve, reject } = Promise.withResolvers<void>()
    const socket = connect(fixture.address.port, fixture.address.host)
    const timer = setTimeout(() => reject(new Error(`still open after ${withinMs} ms`)), withinMs)
    socket.on('error', () => {})
    socket.on('close', () => resolve())
    socket.on('data', () => {})
    socket.write(bytes)
    return promise.finally(() => {
      clearTimeout(timer)
      socket.destroy()
    })
  }

  test.each([
    ['garbage', Buffer.alloc(300, 0xff)],
    ['a packet before CONNECT', Buffer.from([0x30, 0x05, 0x00, 0x01, 0x61, 0x62, 0x63])],
    ['an announced CONNECT of 256 MiB', Buffer.from([0x10, 0xff, 0xff, 0xff, 0x7f])],
    ['a CONNECT over the limit before authentication', Buffer.from([0x10, 0x81, 0x20, ...Buffer.alloc(64)])],
    ['a cut CONNECT', Buffer.from([0x10, 0x20, 0x00, 0x04, 0x4d, 0x51])],
    ['nothing', Buffer.alloc(0)],
  ])('gateway: closes a connection that sends %s, and goes on serving', async (_, bytes) => {
    await raw(bytes)
    const sender = await fixture.agent(d1111)
    expect(await sender.send(d1113.id, sentText('still here'))).toMatchObject({ verdict: 'Check' })
  })

  test.each(wrongAcknowledgements.concat(malformedPackets))(
    'gateway: closes a connection that sends $what [$statement]',
    async ({ isFirst, bytes, statement }) => {
      const client = isFirst ? undefined : await fixture.client(fixture.credentials(d1111))
      const closed = client ? new Promise<void>(resolve => client.once('close', resolve)) : raw(bytes)
      client?.stream.write(bytes)
      await closed
      const cut = fixture.decisions.find(({ event }) => event === 'cut')
      if (client) expect(cut).toMatchObject({ code: 'malformed', reason: expect.stringContaining(statement) })
    },
  )

  test('gateway: a SUBSCRIBE of 1 MB is refused before it is worked on', async () => {
    const client = await fixture.client(fixture.credentials(d1111))
    const filter = Buffer.from('000461612f6101', 'hex')
    const body = Buffer.concat([Buffer.from('0001', 'hex'), ...new Array<Buffer>(150_000).fill(filter)])
    const closed = new Promise<void>(resolve => client.once('close', resolve))
    const { length } = body
    const lengthBytes = [(length & 127) | 128, ((length >> 7) & 127) | 128, length >> 14]
    client.stream.write(Buffer.concat([Buffer.from([0x82, ...lengthBytes]), body]))
    await closed
    expect(fixture.decisions.at(-1)).toMatchObject({ event: 'cut', code: 'malformed' })
  })

  test('gateway: closes a client whose packet is over the limit', async () => {
    const client = await fixture.client(fixture.credentials(d1111))
    const closed = new Promise<void>(resolve => client.once('close', resolve))
    client.publish(topics.send(d1111.id), Buffer.alloc(testLimits.packetBytesMax + 1), { qos: 0 })
    await closed
    expect(fixture.decisions.filter(({ event }) => event === 'message')).toEqual([])
  })

  test('gateway: what a client wants retained is relayed once, and kept for nobody', async () => {
    const seen = await fixture.observe(d1114)
    const client = await fixture.client(fixture.credentials(d1111))
    await client.publishAsync(topics.send(d1111.id), await envelope(d1111, d1113), { qos: 1, retain: true })
    await until(() => delivered(seen).length === 1, 'the message, relayed')
    const late = await fixture.observe(d1112)
    const sender = await fixture.agent(d1113)
    await sender.send(d1112.id, sentText('after'))
    await until(() => delivered(late).length > 0, 'what is sent after')
    expect(delivered(late)).toHaveLength(1)
  })
})
