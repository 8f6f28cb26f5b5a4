/**
 * The cases of Paho's interoperability tests for MQTT 3.1.1, against the embedded broker with a policy that allows everything. The tests
 * are our own: neither Debian nor npm has Paho's (eclipse/paho.mqtt.testing) as a package, and no code of theirs is here.
 *
 * What the broker does otherwise is in `gaps`, each with its reason; a test fails when a gap closes and when one opens. The same cases
 * on Mosquitto, where it is installed, show that they are right.
 */
import { connect as connectSocket, type Socket } from 'node:net'
import mqtt, { type IClientOptions, type MqttClient } from 'mqtt'
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import type { Broker, BrokerAddress } from '../../mqtt-gateway/server/broker.ts'
import { until } from '../support/gateway-fixture.ts'
import { hasMosquitto, Mosquitto } from '../support/mosquitto.ts'
import { relayingBroker } from '../support/open-broker.ts'

const noRetained =
  'a device sets no retained message: the gateway alone does, with what the chain has confirmed'
const noSessions =
  'sessions are always clean: what waits for a device is kept mail, which is judged again when it is delivered'
const atQos1 = 'what the gateway sends it sends at QoS 1'
const keepAlive = 'a keep-alive of 0 is refused: a dead connection would hold its place for ever'

/** What the broker does otherwise, by case, and why. */
const gaps: Readonly<Record<string, readonly [outcome: string, reason: string]>> = {
  'basic: each message comes at the QoS at which it was published': ['QoS 1, 1, 1', atQos1],
  'retained: three messages are there for who subscribes later': ['0 of 3', noRetained],
  'offline: what was published meanwhile comes at the next connection': ['no session', noSessions],
  'overlapping: one message for each filter, or one at the highest QoS': ['QoS 1', atQos1],
  'keep-alive: 0 turns it off': ['CONNACK 5', keepAlive],
  'redelivery: what was not acknowledged comes again': ['no session', noSessions],
  'client id: an empty one is refused with a session, by CONNACK 2 [MQTT-3.1.3-8]': ['20020000', noSessions],
}

/** The same of Mosquitto 2.0.11. */
const mosquittoGaps: typeof gaps = {
  'subscribe: a filter that is not allowed is refused by 0x80': ['granted', 'it allows everything here'],
  'overlapping: one message for each filter, or one at the highest QoS': [
    'QoS 1',
    'not always at the highest',
  ],
}

/** What is refused to everybody, for the case that wants a refusal. */
const refusedFilter = 'nosubscribe'

interface Heard {
  readonly topic: string
  readonly text: string
  readonly qos: number
  readonly retain: boolean
}

/** One client after another on one broker, under names that no other case has. */
class World {
  readonly #address: BrokerAddress
  readonly #prefix: string
  readonly #open: { end(): unknown }[] = []

  constructor(address: BrokerAddress, prefix: string) {
    this.#address = address
    this.#prefix = prefix
  }

  topic(name: string): string {
    return `${this.#prefix}/${name}`
  }

  /** Rejects with the CONNACK. */
  async client(name: string, options: IClientOptions = {}) {
    const client = new mqtt.MqttClient(() => connectSocket(this.#address), {
      clientId: `${this.#prefix}-${name}`,
      username: 'u',
      password: 'p',
      protocolVersion: 4,
      reconnectPeriod: 0,
      resubscribe: false,
      ...options,
    })
    this.#open.push({ end: () => client.endAsync(true) })
    const heard: Heard[] = []
    client.on('message', (topic, payload, { qos, retain }) =>
      heard.push({ topic, text: payload.toString(), qos, retain }),
    )
    const { promise, resolve, reject } = Promise.withResolvers<{ sessionPresent: boolean }>()
    client.once('connect', resolve)
    client.on('error', error => reject(new Error(`CONNACK ${'code' in error ? error.code : error.message}`)))
    client.once('close', () => reject(new Error('closed')))
    return { client, heard, ...(await promise) }
  }

  /** What the broker answers to these bytes, until it closes. */
  async answerTo(...packets: readonly string[]): Promise<string> {
    const socket: Socket = connectSocket(this.#address)
    this.#open.push({ end: () => socket.destroy() })
    socket.on('error', () => {})
    socket.write(Buffer.from(packets.join(''), 'hex'))
    const chunks: Buffer[] = []
    socket.on('data', (chunk: Buffer) => chunks.push(chunk))
    await new Promise(resolve => socket.once('close', resolve))
    return Buffer.concat(chunks).toString('hex')
  }

  async close(): Promise<void> {
    for (const each of this.#open) await each.end()
  }
}

/** Resolves when everything that was sent to this client before has come: to itself, on a topic of its own. */
async function settled(client: MqttClient, marker: string): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>()
  const look = (topic: string) => topic === marker && resolve()
  client.on('message', look)
  await client.subscribeAsync(marker, { qos: 1 })
  await client.publishAsync(marker, 'x', { qos: 1 })
  await promise
  client.off('message', look)
}

/** Publishes at QoS 0, 1 and 2, and has the acknowledgements. */
async function publishThree(client: MqttClient, topics: readonly string[], retain = false, text = 'x') {
  for (const qos of [0, 1, 2] as const) await client.publishAsync(topics[qos]!, text, { qos, retain })
}

/** Undefined: as the case expects; else what the broker did. */
type Play = (world: World) => Promise<string | undefined>

const text = (value: string) =>
  Buffer.concat([Buffer.from([0, value.length]), Buffer.from(value)]).toString('hex')
/** CONNECT, with user name and password. */
const connectPacket = ({ protocol = 'MQTT', id = '', clean = true, keepAliveSeconds = 60 }) => {
  const fields = `04${clean ? 'c2' : 'c0'}${keepAliveSeconds.toString(16).padStart(4, '0')}`
  const body = `${text(protocol)}${fields}${text(id)}${text('u')}${text('p')}`
  return `10${(body.length / 2).toString(16).padStart(2, '0')}${body}`
}
const accepted = '20020000'
const disconnect = 'e000'

const threeOf = (world: World) => ['a', 'b', 'c'].map(name => world.topic(name))

/** The QoS at which each message on a topic has come. */
const qosOn = (topicName: string, heard: readonly Heard[]) =>
  heard.filter(({ topic }) => topic === topicName).map(({ qos }) => qos)

/** A client's own three messages, each by its QoS. */
async function ownThree(world: World): Promise<readonly number[]> {
  const { client, heard } = await world.client('one')
  const topic = world.topic('a')
  await client.subscribeAsync(topic, { qos: 2 })
  await publishThree(client, [topic, topic, topic])
  await settled(client, world.topic('marker'))
  return qosOn(topic, heard)
}

/** How many retained messages are there for who subscribes after three of each text. */
async function retainedAfter(world: World, ...texts: readonly string[]): Promise<number> {
  const { client } = await world.client('one')
  for (const each of texts) await publishThree(client, threeOf(world), true, each)
  const later = await world.client('two')
  await later.client.subscribeAsync(world.topic('+'), { qos: 2 })
  await settled(later.client, world.topic('later/marker'))
  return later.heard.filter(({ retain }) => retain).length
}

/** One message at QoS 2 that two filters match, by the QoS of each copy. */
async function overlapping(world: World): Promise<readonly number[]> {
  const { client, heard } = await world.client('one')
  await client.subscribeAsync({ [world.topic('o/#')]: { qos: 2 }, [world.topic('o/+')]: { qos: 1 } })
  await client.publishAsync(world.topic('o/a'), 'x', { qos: 2 })
  await settled(client, world.topic('marker'))
  return qosOn(world.topic('o/a'), heard)
}

const cases: Readonly<Record<string, Play>> = {
  'basic: a client connects, disconnects and connects again, without a session': async world => {
    const first = await world.client('one')
    await first.client.endAsync()
    const second = await world.client('one')
    return second.sessionPresent ? 'session present' : undefined
  },
  'basic: a client gets its own three messages, at QoS 0, 1 and 2': async world => {
    const count = (await ownThree(world)).length
    return count === 3 ? undefined : `${count} of 3`
  },
  'basic: each message comes at the QoS at which it was published': async world => {
    const found = await ownThree(world)
    return found.join() === '0,1,2' ? undefined : `QoS ${found.join(', ')}`
  },
  'basic: a second CONNECT ends the connection [MQTT-3.1.0-2]': async world => {
    const packet = connectPacket({ id: 'twice' })
    const answer = await world.answerTo(packet, packet)
    return answer.startsWith(accepted) || answer === '' ? undefined : answer
  },
  'basic: another protocol name is no MQTT [MQTT-3.1.2-1]': async world => {
    const answer = await world.answerTo(connectPacket({ protocol: 'hj', id: 'one' }))
    return answer === '' || answer === '20020001' ? undefined : answer
  },
  'retained: three messages are there for who subscribes later': async world => {
    const count = await retainedAfter(world, 'x')
    return count === 3 ? undefined : `${count} of 3`
  },
  'retained: an empty message clears one': async world => {
    const count = await retainedAfter(world, 'x', '')
    return count === 0 ? undefined : `${count} left`
  },
  'offline: what was published meanwhile comes at the next connection': async world => {
    const away = await world.client('away', { clean: false })
    await away.client.subscribeAsync(world.topic('+'), { qos: 2 })
    await away.client.endAsync()
    const { client } = await world.client('two')
    await publishThree(client, threeOf(world))
    const back = await world.client('away', { clean: false })
    if (!back.sessionPresent) return 'no session'
    await settled(back.client, world.topic('later/marker'))
    const count = back.heard.filter(({ topic }) => threeOf(world).includes(topic)).length
    return count === 2 || count === 3 ? undefined : `${count} of 2 or 3`
  },
  'will: it is published when the connection breaks': async world => {
    const listener = await world.client('two')
    await listener.client.subscribeAsync(world.topic('will'), { qos: 2 })
    const payload = Buffer.from('gone')
    const dying = await world.client('dying', {
      will: { topic: world.topic('will'), payload, qos: 0, retain: false },
    })
    dying.client.stream.destroy()
    // Who takes its name over has its connection ended first.
    await world.client('dying')
    await settled(listener.client, world.topic('marker'))
    await settled(listener.client, world.topic('marker'))
    return listener.heard.some(({ topic }) => topic === world.topic('will')) ? undefined : 'none'
  },
  'overlapping: one message for each filter, or one in all': async world => {
    const count = (await overlapping(world)).length
    return count === 1 || count === 2 ? undefined : `${count} of 1 or 2`
  },
  'overlapping: one message for each filter, or one at the highest QoS': async world => {
    const found = (await overlapping(world)).toSorted()
    return ['2', '1,2'].includes(found.join()) ? undefined : `QoS ${found.join(', ')}`
  },
  'keep-alive: who says nothing for one and a half of it is cut [MQTT-3.1.2-24]': async world => {
    const startedAt = performance.now()
    const answer = await world.answerTo(connectPacket({ id: 'silent', keepAliveSeconds: 1 }))
    const afterMs = performance.now() - startedAt
    return answer === accepted && afterMs > 1_000 ? undefined : `${answer} after ${afterMs} ms`
  },
  'keep-alive: 0 turns it off': async world => {
    await world.client('one', { keepalive: 0 })
    return undefined
  },
  'redelivery: what was not acknowledged comes again': async world => {
    const first = await world.client('one', { clean: false })
    await first.client.subscribeAsync(world.topic('r'), { qos: 2 })
    // It takes what comes and answers nothing.
    first.client.handleMessage = () => {}
    const { client } = await world.client('two')
    await client.publishAsync(world.topic('r'), 'x', { qos: 1 })
    await until(() => first.heard.length > 0 || first.client.connected, 'it is under way')
    first.client.stream.destroy()
    const again = await world.client('one', { clean: false })
    if (!again.sessionPresent) return 'no session'
    await settled(again.client, world.topic('marker'))
    const count = again.heard.filter(({ topic }) => topic === world.topic('r')).length
    return count === 1 ? undefined : `${count} of 1`
  },
  'client id: an empty one is refused with a session, by CONNACK 2 [MQTT-3.1.3-8]': async world => {
    const answer = await world.answerTo(connectPacket({ clean: false }), disconnect)
    return answer === '20020002' ? undefined : answer
  },
  'client id: an empty one is taken without a session [MQTT-3.1.3-6]': async world => {
    await world.client('', { clientId: '', clean: true })
    return undefined
  },
  'subscribe: a filter that is not allowed is refused by 0x80': async world => {
    const { client } = await world.client('one')
    // mqtt.js makes an error of it.
    const refused = await client.subscribeAsync(refusedFilter, { qos: 2 }).catch(() => 'refused')
    return refused === 'refused' ? undefined : 'granted'
  },
  'dollar topics: no filter that begins with a wildcard matches one [MQTT-4.7.2-1]': async world => {
    const { client, heard } = await world.client('one')
    await client.subscribeAsync({ '#': { qos: 1 }, '+/dollar/x': { qos: 1 } })
    await client.publishAsync('$other/dollar/x', 'x', { qos: 1 })
    await settled(client, world.topic('marker'))
    const found = heard.filter(({ topic }) => topic.startsWith('$'))
    return found.length === 0 ? undefined : `${found.length} messages`
  },
  'unsubscribe: of three topics the other two come': async world => {
    const { client, heard } = await world.client('one')
    await client.subscribeAsync(threeOf(world), { qos: 2 })
    await client.unsubscribeAsync(world.topic('a'))
    const other = await world.client('two')
    await publishThree(other.client, threeOf(world))
    await settled(client, world.topic('marker'))
    const found = heard.map(({ topic }) => topic).filter(topic => topic !== world.topic('marker'))
    return found.join() === threeOf(world).slice(1).join() ? undefined : found.join()
  },
}

/** @param known what this broker does otherwise */
function playAll(name: string, address: () => BrokerAddress, known: typeof gaps): void {
  let world: World
  afterEach(() => world.close())
  test.each(Object.keys(cases).map((what, number) => ({ what, number })))(
    `${name}: $what`,
    async ({ what, number }) => {
      world = new World(address(), `case${number}`)
      const outcome = await cases[what]!(world).catch((error: Error) => error.message)
      expect(outcome, known[what]?.[1]).toBe(known[what]?.[0])
    },
  )
}

describe('the embedded broker', () => {
  let broker: Broker
  let address: BrokerAddress
  beforeAll(async () => {
    broker = relayingBroker(
      {},
      {
        maySubscribe: async (_, topicFilter) => (topicFilter === refusedFilter ? 'refuse' : 'grant'),
      },
    )
    address = await broker.listen()
  })
  afterAll(() => broker.close())

  playAll('interoperability', () => address, gaps)

  test('interoperability: every gap is of a case', () => {
    expect(Object.keys(gaps).filter(name => !(name in cases))).toEqual([])
  })
})

describe.skipIf(!hasMosquitto)('a reference, which needs mosquitto', () => {
  let mosquitto: Mosquitto
  beforeAll(async () => {
    mosquitto = await Mosquitto.startOpen()
  })
  afterAll(() => mosquitto[Symbol.asyncDispose]())

  playAll('mosquitto', () => mosquitto.address, mosquittoGaps)
})
