/**
 * Who may subscribe and publish to what, on a real MQTT wire: a device's own topics, and what its rights on the chain add. The
 * chain is one process behind the trust port, so that a test says when a block is known.
 */
import type { MqttClient } from 'mqtt'
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import type { IdentityKeys } from '../../client/key-directory.ts'
import type { DeviceAgent } from '../../mqtt-gateway/device/agent.ts'
import { filters, topics } from '../../mqtt-gateway/protocol/topics.ts'
import { GatewayFixture, sentText, until } from '../support/gateway-fixture.ts'

let fixture: GatewayFixture
let d1111: IdentityKeys
let d1112: IdentityKeys
let d1113: IdentityKeys
beforeEach(async () => {
  fixture = await GatewayFixture.start()
  d1111 = fixture.device('1111')
  d1112 = fixture.device('1112')
  d1113 = fixture.device('1113')
})
afterEach(async () => {
  await fixture.stop()
  expect(fixture.errors).toEqual([])
})

const clientOf = (keys: IdentityKeys): Promise<MqttClient> => fixture.client(fixture.credentials(keys))

/** The return code of SUBACK (section 3.9.3). */
async function suback(client: MqttClient, topicFilter: string): Promise<number | undefined> {
  const granted = await client.subscribeAsync(topicFilter, { qos: 1 }).catch(() => [{ qos: 128 }])
  return granted[0]?.qos
}

async function textsOf(agent: DeviceAgent): Promise<string[]> {
  const texts: string[] = []
  await agent.listen({ message: ({ content }) => void texts.push(new TextDecoder().decode(content)) })
  return texts
}

describe('subscriptions', () => {
  const group = 'ab'.repeat(32)
  const tooWide = (): readonly string[] => [
    '#',
    '+/#',
    'mote/#',
    'mote/1/#',
    'mote/1/+/+',
    filters.anyDelivery,
    'mote/1/to/+',
    filters.toDevice(d1112.id),
    `mote/1/to/${d1112.id}`,
    topics.verdict(d1112.id),
    'mote/1/error/+',
    topics.answer(d1112.id),
    filters.boxesOf(d1112.id),
    `mote/1/box/${group}/+`,
    `mote/1/group/${group}/#`,
    'plant/hall-3/alarm',
    '$SYS/#',
    `$share/x/${filters.toDevice(d1111.id)}`,
  ]

  test('gateway: grants a device its own topics, and refuses all that is wider with 0x80 and a line', async () => {
    const client = await clientOf(d1111)
    for (const own of [`mote/1/to/${d1111.id}`, filters.toDevice(d1111.id), topics.verdict(d1111.id)])
      expect(await suback(client, own), own).toBe(1)
    for (const filter of [
      filters.boxesOf(d1111.id),
      topics.box(group as never, d1111.id),
      topics.error(d1111.id),
    ])
      expect(await suback(client, filter), filter).toBe(1)
    expect(fixture.decisions.filter(({ event }) => event === 'subscribe')).toEqual([])
    for (const wide of tooWide()) expect(await suback(client, wide), wide).toBe(128)
    const lines = fixture.decisions.filter(({ event }) => event === 'subscribe')
    expect(lines.map(({ topic }) => topic)).toEqual(tooWide())
    for (const line of lines)
      expect(line).toMatchObject({ sender: d1111.id, verdict: 'Error', code: 'topic-not-allowed' })
  })

  test('gateway: observe is every delivery and no box, verdict, error or answer of others', async () => {
    fixture.trust.setRights(d1111.id, { observe: true })
    const client = await clientOf(d1111)
    for (const filter of [filters.anyDelivery, 'mote/1/to/+', filters.toDevice(d1112.id)])
      expect(await suback(client, filter), filter).toBe(1)
    for (const filter of [topics.verdict(d1112.id), 'mote/1/error/+', filters.boxesOf(d1112.id), 'mote/1/#'])
      expect(await suback(client, filter), filter).toBe(128)
    expect(fixture.decisions.find(({ topic }) => topic === filters.anyDelivery)).toMatchObject({
      event: 'subscribe',
      verdict: 'Check',
    })
  })

  test('gateway: a subscription by right waits for a chain in reach: the connection is closed, to come again', async () => {
    fixture.trust.setRights(d1111.id, { observe: true })
    const client = await clientOf(d1111)
    const closed = new Promise<void>(resolve => client.once('close', resolve))
    fixture.trust.reachable = false
    void suback(client, filters.anyDelivery)
    await closed
    expect(fixture.decisions.at(-1)).toMatchObject({ event: 'subscribe', code: 'unreachable' })
  })
})

describe('a right that is taken away', () => {
  test('gateway: who observed gets nothing that is sent after the block, whatever it subscribed to', async () => {
    const seen = await fixture.observe(d1113)
    const sender = await fixture.agent(d1111)
    await sender.send(d1112.id, sentText('one'))
    await until(() => seen.length === 1, 'the observer gets what is delivered')
    fixture.trust.setRights(d1113.id, { observe: false })
    await sender.send(d1112.id, sentText('two'))
    // Its own messages still come, so what was sent before them has not been on its way.
    await sender.send(d1113.id, sentText('three'))
    await until(() => seen.some(({ topic }) => topic.includes(d1113.id)), 'its own')
    expect(seen.filter(({ topic }) => topic.includes(d1112.id))).toHaveLength(1)
  })

  test('gateway: until rights have been read again nothing counts as granted', async () => {
    const seen = await fixture.observe(d1113)
    const { trust } = fixture
    const read = trust.rights.bind(trust)
    const answer = Promise.withResolvers<void>()
    trust.rights = async id => {
      await answer.promise
      return read(id)
    }
    trust.setRights(d1113.id, { observe: true, gateway: true })
    const sender = await fixture.agent(d1111)
    await sender.send(d1112.id, sentText('meanwhile'))
    await sender.send(d1113.id, sentText('own'))
    await until(() => seen.length > 0, 'its own')
    expect(seen.map(({ topic }) => topic)).toEqual([`mote/1/to/${d1113.id}`])
    answer.resolve()
    await sender.send(d1112.id, sentText('after'))
    await until(() => seen.some(({ topic }) => topic.includes(d1112.id)), 'then again')
  })
})

describe('a device that is not active any more, before its session is cut', () => {
  /** The look of the sessions after the next change waits; every other one goes through. */
  function holdReview(looksBefore: number): () => void {
    const { trust } = fixture
    const read = trust.device.bind(trust)
    const held = Promise.withResolvers<void>()
    let looks = 0
    trust.device = async id => {
      looks += 1
      if (looks === looksBefore + 1) await held.promise
      return read(id)
    }
    return () => held.resolve()
  }

  test('gateway: gets nothing by its rights', async () => {
    const seen = await fixture.observe(d1113)
    const sender = await fixture.agent(d1111)
    await sender.send(d1112.id, sentText('one'))
    await until(() => seen.length === 1, 'the observer')
    // Its rights are looked at first.
    const release = holdReview(1)
    fixture.trust.setStatus(d1113.id, 'suspended')
    await sender.send(d1112.id, sentText('two'))
    const others = await fixture.observe(d1112)
    await sender.send(d1112.id, sentText('three'))
    await until(() => others.length === 1, 'another observer')
    expect(seen).toHaveLength(1)
    release()
  })

  test('gateway: publishes nothing by its rights', async () => {
    fixture.trust.setRights(d1111.id, { publish: ['plant/a'] })
    const client = await clientOf(d1111)
    const release = holdReview(0)
    fixture.trust.setStatus(d1111.id, 'suspended')
    await client.publishAsync('plant/a', 'x', { qos: 1 })
    expect(fixture.decisions.at(-1)).toMatchObject({ event: 'plain', code: 'signer-not-active' })
    release()
  })
})

describe('group mail goes to each member', () => {
  test('gateway: a removed member gets nothing that is sent after the block', async () => {
    const { trust } = fixture
    const group = trust.createGroup(d1111.id, 'hsu0001')
    trust.changeMembers(group, { add: [d1112.id, d1113.id] })
    const [sender, stays] = [await fixture.agent(d1111), await fixture.agent(d1112)]
    const texts = await textsOf(stays)
    const seen = await fixture.subscribed(await clientOf(d1113), filters.toDevice(d1113.id))
    await sender.sendToGroup(group, sentText('one'))
    await until(() => seen.length === 1, 'the member gets the bytes')
    trust.changeMembers(group, { remove: [d1113.id] })
    expect(await sender.sendToGroup(group, sentText('two'))).toMatchObject({ verdict: 'Check' })
    await until(() => texts.length === 2, 'who stays reads both')
    await sender.send(d1113.id, sentText('for it alone'))
    await until(() => seen.length === 2, 'its own messages still come')
    expect(seen).toHaveLength(2)
  })

  test('gateway: a removal that becomes known while a message is judged is judged by', async () => {
    const { trust } = fixture
    const group = trust.createGroup(d1111.id, 'hsu0001')
    trust.changeMembers(group, { add: [d1112.id, d1113.id] })
    const sender = await fixture.agent(d1111)
    await sender.sendToGroup(group, sentText('one'))
    const seen = await fixture.subscribed(await clientOf(d1113), filters.toDevice(d1113.id))
    const wire = sender.sendToGroup(group, sentText('two'))
    const read = trust.device.bind(trust)
    trust.device = async id => {
      const answer = await read(id)
      trust.device = read
      trust.changeMembers(group, { remove: [d1113.id] })
      return answer
    }
    expect(await wire).toMatchObject({ verdict: 'Check' })
    expect(fixture.decisions.find(({ code }) => code === 'epoch-mismatch')).toMatchObject({
      event: 'message',
    })
    await sender.send(d1113.id, sentText('for it alone'))
    await until(() => seen.length > 0, 'its own')
    expect(seen).toHaveLength(1)
  })
})

test('gateway: records that change faster than they are read are no Check', async () => {
  const { trust } = fixture
  const sender = await fixture.agent(d1111)
  await sender.send(d1112.id, sentText('one'))
  const read = trust.device.bind(trust)
  trust.device = async id => {
    const answer = await read(id)
    trust.heartbeat()
    return answer
  }
  void sender.send(d1112.id, sentText('two')).catch(() => {})
  await until(() => fixture.decisions.some(({ code }) => code === 'stale'), 'a refusal that may pass')
})

describe('plain topics', () => {
  test('gateway: who has the right publishes in the clear, to who has the right to receive it', async () => {
    fixture.trust.setRights(d1111.id, { publish: ['plant/+/temperature'] })
    fixture.trust.setRights(d1112.id, { subscribe: ['plant/#'] })
    const seen = await fixture.subscribed(await clientOf(d1112), 'plant/hall-3/#')
    const client = await clientOf(d1111)
    await client.publishAsync('plant/hall-3/temperature', '21.5', { qos: 1, retain: true })
    await until(() => seen.length === 1, 'the subscriber')
    expect(seen[0]).toMatchObject({ topic: 'plant/hall-3/temperature', payload: Buffer.from('21.5') })
    expect(fixture.decisions.at(-1)).toMatchObject({
      event: 'plain',
      sender: d1111.id,
      topic: 'plant/hall-3/temperature',
      verdict: 'Check',
    })
    const late = await fixture.subscribed(await clientOf(d1112), 'plant/#')
    await client.publishAsync('plant/hall-3/temperature', '22', { qos: 1 })
    await until(() => late.length > 0, 'what is published after')
    expect(String(late[0]?.payload), 'nothing is retained').toBe('22')
  })

  test('gateway: what one device publishes at QoS 0, 1 and 2 is passed on in that order, though one look-up takes long', async () => {
    fixture.trust.setRights(d1111.id, { publish: ['plant/#'] })
    fixture.trust.setRights(d1112.id, { subscribe: ['plant/#'] })
    const seen = await fixture.subscribed(await clientOf(d1112), 'plant/#')
    const client = await clientOf(d1111)
    const gate = Promise.withResolvers<void>()
    const read = fixture.trust.rights.bind(fixture.trust)
    let reads = 0
    vi.spyOn(fixture.trust, 'rights').mockImplementation(async id => {
      if (id === d1111.id && ++reads === 8) await gate.promise
      return read(id)
    })
    const texts = Array.from({ length: 24 }, (_, i) => String(i))
    const sent = texts.map((text, i) => client.publishAsync('plant/a', text, { qos: (i % 3) as 0 | 1 | 2 }))
    await until(() => seen.length === 7, 'those before it')
    const other = await clientOf(d1113)
    await other.publishAsync(topics.ask(d1113.id), 'no question', { qos: 1 })
    expect(seen).toHaveLength(7)
    gate.resolve()
    await Promise.all(sent)
    await until(() => seen.length === texts.length, 'all of them')
    expect(seen.map(({ payload }) => String(payload))).toEqual(texts)
  })

  test.each([
    ['a plain topic without the right', 'plant/hall-3/alarm'],
    ['a topic above its filters', 'plant'],
    ['a topic that begins with $', '$SYS/broker'],
    ["a topic of the project that is no device's", 'mote/2/x'],
  ])('gateway: refuses %s', async (_, topicName) => {
    fixture.trust.setRights(d1111.id, { publish: ['plant/+/temperature'] })
    const client = await clientOf(d1111)
    const mine = await fixture.subscribed(client, topics.error(d1111.id))
    await client.publishAsync(topicName, 'x', { qos: 1 })
    await until(() => mine.length === 1, 'an error')
    expect(JSON.parse(String(mine[0]?.payload))).toMatchObject({ code: 'topic-not-allowed', retry: false })
    expect(fixture.decisions.at(-1)).toMatchObject({ verdict: 'Error', code: 'topic-not-allowed' })
  })

  test('gateway: rights to publish and to receive end with the block that takes them away', async () => {
    const { trust } = fixture
    trust.setRights(d1111.id, { publish: ['plant/a'] })
    trust.setRights(d1112.id, { subscribe: ['plant/a'] })
    const [receiver, client] = [await clientOf(d1112), await clientOf(d1111)]
    const seen = await fixture.subscribed(receiver, 'plant/a', filters.toDevice(d1112.id))
    await client.publishAsync('plant/a', 'one', { qos: 1 })
    await until(() => seen.length === 1, 'with the right')
    trust.setRights(d1112.id, {})
    await client.publishAsync('plant/a', 'two', { qos: 1 })
    trust.setRights(d1112.id, { subscribe: ['plant/a'] })
    // Judged by what has been read again since.
    await suback(receiver, 'plant/a')
    await client.publishAsync('plant/a', 'three', { qos: 1 })
    await until(() => seen.length === 2, 'with the right again')
    expect(seen.map(({ payload }) => String(payload))).toEqual(['one', 'three'])
    trust.setRights(d1111.id, {})
    await client.publishAsync('plant/a', 'four', { qos: 1 })
    expect(fixture.decisions.at(-1)).toMatchObject({ event: 'plain', code: 'topic-not-allowed' })
  })

  test('gateway: without fresh trust data nothing is passed on in the clear', async () => {
    fixture.trust.setRights(d1111.id, { publish: ['plant/a'] })
    const client = await clientOf(d1111)
    const closed = new Promise<void>(resolve => client.once('close', resolve))
    fixture.trust.age(fixture.trustTtlMs + 1)
    client.publish('plant/a', 'x', { qos: 1 })
    await closed
    expect(fixture.decisions.at(-1)).toMatchObject({ event: 'plain', code: 'stale' })
  })
})
