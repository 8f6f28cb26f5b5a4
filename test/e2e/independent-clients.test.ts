/**
 * Clients that others wrote, with nothing of ours but a name and a password: Mosquitto's command line, mqtt.js, Python's paho-mqtt. What
 * they may do they can, and what they may not do is refused to them in MQTT's own way: by the embedded broker, which speaks MQTT 3.1.1,
 * and beside Mosquitto in MQTT 5.
 */
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import type { ChainId, Milliseconds } from '../../chain/brands.ts'
import { credentialHash } from '../../chain/credentials.ts'
import { noRights } from '../../chain/rights.ts'
import type { IdentityKeys } from '../../client/key-directory.ts'
import { accountLogin } from '../../mqtt-gateway/device/account-login.ts'
import { makePassword } from '../../mqtt-gateway/protocol/credential-password.ts'
import { shardedTopic } from '../../mqtt-gateway/protocol/sharded-topics.ts'
import { topics } from '../../mqtt-gateway/protocol/topics.ts'
import { AttachedFixture } from '../support/attached-fixture.ts'
import { until } from '../support/gateway-fixture.ts'
import { GatewayOnLedger } from '../support/gateway-on-ledger.ts'
import { noMosquitto } from '../support/mosquitto.ts'
import { messagesIn } from '../support/mosquitto-clients.ts'
import { clientKinds, missingClients, PlainClients } from '../support/plain-clients.ts'
import { sealedMessage } from '../support/sealed-message.ts'
import { keysOf } from '../support/test-chain.ts'

const [device, other] = ['1111', '1113'].map(keysOf) as [IdentityKeys, IdentityKeys]
const reading = Buffer.from('4.2 m')
const rights = { ...noRights, publish: ['plant/1/#'], subscribe: ['plant/#'] }

let counter = 0
/** From the device to the other one, sealed and signed. */
const envelope = (chainId: ChainId): Promise<Uint8Array> =>
  sealedMessage(chainId, { from: device, to: other }, { counter: counter++ })

/** The JSON of a message, which is a topic and bytes in hexadecimal. */
const said = (message: string | undefined) =>
  JSON.parse(Buffer.from(message?.split(' ')[1] ?? '', 'hex').toString()) as Record<string, unknown>

describe('at the embedded broker', () => {
  let network: GatewayOnLedger
  let clients: PlainClients
  beforeAll(async () => {
    network = await GatewayOnLedger.start(['1111', '1113'])
    const { chain } = network
    const { bytes, text: password } = makePassword()
    const hash = credentialHash(chain.chainId, device.id, bytes)
    const expiresAt = (Date.now() + 3_600_000) as Milliseconds
    const of = { subject: device.id, expectedVersion: 0 }
    const credentials = [{ hash, expiresAt, scope: 'send' as const }]
    chain.perform(device, { type: 'identity.credentials', ...of, credentials })
    chain.perform(chain.operator, { type: 'identity.rights', ...of, ...rights })
    await network.followed()
    const { host, port } = network.address
    clients = await PlainClients.of({ host, port, username: device.id, password, version: 4 })
  })
  afterEach(() => clients.stop())
  afterAll(async () => {
    await clients[Symbol.asyncDispose]()
    await network.stop()
  })

  describe.each(clientKinds)('%s', kind => {
    const missing = missingClients[kind]

    test(`${kind}: publishes and subscribes to plain topics by right`, async context => {
      if (missing) return context.skip(missing)
      const { subscribe, publish } = clients.client(kind)
      const seen = await subscribe('plant/#')
      await publish('plant/1/level', reading)
      await until(() => seen().length > 0, 'the reading')
      expect(seen()).toEqual([`plant/1/level ${reading.toString('hex')}`])
    })

    test(`${kind}: gets the verdict on an envelope, and an error for a topic that is not its own`, async context => {
      if (missing) return context.skip(missing)
      const { subscribe, publish } = clients.client(kind)
      const verdicts = await subscribe(topics.verdict(device.id))
      const errors = await subscribe(topics.error(device.id))
      await publish(topics.send(device.id), await envelope(network.chain.chainId))
      await until(() => verdicts().length > 0, 'a verdict')
      expect(said(verdicts()[0])).toMatchObject({ verdict: 'Check' })
      for (const [i, topicName] of [topics.send(other.id), 'plant/2/level'].entries()) {
        await publish(topicName, reading)
        await until(() => errors().length > i, 'an error')
        expect(said(errors()[i])).toMatchObject({
          topic: topicName,
          code: 'topic-not-allowed',
          retry: false,
        })
      }
    })

    test(`${kind}: is refused what is another device's or without right`, async context => {
      if (missing) return context.skip(missing)
      const { subscribe } = clients.client(kind)
      for (const topicFilter of [`mote/1/to/${other.id}/#`, 'other/#'])
        await expect(subscribe(topicFilter), topicFilter).rejects.toThrow()
    })
  })

  test('mosquitto_rr: asks on one plain topic and is answered on another', async context => {
    if (missingClients.mosquitto) return context.skip(missingClients.mosquitto)
    const { subscribe, publish } = clients.client('mqtt.js')
    const seen = await subscribe('plant/1/ask')
    const words = ['-F', '%t %x', '-t', 'plant/1/ask', '-e', 'plant/1/answer', '-m', 'level?']
    const program = clients.mosquitto('rr', words)
    await until(() => seen().length > 0, 'the question')
    await publish('plant/1/answer', reading)
    const { stdout } = await program.ended
    expect(messagesIn(stdout)).toEqual([`plant/1/answer ${reading.toString('hex')}`])
  })

  test('mosquitto_pub: MQTT 5 is told that it is not spoken here', async context => {
    if (missingClients.mosquitto) return context.skip(missingClients.mosquitto)
    const words = ['-V', 'mqttv5', '-t', 'plant/1/level', '-m', 'x']
    const { code, stderr } = await clients.mosquitto('pub', words).ended
    expect(code).not.toBe(0)
    expect(stderr).toMatch(/protocol version/i)
  })
})

describe.skipIf(noMosquitto)('beside Mosquitto, in MQTT 5', () => {
  let under: AttachedFixture
  let clients: PlainClients
  beforeAll(async () => {
    under = await AttachedFixture.start()
    for (const keys of [device, other]) under.trust.register(keys)
    under.trust.setRights(device.id, rights)
    await under.gateway()
    const password = await accountLogin({ chain: under.trust, keys: device, gateway: under.keys.id })
    const { host, port } = under.mosquitto.address
    clients = await PlainClients.of({ host, port, username: device.id, password, version: 5 })
  })
  afterEach(() => clients.stop())
  afterAll(async () => {
    await clients[Symbol.asyncDispose]()
    await under.stop()
  })
  const own = (topicName: string) => shardedTopic(topicName, device.id)

  test.for(clientKinds)(
    '%s: in MQTT 5 publishes to a plain topic by right, and gets verdicts and errors',
    async (kind, context) => {
      if (missingClients[kind]) return context.skip(missingClients[kind])
      const { subscribe, publish } = clients.client(kind)
      const seen = await subscribe('plant/#')
      const told = await subscribe(`mote/1/+/${device.id}`)
      await publish(own('plant/1/level'), reading)
      await until(() => seen().length > 0, 'the reading')
      expect(seen()).toEqual([`plant/1/level ${reading.toString('hex')}`])
      await publish(own(topics.send(device.id)), await envelope(under.trust.chainId))
      await until(() => told().length > 0, 'a verdict')
      expect(said(told()[0])).toMatchObject({ verdict: 'Check' })
      await publish(own('plant/2/level'), reading)
      await until(() => told().length > 1, 'an error')
      expect(said(told()[1])).toMatchObject({ code: 'topic-not-allowed' })
    },
  )

  test('mosquitto_pub: in MQTT 5 is told by the reason code that a topic is not its own', async context => {
    if (missingClients.mosquitto) return context.skip(missingClients.mosquitto)
    const foreign = shardedTopic(topics.send(other.id), other.id)
    const { stdout, stderr } = await clients.mosquitto('pub', ['-t', foreign, '-m', 'x', '-d']).ended
    expect(stdout + stderr).toMatch(/not authorized|RC:135/i)
  })

  test('mosquitto_rr: in MQTT 5 asks the gateway, and is answered on the response topic that it names', async context => {
    if (missingClients.mosquitto) return context.skip(missingClients.mosquitto)
    const words = ['-F', '%t %x', '-t', own(topics.ask(device.id)), '-e', topics.error(device.id), '-m', 'x']
    const { stdout } = await clients.mosquitto('rr', words).ended
    expect(said(messagesIn(stdout)[0])).toMatchObject({ code: 'malformed' })
  })
})
