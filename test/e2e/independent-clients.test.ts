/**
 * Clients that others wrote, with nothing of ours but a name and a password: Mosquitto's command line, mqtt.js, Python's paho-mqtt. What
 * they may do they can, and what they may not do is refused to them in MQTT's own way.
 */
import { spawnSync } from 'node:child_process'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import mqtt from 'mqtt'
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import type { Height, Milliseconds } from '../../chain/brands.ts'
import { credentialHash } from '../../chain/credentials.ts'
import { unwrap } from '../../chain/result.ts'
import { type IdentityKeys, signerOf } from '../../client/key-directory.ts'
import { sealEnvelope } from '../../mqtt-gateway/device/envelope-sealing.ts'
import { makePassword } from '../../mqtt-gateway/protocol/credential-password.ts'
import { topics } from '../../mqtt-gateway/protocol/topics.ts'
import { type ForeignProgram, startForeignProgram } from '../support/foreign-program.ts'
import { until } from '../support/gateway-fixture.ts'
import { GatewayOnLedger } from '../support/gateway-on-ledger.ts'
import { keysOf } from '../support/test-chain.ts'

const [device, other] = ['1111', '1113'].map(keysOf) as [IdentityKeys, IdentityKeys]

let network: GatewayOnLedger
let password: string
let running: { stop(): unknown }[] = []
let names = 0

beforeAll(async () => {
  network = await GatewayOnLedger.start(['1111', '1113'])
  const { chain } = network
  const made = makePassword()
  password = made.text
  const hash = credentialHash(chain.chainId, device.id, made.bytes)
  const expiresAt = (Date.now() + 3_600_000) as Milliseconds
  const subject = device.id
  chain.perform(device, {
    type: 'identity.credentials',
    subject,
    expectedVersion: 0,
    credentials: [{ hash, expiresAt, scope: 'send' }],
  })
  const rights = { publish: ['plant/1/#'], subscribe: ['plant/#'], observe: false, gateway: false }
  chain.perform(chain.operator, { type: 'identity.rights', subject, expectedVersion: 0, ...rights })
  await until(() => network.gateway.status().height === chain.height, 'the gateway knows of it')
})
afterEach(async () => {
  await Promise.all(running.map(each => each.stop()))
  running = []
})
afterAll(() => network.stop())

/** MQTT ends the older of two connections with one client id. */
const clientId = () => `${device.id}.c${names++}`

/** What a client of one kind does; each message that comes is a topic and its bytes in hexadecimal. */
interface ClientKind {
  readonly name: string
  /** Why it cannot be run here. */
  readonly missing: string | undefined
  /** Resolves once it is granted, to what comes; rejects when it is refused. */
  subscribe(topicFilter: string): Promise<() => readonly string[]>
  /** Resolves when the gateway has acknowledged it. */
  publish(topicName: string, payload: Uint8Array): Promise<unknown>
}

function started(command: string, args: readonly string[]): ForeignProgram {
  const program = startForeignProgram(command, args)
  running.push({
    stop: () => {
      program.stop()
      return program.ended
    },
  })
  return program
}

const login = () => {
  const { host, port } = network.address
  return ['-h', host, '-p', String(port), '-i', clientId(), '-u', device.id, '-P', password]
}
const fileWith = async (payload: Uint8Array): Promise<string> => {
  const file = join(network.directory, `payload-${names++}`)
  await writeFile(file, payload)
  return file
}
const messagesIn = (stdout: string) =>
  stdout.split('\n').flatMap(line => /^(\S+\/\S+ [0-9a-f]+)$/.exec(line)?.[1] ?? [])

async function granted(program: ForeignProgram, sign: RegExp): Promise<() => readonly string[]> {
  let isOver = false
  const ended = program.ended.finally(() => {
    isOver = true
  })
  await until(() => isOver || sign.test(program.stdout), 'a SUBACK')
  if (isOver) throw new Error(`refused: ${(await ended).stderr}`)
  return () => messagesIn(program.stdout)
}

async function endedWell(program: ForeignProgram): Promise<void> {
  const { code, stderr } = await program.ended
  if (code !== 0) throw new Error(stderr)
}

const mosquitto: ClientKind = {
  name: 'mosquitto_sub and mosquitto_pub',
  missing: spawnSync('mosquitto_sub', ['--help']).error ? 'mosquitto-clients is not installed' : undefined,
  subscribe: topicFilter =>
    granted(
      started('stdbuf', [
        '-oL',
        'mosquitto_sub',
        '-V',
        'mqttv311',
        ...login(),
        '-q',
        '1',
        '-t',
        topicFilter,
        '-d',
        '-F',
        '%t %x',
      ]),
      /^Subscribed \(mid: \d+\): [012]$/m,
    ),
  publish: async (topicName, payload) =>
    endedWell(
      started('mosquitto_pub', [
        '-V',
        'mqttv311',
        ...login(),
        '-q',
        '1',
        '-t',
        topicName,
        '-f',
        await fileWith(payload),
      ]),
    ),
}

const python = ['/usr/bin/python3', 'python3'].find(
  path => spawnSync(path, ['-c', 'import paho.mqtt.client']).status === 0,
)
const pahoProgram = `
import sys, threading
import paho.mqtt.client as mqtt
host, port, client_id, user, password, what, topic, payload = sys.argv[1:]
client = mqtt.Client(client_id=client_id, clean_session=True, protocol=mqtt.MQTTv311)
client.username_pw_set(user, password)
done = threading.Event()
codes = []
client.on_subscribe = lambda _c, _d, _id, granted: (codes.extend(granted), print("granted" if granted[0] < 0x80 else "refused", flush=True), granted[0] < 0x80 or done.set())
client.on_message = lambda _c, _d, message: print(message.topic, message.payload.hex(), flush=True)
client.on_publish = lambda _c, _d, _id: done.set()
client.on_connect = lambda _c, _d, _f, code: client.subscribe(topic, 1) if what == "subscribe" else client.publish(topic, bytes.fromhex(payload), 1)
client.connect(host, int(port), 60)
client.loop_start()
done.wait()
client.disconnect()
client.loop_stop()
sys.exit(1 if 0x80 in codes else 0)
`
const paho = (what: string, topicName: string, payload: Uint8Array = new Uint8Array()) => {
  const { host, port } = network.address
  const words = [host, String(port), clientId(), device.id, password, what, topicName]
  return started(python ?? '', ['-c', pahoProgram, ...words, Buffer.from(payload).toString('hex')])
}
const pahoMqtt: ClientKind = {
  name: "Python's paho-mqtt",
  missing: python === undefined ? 'python3-paho-mqtt is not installed' : undefined,
  subscribe: topicFilter => granted(paho('subscribe', topicFilter), /granted/),
  publish: (topicName, payload) => endedWell(paho('publish', topicName, payload)),
}

async function mqttJsClient() {
  const client = await mqtt.connectAsync({
    ...network.address,
    clientId: clientId(),
    username: device.id,
    password,
    protocolVersion: 4,
    reconnectPeriod: 0,
  })
  running.push({ stop: () => client.endAsync(true) })
  return client
}
const mqttJs: ClientKind = {
  name: 'mqtt.js',
  missing: undefined,
  subscribe: async topicFilter => {
    const client = await mqttJsClient()
    const seen: string[] = []
    client.on('message', (topic, payload) => seen.push(`${topic} ${payload.toString('hex')}`))
    await client.subscribeAsync(topicFilter, { qos: 1 })
    return () => seen
  },
  publish: async (topicName, payload) =>
    (await mqttJsClient()).publishAsync(topicName, Buffer.from(payload), { qos: 1 }),
}

let counter = 0
/** From the device to the other one, sealed and signed. */
const envelope = async () =>
  unwrap(
    await sealEnvelope({
      chainId: network.chain.chainId,
      sender: device.id,
      signer: signerOf(device),
      target: { type: 'device', id: other.id, key: other.encryption.publicKey },
      counter: counter++,
      seenHeight: 1 as Height,
      expiry: (Date.now() + 30_000) as Milliseconds,
      channel: '',
      content: new TextEncoder().encode('by hand'),
    }),
  ).bytes

const said = (message: string | undefined) =>
  JSON.parse(Buffer.from(message?.split(' ')[1] ?? '', 'hex').toString()) as Record<string, unknown>

describe.each([mosquitto, mqttJs, pahoMqtt])('$name', ({ name, missing, subscribe, publish }) => {
  test.skipIf(missing)(
    `${name}: publishes and subscribes to plain topics by right${missing ? `: ${missing}` : ''}`,
    async () => {
      const seen = await subscribe('plant/#')
      await publish('plant/1/level', Buffer.from('4.2 m'))
      await until(() => seen().length > 0, 'the reading')
      expect(seen()).toEqual([`plant/1/level ${Buffer.from('4.2 m').toString('hex')}`])
    },
  )

  test.skipIf(missing)(
    `${name}: gets the verdict on an envelope, and an error for a topic that is not its own${missing ? `: ${missing}` : ''}`,
    async () => {
      const verdicts = await subscribe(topics.verdict(device.id))
      const errors = await subscribe(topics.error(device.id))
      await publish(topics.send(device.id), await envelope())
      await until(() => verdicts().length > 0, 'a verdict')
      expect(said(verdicts()[0])).toMatchObject({ verdict: 'Check' })
      for (const [i, topicName] of [topics.send(other.id), 'plant/2/level'].entries()) {
        await publish(topicName, Buffer.from('x'))
        await until(() => errors().length > i, 'an error')
        expect(said(errors()[i])).toMatchObject({ topic: topicName, code: 'topic-not-allowed', retry: false })
      }
    },
  )

  test.skipIf(missing)(
    `${name}: is refused what is another device's or without right${missing ? `: ${missing}` : ''}`,
    async () => {
      for (const topicFilter of [`mote/1/to/${other.id}/#`, 'other/#'])
        await expect(subscribe(topicFilter), topicFilter).rejects.toThrow()
    },
  )
})

describe.skipIf(mosquitto.missing !== undefined)('mosquitto_rr, and MQTT 5', () => {
  test('mosquitto_rr: asks on one plain topic and is answered on another', async () => {
    const seen = await mqttJs.subscribe('plant/1/ask')
    const program = started('mosquitto_rr', [
      ...['-V', 'mqttv311', ...login(), '-q', '1', '-F', '%t %x'],
      ...['-t', 'plant/1/ask', '-e', 'plant/1/answer', '-m', 'level?'],
    ])
    await until(() => seen().length > 0, 'the question')
    await mqttJs.publish('plant/1/answer', Buffer.from('4.2 m'))
    const { stdout } = await program.ended
    expect(messagesIn(stdout)).toEqual([`plant/1/answer ${Buffer.from('4.2 m').toString('hex')}`])
  })

  test('mosquitto_pub: MQTT 5 is told that it is not spoken here', async () => {
    const words = ['-V', 'mqttv5', ...login(), '-t', 'plant/1/level', '-m', 'x']
    const { code, stderr } = await started('mosquitto_pub', words).ended
    expect(code).not.toBe(0)
    expect(stderr).toMatch(/protocol version/i)
  })
})
