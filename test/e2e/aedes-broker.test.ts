/** The broker port on aedes: its contract (test/contract/broker.ts), and what a broker in the gateway's own process does beyond it. */
import { connect } from 'node:net'
import mqtt, { type IClientOptions, type MqttClient } from 'mqtt'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import type { ErrorCode } from '../../chain/errors.ts'
import { ok, refuse } from '../../chain/result.ts'
import { topics } from '../../mqtt-gateway/protocol/topics.ts'
import { aedesBroker } from '../../mqtt-gateway/server/aedes-broker.ts'
import type {
  Broker,
  BrokerAddress,
  IncomingMessage,
  PublishOutcome,
} from '../../mqtt-gateway/server/broker.ts'
import type { OutgoingLimits } from '../../mqtt-gateway/server/outgoing-queues.ts'
import { brokerContract, connectionOf } from '../contract/broker.ts'
import { testLimits, until } from '../support/gateway-fixture.ts'
import { openBroker } from '../support/open-broker.ts'

let broker: Broker
let address: BrokerAddress
let refusal: ErrorCode | undefined
let published: (message: IncomingMessage) => Promise<PublishOutcome>
let closedSessions: string[]
let cuts: string[]
let turnedAway: string[]
let clients: MqttClient[]

beforeEach(async () => {
  published = async () => 'acknowledge'
  refusal = undefined
  closedSessions = []
  cuts = []
  turnedAway = []
  clients = []
  // How long a reader may take nothing is a matter of one test; in the others a busy machine is no stalled one.
  await open({ stalledMs: 60_000 })
})

async function open(outgoing: Partial<OutgoingLimits>): Promise<void> {
  broker = openBroker(limitsOf(outgoing), {
    authenticate: async ({ clientId }) =>
      refusal ? refuse(refusal, 'no') : ok({ clientId, device: clientId }),
    published: (_, message) => published(message),
    will: async (_, message) => {
      await published(message)
    },
    turnedAway: ({ clientId }, { code }) => turnedAway.push(`${clientId}: ${code}`),
    cut: ({ clientId }, { detail }) => cuts.push(`${clientId}: ${detail}`),
    closed: ({ clientId }) => closedSessions.push(clientId),
  })
  address = await broker.listen()
}
afterEach(async () => {
  for (const client of clients) await client.endAsync(true)
  await broker.close()
})

async function client(clientId: string, options: IClientOptions = {}): Promise<MqttClient> {
  const connected = await mqtt.connectAsync({
    ...address,
    clientId,
    username: 'u',
    password: 'p',
    protocolVersion: 4,
    reconnectPeriod: 0,
    ...options,
  })
  connected.on('error', () => {})
  clients.push(connected)
  return connected
}

const limitsOf = (outgoing: Partial<OutgoingLimits>) => ({
  ...testLimits,
  input: { ...testLimits.input, messages: 20 },
  outgoing: { ...testLimits.outgoing, ...outgoing },
})

describe('the contract', () => {
  brokerContract('aedes', async () => {
    let at: BrokerAddress
    const opened: MqttClient[] = []
    const factory = aedesBroker({ host: '127.0.0.1', port: 0 }, limitsOf({ stalledMs: 60_000 }))
    return {
      factory: handlers => {
        const broker = factory(handlers)
        const listen = broker.listen.bind(broker)
        broker.listen = async () => {
          at = await listen()
          return at
        }
        return broker
      },
      connect: async device => {
        const clientId = `${device}.${opened.length}`
        const login = { ...at, clientId, username: device, password: 'p', protocolVersion: 4 } as const
        const connected = await mqtt.connectAsync({ ...login, reconnectPeriod: 0 })
        opened.push(connected)
        return connectionOf(connected, {
          clientId,
          sendTopic: topics.send(device),
          reportTopic: topics.report(device, 'forest/north'),
          listen: async () => {},
        })
      },
      destroy: async () => {
        for (const connected of opened) await connected.endAsync(true)
      },
    }
  })
})

test('broker: says whom it turns away itself, and why', async () => {
  const { host, port } = address
  await expect(
    client('anonymous', { username: undefined, password: undefined } as object),
  ).rejects.toMatchObject({ code: 4 })
  for (let i = 0; i < testLimits.connectionsMax; i++) await client(`c${i}`)
  await expect(client('one more'), `${host}:${port}`).rejects.toMatchObject({ code: 3 })
  for (const keepalive of [0, testLimits.keepAliveSecondsMax + 1])
    await expect(client('eternal', { keepalive })).rejects.toMatchObject({ code: 5 })
  expect(turnedAway).toEqual([
    'anonymous: assertion-invalid',
    'one more: overloaded',
    'eternal: limit-exceeded',
    'eternal: limit-exceeded',
  ])
})

test.each(['bad-proof', 'bad-certificate', 'withheld', 'not-ready', 'internal'] as const)(
  'broker: a device is to come again where the gateway itself hears a lie or nothing (%s)',
  async code => {
    refusal = code
    await expect(client('honest')).rejects.toMatchObject({ code: 3 })
  },
)

test.each([2, 6, 132])(
  'broker: a CONNECT of protocol level %i is told that it is not acceptable, and closed [MQTT-3.1.2-2]',
  async level => {
    const socket = connect(address.port, address.host)
    socket.write(Buffer.from(`100d00044d515454${level.toString(16).padStart(2, '0')}02000a000170`, 'hex'))
    const answer: Buffer[] = []
    for await (const chunk of socket) answer.push(chunk)
    expect(Buffer.concat(answer).toString('hex')).toBe('20020001')
  },
)

test('broker: acknowledges only after the handler has resolved, and passes nothing on by itself', async () => {
  const gate = Promise.withResolvers<void>()
  published = async () => {
    await gate.promise
    return 'acknowledge'
  }
  const [sender, observer] = [await client('sender'), await client('observer')]
  const seen: string[] = []
  observer.on('message', (topic, payload) => seen.push(`${topic}=${payload}`))
  await observer.subscribeAsync('#', { qos: 1 })
  let acknowledged = false
  sender.publish('mote/1/to/x', 'raw', { qos: 1, retain: true }, () => {
    acknowledged = true
  })
  await broker.publish({ topicName: 'marker', payload: Buffer.from('1'), retain: false })
  await until(() => seen.length > 0, 'a marker')
  expect(acknowledged).toBe(false)
  gate.resolve()
  await until(() => acknowledged, 'the acknowledgement')
  await broker.publish({ topicName: 'marker', payload: Buffer.from('2'), retain: false })
  await until(() => seen.includes('marker=2'), 'the second marker')
  expect(seen).toEqual(['marker=1', 'marker=2'])
})

test("broker: outcome 'close' ends the connection without an acknowledgement, a failing handler too", async () => {
  for (const outcome of [async () => 'close' as const, () => Promise.reject(new Error('broken'))]) {
    published = outcome
    const sender = await client('sender')
    const closed = new Promise<void>(resolve => sender.once('close', resolve))
    let acknowledged = false
    sender.publish('t', 'x', { qos: 1 }, error => {
      acknowledged = !error
    })
    await closed
    expect(acknowledged).toBe(false)
  }
})

test('broker: a second connection with the same client id ends the first [MQTT-3.1.4-2]', async () => {
  const first = await client('same')
  const closed = new Promise<void>(resolve => first.once('close', resolve))
  const second = await client('same')
  await closed
  expect(second.connected).toBe(true)
})

test('broker: keeps nothing for who is not there, whatever session the client asks for', async () => {
  const first = await client('away', { clean: false })
  await first.subscribeAsync('t', { qos: 1 })
  await first.endAsync()
  await until(() => closedSessions.includes('away'), 'it is gone')
  await broker.publish({ topicName: 't', payload: Buffer.from('missed'), retain: false })
  const second = await client('away', { clean: false })
  const seen: string[] = []
  second.on('message', (_, payload) => seen.push(payload.toString()))
  await second.subscribeAsync('t', { qos: 1 })
  await broker.publish({ topicName: 't', payload: Buffer.from('there'), retain: false })
  await until(() => seen.includes('there'), 'what is sent while it is there')
  expect(seen).toEqual(['there'])
})

/** Times from publishing to the acknowledgement, each message relayed to who subscribes to `wide`; their median. */
async function medianAcknowledgementMs(sender: MqttClient, payload: Buffer, count: number): Promise<number> {
  published = async message => {
    await broker.publish({ topicName: 'wide', payload: message.payload, retain: false })
    return 'acknowledge'
  }
  const times: number[] = []
  for (let i = 0; i < count; i++) {
    const startedAt = performance.now()
    await sender.publishAsync('t', payload, { qos: 1 })
    times.push(performance.now() - startedAt)
  }
  return times.toSorted((one, other) => one - other)[count >> 1]!
}

/** A client that has subscribed to `wide` and does not read. */
async function stalled(clientId: string): Promise<MqttClient> {
  const one = await client(clientId)
  await one.subscribeAsync('wide', { qos: 1 })
  one.stream.pause()
  return one
}

test('broker: one that subscribes and does not read holds up nobody, and is cut when its queue is full', async () => {
  const [sender, reader] = [await client('sender'), await client('reader')]
  let read = 0
  reader.on('message', () => read++)
  await reader.subscribeAsync('wide', { qos: 1 })
  const payload = Buffer.alloc(256 * 1024)
  const before = await medianAcknowledgementMs(sender, payload, 20)
  await stalled('stalled')
  const during = await medianAcknowledgementMs(sender, payload, 120)
  expect(cuts).toEqual([
    expect.stringMatching(/^stalled: queue of the subscriber: expected at most \d+ bytes/),
  ])
  expect(closedSessions).toContain('stalled')
  const after = await medianAcknowledgementMs(sender, payload, 20)
  console.info(`PUBACK p50: ${[before, during, after].map(ms => ms.toFixed(1)).join(', ')} ms`)
  expect(during).toBeLessThan(Math.max(10 * before, 100))
  await until(() => read === 160, 'the one that reads has everything')
})

test('broker: a subscriber for which too many small messages wait is cut', async () => {
  const sender = await client('sender')
  const slow = await stalled('slow')
  // What the kernel takes is not in the queue.
  await medianAcknowledgementMs(sender, Buffer.alloc(256 * 1024), 60)
  const small = Array.from({ length: testLimits.outgoing.messages + 1 }, () =>
    broker.publish({ topicName: 'wide', payload: Buffer.from('x'), retain: false }),
  )
  await Promise.all(small)
  expect(slow.connected).toBe(true)
  expect(cuts).toEqual([expect.stringContaining(`expected at most ${testLimits.outgoing.messages} messages`)])
})

test('broker: where too much waits for all subscribers, one is cut, and the one that reads goes on', async () => {
  const sender = await client('sender')
  for (const clientId of ['a', 'b', 'c']) await stalled(clientId)
  await medianAcknowledgementMs(sender, Buffer.alloc(256 * 1024), 64)
  expect(cuts).toEqual([expect.stringMatching(/^[abc]: .*the fullest where over \d+ bytes wait in all/)])
  expect(broker.connections).toBe(3)
})

test('broker: a subscriber that takes nothing for too long is cut', async () => {
  await broker.close()
  await open({ stalledMs: 1_000 })
  const [sender] = [await client('sender'), await stalled('stalled')]
  await medianAcknowledgementMs(sender, Buffer.alloc(256 * 1024), 60)
  await until(() => cuts.length > 0, 'it is cut')
  expect(cuts).toEqual([expect.stringMatching(/^stalled: .*was taken for 1000 ms/)])
})
