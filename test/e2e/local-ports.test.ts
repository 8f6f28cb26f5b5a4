/** The agent's local ports on real sockets: what an application is promised, and what a hostile one on the same machine can do. */
import { createSocket } from 'node:dgram'
import { once } from 'node:events'
import { mkdtemp, rm, stat } from 'node:fs/promises'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { generate, type ParsedPacket, parse } from 'coap-packet'
import mqtt, { type IClientOptions, type MqttClient } from 'mqtt'
import { afterEach, describe, expect, test } from 'vitest'
import { ok, type Refusal, type Result, refuse } from '../../chain/result.ts'
import type { LocalMessage } from '../../mqtt-gateway/agent/local-client.ts'
import { LocalCoap } from '../../mqtt-gateway/agent/local-coap.ts'
import { defaultLocalLimits, LocalMqtt, type LocalMqttLimits } from '../../mqtt-gateway/agent/local-mqtt.ts'
import { until } from '../support/gateway-fixture.ts'
import { malformedPackets, rightPackets, type SamplePacket } from '../support/malformed-packets.ts'

const host = '127.0.0.1'
const closing: (() => unknown)[] = []
afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close()
})

interface Port {
  readonly server: LocalMqtt
  readonly port: number
  readonly accepted: LocalMessage[]
  readonly refused: Refusal[]
  /** What happens to the next messages. */
  accept: () => Result<unknown> | Promise<Result<unknown>>
  subscribed: number
}

async function open(limits: Partial<LocalMqttLimits> = {}): Promise<Port> {
  const state = {
    accepted: [] as LocalMessage[],
    refused: [] as Refusal[],
    subscribed: 0,
    accept: () => ok(undefined),
  }
  const server = new LocalMqtt({
    address: { type: 'tcp', host, port: 0 },
    limits: { ...defaultLocalLimits, ...limits },
    accept: async message => {
      const result = await port.accept()
      if (result.ok) state.accepted.push(message)
      return result
    },
    onSubscribed: () => {
      port.subscribed += 1
    },
    onRefused: reason => state.refused.push(reason),
  })
  const address = await server.listen()
  const port: Port = Object.assign(state, { server, port: address.type === 'tcp' ? address.port : 0 })
  closing.push(() => server.close())
  return port
}

/** Resolves when the connection is gone. */
function closeOf(client: MqttClient): Promise<void> {
  return new Promise(resolve => client.once('close', () => resolve()))
}

async function application({ port }: Pick<Port, 'port'>, options: IClientOptions = {}): Promise<MqttClient> {
  const client = await mqtt.connectAsync({ host, port, protocolVersion: 4, reconnectPeriod: 0, ...options })
  client.on('error', () => {})
  closing.push(() => client.endAsync(true))
  return client
}

describe('local MQTT', () => {
  test('local MQTT: acknowledges when the message is kept, and not before', async () => {
    const port = await open()
    const kept = Promise.withResolvers<Result<unknown>>()
    let asked = false
    port.accept = () => {
      asked = true
      return kept.promise
    }
    const client = await application(port)
    let isAcknowledged = false
    const published = client.publishAsync('to/1112', 'hello', { qos: 1 }).then(() => {
      isAcknowledged = true
    })
    const subscribed = client.subscribeAsync('x')
    await until(() => asked, 'the message is being kept')
    // The SUBSCRIBE behind it is not handled either: one packet after another.
    expect({ isAcknowledged, subscribed: port.subscribed }).toEqual({ isAcknowledged: false, subscribed: 0 })
    kept.resolve(ok(undefined))
    await Promise.all([published, subscribed])
    expect(port.accepted.map(({ topicName }) => topicName)).toEqual(['to/1112'])
  })

  test.each([1, 2] as const)(
    'local MQTT: what is refused at QoS %s is not acknowledged, and the connection is closed',
    async qos => {
      const port = await open()
      port.accept = () => refuse('overloaded', 'queue: full')
      const client = await application(port)
      const closed = closeOf(client)
      let isAcknowledged = false
      void client.publishAsync('to/1112', 'hello', { qos }).then(
        () => {
          isAcknowledged = true
        },
        () => {},
      )
      await closed
      expect(isAcknowledged).toBe(false)
      expect(port.refused).toEqual([{ code: 'overloaded', detail: 'queue: full' }])
    },
  )

  test('local MQTT: at QoS 2 a message is kept once, and one that was released is another one', async () => {
    const port = await open()
    const client = await application(port)
    for (const text of ['1', '2']) await client.publishAsync('t', text, { qos: 2 })
    expect(port.accepted.map(({ payload }) => Buffer.from(payload).toString())).toEqual(['1', '2'])
    const raw = rawClient(port.port)
    // CONNECT, then one PUBLISH at QoS 2 twice under one packet identifier.
    raw.write('100c00044d5154540402000000 00'.replace(' ', ''))
    raw.write('340600017400 0761'.replace(' ', ''))
    raw.write('3c0600017400 0761'.replace(' ', ''))
    await until(() => raw.received().endsWith('5002000750020007'), 'two PUBREC')
    expect(port.accepted).toHaveLength(3)
  })

  test('local MQTT: a delivery is taken when it is acknowledged; a subscriber that never does is cut', async () => {
    const port = await open({ acknowledgeMs: 200 })
    const message = { topicName: 'from/1111', payload: Buffer.from('hello') }
    expect(await port.server.deliver(message)).toBe('nobody')
    const deaf = rawClient(port.port)
    deaf.write('100c00044d515454040200000000')
    // SUBSCRIBE to `#` at QoS 1.
    deaf.write('820600010001 2301'.replace(' ', ''))
    await until(() => port.subscribed === 1, 'subscribed')
    expect(await port.server.deliver(message)).toBe('not-taken')
    expect(port.refused.map(({ code }) => code)).toEqual(['too-slow'])
    const client = await application(port)
    const seen: string[] = []
    client.on('message', (topicName, payload) => seen.push(`${topicName} ${payload}`))
    await client.subscribeAsync('from/+', { qos: 1 })
    expect(await port.server.deliver(message)).toBe('taken')
    expect(await port.server.deliver({ ...message, topicName: 'other' })).toBe('nobody')
    expect(seen).toEqual(['from/1111 hello'])
  })

  test('local MQTT: a will is a message of a connection that was lost, and of no other', async () => {
    const port = await open()
    const will = { topic: 'gone', payload: Buffer.from('lost'), qos: 1, retain: false } as const
    const [lost, left] = [await application(port, { will }), await application(port, { will })]
    await left.endAsync()
    lost.stream.destroy()
    await until(() => port.accepted.length === 1, 'the will')
    expect(port.accepted[0]?.topicName).toBe('gone')
  })

  test('local MQTT: more subscriptions, connections and larger packets than the limits are refused', async () => {
    const port = await open({ subscriptions: 2, connections: 2, packetBytes: 100 })
    const client = await application(port)
    const granted = await client.subscribeAsync(['a', 'b'])
    expect(granted.map(({ qos }) => qos)).toEqual([0, 0])
    await expect(client.subscribeAsync('c')).rejects.toThrow()
    await expect(client.subscribeAsync('$SYS/#')).rejects.toThrow()
    const closed = closeOf(client)
    client.publish('t', Buffer.alloc(200), { qos: 0 })
    await closed
    expect(port.refused.at(-1)).toMatchObject({ code: 'malformed' })
    const others = [rawClient(port.port), rawClient(port.port), rawClient(port.port)]
    await until(() => others.some(other => other.isClosed()), 'one of three is closed')
  })

  test('local MQTT: a client id that comes again ends its older connection; a silent one is closed', async () => {
    const port = await open({ connectMs: 300 })
    const silent = rawClient(port.port)
    const older = await application(port, { clientId: 'app' })
    const closed = closeOf(older)
    await application(port, { clientId: 'app' })
    await closed
    await until(() => silent.isClosed(), 'the silent one is closed')
  })

  test('local MQTT: closes on every malformed packet, takes every right one, and goes on serving', async () => {
    const port = await open({ connections: 1000, connectMs: 500 })
    const outcomes = await Promise.all(malformedPackets.map(sample => outcomeOf(sample, port.port)))
    expect(malformedPackets.filter((_, i) => outcomes[i] !== 'closed').map(({ what }) => what)).toEqual([])
    const right = await Promise.all(rightPackets.map(sample => outcomeOf(sample, port.port)))
    expect(rightPackets.filter((_, i) => right[i] !== 'taken').map(({ what }) => what)).toEqual([])
    await (await application(port)).publishAsync('t', 'still here', { qos: 1 })
  })

  test('local MQTT: listens on a Unix socket of this user alone, and on loopback, and nowhere else', async () => {
    const directory = await mkdtemp(join(tmpdir(), 'mote-local-'))
    closing.push(() => rm(directory, { recursive: true }))
    const path = join(directory, 'agent.sock')
    const options = {
      limits: defaultLocalLimits,
      accept: async () => ok(undefined),
      onSubscribed: () => {},
      onRefused: () => {},
    }
    const server = new LocalMqtt({ ...options, address: { type: 'unix', path } })
    await server.listen()
    closing.push(() => server.close())
    expect((await stat(path)).mode & 0o777).toBe(0o600)
    const client = rawClient({ path })
    client.write('100c00044d515454040200000000')
    await until(() => client.received() === '20020000', 'CONNACK')
    for (const wrong of ['0.0.0.0', '::', '192.168.1.1', 'localhost', '128.0.0.1'])
      expect(() => new LocalMqtt({ ...options, address: { type: 'tcp', host: wrong, port: 0 } })).toThrow(
        'loopback',
      )
  })
})

describe('local CoAP', () => {
  interface CoapPort {
    readonly server: LocalCoap
    readonly port: number
    readonly accepted: LocalMessage[]
    accept: () => Promise<Result<unknown>>
  }

  async function openCoap(): Promise<CoapPort> {
    const accepted: LocalMessage[] = []
    const coap = { accepted, accept: async () => ok(undefined) as Result<unknown> }
    const server = new LocalCoap({
      address: { host, port: 0 },
      accept: async message => {
        accepted.push(message)
        return coap.accept()
      },
      onSubscribed: () => {},
      onRefused: () => {},
    })
    const { port } = await server.listen()
    closing.push(() => server.close())
    return Object.assign(coap, { server, port })
  }

  type Request = Parameters<typeof generate>[0]
  const path = (...levels: string[]) =>
    levels.map(level => ({ name: 'Uri-Path' as const, value: Buffer.from(level) }))

  /** A CoAP client of datagrams: what it sends is up to the test. */
  async function coapClient({ port }: Pick<CoapPort, 'port'>) {
    const socket = createSocket('udp4')
    const answers: ParsedPacket[] = []
    socket.on('message', datagram => answers.push(parse(datagram)))
    socket.bind(0, host)
    await once(socket, 'listening')
    closing.push(() => socket.close())
    const send = (packet: Request) =>
      socket.send(typeof packet === 'string' ? packet : generate(packet), port, host)
    /** The answer to a request of this token. */
    const ask = async (packet: Request & { messageId: number }): Promise<ParsedPacket> => {
      const token = Buffer.from([packet.messageId & 0xff])
      send({ confirmable: true, ...packet, token })
      return until(
        () => answers.find(answer => answer.token.equals(token) && answer.code !== '0.00'),
        'an answer',
      )
    }
    return { send, ask, answers, raw: (bytes: Buffer) => socket.send(bytes, port, host) }
  }

  test('local CoAP: PUT is a message, answered when it is kept; a refusal is an answer with its code', async () => {
    const coap = await openCoap()
    const client = await coapClient(coap)
    const put = { code: 'PUT', options: path('room', 'temperature'), payload: Buffer.from('21.5') }
    expect(await client.ask({ ...put, messageId: 1 })).toMatchObject({
      code: '2.04',
      ack: true,
      messageId: 1,
    })
    expect(coap.accepted).toMatchObject([{ topicName: 'room/temperature' }])
    const codes = {
      overloaded: '5.03',
      'topic-not-allowed': '4.04',
      malformed: '4.00',
      'too-large': '4.13',
      'rule-violated': '4.22',
    } as const
    let messageId = 2
    for (const [code, answer] of Object.entries(codes)) {
      coap.accept = async () => refuse(code as 'overloaded', 'no')
      expect(await client.ask({ ...put, messageId: messageId++ })).toMatchObject({
        code: answer,
        payload: Buffer.from(`${code}: no`),
      })
    }
    expect(await client.ask({ ...put, code: 'DELETE', messageId: 90 })).toMatchObject({ code: '4.05' })
    expect(await client.ask({ ...put, options: path('a', '+'), messageId: 91 })).toMatchObject({
      code: '4.00',
    })
  })

  test('local CoAP: a request that comes twice is one message, also while the first copy is worked on', async () => {
    const coap = await openCoap()
    const client = await coapClient(coap)
    const kept = Promise.withResolvers<Result<unknown>>()
    coap.accept = () => kept.promise
    const put = {
      code: 'PUT',
      options: path('t'),
      payload: Buffer.from('x'),
      messageId: 7,
      confirmable: true,
    }
    client.send(put)
    client.send(put)
    await until(() => coap.accepted.length > 0, 'the first copy')
    client.send(put)
    kept.resolve(ok(undefined))
    await until(() => client.answers.some(({ code }) => code === '2.04'), 'the answer')
    client.send(put)
    // A later request is answered after all copies.
    await client.ask({ code: 'GET', options: path('t'), messageId: 8 })
    expect(coap.accepted).toHaveLength(1)
  })

  test('local CoAP: GET is the last value, and an observer gets the next ones (RFC 7641)', async () => {
    const coap = await openCoap()
    const client = await coapClient(coap)
    const get = { code: 'GET', options: path('from', '1111') }
    expect(await client.ask({ ...get, messageId: 1 })).toMatchObject({ code: '4.04' })
    expect(coap.server.deliver({ topicName: 'from/1111', payload: Buffer.from('1') })).toBe(false)
    const observe = { name: 'Observe' as const, value: Buffer.alloc(0) }
    const first = await client.ask({ code: 'GET', options: [observe, ...path('from', '1111')], messageId: 2 })
    expect(first).toMatchObject({ code: '2.05' })
    expect(first.payload.toString()).toBe('1')
    expect(coap.server.deliver({ topicName: 'from/1111', payload: Buffer.from('2') })).toBe(true)
    const next = await until(
      () => client.answers.find(({ payload }) => payload.toString() === '2'),
      'a notification',
    )
    expect(next.token.equals(first.token)).toBe(true)
    const last = await client.ask({ ...get, messageId: 3 })
    expect(last.payload.toString()).toBe('2')
    // A reset ends it.
    client.send({ code: '0.00', reset: true, messageId: next.messageId, token: Buffer.alloc(0) })
    await until(
      () => !coap.server.deliver({ topicName: 'from/1111', payload: Buffer.from('3') }),
      'no observer',
    )
  })

  test('local CoAP: blocks, proxies and what is no CoAP cost nothing, and it goes on serving', async () => {
    const coap = await openCoap()
    const client = await coapClient(coap)
    // The last block of a gigabyte, as it would be announced.
    const block = { name: 'Block1' as const, value: Buffer.from([0xff, 0xff, 0xf6]) }
    const before = process.memoryUsage().arrayBuffers
    expect(
      await client.ask({
        code: 'PUT',
        options: [...path('t'), block],
        payload: Buffer.from('x'),
        messageId: 1,
      }),
    ).toMatchObject({ code: '4.13' })
    const proxy = { name: 'Proxy-Uri' as const, value: Buffer.from('coap://192.0.2.1/x') }
    expect(await client.ask({ code: 'GET', options: [proxy], messageId: 2 })).toMatchObject({ code: '4.13' })
    for (const bytes of [[], [0x40], [0x4f, 1, 0, 1], [0xff, 0xff, 0xff, 0xff], [0x40, 3, 0, 1, 0xff]])
      client.raw(Buffer.from(bytes))
    client.raw(Buffer.alloc(2_000, 0x40))
    expect(await client.ask({ code: 'PUT', options: path('t'), messageId: 3 })).toMatchObject({
      code: '2.04',
    })
    expect(coap.accepted).toHaveLength(1)
    expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(64 * 1024 * 1024)
  })

  test('local CoAP: refuses an address that others can reach', () => {
    const options = { accept: async () => ok(undefined), onSubscribed: () => {}, onRefused: () => {} }
    for (const wrong of ['0.0.0.0', '::', 'localhost', '10.0.0.1'])
      expect(() => new LocalCoap({ ...options, address: { host: wrong, port: 0 } })).toThrow('loopback')
  })
})

interface RawClient {
  readonly write: (hex: string) => void
  readonly received: () => string
  readonly isClosed: () => boolean
}

function rawClient(at: number | { readonly path: string }): RawClient {
  const socket = connect(typeof at === 'number' ? { port: at, host } : at)
  const received: Buffer[] = []
  let isClosed = false
  socket.on('error', () => {})
  socket.on('data', chunk => received.push(chunk))
  socket.on('close', () => {
    isClosed = true
  })
  closing.push(() => socket.destroy())
  return {
    write: hex => socket.write(Buffer.from(hex, 'hex')),
    received: () => Buffer.concat(received).toString('hex'),
    isClosed: () => isClosed,
  }
}

/** Whether the server closes, or answers a PINGREQ that follows. */
async function outcomeOf({ isFirst, bytes }: SamplePacket, port: number): Promise<'closed' | 'taken'> {
  const client = rawClient(port)
  client.write((isFirst ? '' : '100c00044d515454040200000000') + Buffer.from(bytes).toString('hex') + 'c000')
  return until(
    () => (client.received().endsWith('d000') ? 'taken' : client.isClosed() && 'closed'),
    'an outcome',
  )
}
