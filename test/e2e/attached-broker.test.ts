/** The broker port beside a real Mosquitto: its contract (test/contract/broker.ts), accounts, shards, and what such a broker does by itself. */
import mqtt, { type MqttClient } from 'mqtt'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { DeviceId } from '../../chain/brands.ts'
import {
  allShards,
  encodePresence,
  presenceTopic,
  shardedTopic,
  shardOf,
} from '../../mqtt-gateway/protocol/sharded-topics.ts'
import { topics } from '../../mqtt-gateway/protocol/topics.ts'
import { exchangeDigest, type SessionStart } from '../../mqtt-gateway/records/recorder.ts'
import { type AttachedBrokerOptions, attachedBroker } from '../../mqtt-gateway/server/attached-broker.ts'
import type { IncomingMessage, PublishAnswer, PublishOutcome } from '../../mqtt-gateway/server/broker.ts'
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

  /** A device reports once to a gateway with a recorder, whose link to the broker can be cut. @param answer from the first delivery on */
  async function reported(
    answer: (
      delivery: number,
      record: () => Promise<PublishOutcome>,
      tap: WireTap,
    ) => Promise<PublishOutcome>,
    isOver: () => boolean,
  ): Promise<{
    deliveries: readonly string[]
    recorded: readonly string[]
    sessions: readonly SessionStart[]
  }> {
    await using world = await RecorderWorld.open()
    await using tap = await WireTap.between(mosquitto.address)
    const deliveries: string[] = []
    const sessions: SessionStart[] = []
    const record = async ({ topicName, payload, exchange }: IncomingMessage): Promise<PublishOutcome> => {
      const named = exchange && { ...exchange, digest: exchangeDigest(topicName, payload) }
      await world.record({ text: Buffer.from(payload).toString(), ...(named && { exchange: named }) })
      return 'acknowledge'
    }
    const broker = attachedBroker({
      ...optionsOf(undefined),
      address: tap.address,
      // A session of its own, in which nothing waits.
      shardSecret: `secret-${tap.address.port}`,
      shards: [shardOf(deviceOf('one'))],
    })({
      ...permissive,
      incarnationOf: async (client, start) => {
        sessions.push(start)
        return (await world.recorder.incarnationOf(client, start)).incarnation
      },
      published: (_, message) => {
        deliveries.push(message.exchange?.isRepeat ? 'repeat' : 'first')
        return answer(deliveries.length, () => record(message), tap)
      },
    })
    await broker.listen()
    const [connection, client] = await connect(mosquitto, deviceOf('one'))
    try {
      await connection.report('reading')
      await until(isOver, 'the deliveries')
      return { deliveries, recorded: world.recorded(), sessions }
    } finally {
      await broker.close()
      await client.endAsync(true)
    }
  }

  test('attached: what was recorded when the first connection broke is not recorded again when the broker repeats it', async () => {
    let over = false
    const { deliveries, recorded, sessions } = await reported(
      async (delivery, record, tap) => {
        const outcome = await record()
        if (delivery === 1) tap.cut()
        else over = true
        return outcome
      },
      () => over,
    )
    expect(sessions).toEqual(['new', 'kept'])
    expect(deliveries).toEqual(['first', 'repeat'])
    expect(recorded).toEqual(['reading'])
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
