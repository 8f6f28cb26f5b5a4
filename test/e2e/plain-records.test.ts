/** Plain MQTT clients and the chain, on real processes: what they report is recorded and decided about, once, whoever is killed meanwhile. */
import { readdir, stat } from 'node:fs/promises'
import { join } from 'node:path'
import mqtt, { type MqttClient } from 'mqtt'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { layout } from '../../devnet/layout.ts'
import { DevnetFixture } from '../support/devnet-fixture.ts'
import { until } from '../support/gateway-fixture.ts'
import { missingClients, PlainClients } from '../support/plain-clients.ts'
import { RawClient } from '../support/raw-client.ts'

interface Login {
  readonly host: string
  readonly port: number
  readonly username: string
  readonly password: string
}
interface ListedRecord {
  readonly id: string
  readonly vouched: string
  readonly payload: string
}

let devnet: DevnetFixture
let login: Login
let device: string
let clients: MqttClient[]

beforeAll(async () => {
  const size = ['--full', '1', '--lightweight', '0', '--devices', '1']
  devnet = await DevnetFixture.start('plain', [...size, '--plain-in', 'forest/#', '--plain-out', 'fire/#'])
  device = devnet.idOf('1111')
  const { value } = await devnet.json<Login>('device', 'credentials', '1111', '--for', '1d')
  const { host, port, username, password } = value
  login = { host, port, username, password }
  clients = []
}, 120_000)
afterAll(async () => {
  await Promise.all(clients?.map(client => client.endAsync(true)) ?? [])
  await devnet?.stop()
})

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
    ...['record', 'list', '--device', '1111', '--topic', topic],
  )
  return value.records
}

const fires = { CS: 500, P: 20, H0: 40, H1: 45, H2: 50, H3: 55, H4: 60 }

test.skipIf(missingClients.mosquitto !== undefined)(
  'plain clients: mosquitto_pub reports, a contract decides, the decision is published, and each error is told (Altaş D2, D3)',
  async () => {
    const deployed = await devnet.json<{ address: string }>('contract', 'deploy', 'examples/fire-index.json')
    const { address } = deployed.value
    const seen = await answers()
    await using plain = await PlainClients.of({ ...login, version: 4 })
    const publish = async (topicName: string, qos: 1 | 2, message: object) => {
      const words = ['-q', String(qos), '-t', topicName, '-m', JSON.stringify(message)]
      expect(await plain.mosquitto('pub', words).ended).toMatchObject({ code: 0 })
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
  const add = (bytes: number) => devnet.mote('record', 'add', '1111', 'forest/limits', payloadOf(bytes))
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
