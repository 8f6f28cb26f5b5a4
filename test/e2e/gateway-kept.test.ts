/** Messages for who is away, over a real broker: kept on the disk, judged again, in order, once. */
import { randomBytes } from 'node:crypto'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import type { Hash } from '../../chain/brands.ts'
import { MoteError } from '../../chain/result.ts'
import type { IdentityKeys } from '../../client/key-directory.ts'
import { createDeviceClient } from '../../mqtt-gateway/agent/device-client.ts'
import type { DeviceAgent } from '../../mqtt-gateway/device/agent.ts'
import { topicPairOf } from '../../mqtt-gateway/device/topic-keys.ts'
import { epochKeyHash } from '../../mqtt-gateway/protocol/epoch-boxes.ts'
import { encodeAcknowledgement } from '../../mqtt-gateway/protocol/kept-mail.ts'
import { topics } from '../../mqtt-gateway/protocol/topics.ts'
import { defaultMailboxLimits, Mailboxes } from '../../mqtt-gateway/server/mailboxes.ts'
import { GatewayFixture, listen, sentText, until } from '../support/gateway-fixture.ts'

const hourMs = 3_600_000
const kept = (content: string) => ({ ...sentText(content), keepMs: hourMs })

const options: { mailboxes: Mailboxes | undefined; redeliverMs: number | undefined } = {
  mailboxes: undefined,
  redeliverMs: undefined,
}
let fixture: GatewayFixture
let directory: string
let d1111: IdentityKeys
let d1113: IdentityKeys
let sender: DeviceAgent
let senderDirectory: string
beforeEach(async () => {
  options.mailboxes = undefined
  options.redeliverMs = undefined
  fixture = await GatewayFixture.start({}, options as { mailboxes?: Mailboxes; redeliverMs?: number })
  directory = join(await fixture.stateDirectory(), 'mail')
  d1111 = fixture.device('1111')
  d1113 = fixture.device('1113')
  await restart()
  senderDirectory = await fixture.stateDirectory()
  sender = await fixture.agent(d1111, senderDirectory)
})
afterEach(async () => {
  await fixture.stop()
  expect(fixture.errors).toEqual([])
})

const waiting = () => options.mailboxes!.waiting(d1113.id).length
const dropped = () =>
  fixture.decisions
    .filter(({ event }) => event === 'kept')
    .map(({ code, sender: from, recipient }) => ({ code, from, recipient }))

/** Another gateway on the same directory. */
async function restart(limits = defaultMailboxLimits): Promise<void> {
  await fixture.gateway.stop()
  options.mailboxes = await Mailboxes.open(directory, limits)
  await fixture.startAgain()
}

test('kept: for who is away it waits on the disk, through a restart, and comes in order, before what is newer, once', async () => {
  for (const content of ['1', '2', '3'])
    expect(await sender.send(d1113.id, kept(content))).toMatchObject({ verdict: 'Check', delivery: 'kept' })
  expect(await sender.send(d1113.id, sentText('lost: nobody listens'))).toMatchObject({ delivery: 'relayed' })
  await sender.close()
  await restart()
  expect(waiting()).toBe(3)
  const stateDirectory = await fixture.stateDirectory()
  const reader = await fixture.agent(d1113, stateDirectory)
  const inbox = await listen(reader)
  sender = await fixture.agent(d1111, senderDirectory)
  await sender.send(d1113.id, sentText('4'))
  expect(await sender.send(d1113.id, kept('5'))).toMatchObject({ delivery: 'relayed' })
  await until(() => inbox.texts.length === 5, 'all of it')
  expect(inbox.texts).toEqual(['1', '2', '3', '4', '5'])
  await until(() => waiting() === 0, 'all of it is acknowledged')
  expect(inbox.refusals).toEqual([])
})

test('kept: what is not acknowledged comes again, also to another run of the recipient, which gives it out once', async () => {
  const stateDirectory = await fixture.stateDirectory()
  const deaf = await fixture.client(fixture.credentials(d1113))
  await deaf.subscribeAsync(`mote/1/to/${d1113.id}/#`, { qos: 1 })
  const got: string[] = []
  deaf.on('message', topic => got.push(topic))
  expect(await sender.send(d1113.id, kept('once'))).toMatchObject({ delivery: 'relayed' })
  await until(() => got.length === 1, 'a client that is not ours has the bytes')
  expect(waiting(), 'a socket that took the bytes is no acknowledgement').toBe(1)
  const reader = await fixture.agent(d1113, stateDirectory)
  const inbox = await listen(reader)
  await until(() => waiting() === 0, 'the agent acknowledges')
  expect(inbox.texts).toEqual(['once'])
})

test('kept: more than may be under way unacknowledged waits, newer mail behind it, and all comes in order', async () => {
  for (let i = 0; i < 36; i++) await sender.send(d1113.id, kept(`${i}`))
  const reader = await fixture.agent(d1113)
  const inbox = await listen(reader)
  for (let i = 36; i < 40; i++) await sender.send(d1113.id, sentText(`${i}`))
  await until(() => inbox.texts.length === 40, 'all of it')
  expect(inbox.texts).toEqual(Array.from({ length: 40 }, (_, i) => `${i}`))
  await until(() => waiting() === 0, 'acknowledged')
})

test('kept: a repeat of the same bytes is acknowledged and kept once, also by a gateway that has been restarted', async () => {
  const sealed = await sender.seal({ type: 'device', id: d1113.id }, kept('same'))
  if (sealed.type !== 'sealed') throw new Error('not sealed')
  await sender.relay(sealed.envelope)
  expect(await sender.relay(sealed.envelope)).toMatchObject({ verdict: 'Check', delivery: 'kept' })
  await sender.close()
  await restart()
  sender = await fixture.agent(d1111, senderDirectory)
  expect(await sender.relay(sealed.envelope)).toMatchObject({ verdict: 'Check', delivery: 'kept' })
  expect(waiting()).toBe(1)
})

test('kept: a message of a sender that was revoked since is dropped, with a line in the decision log', async () => {
  const d1112 = fixture.device('1112')
  const other = await fixture.agent(d1112)
  await other.send(d1113.id, kept('of a revoked device'))
  await sender.send(d1113.id, kept('of an active one'))
  fixture.trust.setStatus(d1112.id, 'revoked')
  const inbox = await listen(await fixture.agent(d1113))
  await until(() => waiting() === 0, 'nothing waits')
  expect(inbox.texts).toEqual(['of an active one'])
  expect(dropped()).toEqual([{ code: 'signer-not-active', from: d1112.id, recipient: d1113.id }])
})

test('kept: to a group: read by who was away while it came to newer epochs; a removed member gets nothing of what waited', async () => {
  const d1114 = fixture.device('1114')
  const group = fixture.trust.createGroup(d1111.id, 'away')
  fixture.trust.changeMembers(group, { add: [d1113.id, d1114.id] })
  expect(await sender.sendToGroup(group, kept('epoch 1'))).toMatchObject({ delivery: 'kept' })
  fixture.trust.changeMembers(group, { remove: [d1114.id] })
  await sender.rekey(group)
  expect(await sender.sendToGroup(group, kept('epoch 2'))).toMatchObject({ verdict: 'Check' })
  const [inbox, removed] = await Promise.all(
    [d1113, d1114].map(async keys => listen(await fixture.agent(keys))),
  )
  await until(() => options.mailboxes!.size.messages === 0, 'nothing waits')
  expect(inbox!.texts).toEqual(['epoch 1', 'epoch 2'])
  expect(inbox!.refusals).toEqual([])
  expect(removed!.texts).toEqual([])
  expect(dropped()).toEqual([{ code: 'not-member', from: d1111.id, recipient: d1114.id }])
})

test('kept: a mailbox that is full is a refusal that the sender sees; a time of more than 7 days too', async () => {
  await sender.close()
  await restart({ ...defaultMailboxLimits, messagesPerDevice: 1 })
  sender = await fixture.agent(d1111, senderDirectory)
  await sender.send(d1113.id, kept('1'))
  expect(await sender.send(d1113.id, kept('2'))).toMatchObject({ verdict: 'Error', code: 'mailbox-full' })
  expect(await sender.send(d1113.id, { ...sentText('3'), keepMs: 8 * 24 * hourMs })).toMatchObject({
    verdict: 'Error',
    code: 'expiry-too-far',
  })
  expect(waiting()).toBe(1)
})

test('kept: what nobody took in time is dropped, also by a gateway that was away, with a line in the decision log', async () => {
  await sender.send(d1113.id, { ...sentText('late'), keepMs: 200 })
  await sender.send(d1113.id, kept('in time'))
  await sender.close()
  const until200 = Date.now() + 200
  await until(() => Date.now() > until200, 'its time is over')
  fixture.device('another-block')
  await restart()
  await until(() => dropped().length > 0, 'it is dropped')
  expect(waiting()).toBe(1)
  expect(dropped()).toEqual([{ code: 'envelope-expired', from: d1111.id, recipient: d1113.id }])
  const inbox = await listen(await fixture.agent(d1113))
  await until(() => waiting() === 0, 'the other one')
  expect(inbox.texts).toEqual(['in time'])
})

test('kept: an acknowledgement of another device, of no such message, or of another form takes nothing away', async () => {
  const verdict = await sender.send(d1113.id, kept('stays'))
  const d1112 = fixture.device('1112')
  const client = await fixture.client(fixture.credentials(d1112))
  const id = verdict.messageId as Hash
  await client.publishAsync(topics.got(d1112.id), Buffer.from(encodeAcknowledgement(id)), { qos: 1 })
  await client.publishAsync(topics.got(d1113.id), Buffer.from(encodeAcknowledgement(id)), { qos: 1 })
  await client.publishAsync(topics.got(d1112.id), Buffer.from('what?'), { qos: 1 })
  expect(waiting()).toBe(1)
  const refused = fixture.decisions.filter(({ verdict: each }) => each === 'Error').map(({ code }) => code)
  expect(refused).toContain('malformed')
  expect(refused).toContain('topic-not-allowed')
})

test('kept: what a full mailbox refused, or a disk that failed, is taken when it is sent again: its counter was not used up', async () => {
  await sender.close()
  await restart({ ...defaultMailboxLimits, messagesPerDevice: 1 })
  sender = await fixture.agent(d1111, senderDirectory)
  const toAway = { type: 'device', id: d1113.id } as const
  const sealed = [await sender.seal(toAway, kept('1')), await sender.seal(toAway, kept('2'))]
  const [first, second] = sealed.map(each => (each.type === 'sealed' ? each.envelope : undefined))
  await sender.relay(first!)
  expect(await sender.relay(second!)).toMatchObject({ code: 'mailbox-full' })
  expect(await sender.relay(second!)).toMatchObject({ code: 'mailbox-full' })
  await options.mailboxes!.remove(d1113.id, first!.messageId)
  expect(await sender.relay(second!)).toMatchObject({ verdict: 'Check', delivery: 'kept' })
})

test('kept: what its recipient had no room for comes again while it listens, and is taken then', async () => {
  options.redeliverMs = 50
  await sender.close()
  await restart()
  sender = await fixture.agent(d1111, senderDirectory)
  const reader = await fixture.agent(d1113)
  const texts: string[] = []
  let isFull = true
  await reader.listen({
    message: ({ content }) => {
      if (isFull) throw new MoteError('overloaded', 'queue: full')
      texts.push(new TextDecoder().decode(content))
    },
    refused: ({ code }) => {
      expect(code).toBe('overloaded')
      isFull = false
    },
  })
  expect(await sender.send(d1113.id, kept('in the end'))).toMatchObject({ delivery: 'relayed' })
  await until(() => waiting() === 0, 'it is acknowledged')
  expect(texts).toEqual(['in the end'])
})

test('kept: to an open topic: read by a member who was away while it came to many newer epochs; what a publisher has no right to any more is dropped', async () => {
  const d1114 = fixture.device('1114')
  const group = fixture.trust.createGroup(d1114.id, 'publishers')
  fixture.trust.changeMembers(group, { add: [d1111.id] })
  const topic = fixture.trust.createGroup(d1114.id, 'reports', { publishers: group })
  fixture.trust.changeMembers(topic, { add: [d1113.id] })
  const member = await fixture.agent(d1114)
  const sent: string[] = []
  for (let epoch = 1; epoch <= 6; epoch++) {
    await member.rekey(topic)
    sent.push(`epoch ${epoch}`)
    expect(await sender.publish(topic, kept(sent.at(-1)!))).toMatchObject({ delivery: 'kept' })
  }
  await restart()
  const inbox = await listen(await fixture.agent(d1113))
  await until(() => waiting() === 0, 'all of it is acknowledged')
  expect(inbox).toMatchObject({ texts: sent, refusals: [] })
  fixture.trust.changeMembers(group, { remove: [d1111.id] })
  const other = await listen(await fixture.agent(d1114))
  await until(() => dropped().length === 6, 'all of it is dropped')
  expect(other.texts).toEqual([])
  expect(dropped()[0]).toEqual({ code: 'not-member', from: d1111.id, recipient: d1114.id })
})

test('kept: nothing is kept under an epoch of which the gateway has no boxes yet', async () => {
  const topic = fixture.trust.createGroup(d1113.id, 'reports', { publishers: undefined })
  const name = { chainId: fixture.trust.chainId, group: topic, epoch: 1 }
  const epochKey = new Uint8Array(32).fill(7)
  const hash = epochKeyHash(name, epochKey)
  const topicKey = topicPairOf(name, epochKey).publicKey.bytes
  await fixture.trust.rekey({
    group: (await fixture.trust.group(topic)).value!,
    epochKeyHash: hash,
    boxesHash: hash,
    topicKey,
  })
  expect(await sender.publish(topic, kept('unreadable'))).toMatchObject({ code: 'epoch-mismatch' })
  expect(options.mailboxes!.size.messages).toBe(0)
})

test('kept: a device client publishes to an open topic, and a member that is away through new epochs reads all of it when it is back', async () => {
  const d1114 = fixture.device('1114')
  const topic = fixture.trust.createGroup(d1113.id, 'reports', { publishers: undefined })
  const clientOf = async (keys: IdentityKeys, stateDirectory?: string) =>
    createDeviceClient({
      keys,
      chain: fixture.trust,
      gateway: fixture.address,
      stateDirectory: stateDirectory ?? (await fixture.stateDirectory()),
    })
  const member = await fixture.agent(d1113)
  await member.rekey(topic)
  const publisher = await clientOf(d1114)
  const content = (text: string) => new TextEncoder().encode(text)
  for (const text of ['1', '2']) {
    const { outcome } = await publisher.publish(topic, { content: content(text), keepMs: hourMs })
    expect(await outcome).toMatchObject({ type: 'relayed' })
    await member.rekey(topic)
  }
  await member.close()
  const reader = await clientOf(d1113)
  const seen: unknown[] = []
  reader.listen(message => void seen.push([message.to, new TextDecoder().decode(message.content)]))
  await until(() => seen.length === 2, 'both')
  expect(seen).toEqual(['1', '2'].map(text => [{ type: 'topic', id: topic }, text]))
  for (const wrong of [{ keepMs: hourMs, delivery: 'received' }, { keepMs: 8 * 24 * hourMs }] as const)
    await expect(publisher.send(d1113.id, { content: content('x'), ...wrong })).rejects.toMatchObject({
      code: 'malformed',
    })
  await Promise.all([publisher.close(), reader.close()])
})

const mebibyte = 1024 * 1024

test('kept: 16 MiB wait as their chunks, through a restart of the gateway and of the recipient half-way, and are given out whole, once', async () => {
  const large = Uint8Array.from(randomBytes(16 * mebibyte))
  expect(await sender.send(d1113.id, { content: large, keepMs: hourMs })).toMatchObject({ delivery: 'kept' })
  await sender.send(d1113.id, kept('behind it'))
  expect(waiting()).toBe(17)
  await sender.close()
  await restart()
  const stateDirectory = await fixture.stateDirectory()
  const first = await fixture.agent(d1113, stateDirectory)
  await listen(first)
  await until(() => waiting() < 12, 'some chunks are on the disk of the recipient')
  await first.close()
  expect(waiting(), 'it ended half-way').toBeGreaterThan(1)
  const inbox = await listen(await fixture.agent(d1113, stateDirectory))
  await until(() => inbox.texts.length === 2, 'both')
  expect(Buffer.from(inbox.messages[0]!.content).equals(large)).toBe(true)
  expect(inbox.texts[1]).toBe('behind it')
  await until(() => waiting() === 0, 'all of it is acknowledged')
  expect(inbox.refusals).toEqual([])
})

test('kept: a large message of which not all is kept is refused to its sender, and nothing of it is given out', async () => {
  await sender.close()
  await restart({ ...defaultMailboxLimits, bytesPerDevice: 3 * mebibyte })
  sender = await fixture.agent(d1111, senderDirectory)
  const content = new Uint8Array(5 * mebibyte)
  expect(await sender.send(d1113.id, { content, keepMs: hourMs })).toMatchObject({ code: 'mailbox-full' })
  await sender.send(d1113.id, kept('goes on'))
  const inbox = await listen(await fixture.agent(d1113))
  await until(() => waiting() === 0, 'all of it is acknowledged')
  expect(inbox).toMatchObject({ texts: ['goes on'], refusals: [] })
})
