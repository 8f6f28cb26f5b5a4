/**
 * Programs that stay as they are and the chain, on real processes, whoever is killed meanwhile: plain MQTT clients whose reports are recorded and
 * decided about, once, also by a gateway on NATS servers; and applications beside an agent.
 */
import { readdir, readFile, stat, writeFile } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import mqtt, { type MqttClient } from 'mqtt'
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import type { ChainId, DeviceId } from '../../chain/brands.ts'
import { pause } from '../../client/deadline.ts'
import { askControl } from '../../devnet/control.ts'
import { layout } from '../../devnet/layout.ts'
import { topics } from '../../mqtt-gateway/protocol/topics.ts'
import { reservedBytes } from '../../mqtt-gateway/records/stream-room.ts'
import { AgentProcesses } from '../support/agent-processes.ts'
import { DevnetFixture, type PrintedLogin } from '../support/devnet-fixture.ts'
import type { ForeignProgram } from '../support/foreign-program.ts'
import { until } from '../support/gateway-fixture.ts'
import { hasMosquittoClients } from '../support/mosquitto-clients.ts'
import { NatsFixture, noNats } from '../support/nats.ts'
import { missingClients, PlainClients } from '../support/plain-clients.ts'
import { RedeliveryStore, runPlainClients } from '../support/plain-clients-run.ts'
import { RawClient } from '../support/raw-client.ts'

interface ListedRecord {
  readonly id: string
  readonly vouched: string
  readonly payload: string
}

/** Whose name and password plain clients have. */
const plain = '1114'
let devnet: DevnetFixture
/** Of the device `plain`. */
let login: Omit<PrintedLogin, 'clientId'>
let device: string
/** Of the fire index. */
let address: string
const clients: MqttClient[] = []

beforeAll(async () => {
  const size = ['--full', '1', '--lightweight', '0', '--devices', '4']
  devnet = await DevnetFixture.start('plain', [...size, '--plain-in', 'forest/#', '--plain-out', 'fire/#'])
  device = devnet.idOf(plain)
  const { host, port, username, password } = await devnet.credentials(plain, '--for', '1d')
  login = { host, port, username, password }
  const deployed = await devnet.json<{ address: string }>('contract', 'deploy', 'examples/fire-index.json')
  address = deployed.value.address
}, 120_000)
/** They would connect again, and take the client identifiers of later ones. */
afterEach(async () => {
  await Promise.all(clients.splice(0).map(client => client.endAsync(true)))
})
afterAll(() => devnet?.stop())

/** Texts of the answers on the device's verdict and error topics, and of decisions, as they come. */
async function answers(): Promise<string[]> {
  const seen: string[] = []
  const client = await mqtt.connectAsync({ ...login, clientId: `${device}.ears`, protocolVersion: 4 })
  client.on('error', () => {})
  clients.push(client)
  client.on('message', (topicName, payload) => seen.push(`${topicName.replace(device, 'ID')} ${payload}`))
  await client.subscribeAsync([`mote/1/verdict/${device}`, `mote/1/error/${device}`, 'fire/#'], { qos: 1 })
  return seen
}

async function recordsOn(topic: string): Promise<readonly ListedRecord[]> {
  const { value } = await devnet.json<{ records: ListedRecord[] }>(
    ...['record', 'list', '--device', plain, '--topic', topic],
  )
  return value.records
}

const fires = { CS: 500, P: 20, H0: 40, H1: 45, H2: 50, H3: 55, H4: 60 }

test.skipIf(missingClients.mosquitto !== undefined)(
  'plain clients: mosquitto_pub reports, a contract decides, the decision is published, and each error is told (Altaş D2, D3)',
  async () => {
    const seen = await answers()
    await using programs = await PlainClients.of({ ...login, version: 4 })
    const publish = async (topicName: string, qos: 1 | 2, message: object) => {
      const words = ['-q', String(qos), '-t', topicName, '-m', JSON.stringify(message)]
      expect(await programs.mosquitto('pub', words).ended).toMatchObject({ code: 0 })
    }
    // Each is acknowledged when it is certified: mosquitto_pub ends then.
    await publish('forest/north', 2, { Payload: fires, MessageId: 'first' })
    const [record] = await recordsOn('forest/north')
    expect(record).toMatchObject({ vouched: 'gateway-attested' })
    expect((await devnet.mote('record', 'show', record!.id)).stdout).toContain('gateway-attested')
    await publish('forest/north', 1, {
      Payload: fires,
      MessageContent: { Address: address, Publish_Topic: 'fire/north' },
    })
    await publish(`mote/1/plain/${device}/hall`, 2, {
      Payload: 1,
      MessageContent: { Address: '0'.repeat(64) },
    })
    await publish('forest/north', 1, { Topic: 'hall' })
    await publish('forest/north', 1, { MessageContent: { Address: address, Values: { ...fires, CS: 0 } } })
    await until(
      () => seen.some(text => text.includes('division-by-zero') && text.includes('/verdict/')),
      'all answers',
    )
    await until(() => seen.some(text => text.startsWith('fire/north ')), 'the decision')
    const inOrder = seen.filter(text => !text.startsWith('fire/'))
    expect(inOrder.map(text => text.replace(/[0-9a-f]{64}/g, '…'))).toMatchObject([
      expect.stringMatching(/^mote\/1\/verdict\/ID .*"messageId":"first","verdict":"Check".*"record":"…"/),
      expect.stringMatching(/^mote\/1\/verdict\/ID .*"record":"…".*"decision":"low"/),
      expect.stringMatching(/^mote\/1\/error\/ID .*"code":"unknown-contract"/),
      expect.stringMatching(
        /^mote\/1\/verdict\/ID .*"verdict":"Check".*"record":"…".*"failed: unknown-contract"/,
      ),
      expect.stringMatching(/^mote\/1\/error\/ID .*"code":"malformed"/),
      expect.stringMatching(/^mote\/1\/verdict\/ID .*"verdict":"Error".*"code":"malformed"/),
      expect.stringMatching(/^mote\/1\/error\/ID .*"code":"decision-failed"/),
      expect.stringMatching(/^mote\/1\/verdict\/ID .*"call":"…".*"failed: division-by-zero in DI"/),
    ])
    expect(seen.find(text => text.startsWith('fire/north '))).toContain('"Decision":"low"')
    expect(await recordsOn('forest/north')).toHaveLength(2)
  },
)

test('plain clients: a message of 8 KiB is recorded, one byte more is too-large on the error topic; so is a payload at the command', async () => {
  const seen = await answers()
  const client = await mqtt.connectAsync({ ...login, clientId: `${device}.limits`, protocolVersion: 4 })
  clients.push(client)
  const most = 8 * 1024
  const payloadOf = (bytes: number) => `"${'x'.repeat(bytes - 2)}"`
  for (const bytes of [most + 1, most]) {
    const message = `{"Payload":${payloadOf(bytes - '{"Payload":}'.length)}}`
    expect(message).toHaveLength(bytes)
    await client.publishAsync('forest/limits', message, { qos: 1 })
  }
  await until(() => seen.length === 3, 'an error, and both verdicts')
  expect(seen).toMatchObject([
    expect.stringMatching(/^mote\/1\/error\/ID .*"code":"too-large".* 8192 bytes, got 8193.*"retry":false/),
    expect.stringMatching(/^mote\/1\/verdict\/ID .*"verdict":"Error","code":"too-large"/),
    expect.stringMatching(/^mote\/1\/verdict\/ID .*"verdict":"Check"/),
  ])
  const add = (bytes: number) => devnet.mote('record', 'add', plain, 'forest/limits', payloadOf(bytes))
  const tooLarge = await add(most + 1)
  expect(tooLarge).toMatchObject({ code: 1, stderr: expect.stringContaining('too-large: payload: ') })
  expect(await add(most)).toMatchObject({ code: 0 })
  const lengths = (await recordsOn('forest/limits')).map(({ payload }) => payload.length)
  expect(lengths).toEqual([most - '{"Payload":}'.length, most])
})

/** Bytes of what the gateway has of records on its disk. */
async function bytesOfRecords(): Promise<number> {
  const directory = join(layout.node(devnet.directory, 'gateway'), 'data', 'records')
  const sizes = await Promise.all(
    (await readdir(directory)).map(file =>
      stat(join(directory, file)).then(
        ({ size }) => size,
        () => 0,
      ),
    ),
  )
  return sizes.reduce((sum, size) => sum + size, 0)
}

test('plain clients: the gateway is killed between PUBLISH and acknowledgement, and what the client repeats is recorded once', async () => {
  const { value } = await devnet.json<{ nodes: { label: string; pid: number }[] }>('devnet', 'status')
  const { pid } = value.nodes.find(({ label }) => label === 'full')!
  const { username, password } = login
  const session = { clientId: `${device}.once`, clean: false, username, password }
  const publish = (messageId: number, dup: boolean) =>
    ({
      cmd: 'publish',
      topic: 'forest/kill',
      payload: JSON.stringify({ Payload: messageId }),
      qos: messageId === 1 ? 1 : 2,
      retain: false,
      dup,
      messageId,
    }) as const
  const messageIds = [1, 2, 3]
  const first = await RawClient.connect(login, session)
  // The gateway has proven then that nothing guards the topic: without a chain it would refuse for now.
  first.send({ ...publish(4, false), qos: 1 })
  await first.gets('puback')
  const before = await bytesOfRecords()
  process.kill(pid, 'SIGSTOP')
  try {
    first.send(...messageIds.map(id => publish(id, false)))
    let now = before
    const looking = setInterval(() => void bytesOfRecords().then(bytes => (now = bytes)), 20)
    await until(() => now > before + 3 * 400, 'the messages on the disk of the gateway').finally(() =>
      clearInterval(looking),
    )
    expect(first.received.map(({ cmd }) => cmd)).toEqual(['connack', 'puback'])
    expect((await devnet.json('chaos', 'kill', 'gateway')).code).toBe(0)
  } finally {
    process.kill(pid, 'SIGCONT')
    await first.close()
  }
  expect((await devnet.json('chaos', 'restart', 'gateway')).code).toBe(0)
  const second = await RawClient.connect(login, session)
  second.send(...messageIds.map(id => publish(id, true)))
  await second.gets('pubrec', 2)
  // Those of QoS 2 once more: a PUBREC may be lost too.
  second.send(publish(2, true), publish(3, true))
  await second.gets('pubrec', 4)
  second.send({ cmd: 'pubrel', messageId: 2 }, { cmd: 'pubrel', messageId: 3 })
  await second.gets('pubcomp', 2)
  await second.close()
  expect(second.received.map(({ cmd }) => cmd)).toContain('puback')
  const records = await recordsOn('forest/kill')
  expect(records.map(({ payload }) => payload).toSorted()).toEqual(['1', '2', '3', '4'])
})

describe.skipIf(!hasMosquittoClients)(
  'an application beside an agent, which needs mosquitto_pub and mosquitto_sub',
  () => {
    const celsius = { type: 'number', field: 'celsius', rule: { kind: 'integer', scale: 10 } } as const
    let agents: AgentProcesses
    beforeAll(async () => {
      const create = await devnet.mote('group', 'create', 'control', '1112', '--from', '1112', '--open')
      expect(create.code, create.stderr).toBe(0)
      const rules = [resolve('examples/temperature-guard.json')]
      const toDevice = { device: '1112', delivery: 'received' }
      agents = await AgentProcesses.start(devnet, {
        1111: {
          publish: [
            { topic: 'room/temperature', ...toDevice, format: celsius },
            { topic: 'to/1112', ...toDevice, channel: 'rotated' },
            { topic: 'level', openTopic: 'control', keepMs: 3_600_000 },
            { topic: 'forest/north', record: true, contract: address, publish: 'fire/north' },
            { topic: 'water/temperature', record: true, rules, onViolation: 'flag' },
          ],
        },
        1112: {
          deliver: [
            { sender: '1111', channel: 'rotated', topic: 'rotated/{sender}' },
            { sender: '1111', openTopic: 'control', topic: 'topic/{openTopic}/{sender}' },
            { sender: '1111', topic: 'valve/{sender}', format: celsius },
          ],
        },
      })
    })
    afterAll(() => agents?.[Symbol.asyncDispose]())

    const gateway = (request: { command: 'restart' } | { command: 'signal'; signal: 'SIGKILL' }) =>
      askControl(
        devnet.description.controlSocket,
        { ...request, node: devnet.description.gateway.name },
        AbortSignal.timeout(30_000),
      )

    const linesOf = ({ stdout }: ForeignProgram) => stdout.split('\n').filter(line => line !== '')

    test('agent: nothing that it acknowledged is lost or comes twice, in order, through kill -9 of gateway and agents; on a route to the chain it is recorded once, signed by its device', async () => {
      const news = agents.subscribe('1111', 'agent/#', '-v')
      const valve = agents.subscribe('1112', 'valve/#')
      const seen = () => linesOf(valve)
      const forest = { CS: 30, P: 10, H0: 70, H1: 70, H2: 70, H3: 70, H4: 70 }
      expect(await agents.publish('1111', 'forest/north', JSON.stringify(forest))).toBe(true)
      const told = await until(() => /agent\/recorded (.*)/.exec(news.stdout)?.[1], 'it is recorded')
      expect(JSON.parse(told)).toMatchObject({ topic: 'forest/north', decision: 'extreme' })
      const acknowledged: string[] = []
      let next = 0
      /** Publishes until so many more are acknowledged; one that is not may have arrived or not, and has no second try. */
      const flow = async (count: number): Promise<void> => {
        const end = acknowledged.length + count
        while (acknowledged.length < end) {
          next += 1
          const text = `${next / 10}`
          if (await agents.publish('1111', 'room/temperature', text)) acknowledged.push(text)
        }
      }
      const measured: number[] = []
      const measure = async (...temperatures: readonly number[]): Promise<void> => {
        for (const temperature of temperatures) {
          measured.push(temperature)
          const reading = JSON.stringify({ temperature })
          expect(await agents.publish('1111', 'water/temperature', reading)).toBe(true)
        }
      }
      await Promise.all([flow(3), measure(20)])
      await until(() => seen().length >= 3, 'the first readings')
      // The gateway dies with messages under way, then the sender's agent with messages on its disk.
      await Promise.all([flow(8), measure(21, 22, 23), gateway({ command: 'signal', signal: 'SIGKILL' })])
      await measure(24)
      await agents.kill('1111', '1112')
      await agents.restart('1111', '1112')
      await flow(4)
      expect(seen().length).toBeLessThan(acknowledged.length)
      await Promise.all([gateway({ command: 'restart' }), flow(4)])
      // Once more while they flow.
      await agents.kill('1111')
      await Promise.all([agents.restart('1111'), flow(4)])
      await measure(20)
      await until(() => seen().includes(acknowledged.at(-1)!), 'the last reading')
      const isAcknowledged = new Set(acknowledged)
      expect(seen().filter(text => isAcknowledged.has(text))).toEqual(acknowledged)
      expect(new Set(seen()).size).toBe(seen().length)
      expect(agents.said('1111')).toContain('mosquitto_pub -h')
      const list = ['record', 'list', '--device', '1111', '--topic', 'water/temperature', '--jsonl']
      let records: { readonly vouched: string; readonly values: object }[] = []
      for (; records.length < measured.length; await pause(200)) {
        const { code, stdout, stderr } = await devnet.mote(...list)
        expect(code, stderr).toBe(0)
        records = stdout.split('\n').flatMap(line => (line === '' ? [] : JSON.parse(line)))
      }
      expect(records.map(({ values }) => values)).toEqual(
        measured.map((temperature, i) =>
          // The last one is 4 degrees below the one before, which the agent knows after its restarts.
          i === measured.length - 1 ? { flagged: 'temperature-guard: step', temperature } : { temperature },
        ),
      )
      expect(new Set(records.map(({ vouched }) => vouched))).toEqual(new Set(['device-signed']))
    })

    test('agent: nothing is lost or comes twice while the recipient rotates its encryption key, to another kind too, and its agent is killed; to an open topic neither', async () => {
      const rotated = agents.subscribe('1112', 'rotated/#')
      const texts: string[] = []
      const send = async (count: number): Promise<void> => {
        for (let i = 0; i < count; i++) {
          texts.push(`m${texts.length}`)
          expect(await agents.publish('1111', 'to/1112', texts.at(-1)!)).toBe(true)
        }
      }
      const rotate = async (keys: string): Promise<void> => {
        const words = ['device', 'rotate', '1112', '--encryption', '--overlap', '0', '--encryption-key', keys]
        const { code, stderr } = await devnet.mote(...words)
        expect(code, stderr).toBe(0)
      }
      await send(1)
      await Promise.all([send(3), rotate('p256')])
      await agents.kill('1112')
      await Promise.all([send(3), rotate('rsa-2048')])
      for (const level of ['3', '4']) expect(await agents.publish('1111', 'level', level)).toBe(true)
      await Promise.all([send(1), agents.restart('1112')])
      await until(() => linesOf(rotated).includes(texts.at(-1)!), 'the last message')
      expect([...new Set(linesOf(rotated))]).toEqual(texts)
      expect(agents.said('1111')).toContain('recipient-key-mismatch')
      const levels = agents.subscribe('1112', 'topic/#', '-v')
      await until(() => linesOf(levels).length >= 2, 'both levels')
      expect(linesOf(levels)).toEqual(['topic/control/1111 3', 'topic/control/1111 4'])
    })
  },
)

describe.skipIf(noNats)('a gateway on three NATS servers, which needs nats-server 2.9', () => {
  const capacityBytes = 1024 * 1024
  let nats: NatsFixture
  const mote = async (...args: string[]) => expect(await devnet.mote(...args)).toMatchObject({ code: 0 })
  beforeAll(async () => {
    nats = await NatsFixture.start({ count: 3 })
    await mote('chaos', 'kill', 'gateway')
    const file = layout.nodeConfig(devnet.directory, 'gateway')
    const config = JSON.parse(await readFile(file, 'utf8')) as object
    const queue = { type: 'jetstream', servers: nats.servers, bytes: capacityBytes, nkey: nats.seedFile }
    await writeFile(file, JSON.stringify({ ...config, queue }))
    await mote('chaos', 'restart', 'gateway')
  })
  afterAll(() => nats?.[Symbol.asyncDispose]())

  test('gateway on NATS servers: the one that leads the queue is killed under load, then the gateway; what was acknowledged is on the chain once', async () => {
    const { directory, description } = devnet
    const chainId = description.chainId as ChainId
    const killLeader = async () => nats.kill(await nats.leaderOf(chainId))
    const killGateway = async () => {
      await mote('chaos', 'kill', 'gateway')
      await mote('chaos', 'restart', 'gateway')
    }
    const { config } = await nats.stream(chainId)
    expect(config).toMatchObject({ num_replicas: 3, max_bytes: capacityBytes + reservedBytes })
    const report = await runPlainClients({
      directory,
      description,
      contract: undefined,
      messages: 6,
      qos: [1, 2],
      faults: [
        { what: 'the server that leads the queue is killed', run: killLeader },
        { what: 'the gateway is killed, and started again', run: killGateway },
      ],
      withinMs: 90_000,
    })
    expect(report).toMatchObject({ published: 24, acknowledged: 24, lost: 0, twice: 0 })
    expect(Math.min(...report.inFlight)).toBeGreaterThan(0)
  })

  test('gateway on NATS servers: publishers are told that the queue is full, and what they send again is recorded once', async () => {
    const { value } = await devnet.json<{ nodes: { label: string; pid: number }[] }>('devnet', 'status')
    const { pid } = value.nodes.find(({ label }) => label === 'full')!
    const connect = (name: string) => {
      const client = mqtt.connect({
        ...{ ...login, protocolVersion: 4, clean: false, reconnectPeriod: 200 },
        clientId: `${device}.${name}`,
        outgoingStore: new RedeliveryStore(),
      })
      return client.on('error', () => {})
    }
    const publish = (client: MqttClient, id: number) => {
      const message = { Payload: { id, image: ['.'.repeat(8_000)] } }
      return client.publishAsync('forest/full', JSON.stringify(message), { qos: 1 })
    }
    const [ears, ...clients] = ['ears', '1', '2', '3'].map(connect) as [MqttClient, ...MqttClient[]]
    const told: { readonly code: string; readonly retry: boolean }[] = []
    let closed = 0
    try {
      ears.on('message', (_topic, payload) => told.push(JSON.parse(String(payload))))
      for (const client of clients) client.on('close', () => closed++)
      // A gateway that has just started takes nobody until it is level with the chain.
      const errors = topics.error(device as DeviceId)
      const isHeard = () => ears.subscribeAsync(errors, { qos: 1 }).then(Boolean, () => false)
      while (!(await isHeard())) await pause(100)
      // Gateways use half of a stream that is so small: two of these messages.
      await nats.boundStream(devnet.description.chainId as ChainId, 40 * 1024)
      // The gateway has proven then that nothing guards the topic.
      await publish(ears, 0)
      process.kill(pid, 'SIGSTOP')
      const sent = [1, 2, 3, 4, 5, 6].map(id => publish(clients[id % 3]!, id))
      await until(() => closed > 0 && told.length > 0, 'the queue is full')
      process.kill(pid, 'SIGCONT')
      await Promise.all(sent)
    } finally {
      process.kill(pid, 'SIGCONT')
      await Promise.all([ears, ...clients].map(client => client.endAsync(true)))
    }
    expect(told[0]).toMatchObject({ code: 'overloaded', retry: true })
    const records = await recordsOn('forest/full')
    const ids = records.map(({ payload }) => (JSON.parse(payload) as { id: number }).id)
    expect(ids.toSorted()).toEqual([0, 1, 2, 3, 4, 5, 6])
  })
})
