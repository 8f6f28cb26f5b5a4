/**
 * What each field of a gateway's configuration does: the real program in this process, on a chain that is served over HTTP.
 * docs/OPERATIONS.md, Configuration, says which test shows which field.
 */
import { once } from 'node:events'
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { connect as connectSocket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import mqtt, { type MqttClient } from 'mqtt'
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest'
import { writeGenesisFile } from '../../client/genesis-file.ts'
import { signerOf, writeKeyFile } from '../../client/key-directory.ts'
import { choosePorts } from '../../devnet/ports.ts'
import type { GatewayConfigFile } from '../../mqtt-gateway/config.ts'
import { makeCredentials } from '../../mqtt-gateway/device/mqtt-connection.ts'
import { type RunningGateway, startGateway } from '../../mqtt-gateway/main.ts'
import { topics } from '../../mqtt-gateway/protocol/topics.ts'
import { unreadiness } from '../contract/health.ts'
import { type ServedChain, serveChain } from '../support/served-chain.ts'
import { keysOf, TestChain } from '../support/test-chain.ts'
import { TlsFixture } from '../support/tls-fixture.ts'

const host = '127.0.0.1'
const device = keysOf('1111')
/** Older than the shortest trustTtl here. */
const chain = new TestChain({ devices: ['gateway', '1111'], startTime: Date.now() - 5_000 })
let root = ''
let served: ServedChain
let directories = 0
const closing: (() => Promise<unknown>)[] = []

beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), 'mote-gateway-configuration-'))
  chain.append()
  served = await serveChain(chain.source('full-1'))
  await writeGenesisFile(join(root, 'genesis.json'), chain.genesis)
  await writeKeyFile(join(root, 'key.json'), keysOf('gateway'))
})
afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close()
})
afterAll(async () => {
  await served[Symbol.asyncDispose]()
  await rm(root, { recursive: true, force: true, maxRetries: 5 })
})

interface Ready {
  readonly name: string
  readonly id: string
  readonly mqtt: { readonly host: string; readonly port: number }
  readonly mqtts?: Ready['mqtt']
  readonly api: { readonly port: number }
}

async function start(
  change: { readonly [K in keyof GatewayConfigFile]?: GatewayConfigFile[K] | undefined } = {},
) {
  const directory = join(root, `gateway-${directories++}`)
  await mkdir(directory)
  const file = {
    version: 1,
    name: 'gateway',
    chainId: chain.chainId,
    genesis: '../genesis.json',
    key: '../key.json',
    fullNodes: [`http://${served.host}:${served.port}`],
    mqtt: { host, port: 0 },
    api: { host, port: 0 },
    trustTtlMs: 600_000,
    data: 'data',
    log: { file: 'gateway.log' },
    ...change,
  }
  const path = join(directory, 'config.json')
  await writeFile(path, JSON.stringify(file))
  const gateway: RunningGateway = await startGateway(path, new AbortController().signal)
  closing.push(() => gateway.stop())
  const ready = gateway.ready as Ready
  return { directory, ready, api: `http://${host}:${ready.api?.port}` }
}

/** A connection of the device; rejects if the gateway does not take it. */
async function connect({ ready }: { readonly ready: Ready }): Promise<MqttClient> {
  const { chainId } = chain
  // The gateway judges by the chain's time, which stands still here.
  const now = () => chain.time
  const id = `${device.id}.${closing.length}`
  const { clientId, username, password } = makeCredentials(
    { chainId, device: device.id, signer: signerOf(device), now },
    id,
  )
  const options = {
    ...ready.mqtt,
    clientId,
    username,
    password,
    protocolVersion: 4,
    reconnectPeriod: 0,
  } as const
  const client = mqtt.connect(options)
  closing.push(() => client.endAsync(true))
  await new Promise<void>((resolve, reject) => {
    client.once('connect', () => resolve())
    client.once('error', reject)
    client.once('close', () => reject(new Error('closed')))
  })
  return client
}

const logOf = async (directory: string, name: string) =>
  (
    await Promise.all(
      (
        await readdir(directory)
      )
        .filter(file => file.startsWith(name))
        .map(file => readFile(join(directory, file), 'utf8')),
    )
  ).join('')

test('gateway configuration: name, key, mqtt and api are who it is and where it listens', async () => {
  const [broker, api] = (await choosePorts(2, 'auto')) as [number, number]
  const gateway = await start({ name: 'edge-3', mqtt: { host, port: broker }, api: { host, port: api } })
  expect(gateway.ready).toMatchObject({ name: 'edge-3', id: keysOf('gateway').id, mqtt: { port: broker } })
  expect(await (await fetch(`http://${host}:${api}/v1/status`)).json()).toMatchObject({ name: 'edge-3' })
  await connect(gateway)
  const silent = await start({ api: undefined })
  expect(silent.ready.api).toBeUndefined()
})

test('gateway configuration: mqtts is where it listens for TLS, with a certificate and its key', async () => {
  const tls = await TlsFixture.make()
  closing.push(() => tls[Symbol.asyncDispose]())
  const mqtts = { host, port: 0, ...tls.files }
  const { ready } = await start({ mqtts })
  const secure = { protocol: 'mqtts', ca: tls.authority.certificate.toString() } as const
  await connect({ ready: { ...ready, mqtt: { ...(ready.mqtts as Ready['mqtt']), ...secure } } })
  await expect(start({ mqtts: { ...mqtts, key: tls.path('ca.key') } })).rejects.toMatchObject({
    code: 'config-invalid',
  })
  const plain = await start()
  expect(plain.ready.mqtts).toBeUndefined()
})

test('gateway configuration: another chain id, and files that are not there, are refused', async () => {
  await expect(start({ chainId: 'ab'.repeat(32) })).rejects.toMatchObject({ code: 'wrong-chain' })
  await expect(start({ genesis: 'nowhere.json' })).rejects.toMatchObject({ code: 'config-invalid' })
  await expect(start({ key: 'nowhere.json' })).rejects.toMatchObject({ code: 'key-not-found' })
})

test('gateway configuration: fullNodes are asked one after another', async () => {
  const [nobody] = await choosePorts(1, 'auto')
  const gateway = await start({
    fullNodes: [`http://${host}:${nobody}`, `http://${served.host}:${served.port}`],
  })
  expect(await unreadiness(gateway.api)).toBeUndefined()
})

test('gateway configuration: trustTtlMs is the age of trust data from which it is not ready and takes nobody in', async () => {
  const gateway = await start({ trustTtlMs: 1_000 })
  expect(await unreadiness(gateway.api)).toMatchObject({ code: 'stale' })
  await expect(connect(gateway)).rejects.toThrow()
  const patient = await start()
  expect(await unreadiness(patient.api)).toBeUndefined()
  await connect(patient)
})

test('gateway configuration: data holds decisions and checkpoint; log.file and log.level the log', async () => {
  const loud = await start({ data: 'elsewhere', log: { file: 'loud.log', level: 'info' } })
  const quiet = await start({ log: { file: 'quiet.log', level: 'error' } })
  await connect(loud)
  expect(await logOf(join(loud.directory, 'elsewhere'), 'decisions')).toContain(device.id)
  expect(await logOf(loud.directory, 'loud')).toMatch(/"level":"info".*"name":"gateway".*ready/)
  expect(await logOf(quiet.directory, 'quiet')).toBe('')
  for (const close of closing.splice(0).reverse()) await close()
  expect(await readdir(join(loud.directory, 'elsewhere'))).toContain('checkpoint')
})

test('gateway configuration: limits.connections: one more is not taken', async () => {
  const gateway = await start({ limits: { connections: 1 } })
  await connect(gateway)
  await expect(connect(gateway)).rejects.toThrow()
})

test('gateway configuration: limits.unproven and unprovenPerAddress: the oldest silent socket makes room', async () => {
  for (const limits of [{ unproven: 2 }, { unprovenPerAddress: 2 }]) {
    const { ready } = await start({ limits })
    const sockets = [1, 2, 3].map(() => connectSocket(ready.mqtt.port, host).on('error', () => {}))
    closing.push(async () => {
      for (const socket of sockets) socket.destroy()
    })
    for (const socket of sockets) socket.resume()
    await once(sockets[0]!, 'close')
    expect(sockets.slice(1).map(({ destroyed }) => destroyed)).toEqual([false, false])
    await connect({ ready })
  }
})

test('gateway: a connection has 3 s to say who it is', async () => {
  const { ready } = await start()
  const startedAt = performance.now()
  const socket = connectSocket(ready.mqtt.port, host).resume()
  await once(socket, 'close')
  expect(performance.now() - startedAt).toBeGreaterThan(2_900)
  expect(performance.now() - startedAt).toBeLessThan(8_000)
})

test('gateway configuration: limits.subscriptionsPerClient: one more is refused', async () => {
  const client = await connect(await start({ limits: { subscriptionsPerClient: 4 } }))
  const filters = Array.from({ length: 5 }, (_, i) => `mote/1/to/${device.id}/${i}`)
  const granted: number[] = []
  for (const filter of filters) {
    const answers = await client.subscribeAsync(filter, { qos: 1 }).catch(() => [{ qos: 128 }])
    granted.push(...answers.map(({ qos }) => qos))
  }
  expect(granted).toEqual([1, 1, 1, 1, 128])
})

/** Questions of no form, sent all at once; how long it takes until all are acknowledged. */
async function burst(client: MqttClient, count: number, bytes = 1): Promise<number> {
  const startedAt = performance.now()
  const topic = topics.ask(device.id)
  const question = Buffer.alloc(bytes)
  await Promise.all(Array.from({ length: count }, () => client.publishAsync(topic, question, { qos: 1 })))
  return performance.now() - startedAt
}

test('gateway configuration: limits.queuedPerClient: who sends more at once is read as fast as it is answered, and loses nothing', async () => {
  const client = await connect(await start({ limits: { queuedPerClient: 1 } }))
  let closed = false
  client.on('close', () => {
    closed = true
  })
  await burst(client, 50)
  expect(closed).toBe(false)
})

test('gateway configuration: limits.messagesPerSecond and bytesPerSecond: who sends more is read more slowly, after a burst of 4 s', async () => {
  const few = await connect(await start({ limits: { messagesPerSecond: 50 } }))
  expect(await burst(few, 250)).toBeGreaterThan(900)
  const narrow = await connect(await start({ limits: { bytesPerSecond: 262_144 } }))
  expect(await burst(narrow, 6, 262_144)).toBeGreaterThan(800)
})
