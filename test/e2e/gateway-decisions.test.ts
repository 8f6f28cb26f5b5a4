/**
 * The real gateway program is killed while contracts decide: a process of its own, its own broker, real sockets, on a chain that is served over HTTP.
 * An actuator that knows nothing of ours connects again each time. And nobody but a gateway publishes where decisions are.
 */
import { spawnSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import mqtt, { type MqttClient } from 'mqtt'
import { afterAll, beforeAll, expect, test } from 'vitest'
import type { Milliseconds } from '../../chain/brands.ts'
import { type Credential, credentialHash } from '../../chain/credentials.ts'
import { noRights } from '../../chain/rights.ts'
import { writeGenesisFile } from '../../client/genesis-file.ts'
import { type IdentityKeys, writeKeyFile } from '../../client/key-directory.ts'
import { choosePorts } from '../../devnet/ports.ts'
import { startGateway } from '../../mqtt-gateway/main.ts'
import { makePassword } from '../../mqtt-gateway/protocol/credential-password.ts'
import { topics } from '../../mqtt-gateway/protocol/topics.ts'
import { AlarmChain, alarm } from '../support/alarm-chain.ts'
import { GatewayFixture, until } from '../support/gateway-fixture.ts'
import { MemoryRecorder } from '../support/memory-recorder.ts'
import { hasMosquittoClients } from '../support/mosquitto-clients.ts'
import { MoteCommand, ShellCommand } from '../support/mote-command.ts'
import { type ServedChain, serveChain } from '../support/served-chain.ts'
import { keysOf } from '../support/test-chain.ts'

const host = '127.0.0.1'
const [sensor, actuator] = ['sensor', 'actuator'].map(keysOf) as [
  ReturnType<typeof keysOf>,
  ReturnType<typeof keysOf>,
]
/** Blocks of the test chain are a second apart: room for them before its time passes the clock's. */
const alarms = new AlarmChain({ devices: ['gateway', 'sensor', 'actuator'], startTime: Date.now() - 120_000 })
const { chain } = alarms
/** What examples/actuator is made of. */
const hasActuator = hasMosquittoClients && spawnSync('jq', ['--version']).error === undefined
let login: Login
interface Login {
  readonly clientId: string
  readonly username: string
  readonly password: string
}
let root: string
let served: ServedChain
let port: number
let config: string

beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), 'mote-gateway-decisions-'))
  login = credentialsOf(actuator, 'receive')
  allow(actuator, { subscribe: ['fire/#'] })
  served = await serveChain(alarms.source)
  ;[port] = (await choosePorts(1, 'auto')) as [number]
  await writeGenesisFile(join(root, 'genesis.json'), chain.genesis)
  await writeKeyFile(join(root, 'key.json'), keysOf('gateway'))
  config = await configured('config.json')
})
afterAll(async () => {
  await served[Symbol.asyncDispose]()
  await rm(root, { recursive: true, force: true, maxRetries: 5 })
})

async function configured(file: string, more: object = {}): Promise<string> {
  const content = {
    version: 1,
    name: 'gateway',
    chainId: chain.chainId,
    genesis: 'genesis.json',
    key: 'key.json',
    fullNodes: [`http://${served.host}:${served.port}`],
    mqtt: { host, port },
    trustTtlMs: 600_000,
    data: 'data',
    log: { file: 'log' },
    ...more,
  }
  await writeFile(join(root, file), JSON.stringify(content))
  return join(root, file)
}

/** A password of a device, which the chain knows from now on. */
function credentialsOf({ id }: IdentityKeys, scope: Credential['scope']): Login {
  const { bytes, text } = makePassword()
  const hash = credentialHash(chain.chainId, id, bytes)
  const expiresAt = (Date.now() + 3_600_000) as Milliseconds
  const credentials = [{ hash, expiresAt, scope }]
  chain.perform(chain.operator, {
    type: 'identity.credentials',
    subject: id,
    expectedVersion: 0,
    credentials,
  })
  return { clientId: id, username: id, password: text }
}

function allow({ id }: IdentityKeys, more: Partial<typeof noRights>): void {
  const rights = { ...noRights, ...more }
  chain.perform(chain.operator, { type: 'identity.rights', subject: id, expectedVersion: 0, ...rights })
}

async function connected(login: Login): Promise<MqttClient> {
  const client = await mqtt.connectAsync({ host, port, ...login, protocolVersion: 4, reconnectPeriod: 0 })
  client.on('error', () => {})
  return client
}

async function startGatewayProcess(): Promise<MoteCommand> {
  const gateway = new MoteCommand(['gateway', 'start', '--config', config])
  await gateway.untilPrints('"mqtt"')
  return gateway
}

test('gateway process: killed with SIGKILL while contracts decide, every decision comes, and what comes again has its name', async () => {
  const seen: { readonly Height: number; readonly Values: { readonly level: number } }[] = []
  const first = await startGatewayProcess()
  const client = mqtt.connect({ host, port, ...login, protocolVersion: 4, reconnectPeriod: 100 })
  client.on('error', () => {})
  client.on('connect', () => client.subscribe(topics.decision('fire/#'), { qos: 1 }))
  client.on('message', (topicName, payload) => {
    expect(topicName).toBe(topics.decision('fire/north'))
    seen.push(JSON.parse(payload.toString()))
  })
  const acted = join(root, 'acted')
  const environment = `MQTT_HOST=${host} MQTT_PORT=${port} MQTT_ID=${actuator.id} MQTT_PASSWORD=${login.password}`
  const script = `${environment} sh examples/actuator/actuator.sh '${topics.decision('fire/#')}' ${root}/last > ${acted}`
  await using valve = hasActuator ? new ShellCommand(script) : undefined
  const has = (level: number) => () => seen.some(({ Values }) => Values.level === level)
  let level = 0
  const everyMs = 150
  const deciding = setInterval(() => chain.append([alarms.call(sensor, ++level)], { afterMs: 100 }), everyMs)
  try {
    await until(() => seen.length >= 15, 'the first gateway publishes')
    first.process.kill('SIGKILL')
    await first.ended
    const killedAt = level
    await using second = await startGatewayProcess()
    await until(has(killedAt + 15), 'the second gateway goes on')
    clearInterval(deciding)
    const last = level
    await until(has(last), 'all of them')
    const names = new Map(seen.map(({ Height, Values }) => [Values.level, Height]))
    expect([...names.keys()].toSorted((a, b) => a - b)).toEqual(Array.from({ length: last }, (_, i) => i + 1))
    for (const { Height, Values } of seen) expect(Height).toBe(names.get(Values.level))
    expect(new Set(names.values()).size).toBe(last)
    if (valve) {
      const lines = () => readFileSync(acted, 'utf8').trim().split('\n')
      await until(() => lines().length >= last, 'the actuator has acted on all')
      const once = Array.from({ length: last }, (_, i) => i + 1)
      expect(lines()).toEqual(once.map(of => `${names.get(of)}.0.0 ${of >= 25 ? 'high' : 'low'}`))
    }
    expect(seen.length - last, 'no more comes again than of the last seconds before').toBeLessThan(
      15 + 11_000 / everyMs,
    )
    second.process.kill('SIGTERM')
    expect((await second.ended).code).toBe(0)
  } finally {
    clearInterval(deciding)
    await client.endAsync(true)
  }
})

test('gateway: what is asked for by QoS 0, 1 and 2 is recorded, and its decision published by that QoS', async () => {
  allow(keysOf('gateway'), { gateway: true })
  allow(sensor, { publish: ['forest/#'] })
  const sending = credentialsOf(sensor, 'send')
  const gateway = await startGateway(config, new AbortController().signal)
  const [client, subscriber, careless] = [
    await connected(sending),
    await connected(login),
    await connected({ ...login, clientId: `${login.clientId}.second` }),
  ]
  try {
    const seen: [id: string, qos: number][] = []
    const lowered: number[] = []
    subscriber.on('message', (_, payload, { qos }) => seen.push([JSON.parse(String(payload)).Record, qos]))
    careless.on('message', (_, __, { qos }) => lowered.push(qos))
    await subscriber.subscribeAsync(topics.decision('fire/#'), { qos: 2 })
    await careless.subscribeAsync(topics.decision('fire/#'), { qos: 1 })
    const told = new Map<string, string>()
    client.on('message', (_, payload) => {
      const { messageId, record } = JSON.parse(String(payload))
      told.set(messageId, record)
    })
    await client.subscribeAsync(topics.verdict(sensor.id), { qos: 1 })
    const content = { Address: alarm.address, Publish_Topic: 'fire/north' }
    for (const qos of [0, 1, 2] as const) {
      const message = { Payload: { level: 50 + qos }, MessageContent: content, MessageId: `by ${qos}` }
      await client.publishAsync(topics.report(sensor.id, 'forest/north'), JSON.stringify(message), { qos })
    }
    await until(() => told.size === 3 && seen.length >= 3, 'each is recorded, and decided about')
    await until(() => lowered.length >= 3, 'who subscribes by QoS 1 has them too')
    expect(new Map(seen)).toEqual(new Map([0, 1, 2].map(qos => [told.get(`by ${qos}`), qos])))
    expect(seen).toHaveLength(3)
    expect(lowered.toSorted()).toEqual([0, 1, 1])
  } finally {
    await Promise.all([client, subscriber, careless].map(each => each.endAsync(true)))
    await gateway.stop()
  }
})

test('gateway configuration: decisions.expiryMs is the age from which a decision is passed over', async () => {
  alarms.decide(sensor, 1_001)
  const afterMs = Date.now() - chain.time
  expect(afterMs, 'the decision before is so old by now').toBeGreaterThan(45_000)
  // From here on the chain has no time left for more blocks.
  chain.append([alarms.call(sensor, 1_002)], { afterMs })
  const more = { decisions: { expiryMs: 40_000 }, data: 'short' }
  const gateway = await startGateway(await configured('short.json', more), new AbortController().signal)
  const client = await connected(login)
  try {
    const levels: number[] = []
    client.on('message', (_topic, payload) => levels.push(JSON.parse(String(payload)).Values.level))
    await client.subscribeAsync(topics.decision('fire/#'), { qos: 1 })
    // Decisions leave in their order: the older one would have come first.
    await until(() => levels.includes(1_002), 'the newer one')
    expect(levels).toEqual([1_002])
  } finally {
    await client.endAsync(true)
    await gateway.stop()
  }
})

test('decisions: nobody but a gateway publishes them, whatever its rights; who may receive them, rights say', async () => {
  const plain = { in: ['forest/#'], out: ['fire/#'], open: false }
  const records = { recorder: new MemoryRecorder(), gateway: keysOf('gateway').id, plain }
  const fixture = await GatewayFixture.start({}, { records })
  try {
    const [forger, receiver] = [fixture.device('1111'), fixture.device('1112')]
    fixture.trust.setRights(forger.id, { publish: ['fire/#', 'valve/#'] })
    fixture.trust.setRights(receiver.id, { subscribe: ['fire/#', 'valve/#'] })
    const client = await fixture.client(fixture.credentials(forger))
    const listener = await fixture.client(fixture.credentials(receiver))
    const seen = await fixture.subscribed(listener, 'fire/#', topics.decision('valve/#'))
    const forged = ['fire/north', topics.decision('valve/1'), topics.decision('fire/north'), 'valve/1']
    for (const topicName of forged) await client.publishAsync(topicName, '{"Decision":"open"}', { qos: 1 })
    const judged = () =>
      fixture.decisions.filter(({ sender, event }) => sender === forger.id && event !== 'connect')
    await until(() => judged().length === forged.length, 'each is ruled on')
    expect(judged().map(({ topic, code }) => [topic, code])).toEqual([
      ['fire/north', 'topic-not-allowed'],
      [topics.decision('valve/1'), 'topic-not-allowed'],
      [topics.decision('fire/north'), 'topic-not-allowed'],
      // In the clear, by its right: nobody takes it for a decision.
      ['valve/1', null],
    ])
    for (const topicName of ['fire/north', topics.decision('valve/1')])
      await fixture.gateway.publishDecision({ topicName, payload: Buffer.from('of the gateway') })
    await until(() => seen.length === 2, 'what the gateway publishes')
    expect(seen.map(({ topic, payload }) => [topic, String(payload)])).toEqual([
      ['fire/north', 'of the gateway'],
      [topics.decision('valve/1'), 'of the gateway'],
    ])
    const tooWide = [topics.decision('#'), topics.decision('valve'), topics.decision('other')]
    for (const filter of tooWide)
      await expect(client.subscribeAsync(filter, { qos: 1 }), filter).rejects.toThrow('Unspecified error')
  } finally {
    await fixture.stop()
  }
})
