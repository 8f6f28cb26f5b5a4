/**
 * The gateway as a process beside a real full node, seen by MQTT clients that are not ours: mqtt.js, and mosquitto_sub
 * where it is installed. Messages travel through `mote device send` and `listen`.
 */
import { existsSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { bytesToHex } from '@noble/hashes/utils.js'
import mqtt, { type MqttClient } from 'mqtt'
import { afterAll, afterEach, beforeAll, describe, expect, test, vi } from 'vitest'
import type { ChainId, Milliseconds } from '../../chain/brands.ts'
import { keyIdOf } from '../../chain/keys.ts'
import type { ChainClient } from '../../client/chain-client.ts'
import { type IdentityKeys, makeKeys, signerOf } from '../../client/key-directory.ts'
import { revoke } from '../../client/operator-actions.ts'
import { layout } from '../../devnet/layout.ts'
import type { SealRequest } from '../../mqtt-gateway/device/envelope-sealing.ts'
import { filters, topics } from '../../mqtt-gateway/protocol/topics.ts'
import { beginInProcess } from '../support/command-in-process.ts'
import { DevnetFixture } from '../support/devnet-fixture.ts'
import { listen, type SeenMessage, until } from '../support/gateway-fixture.ts'
import { hasMosquittoClients, startMosquitto } from '../support/mosquitto-clients.ts'
import { sealedMessage } from '../support/sealed-message.ts'
import { repositoryRoot } from '../support/source-files.ts'

let devnet: DevnetFixture
let client: ChainClient
const following = new AbortController()
let d1112: IdentityKeys
let d1113: IdentityKeys
const closing: (() => unknown)[] = []

beforeAll(async () => {
  devnet = await DevnetFixture.start('gateway', ['--full', '1', '--lightweight', '0', '--tls'])
  client = await devnet.client()
  void client.follower.run(following.signal)
  d1112 = await devnet.keys('1112')
  d1113 = await devnet.keys('1113')
})
afterEach(async () => {
  await Promise.all(closing.splice(0).map(close => close()))
})
afterAll(() => {
  following.abort()
  return devnet.stop()
})

/** An mqtt.js client that has nothing of ours but the credentials. */
async function connect(name: string): Promise<MqttClient> {
  const login = await devnet.credentials(name)
  const client = await mqtt.connectAsync({ ...login, protocolVersion: 4, reconnectPeriod: 0 })
  client.on('error', () => {})
  closing.push(() => client.endAsync(true))
  return client
}

async function subscribe(
  client: MqttClient,
  topicFilter: string = filters.anyDelivery,
): Promise<SeenMessage[]> {
  const seen: SeenMessage[] = []
  client.on('message', (topic, payload) => seen.push({ topic, payload }))
  await client.subscribeAsync(topicFilter, { qos: 1 })
  return seen
}

const delivered = (seen: readonly SeenMessage[]) => seen.filter(({ topic }) => topic.startsWith('mote/1/to/'))

/** Devices of these names listen; what each has read so far. */
async function listeners(...names: readonly string[]): Promise<readonly (readonly string[])[]> {
  return Promise.all(
    names.map(async name => {
      const agent = await devnet.agent(client, name, { prefetches: true })
      closing.push(() => agent.close())
      return (await listen(agent)).texts
    }),
  )
}

/** `mote device listen` as a process; its messages' texts so far. */
async function listenerProcess(name: string) {
  const command = devnet.spawn('device', 'listen', name, '--json')
  closing.push(() => {
    command.process.kill('SIGINT')
    return command.ended
  })
  await command.untilSays('listening')
  const texts = () =>
    command.stdout
      .split('\n')
      .filter(line => line !== '')
      .map(line => (JSON.parse(line) as { text: string }).text)
  return { process: command.process, texts }
}

/** A command that ends by itself. */
const begin = (...args: string[]) => beginInProcess(args, { MOTE_DIR: devnet.directory })
const send = (...args: string[]) => devnet.json('device', 'send', ...args, '--from', '1111')

/** A sealed message from 1112 to 1113 as bytes. Its counters are the test's: `mote device send` counts for 1111 only. */
async function envelope(counter: number, changes: Partial<SealRequest> = {}): Promise<Buffer> {
  const chainId = devnet.description.chainId as ChainId
  return Buffer.from(await sealedMessage(chainId, { from: d1112, to: d1113 }, { counter, ...changes }))
}

interface SentByVote {
  readonly verdict: string
  readonly vote: { readonly answers: Readonly<Record<string, string>> }
}

/** '' as long as there is none. */
const textOfFile = (path: string): string => (existsSync(path) ? readFileSync(path, 'utf8') : '')

interface DecisionRow {
  readonly event: string
  readonly sender: string
  readonly code: string | null
  readonly mismatch: unknown
}

function decisions(): DecisionRow[] {
  const data = layout.nodeData(devnet.directory, 'gateway')
  return readdirSync(data)
    .filter(name => name.startsWith('decisions.'))
    .flatMap(name => readFileSync(join(data, name), 'utf8').trimEnd().split('\n'))
    .filter(line => line !== '')
    .map(line => JSON.parse(line) as DecisionRow)
}

describe('gateway process: who can read', () => {
  test('gateway process: 1113 reads what 1111 sends; 1112, 1114 and an mqtt.js client that may observe do not', async () => {
    const seen = await subscribe(await connect('observer'))
    const raw = begin('device', 'listen', 'observer', '--raw', '--json', '--count', '1')
    const [in1113, in1112, in1114] = await listeners('1113', '1112', '1114')
    await until(() => raw.stderr.includes('listening'), 'the observer listens')
    const sent = await send('1113', 'open valve 3')
    expect(sent).toMatchObject({ code: 0, value: { verdict: 'Check', messageId: expect.any(String) } })
    await until(() => in1113!.length > 0, '1113 reads it')
    expect(in1113!).toEqual(['open valve 3'])
    await until(() => delivered(seen).length === 1, 'the observer gets the bytes')
    expect(delivered(seen)[0]!.topic).toBe(`mote/1/to/${d1113.id}`)
    for (const { payload } of seen) expect(payload.includes('open valve 3')).toBe(false)
    expect([...in1112!, ...in1114!]).toEqual([])
    expect(await raw.ended).toMatchObject({ code: 0 })
    expect(JSON.parse(raw.stdout)).toMatchObject({
      from: '1111',
      deliveredTo: '1113',
      target: { type: 'device', id: d1113.id },
      suite: 'hpke-x25519-aes128gcm',
      size: seen[0]!.payload.length,
      first: expect.stringMatching(/^([0-9a-f]{2}){1,32}$/),
      messageId: sent.value['messageId'],
    })
    expect(await devnet.json('device', 'rights', 'gateway')).toMatchObject({
      code: 0,
      value: { gateway: true },
    })
  })

  test('gateway process: mosquitto_sub gets ciphertext only, with the right to observe', async context => {
    if (!hasMosquittoClients) context.skip('mosquitto_sub is not installed')
    const { host, port, clientId, username, password } = await devnet.credentials('observer')
    const login = ['-h', host, '-p', String(port), '-i', clientId, '-u', username, '-P', password]
    const words = ['-V', 'mqttv311', '-t', filters.anyDelivery, '-C', '1', '-F', '%t %x']
    const program = startMosquitto('sub', [...login, ...words])
    closing.push(() => program.stop())
    // It does not say when it is subscribed: one message after another, until it has got one and ends.
    for (let i = 0; i < 20 && !program.hasEnded; i++)
      expect((await send('1113', 'close valve 3')).code).toBe(0)
    await until(() => program.hasEnded, 'mosquitto_sub gets the bytes')
    const output = program.stdout
    const line = /^(mote\/1\/to\/\S+) ([0-9a-f]+)$/m.exec(output)
    expect(line?.[1]).toBe(`mote/1/to/${d1113.id}`)
    expect(output).not.toContain('close valve 3')
    expect(output).not.toContain(Buffer.from('close valve 3').toString('hex'))
  })

  test('gateway process: by TLS, with the authority of the devnet: a message, and a client that has a certificate and no password', async () => {
    const { gateway } = (await devnet.json<{ gateway: { mqtts: string } }>('devnet', 'status')).value
    const listening = begin('device', 'listen', '1113', '--count', '1', '--gateway', gateway.mqtts)
    await until(() => listening.stderr.includes('listening'), '1113 listens')
    await send('1113', 'by TLS\u001b[2J', '--gateway', gateway.mqtts)
    expect(await listening.ended).toMatchObject({ code: 0, stdout: '1111 → by TLS\\u001b[2J\n' })
    const foreign = join(devnet.directory, 'foreign')
    const issue = ['gateway', 'certificate', 'elsewhere.example', '--out', foreign, '--ca', foreign]
    expect((await devnet.mote(...issue)).code).toBe(0)
    const trusting = ['--gateway', gateway.mqtts, '--gateway-ca', join(foreign, 'ca.crt')]
    const refused = await devnet.mote('device', 'send', '1113', 'x', '--from', '1111', ...trusting)
    expect(refused).toMatchObject({ code: 1, stderr: expect.stringContaining('TLS:') })
    const issued = await devnet.json<{ certificate: string; key: string; gatewayCa: string; port: number }>(
      ...['device', 'credentials', '1112', '--certificate', '--out', join(devnet.directory, 'for-1112')],
    )
    const { certificate, key, gatewayCa, port } = issued.value
    expect(statSync(key).mode & 0o777).toBe(0o600)
    const [cert, ca] = [readFileSync(certificate), readFileSync(gatewayCa)]
    const secure = { host: 'localhost', port, protocol: 'mqtts', cert, key: readFileSync(key), ca } as const
    const client = await mqtt.connectAsync({ ...secure, clientId: d1112.id, protocolVersion: 4 })
    closing.push(() => client.endAsync(true))
    const seen = await subscribe(client, filters.toDevice(d1112.id))
    await send('1112', 'to who has a certificate')
    await until(() => seen.length > 0, 'the sealed message')
    const once = (await devnet.json<{ mqtts: string; gatewayCa: string }>('device', 'credentials', '1112'))
      .value
    expect(once).toMatchObject({ mqtts: gateway.mqtts, gatewayCa })
  })

  test('gateway process: to hsu0001: 1112 and 1113 read it, 1114 gets nothing, an observer bytes; 1113, removed, cannot read the next', async () => {
    const seen = await subscribe(await connect('observer'))
    const [in1112, in1113, in1114] = await listeners('1112', '1113', '1114')
    const { records, follower } = client
    const epochs = () =>
      Promise.all(devnet.description.groups.map(async ({ id }) => (await records.group(id)).value))
    const keyed = ['hsu0001', 'hsu0002'].map(name => ({ record: { name, epoch: 1 } }))
    expect(await epochs(), 'keys before the first message (Hsu C3)').toMatchObject(keyed)
    expect((await send('--group', 'hsu0001', 'tank is full')).value).toMatchObject({ verdict: 'Check' })
    await until(() => in1112!.length === 1 && in1113!.length === 1, 'both members read it')
    await follower.sync()
    expect(await epochs(), 'and under those').toMatchObject(keyed)
    const removed = await devnet.json('group', 'remove', 'hsu0001', '1113', '--from', '1111')
    expect(removed, 'with a key for who stays').toMatchObject({ code: 0, value: { epoch: 2 } })
    expect((await send('--group', 'hsu0001', 'without 1113')).value).toMatchObject({ verdict: 'Check' })
    await until(() => in1112!.length === 2, '1112 reads the next')
    // The first goes to two members, the second to one.
    await until(() => delivered(seen).length === 3, 'the observer gets the bytes')
    // A message for 1113 alone comes after it on the same connection: so the other is not still under way.
    expect((await send('1113', 'last')).value).toMatchObject({ verdict: 'Check' })
    await until(() => in1113!.includes('last'), '1113 reads on')
    expect(in1112!).toEqual(['tank is full', 'without 1113'])
    expect(in1113!).toEqual(['tank is full', 'last'])
    expect(in1114!).toEqual([])
    for (const { payload } of seen) expect(payload.includes('tank is full')).toBe(false)
    const asStranger = await devnet.json(
      'device',
      'send',
      '--group',
      'hsu0001',
      'let me in',
      '--from',
      '1114',
    )
    expect(asStranger).toMatchObject({ code: 5, value: { verdict: 'Error', code: 'not-member' } })
  })
})

describe('gateway process: refusals', () => {
  test("gateway process: the recipient's key altered at the sender: Error, nothing relayed, both key ids logged", async () => {
    expect((await send('1113', 'first contact')).code).toBe(0)
    const seen = await subscribe(await connect('observer'))
    const contacts = join(devnet.directory, 'devices', '1111', 'contacts.json')
    const [genuine, forged] = [d1113, d1112].map(keys => bytesToHex(keys.encryption.publicKey.bytes))
    const before = readFileSync(contacts, 'utf8')
    expect(before).toContain(genuine)
    writeFileSync(contacts, before.replace(genuine!, forged!))
    expect(await send('1113', 'to the wrong key')).toMatchObject({
      code: 5,
      value: { verdict: 'Error', code: 'recipient-key-mismatch', reason: expect.any(String) },
    })
    writeFileSync(contacts, before)
    expect((await send('1113', 'to the right key')).code).toBe(0)
    await until(() => delivered(seen).length > 0, 'the good message')
    expect(delivered(seen), 'and nothing before it').toHaveLength(1)
    const mismatch = {
      inEnvelope: keyIdOf(d1112.encryption.publicKey),
      onChain: keyIdOf(d1113.encryption.publicKey),
    }
    expect(decisions()).toContainEqual(expect.objectContaining({ code: 'recipient-key-mismatch', mismatch }))
  })

  test('gateway process: a copy that is no key: Error with both sides logged; refresh mends it, nothing else does', async () => {
    const contacts = join(devnet.directory, 'devices', '1111', 'contacts.json')
    const genuine = bytesToHex(d1113.encryption.publicKey.bytes)
    const spoilt = readFileSync(contacts, 'utf8').replace(genuine, 'no key')
    writeFileSync(contacts, spoilt)
    const onChain = keyIdOf(d1113.encryption.publicKey)
    expect(await send('1113', 'to no key')).toMatchObject({
      code: 5,
      value: { verdict: 'Error', code: 'recipient-key-mismatch', messageId: null },
    })
    expect(readFileSync(contacts, 'utf8')).toBe(spoilt)
    const log = readFileSync(join(devnet.directory, 'devices', '1111', 'decisions.1.log'), 'utf8')
    expect(JSON.parse(log)).toMatchObject({ verdict: 'Error', mismatch: { onChain } })
    expect(log).toContain("got 'no key'")
    const refreshed = await devnet.json('device', 'contact', 'refresh', '1113', '--from', '1111')
    expect(refreshed).toMatchObject({ code: 0, value: { keyId: onChain, changed: true } })
    expect((await send('1113', 'to the key')).code).toBe(0)
  })

  test("gateway process: --vote, the papers' run: all Check; a copy altered, absent, or a device that does not answer, and nothing is sent", async () => {
    const contactsOf = (name: string) => join(devnet.directory, 'devices', name, 'contacts.json')
    const genuine = bytesToHex(d1113.encryption.publicKey.bytes)
    const [, in1113] = await listeners('1112', '1113')
    const silent = await listenerProcess('1114')
    // Who listens fetches the keys beforehand; who only sends takes its copy itself.
    await until(
      () => ['1112', '1114'].every(name => textOfFile(contactsOf(name)).includes(genuine)),
      'copies',
    )
    await devnet.json('device', 'contact', 'refresh', '1113', '--from', '1111')
    const vote = async (): Promise<SentByVote> => {
      const words = ['device', 'send', '1113', 'by vote', '--vote', '--from', '1111', '--json']
      const { stdout, stderr } = await devnet.mote(...words)
      // One in a second.
      return stderr.includes('"rate-limited"') ? vote() : (JSON.parse(stdout) as SentByVote)
    }
    await vi.waitFor(async () => {
      expect(await vote()).toMatchObject({
        verdict: 'Check',
        vote: {
          answers: { 1112: 'Check', 1113: 'Check', 1114: 'Check', gateway: 'Check', sender: 'Check' },
          objections: [],
        },
      })
    }, 20_000)
    await until(() => in1113!.includes('by vote'), '1113 reads it')
    const count = in1113!.length
    const before = readFileSync(contactsOf('1114'), 'utf8')
    const forged = bytesToHex(d1112.encryption.publicKey.bytes)
    const [inEnvelope, inCopy] = [d1113, d1112].map(keys => keyIdOf(keys.encryption.publicKey))
    for (const [content, copy] of [
      [before.replace(genuine, forged), inCopy],
      ['{"version":1,"contacts":{}}', null],
    ] as const) {
      writeFileSync(contactsOf('1114'), content)
      expect(await vote()).toMatchObject({
        verdict: 'Error',
        code: 'recipient-key-mismatch',
        vote: {
          answers: { 1112: 'Check', 1114: 'Error' },
          objections: [{ name: '1114', inEnvelope, inCopy: copy }],
        },
      })
    }
    writeFileSync(contactsOf('1114'), before)
    expect(decisions()).toContainEqual(
      expect.objectContaining({ event: 'result', mismatch: { inEnvelope, inCopy } }),
    )
    silent.process.kill('SIGSTOP')
    try {
      expect(await vote()).toMatchObject({
        verdict: 'Error',
        code: 'timeout',
        vote: { answers: { 1114: 'Silent' } },
      })
    } finally {
      silent.process.kill('SIGCONT')
    }
    expect(in1113!).toHaveLength(count)
  })

  test('gateway process: two processes that listen for one device both get every message, each once', async () => {
    const [here] = await listeners('1113')
    const there = await listenerProcess('1113')
    const words = ['one', 'two', 'three']
    for (const word of words) expect((await send('1113', word)).code).toBe(0)
    await until(() => here!.length >= words.length && there.texts().length >= words.length, 'all three')
    expect([here, there.texts()]).toEqual([words, words])
  })

  test('gateway process: kept for who is away; the gateway is killed with SIGKILL; who comes back gets all of it in order, before what is newer', async () => {
    for (const text of ['kept 1', 'kept 2'])
      expect((await send('1114', text, '--keep', '2d')).value).toMatchObject({ delivery: 'kept' })
    expect((await devnet.json('chaos', 'kill', 'gateway')).code).toBe(0)
    expect((await devnet.json('chaos', 'restart', 'gateway')).code).toBe(0)
    const [texts] = await listeners('1114')
    expect((await send('1114', 'newer')).value).toMatchObject({ verdict: 'Check' })
    await until(() => texts!.includes('newer'), 'the newer one')
    expect(texts).toEqual(['kept 1', 'kept 2', 'newer'])
  })

  test('gateway process: an exact repeat, a used counter, an unknown sender and an expired message, each with its verdict', async () => {
    const seen = await subscribe(await connect('observer'))
    const client = await connect('1112')
    const verdicts = await subscribe(client, topics.verdict(d1112.id))
    const stranger = makeKeys('stranger')
    const good = await envelope(1)
    const wires = [
      good,
      good,
      await envelope(1),
      await envelope(2, { sender: stranger.id, signer: signerOf(stranger) }),
      await envelope(3, { expiry: (Date.now() - 10_000) as Milliseconds }),
      await envelope(4),
    ]
    for (const wire of wires) await client.publishAsync(topics.send(d1112.id), wire, { qos: 1 })
    await until(() => verdicts.length === wires.length, 'a verdict for each')
    const codes = verdicts.map(({ payload }) => {
      const { verdict, code } = JSON.parse(payload.toString('utf8')) as { verdict: string; code?: string }
      return code ?? verdict
    })
    expect(codes).toEqual(['Check', 'Check', 'replayed', 'unknown-signer', 'envelope-expired', 'Check'])
    await until(() => delivered(seen).length === 2, 'the two good ones')
    expect(delivered(seen).map(({ payload }) => payload.equals(good))).toEqual([true, false])
  })

  test('gateway process: a sender revoked on the chain is dropped within a second of certification, and refused', async () => {
    const joined = await devnet.json<{ id: string }>('device', 'join', 'sensor-9')
    const live = await connect('sensor-9')
    const closed = new Promise<number>(resolve => live.once('close', () => resolve(performance.now())))
    const { id } = await devnet.keys('sensor-9')
    expect(joined.value.id).toBe(id)
    await revoke(client, await devnet.operator(), { id, reason: 'stolen' })
    const certifiedAt = performance.now()
    expect((await closed) - certifiedAt).toBeLessThan(1_000)
    await expect(connect('sensor-9')).rejects.toMatchObject({ code: 5 })
    const refused = await devnet.json('device', 'send', '1113', 'let me in', '--from', 'sensor-9')
    expect(refused).toMatchObject({ code: 5, value: { verdict: 'Error', code: 'signer-not-active' } })
    const cut = { event: 'cut', sender: id, code: 'device-revoked' }
    expect(decisions()).toContainEqual(expect.objectContaining(cut))
  })

  test('no seed and no password of the whole run is in the log of a node or of the gateway', async () => {
    const { directory } = devnet
    const login = await devnet.credentials('1112')
    await connect('1112')
    const files = readdirSync(directory, { recursive: true, encoding: 'utf8' })
    const textOf = (file: string) => readFileSync(join(directory, file), 'utf8')
    const seeds = files
      .filter(file => /(^|\/)(key\.json|keys\/.+\.json)$/.test(file))
      .flatMap(file =>
        [...textOf(file).matchAll(/"(?:seed|secret)": ?"([0-9a-f]{64,})"/g)].map(([, seed]) => seed!),
      )
    const logs = files.filter(file => /(^|\/)(log(\.\d)?|[a-z]+(\.\d+)?\.log)$/.test(file))
    expect(seeds.length).toBeGreaterThan(20)
    expect(logs).toEqual(expect.arrayContaining(['nodes/full-1/log', 'nodes/gateway/log']))
    const text = logs.map(textOf).join('\n')
    expect(text.includes('"event":"connect"'), 'the log of decisions is among them').toBe(true)
    for (const secret of [...seeds, login.password, Buffer.from(login.password).toString('hex')])
      expect(text.includes(secret), 'a secret in a log').toBe(false)
  })
})

test('a device records, a contract decides, and a full node that was stopped finds nothing amiss (Altaş D3 to D5)', async () => {
  const mote = async (...args: string[]) => {
    const { code, stdout, stderr } = await devnet.mote(...args, '--json')
    expect(code, stderr).toBe(0)
    return JSON.parse(stdout)
  }
  const { address } = await mote('contract', 'deploy', join(repositoryRoot, 'examples/fire-index.json'))
  const inputs = '{"CS":30,"P":10,"H0":70,"H1":70,"H2":70,"H3":70,"H4":70}'
  const report = ['record', 'add', '1111', 'forest/north', inputs, '--contract', 'fire-index']
  expect(await mote(...report, '--publish', 'fire/north')).toMatchObject({
    vouched: 'device-signed',
    decided: {
      contract: address,
      decision: 'extreme',
      values: { DI: 81.16993166666667 },
      publishTopic: 'fire/north',
    },
  })
  expect(await mote('contract', 'show', 'fire-index')).toMatchObject({ decisions: 1, state: { runs: 1 } })
  const { contracts } = await mote('contract', 'list')
  expect(contracts).toMatchObject([{ address }])
  expect((await mote('record', 'list', '--device', '1111')).records).toMatchObject([
    { topic: 'forest/north' },
  ])
  await mote('chaos', 'kill', 'full-1')
  const config = layout.nodeConfig(devnet.directory, 'full-1')
  const verified = await mote('node', 'verify', '--config', config)
  expect(verified).toMatchObject({ findings: [], executed: verified.height })
})
