/** The wire manners of the embedded broker: order, QoS 2, how fast a client is read, wills, and how it closes (MQTT 3.1.1). */
import type { Socket } from 'node:net'
import mqtt, { type IClientOptions, type MqttClient } from 'mqtt'
import type { IPublishPacket } from 'mqtt-packet'
import { afterEach, expect, test } from 'vitest'
import { ok } from '../../chain/result.ts'
import type { AedesLimits } from '../../mqtt-gateway/server/aedes-broker.ts'
import type {
  Broker,
  BrokerAddress,
  MessageExchange,
  PublishAnswer,
  PublishOutcome,
} from '../../mqtt-gateway/server/broker.ts'
import { until } from '../support/gateway-fixture.ts'
import { openBroker } from '../support/open-broker.ts'
import { RawClient } from '../support/raw-client.ts'

let broker: Broker
let address: BrokerAddress
/** What came to be judged, wills too, in order. */
let judged: string[]
let judge: (text: string) => Promise<PublishAnswer>
/** What the broker has asked and told of sessions, in order. */
let told: string[]
let exchanges: (MessageExchange | undefined)[]
/** Of each message: whether it is left to its repeat by now. */
let overs: (() => boolean | undefined)[]
let release: () => Promise<void>
const closing: (() => unknown)[] = []

async function open(limits: Partial<AedesLimits> = {}): Promise<void> {
  judged = []
  told = []
  exchanges = []
  overs = []
  judge = async () => 'acknowledge'
  release = async () => {}
  const take = async (text: string): Promise<PublishAnswer> => {
    const outcome = await judge(text)
    judged.push(text)
    return outcome
  }
  const textOf = (payload: Uint8Array) => new TextDecoder().decode(payload.subarray(0, 32))
  broker = openBroker(limits, {
    authenticate: async ({ clientId }) => ok({ clientId, device: clientId.split('.')[0] ?? '' }),
    published: (_, { payload, exchange, isOver }) => {
      exchanges.push(exchange)
      overs.push(() => isOver?.())
      return take(textOf(payload))
    },
    incarnationOf: async (clientId, start) => {
      told.push(`${clientId} ${start}`)
      if (clientId === 'refused') throw new Error('no disk')
      return 'life'
    },
    passed: async () => {},
    released: async (clientId, packetIdentifier) => {
      told.push(`${clientId} released ${packetIdentifier}`)
      await release()
    },
    will: async (_, { topicName, payload }) => {
      await take(`will ${topicName} ${textOf(payload)}`)
    },
  })
  address = await broker.listen()
}
afterEach(async () => {
  for (const close of closing.splice(0)) await close()
  await broker.close()
})

async function client(clientId: string, options: IClientOptions = {}): Promise<MqttClient> {
  const login = { clientId, username: 'u', password: 'p', protocolVersion: 4, reconnectPeriod: 0 } as const
  const connected = await mqtt.connectAsync({ ...address, ...login, ...options })
  connected.on('error', () => {})
  closing.push(() => connected.endAsync(true))
  return connected
}

/** A client of bytes, which is gone after the test. */
async function rawClient(clientId: string, clean = true): Promise<RawClient> {
  const raw = await RawClient.connect(address, { clientId, clean, username: 'u', password: 'p' })
  closing.push(() => raw.close())
  return raw
}

const publish = (text: string, qos: 0 | 1 | 2, messageId: number, dup = false): IPublishPacket => ({
  cmd: 'publish',
  topic: 't',
  payload: text,
  retain: false,
  dup,
  qos,
  ...(qos > 0 && { messageId }),
})

test('broker: at QoS 1 a message is left to its repeat once its connection has ended, if its session was to be kept', async () => {
  await open()
  const gate = Promise.withResolvers<void>()
  judge = async () => {
    await gate.promise
    return 'acknowledge'
  }
  const [kept, clean] = [await rawClient('kept', false), await rawClient('clean')]
  kept.send(publish('a', 1, 1))
  await until(() => overs.length === 1, 'the first one')
  clean.send(publish('b', 1, 1))
  await until(() => overs.length === 2, 'the second one')
  expect(overs.map(isOver => isOver())).toEqual([false, false])
  kept.close()
  clean.close()
  await until(() => overs[0]?.() === true, 'the end of the connection')
  expect(overs[1]?.()).toBe(false)
  gate.resolve()
})

test('broker: messages of mixed QoS are judged in the order in which they came, with a slow look-up in the middle', async () => {
  await open()
  const gate = Promise.withResolvers<void>()
  judge = async text => {
    if (text === '7') await gate.promise
    return 'acknowledge'
  }
  const raw = await rawClient('c')
  const texts = Array.from({ length: 30 }, (_, i) => String(i))
  raw.send(...texts.map((text, i) => publish(text, (i % 3) as 0 | 1 | 2, i + 1)))
  await until(() => judged.length === 7, 'those before the slow one')
  await new Promise(resolve => setImmediate(resolve))
  expect(judged).toHaveLength(7)
  gate.resolve()
  await raw.gets('pubrec', 10)
  await raw.gets('puback', 10)
  expect(judged).toEqual(texts)
})

test('broker: PUBREC comes after the decision; a repeat, also on the next connection, is answered and not judged again [MQTT-4.3.3-2]', async () => {
  await open()
  const gate = Promise.withResolvers<void>()
  judge = async () => {
    await gate.promise
    return 'acknowledge'
  }
  const first = await rawClient('c')
  first.send(publish('once', 2, 9), { cmd: 'pingreq' })
  await first.gets('pingresp')
  expect(first.received.map(({ cmd }) => cmd)).toEqual(['connack', 'pingresp'])
  await first.close()
  const second = await rawClient('c')
  second.send(publish('once', 2, 9, true))
  gate.resolve()
  await second.gets('pubrec')
  second.send(publish('once', 2, 9, true))
  await second.gets('pubrec', 2)
  second.send({ cmd: 'pubrel', messageId: 9 })
  await second.gets('pubcomp')
  expect(judged).toEqual(['once'])
  // The packet identifier is free again: what is no repeat is a message of its own.
  second.send(publish('once', 2, 9))
  await second.gets('pubrec', 3)
  expect(judged).toEqual(['once', 'once'])
})

test('broker: a client’s messages are acknowledged in the order in which they came, in whatever order their outcomes come [MQTT-4.6.0-2, -3]', async () => {
  await open()
  const outcomes = Array.from({ length: 8 }, () => Promise.withResolvers<PublishOutcome>())
  judge = async text => ({ kept: Promise.resolve(true), later: outcomes[Number(text)]!.promise })
  const raw = await rawClient('c')
  raw.send(...outcomes.map((_, i) => publish(String(i), i < 4 ? 1 : 2, i + 1)))
  await until(() => judged.length === 8, 'all are judged')
  for (const { resolve } of outcomes.slice(1).toReversed()) resolve('acknowledge')
  raw.send({ cmd: 'pingreq' })
  await new Promise(resolve => setTimeout(resolve, 20))
  expect(raw.received.filter(({ cmd }) => cmd !== 'pingresp').map(({ cmd }) => cmd)).toEqual(['connack'])
  outcomes[0]!.resolve('acknowledge')
  await raw.gets('pubrec', 4)
  const answers = raw.received.filter(({ cmd }) => cmd === 'puback' || cmd === 'pubrec')
  expect(answers.map(({ messageId }) => messageId)).toEqual([1, 2, 3, 4, 5, 6, 7, 8])
})

test('broker: a message whose later outcome is to come again ends the connection without an acknowledgement', async () => {
  await open()
  judge = async () => ({ kept: Promise.resolve(true), later: Promise.resolve('close' as const) })
  const raw = await rawClient('c')
  raw.send(publish('x', 1, 1))
  await until(() => raw.isClosed, 'the connection is closed')
  expect(raw.received.map(({ cmd }) => cmd)).toEqual(['connack'])
})

test('broker: a message by QoS 2 ends with PUBREL and PUBCOMP; who was sent none is cut for its PUBREC [MQTT-4.3.3-1]', async () => {
  await open()
  const [exactly, other] = [await rawClient('exactly'), await rawClient('other')]
  for (const [raw, qos] of [
    [exactly, 2],
    [other, 1],
  ] as const) {
    raw.send({ cmd: 'subscribe', messageId: 1, subscriptions: [{ topic: 'fire/#', qos }] })
    await raw.gets('suback')
  }
  const say = (text: string) =>
    broker.publish({ topicName: 'fire/north', payload: Buffer.from(text), qos: 2, retain: false })
  const heard = (raw: RawClient) => raw.received.filter(packet => packet.cmd === 'publish')
  await say('a')
  await Promise.all([exactly, other].map(raw => raw.gets('publish')))
  const [message] = heard(exactly)
  expect(message).toMatchObject({ payload: Buffer.from('a'), qos: 2, dup: false, retain: false })
  expect(heard(other)).toMatchObject([{ qos: 1 }])
  const { messageId = 0 } = message!
  exactly.send({ cmd: 'pubrec', messageId })
  await exactly.gets('pubrel')
  exactly.send({ cmd: 'pubcomp', messageId })
  other.send({ cmd: 'pubrec', messageId: heard(other)[0]!.messageId ?? 0 })
  await until(() => other.isClosed, 'a PUBREC where PUBACK is due')
  await say('b')
  await exactly.gets('publish', 2)
  expect(heard(exactly)).toHaveLength(2)
})

test('broker: PUBCOMP comes when the release is known; after it the packet identifier stands for another message [MQTT-4.3.3-2]', async () => {
  await open()
  const known = Promise.withResolvers<void>()
  release = () => known.promise
  const raw = await rawClient('c')
  raw.send(publish('same', 2, 5))
  await raw.gets('pubrec')
  raw.send({ cmd: 'pubrel', messageId: 5 })
  await until(() => told.includes('c released 5'), 'the release')
  raw.send({ cmd: 'pingreq' })
  await raw.gets('pingresp')
  expect(raw.received.map(({ cmd }) => cmd)).toEqual(['connack', 'pubrec', 'pingresp'])
  known.resolve()
  await raw.gets('pubcomp')
  // Its first time was lost with a connection, say.
  raw.send(publish('same', 2, 5, true))
  await raw.gets('pubrec', 2)
  expect(judged).toEqual(['same', 'same'])
})

test('broker: a release that is not known is not completed', async () => {
  await open()
  release = () => Promise.reject(new Error('no disk'))
  const raw = await rawClient('c')
  raw.send(publish('x', 2, 5))
  await raw.gets('pubrec')
  raw.send({ cmd: 'pubrel', messageId: 5 })
  await until(() => raw.isClosed, 'the connection is closed')
  expect(raw.received.map(({ cmd }) => cmd)).toEqual(['connack', 'pubrec'])
})

test('broker: says before CONNACK which session begins, and names it in each exchange; Session Present stays 0', async () => {
  await open()
  const [clean, kept] = [await rawClient('c'), await rawClient('k', false)]
  expect(told).toEqual(['c clean', 'k kept'])
  expect([clean, kept].map(({ received: [connack] }) => connack)).toMatchObject([
    { returnCode: 0, sessionPresent: false },
    { returnCode: 0, sessionPresent: false },
  ])
  kept.send(publish('a', 0, 0), publish('b', 1, 1), publish('c', 2, 2, true))
  await kept.gets('pubrec')
  const life = { client: 'k', incarnation: 'life' }
  expect(exchanges).toEqual([
    undefined,
    { ...life, packetIdentifier: 1, qos: 1, isRepeat: false },
    { ...life, packetIdentifier: 2, qos: 2, isRepeat: true },
  ])
})

test('broker: a client whose session cannot be begun is told to come later', async () => {
  await open()
  const raw = await rawClient('refused')
  await until(() => raw.isClosed, 'the connection is closed')
  expect(raw.received).toMatchObject([{ cmd: 'connack', returnCode: 3 }])
})

test('broker: a QoS 2 message that was not acknowledged is judged again when it is repeated', async () => {
  await open()
  judge = async () => 'close'
  const first = await rawClient('c')
  first.send(publish('later', 2, 1))
  await until(() => first.isClosed, 'the connection is closed')
  expect(first.received.map(({ cmd }) => cmd)).toEqual(['connack'])
  judge = async () => 'acknowledge'
  const second = await rawClient('c')
  second.send(publish('later', 2, 1, true))
  await second.gets('pubrec')
  expect(judged).toEqual(['later', 'later'])
})

test('broker: a client of which as much is being decided as may be is not read meanwhile, and loses nothing', async () => {
  await open({ input: { messages: 4, bytes: 256 * 1024 } })
  const gate = Promise.withResolvers<void>()
  judge = async () => {
    await gate.promise
    return 'acknowledge'
  }
  const sender = await client('c')
  const texts = Array.from({ length: 200 }, (_, i) => `${i}`.padEnd(32, '.'))
  const sent = texts.map(text => sender.publishAsync('t', text.padEnd(128 * 1024, 'x'), { qos: 0 }))
  const other = await rawClient('other')
  other.send({ cmd: 'pingreq' })
  await other.gets('pingresp')
  expect(judged).toEqual([])
  // 25 MiB are more than the kernel takes for a socket that nobody reads.
  expect((sender.stream as Socket).writableLength).toBeGreaterThan(0)
  gate.resolve()
  await Promise.all(sent)
  await until(() => judged.length === texts.length, 'all of them')
  expect(judged).toEqual(texts)
})

test('broker: a device over its rate is read more slowly, all its connections together, another one is not, and nothing is lost', async () => {
  // A burst of 4 s: 400 messages.
  await open({ rate: { messagesPerSecond: 100, bytesPerSecond: 1024 * 1024 } })
  const startedAt = performance.now()
  const senders = [await client('fast.1'), await client('fast.2')]
  for (let i = 0; i < 250; i++) for (const sender of senders) sender.publish('t', 'fast', { qos: 0 })
  // What was sent before DISCONNECT comes before it.
  const ended = senders.map(sender => sender.endAsync())
  await until(() => judged.length >= 400, 'the burst')
  const quick = await client('quick')
  await quick.publishAsync('t', 'quick', { qos: 1 })
  expect(judged.filter(text => text === 'fast').length).toBeLessThan(500)
  await until(() => judged.length === 501, 'all of them')
  await Promise.all(ended)
  expect(performance.now() - startedAt).toBeGreaterThan(900)
})

test('broker: a will is judged when its connection breaks, after what came before it, and not after DISCONNECT [MQTT-3.1.2-8, -10]', async () => {
  await open()
  const will = { topic: 'gone', payload: Buffer.from('bye'), qos: 1, retain: false } as const
  const orderly = await client('orderly', { will })
  await orderly.endAsync()
  const dying = await client('dying', { will })
  const gate = Promise.withResolvers<void>()
  judge = async text => {
    if (text === 'last') await gate.promise
    return 'acknowledge'
  }
  const reached = until(() => (dying.stream as Socket).writableLength === 0, 'it is sent')
  dying.publish('t', 'last', { qos: 0 })
  await reached
  const taker = await client('taker')
  await taker.publishAsync('t', 'other', { qos: 1 })
  dying.stream.destroy()
  gate.resolve()
  await until(() => judged.length === 3, 'the will')
  expect(judged).toEqual(['other', 'last', 'will gone bye'])
})

test('broker: closing it, it ends what is being decided, acknowledges it, takes no more, and fires no will', async () => {
  await open()
  const gate = Promise.withResolvers<void>()
  judge = async () => {
    await gate.promise
    return 'acknowledge'
  }
  const sender = await client('c', {
    will: { topic: 'gone', payload: Buffer.from(''), qos: 1, retain: false },
  })
  const raw = await rawClient('raw')
  raw.send(publish('two', 2, 1))
  const acknowledged = sender.publishAsync('t', 'one', { qos: 1 })
  const ended = new Promise<void>(resolve => sender.once('close', () => resolve()))
  raw.send({ cmd: 'pingreq' })
  await raw.gets('pingresp')
  const closed = broker.close()
  raw.send(publish('late', 1, 2))
  await expect(client('late')).rejects.toThrow()
  gate.resolve()
  await Promise.all([acknowledged, ended, closed])
  expect(judged.toSorted()).toEqual(['one', 'two'])
  expect(raw.received.map(({ cmd }) => cmd)).toEqual(['connack', 'pingresp', 'pubrec'])
})
