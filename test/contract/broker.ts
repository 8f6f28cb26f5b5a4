/** What every adapter of the broker port has to do (mqtt-gateway/server/broker.ts), whoever wrote the broker behind it. */
import { createHash } from 'node:crypto'
import type { MqttClient } from 'mqtt'
import { afterEach, beforeEach, expect, test } from 'vitest'
import type { DeviceId } from '../../chain/brands.ts'
import { ok } from '../../chain/result.ts'
import { topics } from '../../mqtt-gateway/protocol/topics.ts'
import type {
  Broker,
  BrokerFactory,
  BrokerSession,
  IncomingMessage,
  MessageExchange,
  PublishAnswer,
  PublishOutcome,
} from '../../mqtt-gateway/server/broker.ts'
import { until } from '../support/gateway-fixture.ts'
import { permissive } from '../support/open-broker.ts'

/** A connection of a device to the broker, of a library that knows nothing of ours. */
export interface DeviceConnection {
  /** Publishes to the device's own `send` topic; resolves when the broker has acknowledged. */
  send(text: string, qos?: 0 | 1 | 2): Promise<unknown>
  /** Publishes to a topic of the device's own whose messages are recorded; resolves as `send` does. */
  report(text: string, qos?: 0 | 1 | 2): Promise<unknown>
  /** To any topic. Settles in any way: a broker may refuse, close or swallow it. */
  tryToPublish(topicName: string, text: string): void
  /** Subscribes, at QoS 1 by default; from then on `received` grows. */
  subscribe(topicFilter: string, qos?: 0 | 1 | 2): Promise<void>
  /** Says, where the broker does not tell by itself, that what is for the device comes to this connection. */
  listen(): Promise<void>
  /** Topic and text of what has come. */
  readonly clientId: string
  readonly received: readonly string[]
  /** By which QoS each of them has come. */
  readonly receivedBy: readonly number[]
  /** Resolves when the broker has ended it. */
  readonly closed: Promise<void>
  /** Reads nothing any more. */
  stall(): void
  /** Gone, without a word. */
  break(): void
}

/**
 * A connection by mqtt.js alone, and what differs of it from broker to broker.
 * @param sendTopic where the device publishes
 * @param reportTopic where it publishes what is to be recorded
 */
export function connectionOf(
  client: MqttClient,
  {
    sendTopic,
    reportTopic,
    ...differs
  }: Pick<DeviceConnection, 'clientId' | 'listen'> & {
    readonly sendTopic: string
    readonly reportTopic: string
  },
): DeviceConnection {
  const received: string[] = []
  const receivedBy: number[] = []
  client.on('error', () => {})
  client.on('message', (topicName, payload, { qos }) => {
    received.push(`${topicName} ${payload}`)
    receivedBy.push(qos)
  })
  return {
    ...differs,
    received,
    receivedBy,
    closed: new Promise(resolve => client.once('close', resolve)),
    send: (text, qos = 1) => client.publishAsync(sendTopic, text, { qos }),
    report: (text, qos = 1) => client.publishAsync(reportTopic, text, { qos }),
    tryToPublish: (topicName, text) => void client.publish(topicName, text, { qos: 1 }, () => {}),
    subscribe: async (topicFilter, qos = 1) => void (await client.subscribeAsync(topicFilter, { qos })),
    stall: () => client.stream.pause(),
    break: () => client.stream.destroy(),
  }
}

export interface BrokerUnderTest {
  readonly factory: BrokerFactory
  connect(device: DeviceId): Promise<DeviceConnection>
  destroy(): Promise<void>
}

export const deviceOf = (name: string): DeviceId =>
  createHash('sha256').update(name).digest('hex') as DeviceId

const textOf = ({ payload }: IncomingMessage): string => new TextDecoder().decode(payload)
const [one, other] = [deviceOf('one'), deviceOf('other')]
/** Of one shard with the first, whatever that is: ids that begin alike. */
const neighbour = `${one.slice(0, 1)}${other.slice(1)}` as DeviceId

/** @param create the same each time; nothing is left of the one before */
export function brokerContract(name: string, create: () => Promise<BrokerUnderTest>): void {
  let under: BrokerUnderTest
  let broker: Broker
  let published: (session: BrokerSession, message: IncomingMessage) => Promise<PublishAnswer>
  let sessions: Map<string, string>
  let events: string[]
  let released: string[]

  beforeEach(async () => {
    published = async () => 'acknowledge'
    events = []
    released = []
    sessions = new Map()
    under = await create()
    const deviceIn = ({ clientId }: BrokerSession) => clientId.slice(0, 64)
    broker = under.factory({
      ...permissive,
      authenticate: async ({ clientId }) => ok({ clientId, device: clientId.slice(0, 64) }),
      published: (session, message) => published(session, message),
      released: async (client, packetIdentifier) => {
        released.push(`${client} ${packetIdentifier}`)
      },
      incarnationOf: async client => {
        const incarnation = `life ${sessions.size}`
        sessions.set(client, incarnation)
        return incarnation
      },
      subscribed: (session, topicFilter) => events.push(`${deviceIn(session)} subscribed ${topicFilter}`),
      closed: session => events.push(`${deviceIn(session)} closed`),
    })
    await broker.listen()
  })
  afterEach(async () => {
    await broker.close()
    await under.destroy()
  })

  const deliver = (device: DeviceId, text: string, retain = false) =>
    broker.publish({ topicName: `mote/1/to/${device}/x`, payload: Buffer.from(text), retain })

  test.each([0, 1, 2] as const)(
    `${name}: messages of one device at QoS %i are taken one after another, in order, however long each takes`,
    async qos => {
      const taken: string[] = []
      let [running, mostAtOnce] = [0, 0]
      published = async ({ clientId }, message) => {
        mostAtOnce = Math.max(mostAtOnce, ++running)
        // The earlier, the slower: without a queue they would finish in reverse.
        const turns = 12 - Number(textOf(message))
        for (let i = 0; i < turns; i++) await new Promise(resolve => setImmediate(resolve))
        taken.push(`${clientId.slice(0, 64)} ${message.topicName} ${textOf(message)}`)
        running -= 1
        return 'acknowledge'
      }
      const sender = await under.connect(one)
      for (let i = 0; i < 12; i++) sender.send(String(i), qos).catch(() => {})
      await until(() => taken.length === 12, 'all are taken')
      expect(taken).toEqual(Array.from({ length: 12 }, (_, i) => `${one} ${topics.send(one)} ${i}`))
      expect(mostAtOnce).toBe(1)
    },
  )

  test(`${name}: a device whose message waits for its decision holds up no other, and keeps its order`, async () => {
    const gate = Promise.withResolvers<void>()
    const taken: string[] = []
    published = async (_, message) => {
      if (textOf(message) === 'slow') await gate.promise
      taken.push(textOf(message))
      return 'acknowledge'
    }
    const [slow, quick] = [await under.connect(one), await under.connect(neighbour)]
    slow.send('slow').catch(() => {})
    slow.send('after it').catch(() => {})
    await quick.send('quick')
    await until(() => taken.length > 0, 'the quick one')
    expect(taken).toEqual(['quick'])
    gate.resolve()
    await until(() => taken.length === 3, 'the slow ones, in the end')
    expect(taken).toEqual(['quick', 'slow', 'after it'])
  })

  test(`${name}: messages whose outcome comes later are judged meanwhile, in order`, async () => {
    const later = Promise.withResolvers<PublishOutcome>()
    const taken: string[] = []
    published = async (_, message) => {
      taken.push(textOf(message))
      return { kept: Promise.resolve(true), later: later.promise }
    }
    const sender = await under.connect(one)
    const texts = Array.from({ length: 12 }, (_, i) => String(i))
    const sent = texts.map(text => sender.report(text))
    await until(() => taken.length === 12, 'all are taken')
    expect(taken).toEqual(texts)
    later.resolve('acknowledge')
    await Promise.all(sent)
  })

  test(`${name}: names the delivery of a message, in a session that it has asked for, and none at QoS 0`, async () => {
    const seen: [string, MessageExchange | undefined][] = []
    const came: number[] = []
    const later = Promise.withResolvers<PublishOutcome>()
    published = async (_, message) => {
      seen.push([`${message.topicName} ${textOf(message)}`, message.exchange])
      came.push(message.qos)
      return { kept: Promise.resolve(true), later: later.promise }
    }
    const sender = await under.connect(one)
    const sent = ([0, 1, 2] as const).map(qos => sender.report(`at ${qos}`, qos))
    await until(() => seen.length === 3, 'all are taken')
    later.resolve('acknowledge')
    await Promise.all(sent)
    const reportTopic = topics.report(one, 'forest/north')
    expect(seen.map(([text]) => text)).toEqual([0, 1, 2].map(qos => `${reportTopic} at ${qos}`))
    const [none, ...exchanges] = seen.map(([, exchange]) => exchange)
    expect(none).toBeUndefined()
    for (const exchange of exchanges)
      expect(exchange).toMatchObject({ isRepeat: false, incarnation: sessions.get(exchange!.client) })
    expect(new Set(exchanges.map(each => each!.packetIdentifier)).size).toBe(2)
    expect(came).toEqual([0, 1, 2])
    expect(exchanges.map(each => each!.qos)).toEqual([1, 2])
    const [, last] = exchanges
    await until(() => released.length > 0, 'PUBREL')
    expect(released).toEqual([`${last!.client} ${last!.packetIdentifier}`])
  })

  test(`${name}: what is published comes by its QoS, and by none above that of the subscription`, async () => {
    const devices = [one, other, neighbour]
    for (const [granted, device] of devices.entries()) {
      const { received, receivedBy, subscribe } = await under.connect(device)
      await subscribe(`mote/1/to/${device}/#`, granted as 0 | 1 | 2)
      const topicName = `mote/1/to/${device}/x`
      for (const qos of [0, 1, 2] as const)
        await broker.publish({ topicName, payload: Buffer.from(`by ${qos}`), qos, retain: false })
      await deliver(device, 'by 1 if nothing is said')
      await until(() => received.length === 4, 'all of them')
      // Among those of one QoS alone an order is promised [MQTT-4.6.0-6].
      const come = received.map((text, i) => [text.slice(topicName.length + 1), receivedBy[i]])
      expect(Object.fromEntries(come), `subscribed by ${granted}`).toEqual({
        'by 0': 0,
        'by 1': Math.min(1, granted),
        'by 2': granted,
        'by 1 if nothing is said': Math.min(1, granted),
      })
      // Each has ended: the next one comes too.
      await deliver(device, 'after')
      await until(() => received.length === 5, 'the next one')
    }
  })

  test(`${name}: subscribers get what the gateway publishes, and nothing that a device publishes`, async () => {
    const [sender, observer] = [await under.connect(one), await under.connect(other)]
    await observer.subscribe('#')
    await sender.send('raw')
    for (const topicName of [
      `mote/1/to/${other}/x`,
      topics.verdict(other),
      topics.error(other),
      topics.send(other),
    ])
      sender.tryToPublish(topicName, 'forged')
    // A broker that closes on what it refuses has closed; the next ones show that nothing came.
    await deliver(other, 'genuine')
    await until(() => observer.received.length > 0, 'what the gateway publishes')
    expect(observer.received).toEqual([`mote/1/to/${other}/x genuine`])
  })

  test(`${name}: tells who listens and who is gone, and ends a connection when it is told to`, async () => {
    const [first, second] = [await under.connect(one), await under.connect(other)]
    await first.subscribe(`mote/1/to/${one}/#`)
    await first.listen()
    await until(() => events.includes(`${one} subscribed mote/1/to/${one}/#`), 'that it listens')
    await second.send('here')
    expect(broker.connections).toBe(2)
    first.break()
    await until(() => events.includes(`${one} closed`), 'that it is gone')
    broker.disconnect(second.clientId)
    await second.closed
    await until(() => events.includes(`${other} closed`), 'that the other is gone')
    expect(broker.connections).toBe(0)
  })

  test(`${name}: a retained message comes to who subscribes later, until an empty one takes its place`, async () => {
    await deliver(one, 'box', true)
    const first = await under.connect(one)
    await first.subscribe(`mote/1/to/${one}/#`)
    await until(() => first.received.length > 0, 'the retained message')
    await deliver(one, '', true)
    const second = await under.connect(one)
    await second.subscribe(`mote/1/to/${one}/#`)
    await deliver(one, 'marker')
    await until(() => second.received.length > 0, 'the marker')
    expect(second.received).toEqual([`mote/1/to/${one}/x marker`])
  })

  test(`${name}: a device that reads nothing holds up neither the gateway nor another device`, async () => {
    const [stalled, reader] = [await under.connect(one), await under.connect(other)]
    await stalled.subscribe(`mote/1/to/${one}/#`)
    await reader.subscribe(`mote/1/to/${other}/#`)
    stalled.stall()
    const wide = 'x'.repeat(256 * 1024)
    for (let i = 0; i < 40; i++) await deliver(one, wide)
    await deliver(other, 'prompt')
    await until(() => reader.received.length > 0, 'what is for the other')
    expect(reader.received).toEqual([`mote/1/to/${other}/x prompt`])
  })
}
