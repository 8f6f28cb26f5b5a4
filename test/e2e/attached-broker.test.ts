/** The broker port beside a real Mosquitto: its contract (test/contract/broker.ts), accounts, shards, and what such a broker does by itself. */
import mqtt, { type MqttClient } from 'mqtt'
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest'
import type { DeviceId } from '../../chain/brands.ts'
import {
  allShards,
  encodePresence,
  heardFilters,
  presenceTopic,
  shardedTopic,
  shardOf,
} from '../../mqtt-gateway/protocol/sharded-topics.ts'
import { topics } from '../../mqtt-gateway/protocol/topics.ts'
import { exchangeDigest, type SessionStart } from '../../mqtt-gateway/records/recorder.ts'
import { type AttachedBrokerOptions, attachedBroker } from '../../mqtt-gateway/server/attached-broker.ts'
import type {
  Broker,
  IncomingMessage,
  PublishAnswer,
  PublishOutcome,
} from '../../mqtt-gateway/server/broker.ts'
import type { BrokerAccount } from '../../mqtt-gateway/server/broker-accounts.ts'
import { MosquittoAccounts } from '../../mqtt-gateway/server/mosquitto-accounts.ts'
import { brokerContract, connectionOf, type DeviceConnection, deviceOf } from '../contract/broker.ts'
import { until } from '../support/gateway-fixture.ts'
import { Mosquitto, noMosquitto, testLogins } from '../support/mosquitto.ts'
import { permissive } from '../support/open-broker.ts'
import { RecorderWorld } from '../support/recorder-world.ts'
import { WireTap } from '../support/wire-tap.ts'

const neighbour = `${deviceOf('one').slice(0, 1)}${deviceOf('other').slice(1)}` as DeviceId
const accounts: readonly BrokerAccount[] = [deviceOf('one'), deviceOf('other'), neighbour].map(device => ({
  device,
  password: `of ${device}`,
  receives: [],
  note: '',
}))

let connections = 0

/** A device's connection by mqtt.js alone. */
async function connect({ address }: Mosquitto, device: DeviceId): Promise<[DeviceConnection, MqttClient]> {
  const place = `p${connections++}`
  const gone = Buffer.from(encodePresence('gone'))
  const client = await mqtt.connectAsync({
    ...address,
    clientId: `${device}.${place}`,
    username: device,
    password: `of ${device}`,
    protocolVersion: 5,
    reconnectPeriod: 0,
    will: { topic: presenceTopic(device, place), payload: gone, qos: 1, retain: true },
  })
  const say = (presence: 'connected' | 'listening') =>
    client.publishAsync(presenceTopic(device, place), Buffer.from(encodePresence(presence)), {
      qos: 1,
      retain: true,
    })
  await say('connected')
  const connection = connectionOf(client, {
    clientId: device,
    sendTopic: shardedTopic(topics.send(device), device),
    reportTopic: shardedTopic(topics.report(device, 'forest/north'), device),
    listen: async () => void (await say('listening')),
  })
  return [connection, client]
}

describe.skipIf(noMosquitto)('attached to an existing broker, which needs mosquitto', () => {
  let mosquitto: Mosquitto
  beforeAll(async () => {
    mosquitto = await Mosquitto.start(accounts)
  })
  afterAll(() => mosquitto[Symbol.asyncDispose]())

  const optionsOf = (accounts: AttachedBrokerOptions['accounts']): AttachedBrokerOptions => ({
    address: mosquitto.address,
    login: testLogins.gateway,
    shardSecret: 'secret',
    shards: allShards,
    storeId: 'store',
    accounts,
    queuedPerDevice: 20,
    onEvent: () => {},
  })

  brokerContract('mosquitto', async () => {
    const control = new MosquittoAccounts({ ...mosquitto.address, login: testLogins.accounts })
    await control.open(() => {})
    const opened: MqttClient[] = []
    return {
      factory: attachedBroker(optionsOf(control)),
      connect: async device => {
        const [connection, client] = await connect(mosquitto, device)
        opened.push(client)
        return connection
      },
      destroy: async () => {
        for (const client of opened) await client.endAsync(true)
        await control.close()
      },
    }
  })

  test('attached: what is to be recorded comes to the next gateway if this one has not kept it, though the device has its acknowledgement', async () => {
    const taken: string[] = []
    const gateway = (name: string, answer: PublishAnswer) =>
      attachedBroker(optionsOf(undefined))({
        ...permissive,
        published: async (_, { payload }) => {
          taken.push(`${name} ${Buffer.from(payload)}`)
          return answer
        },
      })
    const first = gateway('first', 'close')
    await first.listen()
    const [connection, client] = await connect(mosquitto, deviceOf('one'))
    await connection.report('reading')
    await until(() => taken.length === 1, 'the first gateway')
    await first.close()
    const second = gateway('second', 'acknowledge')
    await second.listen()
    await until(() => taken.length === 2, 'the second gateway')
    expect(taken).toEqual(['first reading', 'second reading'])
    await second.close()
    await client.endAsync(true)
  })

  /** What came to gateways whose link goes through one tap, and with which sessions. */
  interface Seen {
    readonly deliveries: ('first' | 'repeat')[]
    readonly sessions: SessionStart[]
  }

  /** A gateway of the first device's shard with a recorder. @param storeId of the store in that world */
  function recording(
    world: RecorderWorld,
    tap: WireTap,
    { deliveries, sessions }: Seen,
    answer: (record: () => Promise<PublishOutcome>) => Promise<PublishOutcome>,
    storeId = 'store',
  ): Broker {
    const record = async ({ topicName, payload, exchange }: IncomingMessage): Promise<PublishOutcome> => {
      const named = exchange && { ...exchange, digest: exchangeDigest(topicName, payload) }
      await world.record({ text: Buffer.from(payload).toString(), ...(named && { exchange: named }) })
      return 'acknowledge'
    }
    return attachedBroker({
      ...optionsOf(undefined),
      address: tap.address,
      // A session of its own, in which nothing waits.
      shardSecret: `secret-${tap.address.port}`,
      shards: [shardOf(deviceOf('one'))],
      storeId,
    })({
      ...permissive,
      incarnationOf: async (client, start) => {
        sessions.push(start)
        return (await world.recorder.incarnationOf(client, start)).incarnation
      },
      released: (client, packetIdentifier) => world.recorder.released(client, packetIdentifier),
      published: (_, message) => {
        deliveries.push(message.exchange?.isRepeat ? 'repeat' : 'first')
        return answer(() => record(message))
      },
    })
  }

  /** A device reports once to such a gateway. @param answer from the first delivery on */
  async function reported(
    answer: (
      delivery: number,
      record: () => Promise<PublishOutcome>,
      tap: WireTap,
    ) => Promise<PublishOutcome>,
    isOver: () => boolean,
    qos: 1 | 2 = 1,
  ): Promise<Seen & { readonly recorded: readonly string[] }> {
    await using world = await RecorderWorld.open()
    await using tap = await WireTap.between(mosquitto.address)
    const seen: Seen = { deliveries: [], sessions: [] }
    const broker = recording(world, tap, seen, record => answer(seen.deliveries.length, record, tap))
    await broker.listen()
    const [connection, client] = await connect(mosquitto, deviceOf('one'))
    try {
      await connection.report('reading', qos)
      await until(isOver, 'the deliveries')
      return { ...seen, recorded: world.recorded() }
    } finally {
      await broker.close()
      await client.endAsync(true)
    }
  }

  /** A gateway whose acknowledgement does not reach the broker, and then the next one with its store. @param between has the shard meanwhile */
  async function recordedOverRestart(
    between: (tap: WireTap, seen: Seen) => Promise<void>,
    qos: 1 | 2 = 1,
  ): Promise<Seen & { readonly recorded: readonly string[] }> {
    await using world = await RecorderWorld.open()
    await using tap = await WireTap.between(mosquitto.address)
    const seen: Seen = { deliveries: [], sessions: [] }
    const cut = Promise.withResolvers<void>()
    const first = recording(world, tap, seen, async record => {
      const outcome = await record()
      tap.cut()
      cut.resolve()
      return outcome
    })
    await first.listen()
    const [connection, client] = await connect(mosquitto, deviceOf('one'))
    await connection.report('reading', qos)
    await cut.promise
    await first.close()
    await between(tap, seen)
    await world.restart()
    let isOver = false
    const second = recording(world, tap, seen, async record => {
      const outcome = await record()
      isOver = true
      return outcome
    })
    await second.listen()
    await until(() => isOver, 'the repeat')
    await second.close()
    await client.endAsync(true)
    return { ...seen, recorded: world.recorded() }
  }

  test.each([1, 2] as const)(
    'attached: what was recorded and not acknowledged when a gateway ended is not recorded again by the next one with its store (QoS %i)',
    async qos => {
      const { deliveries, sessions, recorded } = await recordedOverRestart(async () => {}, qos)
      expect(sessions).toEqual(['new', 'kept'])
      expect(deliveries).toEqual(['first', 'repeat'])
      expect(recorded).toEqual(['reading'])
    },
  )

  test('attached: a gateway that is started again after another one had its shard begins a new session, and records what the broker repeats', async () => {
    const { sessions, recorded } = await recordedOverRestart(async (tap, seen) => {
      await using world = await RecorderWorld.open()
      const other = recording(world, tap, seen, async () => 'close', 'other')
      // What it does not take holds up its subscription.
      const listening = other.listen().catch(() => {})
      await until(() => seen.deliveries.length > 1, 'the other gateway has it')
      await other.close()
      await listening
    })
    expect(sessions).toEqual(['new', 'new', 'new'])
    expect(recorded).toEqual(['reading', 'reading'])
  })

  test('attached: a session that is quiet for a day is asked for again before it is forgotten, and what came in it does not count as a repeat for ever', async () => {
    const sessions: SessionStart[] = []
    const passed: string[] = []
    const taken: IncomingMessage[] = []
    const shard = shardOf(deviceOf('one'))
    const broker = attachedBroker({ ...optionsOf(undefined), shardSecret: 'quiet', shards: [shard] })({
      ...permissive,
      incarnationOf: async (_, start) => {
        sessions.push(start)
        return `life ${sessions.length}`
      },
      passed: async client => void passed.push(client),
      published: async (_, message) => {
        taken.push(message)
        return 'acknowledge'
      },
    })
    await broker.listen()
    const [connection, client] = await connect(mosquitto, deviceOf('one'))
    await connection.report('today')
    await until(() => taken.length === 1, 'the first')
    const now = performance.now.bind(performance)
    const later = vi.spyOn(performance, 'now').mockImplementation(() => now() + 90_000_000)
    await connection.report('tomorrow')
    await until(() => taken.length === 2, 'the second')
    later.mockRestore()
    expect(sessions).toEqual(['new', 'kept'])
    expect(taken[1]!.exchange).toMatchObject({ incarnation: 'life 2' })
    expect(passed).toEqual([])
    const reports = Array.from({ length: 2_046 }, () => connection.report('more'))
    await Promise.all(reports)
    await until(() => passed.length > 0, 'as many as are repeatable')
    expect(passed).toEqual([`shard ${shard}`])
    await broker.close()
    await client.endAsync(true)
  })

  test.each([1, 2] as const)(
    'attached: what was recorded when the first connection broke is not recorded again when the broker repeats it (QoS %i)',
    async qos => {
      let over = false
      const { deliveries, recorded, sessions } = await reported(
        async (delivery, record, tap) => {
          const outcome = await record()
          if (delivery === 1) tap.cut()
          else over = true
          return outcome
        },
        () => over,
        qos,
      )
      expect(sessions).toEqual(['new', 'kept'])
      expect(deliveries).toEqual(['first', 'repeat'])
      expect(recorded).toEqual(['reading'])
    },
  )

  test('attached: a release that could not be stored comes again on the next connection, and its message does not', async () => {
    const shard = shardOf(deviceOf('one'))
    const [taken, released]: [number[], number[]] = [[], []]
    const broker = attachedBroker({ ...optionsOf(undefined), shardSecret: 'release', shards: [shard] })({
      ...permissive,
      published: async (_, { exchange }) => {
        taken.push(exchange?.packetIdentifier ?? 0)
        return 'acknowledge'
      },
      released: async (_, packetIdentifier) => {
        released.push(packetIdentifier)
        if (released.length === 1) throw new Error('no disk')
      },
    })
    await broker.listen()
    const [connection, client] = await connect(mosquitto, deviceOf('one'))
    await connection.report('reading', 2)
    await until(() => released.length === 2, 'PUBREL again')
    await connection.report('the next one', 2)
    await until(() => released.length === 3, 'PUBREL of the next one')
    expect(taken).toHaveLength(2)
    expect(released).toEqual([taken[0], taken[0], taken[1]])
    await broker.close()
    await client.endAsync(true)
  })

  test('attached: closed while what is released by QoS 2 is still being forgotten, it lets the rest be', async () => {
    const [releasing, forgotten] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()]
    const thrown: unknown[] = []
    const onThrown = (error: unknown) => void thrown.push(error)
    process.on('unhandledRejection', onThrown).on('uncaughtException', onThrown)
    const broker = attachedBroker({ ...optionsOf(undefined), shardSecret: 'released' })({
      ...permissive,
      published: async () => 'acknowledge',
      released: () => {
        releasing.resolve()
        return forgotten.promise
      },
    })
    await broker.listen()
    const [connection, client] = await connect(mosquitto, deviceOf('one'))
    await connection.report('reading', 2)
    await releasing.promise
    await broker.close()
    forgotten.resolve()
    await new Promise(setImmediate)
    await new Promise(setImmediate)
    process.off('unhandledRejection', onThrown).off('uncaughtException', onThrown)
    expect(thrown).toEqual([])
    await client.endAsync(true)
  })

  test('attached: who is there when the link breaks is there afterwards, also if the broker says so in one breath with the SUBACK', async () => {
    await using tap = await WireTap.between(mosquitto.address)
    const said: string[] = []
    const broker = attachedBroker({
      ...optionsOf(undefined),
      address: tap.address,
      shardSecret: `there-${tap.address.port}`,
      shards: [shardOf(deviceOf('one'))],
      onEvent: event => void ('link' in event && said.push(`${event.type} ${event.link}`)),
    })({ ...permissive, closed: () => void said.push('closed') })
    await broker.listen()
    const [connection, client] = await connect(mosquitto, deviceOf('one'))
    await connection.listen?.()
    await until(() => broker.connections === 1, 'the device')
    // Of the link that hears who is there: it alone has so many subscriptions.
    const suback = 5 + heardFilters.length + 1
    let held: Buffer | undefined
    tap.change = packet => {
      if ((packet[0] as number) >> 4 === 9 && packet.length === suback) {
        held = Buffer.from(packet)
        return Buffer.alloc(0)
      }
      const isPresence = packet.includes('mote/1/here/')
      const before = isPresence ? held : undefined
      if (isPresence) held = undefined
      return before ? Buffer.concat([before, packet]) : packet
    }
    said.length = 0
    tap.cut()
    await until(() => said.includes('connected presence'), 'the link again')
    await connection.report('after it')
    await new Promise(resolve => setTimeout(resolve, 500))
    expect(said).not.toContain('closed')
    expect(broker.connections).toBe(1)
    await broker.close()
    await client.endAsync(true)
  })

  test('attached: who is there is asked for when the link that asks is back, though that is after the one that hears', async () => {
    await using tap = await WireTap.between(mosquitto.address)
    const said: string[] = []
    const broker = attachedBroker({
      ...optionsOf(undefined),
      address: tap.address,
      shardSecret: `asked-${tap.address.port}`,
      shards: [shardOf(deviceOf('one'))],
      onEvent: event => void ('link' in event && said.push(`${event.type} ${event.link}`)),
    })(permissive)
    await broker.listen()
    let isHeld = true
    let asked = 0
    tap.changeSent = packet => {
      const type = (packet[0] as number) >> 4
      if (type === 3 && packet.includes('mote/1/here/-/')) asked++
      // The broker closes what does not begin with a CONNECT.
      return type === 1 && isHeld && packet.includes('-out') ? Buffer.from([0, 0]) : packet
    }
    said.length = 0
    tap.cut()
    await until(() => said.includes('connected presence'), 'the link that hears')
    expect(asked).toBe(0)
    isHeld = false
    await until(() => asked > 0, 'the question')
    await broker.close()
  })

  test('attached: where the broker has kept no session, a new one begins', async () => {
    let over = false
    const { sessions } = await reported(
      async (delivery, record, tap) => {
        // Of a CONNACK the byte with Session Present (MQTT 5, section 3.2.2.1).
        tap.change = packet => (packet[0] === 0x20 ? Buffer.from(packet.with(2, 0)) : packet)
        if (delivery === 1) tap.cut()
        else over = true
        return record()
      },
      () => over,
    )
    expect(sessions).toEqual(['new', 'new'])
  })

  test('attached: what cannot be kept is tried again on the connection that it came on, and on no later one', async () => {
    let over = false
    const { deliveries, recorded } = await reported(
      async (delivery, record, tap) => {
        if (delivery === 1) tap.cut()
        if (delivery <= 2) return 'close'
        const outcome = await record()
        over = true
        return outcome
      },
      () => over,
    )
    expect(deliveries).toEqual(['first', 'repeat', 'repeat'])
    expect(recorded).toEqual(['reading'])
  })
})
