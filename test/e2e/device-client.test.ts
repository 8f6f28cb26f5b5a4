/**
 * The device as a library on a real MQTT wire: what was handed over is delivered once and in order, although the gateway, the
 * sender and the recipient go away in between.
 */
import { randomBytes } from 'node:crypto'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import type { Milliseconds } from '../../chain/brands.ts'
import { keyIdOf } from '../../chain/keys.ts'
import { makeEncryptionKeys } from '../../client/encryption-keys.ts'
import { type IdentityKeys, makeKeys } from '../../client/key-directory.ts'
import {
  type ClientEvent,
  createDeviceClient,
  type DeviceClient,
  type DeviceClientOptions,
} from '../../mqtt-gateway/agent/device-client.ts'
import type { DecisionLine } from '../../mqtt-gateway/protocol/decision-log.ts'
import { GatewayFixture, until } from '../support/gateway-fixture.ts'

const content = (text: string) => new TextEncoder().encode(text)

let fixture: GatewayFixture
let d1111: IdentityKeys
let d1112: IdentityKeys
const directories = new Map<string, string>()
const open = new Set<DeviceClient>()
beforeEach(async () => {
  fixture = await GatewayFixture.start()
  d1111 = fixture.device('1111')
  d1112 = fixture.device('1112')
  for (const { name } of [d1111, d1112]) directories.set(name, await fixture.stateDirectory())
})
afterEach(async () => {
  await Promise.all([...open].map(client => client.close()))
  open.clear()
  await fixture.stop()
})

interface Opened {
  readonly client: DeviceClient
  readonly events: ClientEvent[]
  readonly texts: string[]
}

/** A client in the device's own directory: a second one goes on where the first ended. */
async function start(keys: IdentityKeys, more: Partial<DeviceClientOptions> = {}): Promise<Opened> {
  const events: ClientEvent[] = []
  const texts: string[] = []
  const client = await createDeviceClient({
    keys,
    chain: fixture.trust,
    gateway: fixture.address,
    stateDirectory: directories.get(keys.name)!,
    timeoutMs: 2_000,
    confirmationWaitMs: 200,
    reconnectDelayMsMax: 300,
    onEvent: event => events.push(event),
    ...more,
  })
  client.listen(message => {
    texts.push(new TextDecoder().decode(message.content))
  })
  open.add(client)
  return { client, events, texts }
}

async function stop({ client }: Opened): Promise<void> {
  open.delete(client)
  await client.close()
}

test('device client: what is sent while the gateway is away is delivered when it is back, in order and once', async () => {
  const [sender, recipient] = [await start(d1111), await start(d1112)]
  await Promise.all([sender, recipient].map(({ client }) => client.connected(5_000)))
  const first = await sender.client.send(d1112.id, { content: content('0'), delivery: 'received' })
  await first.outcome
  await fixture.gateway.stop()
  await until(() => sender.events.some(({ type }) => type === 'disconnected'), 'the loss is told')
  const queued = await Promise.all(
    ['1', '2', '3'].map(text =>
      sender.client.send(d1112.id, { content: content(text), delivery: 'received' }),
    ),
  )
  expect(sender.client.waiting.outbox).toBe(3)
  await fixture.startAgain()
  for (const { outcome } of queued) expect(await outcome).toMatchObject({ type: 'received' })
  expect(recipient.texts).toEqual(['0', '1', '2', '3'])
  expect(sender.client.waiting).toEqual({ outbox: 0, inbox: 0, records: 0 })
})

test('device client: a message waits on the disk for a recipient and for the next run of its sender', async () => {
  const first = await start(d1111)
  await first.client.connected(5_000)
  await first.client.send(d1112.id, { content: content('to nobody yet'), delivery: 'received' })
  await until(() => first.events.some(({ type }) => type === 'waiting'), 'no confirmation')
  await stop(first)
  const recipient = await start(d1112)
  await recipient.client.connected(5_000)
  const second = await start(d1111)
  await until(() => recipient.texts.length === 1, 'the message')
  await until(() => second.client.waiting.outbox === 0, 'its confirmation')
  expect(recipient.texts).toEqual(['to nobody yet'])
})

test('device client: a message whose confirmation was lost is confirmed again and not given out again', async () => {
  const recipient = await start(d1112)
  await recipient.client.connected(5_000)
  // Without a place for confirmations the sender never hears of them, and sends again.
  const deaf = await fixture.agent(d1111, directories.get('1111'))
  const channel = 'mote.ask/0a1b2c3d/0/valves'
  for (let i = 0; i < 3; i++)
    expect(await deaf.send(d1112.id, { content: content('once'), channel })).toMatchObject({
      verdict: 'Check',
    })
  expect(await deaf.send(d1112.id, { content: content('end') })).toMatchObject({ verdict: 'Check' })
  await until(() => recipient.texts.includes('end'), 'the last message')
  expect(recipient.texts).toEqual(['once', 'end'])
})

test('device client: takes a message that comes in chunks, and gives it out whole', async () => {
  const { client } = await start(d1112)
  await client.connected(5_000)
  const taken: Uint8Array[] = []
  client.listen(({ content: bytes }) => void taken.push(bytes))
  const large = Uint8Array.from(randomBytes(2 * 1024 * 1024 + 1))
  const sender = await fixture.agent(d1111)
  expect(await sender.send(d1112.id, { content: large })).toMatchObject({ verdict: 'Check' })
  await until(() => taken.length === 1, 'the message')
  expect(Buffer.from(taken[0]!).equals(large)).toBe(true)
})

test('device client: relayed messages go out in order, to a plain listener too', async () => {
  const texts: string[] = []
  const listener = await fixture.agent(d1112)
  await listener.listen({ message: ({ content: bytes }) => void texts.push(new TextDecoder().decode(bytes)) })
  const { client } = await start(d1111)
  const queued = await Promise.all(
    ['1', '2', '3'].map(text => client.send(d1112.id, { content: content(text) })),
  )
  for (const { outcome } of queued) expect(await outcome).toMatchObject({ type: 'relayed' })
  await until(() => texts.length === 3, 'three messages')
  expect(texts).toEqual(['1', '2', '3'])
})

test('device client: the same bytes that the gateway has relayed already count as relayed, after a crash between', async () => {
  const stateDirectory = directories.get('1111')!
  const texts: string[] = []
  const listener = await fixture.agent(d1112)
  await listener.listen({ message: ({ content: bytes }) => void texts.push(new TextDecoder().decode(bytes)) })
  const sender = await fixture.agent(d1111, stateDirectory)
  const sealed = await sender.seal(
    { type: 'device', id: d1112.id },
    { content: content('once'), lifetimeMs: 500_000 },
  )
  if (sealed.type !== 'sealed') throw new Error('not sealed')
  expect(await sender.relay(sealed.envelope)).toMatchObject({ verdict: 'Check' })
  expect(await sender.relay(sealed.envelope)).toMatchObject({ verdict: 'Check' })
  await sender.send(d1112.id, { content: content('end') })
  await until(() => texts.includes('end'), 'the last message')
  expect(texts).toEqual(['once', 'end'])
})

test('device client: a full queue refuses, and keeps what it has', async () => {
  await fixture.gateway.stop()
  const { client } = await start(d1111, { limits: { outbox: { messages: 2 } } })
  await client.send(d1112.id, { content: content('1') })
  await client.send(d1112.id, { content: content('2') })
  await expect(client.send(d1112.id, { content: content('3') })).rejects.toMatchObject({ code: 'overloaded' })
  expect(client.waiting.outbox).toBe(2)
  await fixture.startAgain()
})

test('device client: a message that is too old, and one to nobody, are dropped and told', async () => {
  const { client, events } = await start(d1111, { limits: { outbox: { ageMs: 1 } } })
  const stranger = 'f'.repeat(64) as typeof d1111.id
  const old = await client.send(d1112.id, { content: content('late'), delivery: 'received' })
  expect(await old.outcome).toMatchObject({ type: 'dropped', reason: { code: 'envelope-expired' } })
  await stop({ client, events, texts: [] })
  const next = await start(d1111)
  const lost = await next.client.send(stranger, { content: content('x') })
  expect(await lost.outcome).toMatchObject({ type: 'dropped', reason: { code: 'recipient-not-active' } })
  expect(next.events.filter(({ type }) => type === 'outcome')).toHaveLength(1)
})

test('device client: a reserved channel, a confirmation of a group and too large a content are refused before anything is kept', async () => {
  const { client } = await start(d1111)
  const refusals: readonly (readonly [Promise<unknown>, string])[] = [
    [client.send(d1112.id, { content: content('x'), channel: 'mote.got/0a1b2c3d/1' }), 'malformed'],
    [client.send(d1112.id, { content: content('x'), channel: 'no spaces' }), 'malformed'],
    [
      client.sendToGroup('a'.repeat(64) as never, { content: content('x'), delivery: 'received' }),
      'malformed',
    ],
    [client.send(d1112.id, { content: new Uint8Array(16 * 1024 * 1024 + 1) }), 'too-large'],
  ]
  for (const [refused, code] of refusals) await expect(refused).rejects.toMatchObject({ code })
  expect(client.waiting.outbox).toBe(0)
})

test('device client: a handler that fails gets its message again, and the next one of that source waits', async () => {
  const sender = await start(d1111)
  const recipient = await start(d1112)
  const taken: string[] = []
  let failures = 2
  recipient.client.listen(({ content: bytes }) => {
    const text = new TextDecoder().decode(bytes)
    if (text === '1' && failures-- > 0) throw new Error('not now')
    taken.push(text)
  })
  await Promise.all([sender, recipient].map(({ client }) => client.connected(5_000)))
  for (const text of ['1', '2'])
    await sender.client.send(d1112.id, { content: content(text), delivery: 'received' })
  await until(() => taken.length === 2, 'both messages')
  expect(taken).toEqual(['1', '2'])
})

test('device client: what came and was not taken is given to the next run', async () => {
  const sender = await start(d1111)
  const first = await start(d1112)
  first.client.listen(() => {
    throw new Error('the application is not there')
  })
  await Promise.all([sender, first].map(({ client }) => client.connected(5_000)))
  const { outcome } = await sender.client.send(d1112.id, {
    content: content('kept'),
    delivery: 'received',
  })
  expect(await outcome).toMatchObject({ type: 'received' })
  await stop(first)
  const second = await start(d1112)
  await until(() => second.texts.length === 1, 'the message')
  expect(second.texts).toEqual(['kept'])
})

test('device client: a full inbox gives no confirmation, and the message stays with its sender until there is room', async () => {
  const sender = await start(d1111)
  const recipient = await start(d1112, { limits: { inbox: { messages: 1 } } })
  let isOpen = false
  const taken: string[] = []
  recipient.client.listen(({ content: bytes }) => {
    if (!isOpen) throw new Error('not now')
    taken.push(new TextDecoder().decode(bytes))
  })
  await Promise.all([sender, recipient].map(({ client }) => client.connected(5_000)))
  const queued = []
  for (const text of ['1', '2'])
    queued.push(await sender.client.send(d1112.id, { content: content(text), delivery: 'received' }))
  await queued[0]!.outcome
  await until(
    () => recipient.events.some(event => event.type === 'refused' && event.reason.code === 'overloaded'),
    'the second is refused',
  )
  expect(sender.client.waiting.outbox).toBe(1)
  isOpen = true
  expect(await queued[1]!.outcome).toMatchObject({ type: 'received' })
  await until(() => taken.length === 2, 'both are taken')
  expect(taken).toEqual(['1', '2'])
})

test('device client: another process with these queues is refused', async () => {
  await start(d1111)
  await expect(
    createDeviceClient({
      keys: d1111,
      chain: fixture.trust,
      gateway: fixture.address,
      stateDirectory: directories.get('1111')!,
    }),
  ).rejects.toMatchObject({
    code: 'in-use',
    detail: expect.stringContaining(join(directories.get('1111')!, 'queues')),
  })
})

test('device client: a gateway that says no is asked again, and taken when it says yes', async () => {
  fixture.trust.setStatus(d1111.id, 'suspended')
  const { client, events } = await start(d1111)
  await until(
    () => events.some(event => event.type === 'disconnected' && event.reason.code === 'not-authorised'),
    'the refusal',
  )
  await expect(client.connected(1)).rejects.toMatchObject({ code: 'not-authorised' })
  fixture.trust.setStatus(d1111.id, 'active')
  await client.connected(5_000)
})

test('device client: when its key has ended it goes on with the one that is in force, and nothing is lost', async () => {
  const next = makeKeys('next')
  const rotated = { ...d1111, signing: next.signing }
  let current = d1111
  const recipient = await start(d1112)
  const sender = await start(d1111, { identity: async () => ({ keys: current, chain: fixture.trust }) })
  await Promise.all([sender, recipient].map(({ client }) => client.connected(5_000)))
  current = rotated
  const record = fixture.trust.record(d1111.id)
  const now = Date.now() as Milliseconds
  const [sign, ...others] = record.keys
  const added = { purpose: 'sign', key: next.signing.publicKey, notBefore: 0 as Milliseconds } as const
  fixture.trust.put({
    ...record,
    keys: [{ ...sign!, notAfter: now }, ...others, { ...added, notAfter: undefined, revokedAt: undefined }],
  })
  const { outcome } = await sender.client.send(d1112.id, {
    content: content('signed anew'),
    delivery: 'received',
  })
  expect(await outcome).toMatchObject({ type: 'received' })
  expect(recipient.texts).toEqual(['signed anew'])
})

/** The keys after a rotation without overlap, which the chain has too. */
function rotateEncryption(keys: IdentityKeys, encryption: IdentityKeys['encryption']): IdentityKeys {
  const record = fixture.trust.record(keys.id)
  const now = fixture.trust.now()
  const ended = record.keys.map(entry =>
    entry.purpose === 'encrypt' ? { ...entry, notAfter: entry.notAfter ?? now } : entry,
  )
  const lifetime = { notBefore: 0 as Milliseconds, notAfter: undefined, revokedAt: undefined }
  const added = { purpose: 'encrypt', key: encryption.publicKey, ...lifetime } as const
  fixture.trust.put({ ...record, keys: [...ended, added] })
  const former = { ...keys.encryption, until: (now + 3_600_000) as Milliseconds }
  return { ...keys, encryption, formerEncryption: [...(keys.formerEncryption ?? []), former] }
}

test('device client: a recipient that rotates its encryption key, to other kinds too, gets what is sent meanwhile; the copy is replaced with a line in the log', async () => {
  let current = d1112
  const reloading = { identity: async () => ({ keys: current, chain: fixture.trust }) }
  const decisions: DecisionLine[] = []
  const recipient = await start(d1112, reloading)
  const sender = await start(d1111, { onDecision: line => void decisions.push(line) })
  await Promise.all([sender, recipient].map(({ client }) => client.connected(5_000)))
  const sent: string[] = []
  const send = async (delivery: 'received' | 'relayed') => {
    sent.push(`${sent.length}`)
    return sender.client.send(d1112.id, { content: content(sent.at(-1)!), delivery })
  }
  // First contact: from now on the sender has a copy.
  await (await send('received')).outcome
  for (const kind of ['p256', 'rsa-2048', 'x25519'] as const) {
    const under = [await send('received'), await send('relayed')]
    const next = makeEncryptionKeys(kind)
    // On the disk first, as a rotation has it; the program that runs is not told.
    current = { ...current, nextEncryption: next }
    current = rotateEncryption(current, next)
    under.push(await send('received'), await send('relayed'))
    for (const { outcome } of under) expect((await outcome).type).not.toBe('dropped')
  }
  await until(() => recipient.texts.length === sent.length, 'all of it')
  expect(recipient.texts).toEqual(sent)
  const ids = [d1112.encryption, ...current.formerEncryption!.slice(1), current.encryption].map(
    ({ publicKey }) => keyIdOf(publicKey),
  )
  expect(decisions.filter(({ event }) => event === 'copy').map(({ mismatch }) => mismatch)).toEqual(
    ids.slice(1).map((onChain, i) => ({ inCopy: ids[i], onChain })),
  )
  // What it answers to its own sender goes by a copy as well.
  const { outcome } = await recipient.client.send(d1111.id, {
    content: content('back'),
    delivery: 'received',
  })
  expect(await outcome).toMatchObject({ type: 'received' })
})

test('device client: a confirmation reaches a sender that has rotated its key', async () => {
  const recipient = await start(d1112)
  let current = d1111
  const sender = await start(d1111, { identity: async () => ({ keys: current, chain: fixture.trust }) })
  await Promise.all([sender, recipient].map(({ client }) => client.connected(5_000)))
  const first = await sender.client.send(d1112.id, { content: content('1'), delivery: 'received' })
  await first.outcome
  current = rotateEncryption(current, makeEncryptionKeys('x25519'))
  const second = await sender.client.send(d1112.id, { content: content('2'), delivery: 'received' })
  expect(await second.outcome).toMatchObject({ type: 'received' })
  expect(recipient.texts).toEqual(['1', '2'])
})

test('device client: what is larger than 1 MiB goes in chunks and comes whole and in order, through a restart of gateway and sender', async () => {
  const recipient = await start(d1112)
  const taken: Uint8Array[] = []
  recipient.client.listen(({ content: bytes }) => void taken.push(bytes))
  const first = await start(d1111)
  await Promise.all([first, recipient].map(({ client }) => client.connected(5_000)))
  const large = [4, 2].map(size => Uint8Array.from(randomBytes(size * 1024 * 1024)))
  await first.client.send(d1112.id, { content: large[0]! })
  const relayed = () =>
    fixture.decisions.filter(({ event, verdict }) => event === 'message' && verdict === 'Check').length
  await until(() => relayed() > 1, 'some chunks of the first')
  await stop(first)
  const second = await start(d1111)
  await until(() => taken.length === 1, 'the rest, by the next run of its sender')
  const { outcome } = await second.client.send(d1112.id, { content: large[1]!, delivery: 'received' })
  await until(() => relayed() > 4, 'some chunks of the second')
  await fixture.gateway.stop()
  await fixture.startAgain()
  expect(await outcome).toMatchObject({ type: 'received' })
  await until(() => taken.length === 2, 'both')
  expect(taken.map((bytes, i) => Buffer.from(bytes).equals(large[i]!))).toEqual([true, true])
})
