/**
 * docs/THREATS.md, against one real devnet: a device and strangers at the MQTT port, a coordination node that refuses newcomers
 * and gives bad advice, and at last all hostile peers at once.
 */
import { randomBytes } from 'node:crypto'
import { createServer } from 'node:net'
import type { MqttClient } from 'mqtt'
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest'
import type { ChainId } from '../../chain/brands.ts'
import type { Signer } from '../../chain/keys.ts'
import { noRights } from '../../chain/rights.ts'
import type { ChainClient } from '../../client/chain-client.ts'
import { readGenesisFile } from '../../client/genesis-file.ts'
import { httpSource } from '../../client/http-source.ts'
import { httpContact, join as joinChain } from '../../client/join.ts'
import { type IdentityKeys, makeKeys, readKeyFile } from '../../client/key-directory.ts'
import { nativeSignerFromSeed } from '../../client/native-crypto.ts'
import { grant, setRights } from '../../client/operator-actions.ts'
import { multiaddrOf, playCoordination } from '../../devnet/chaos/hostile/coordination.ts'
import { Counts } from '../../devnet/chaos/hostile/counts.ts'
import { connectDevice, type DeviceOptions, stallReading } from '../../devnet/chaos/hostile/device.ts'
import { crowdGateway } from '../../devnet/chaos/hostile/strangers.ts'
import { usageOf } from '../../devnet/chaos/process-usage.ts'
import type { SiegeReport } from '../../devnet/chaos/siege-run.ts'
import { type Address, apiUrl, layout } from '../../devnet/layout.ts'
import { topics } from '../../mqtt-gateway/protocol/topics.ts'
import { DevnetFixture } from '../support/devnet-fixture.ts'
import { sealedMessage } from '../support/sealed-message.ts'
import { isLong, measureDamage, phaseMs, timesOf } from './siege.ts'

const profile = {
  connectionLifetime: 'days',
  cores: 1,
  memoryMebibytes: 64,
  storageMebibytes: 64,
} as const
/** More than a test of any length lets in. */
const newcomers = 1_000
/** Between messages of 256 KiB: a short phase sends more of them than sockets hold. */
const betweenLargeMs = 10

let devnet: DevnetFixture
let chain: ChainClient
let gateway: Address
let devices: IdentityKeys[]
const closing: (() => unknown)[] = []

beforeAll(async () => {
  // Nobody here is hostile to full nodes, but in a siege.
  const fullNodes = isLong ? '3' : '1'
  const size = ['--full', fullNodes, '--coordination', '2', '--lightweight', '1', '--devices', '3']
  devnet = await DevnetFixture.start('hostile', size)
  chain = await devnet.client()
  gateway = devnet.description.gateway.mqtt
  // The siege has 1111 send: what a test sends in its name would count on where that begins.
  devices = await Promise.all(['1113', '1112', '1111'].map(name => devnet.keys(name)))
})
afterEach(async () => {
  await Promise.all(closing.splice(0).map(close => close()))
})
afterAll(() => devnet.stop())

function deviceOf(keys: IdentityKeys): DeviceOptions {
  return { keys, chainId: devnet.description.chainId as ChainId }
}

async function connected(keys: IdentityKeys): Promise<MqttClient> {
  const client = await connectDevice(deviceOf(keys), gateway)
  closing.push(() => client.endAsync(true))
  return client
}

const nodeNamed = (name: string) => devnet.description.nodes.find(node => node.name === name)!

async function grantedToken(): Promise<Signer> {
  const token = nativeSignerFromSeed('ed25519', randomBytes(32))
  await grant(chain, await devnet.operator(), { tokenKey: token.publicKey, quota: newcomers })
  return token
}

/** A newcomer that knows both coordination nodes, the hostile one first. */
async function join(token: Signer): Promise<void> {
  const contacts = ['coordination-1', 'coordination-2'].map(name => httpContact(apiUrl(nodeNamed(name).api)))
  const keys = makeKeys('newcomer')
  await joinChain(chain, { keys, label: 'lightweight', profile, token }, contacts)
}

test('a device that subscribes and does not read: others are acknowledged and read as before', async () => {
  const [sender, recipient, hostile] = devices as [IdentityKeys, IdentityKeys, IdentityKeys]
  const rights = { ...noRights, observe: true }
  await setRights(chain, await devnet.operator(), { id: hostile.id, rights })
  const client = await connected(sender)
  const reader = await connected(recipient)
  await reader.subscribeAsync(`mote/1/to/${recipient.id}`, { qos: 1 })
  let sent = 0
  let read = 0
  reader.on('message', () => read++)
  const send = async (): Promise<void> => {
    sent += 1
    const chainId = devnet.description.chainId as ChainId
    const large = { counter: sent, content: new Uint8Array(256 * 1024) }
    const bytes = await sealedMessage(chainId, { from: sender, to: recipient }, large)
    await client.publishAsync(topics.send(sender.id), Buffer.from(bytes), { qos: 1 })
  }
  const counts = new Counts()
  let slowestMs = 0
  const damage = await measureDamage(
    'a device that does not read',
    {
      measure: async forMs => {
        const times = await timesOf(send, forMs, betweenLargeMs)
        slowestMs = Math.max(slowestMs, ...times)
        return times
      },
    },
    over => stallReading(deviceOf(hostile), gateway, counts, over),
    () => counts.of('stalls') > 0,
  )
  expect(counts.of('stalls')).toBeGreaterThan(0)
  expect(damage.acknowledged).toBeGreaterThan(0)
  expect(damage.duringMs).toBeLessThan(Math.max(20 * damage.beforeMs, 500))
  // One that waits for the reader to be cut hides in a median.
  expect(slowestMs).toBeLessThan(5_000)
  expect(read).toBe(sent)
})

test('strangers with sockets and made-up names: a device that connects is taken as before', async () => {
  const [device] = devices as [IdentityKeys]
  const chainId = devnet.description.chainId as ChainId
  const counts = new Counts()
  const damage = await measureDamage(
    'strangers with sockets',
    { measure: forMs => timesOf(async () => (await connected(device)).endAsync(), forMs) },
    over => crowdGateway({ gateway, chainId }, counts, over),
    () => counts.of('made-up names') > 0,
  )
  expect(counts.of('made-up names')).toBeGreaterThan(0)
  expect(damage.acknowledged).toBeGreaterThan(0)
  expect(damage.duringMs).toBeLessThan(2_000)
})

test('a coordination node: newcomers get in by another one, and its bad advice is checked, bounded and dropped', async () => {
  const hostile = nodeNamed('coordination-1')
  const light = nodeNamed('lightweight-1')
  const fullNodes = devnet.description.nodes
    .filter(({ label }) => label === 'full')
    .map(({ id, p2p }) => ({ id, address: multiaddrOf(p2p) }))
  let dialled = 0
  const thirdParty = createServer(socket => {
    dialled += 1
    socket.on('error', () => {}).destroy()
  })
  await new Promise<void>(resolve => thirdParty.listen(0, '127.0.0.1', resolve))
  const { port } = thirdParty.address() as { port: number }
  const token = await grantedToken()
  const source = httpSource(apiUrl(light.api))
  const usage = async () => usageOf((await source.status()).pid)
  const before = await usage()
  const height = (await source.status()).certifiedHeight
  const counts = new Counts()
  let slowestJoinMs = 0
  let misledMs = 0
  const reads = await measureDamage(
    'a coordination node, joining',
    {
      measure: async forMs => {
        const times = await timesOf(() => join(token), forMs)
        slowestJoinMs = Math.max(slowestJoinMs, ...times)
        return times
      },
    },
    async over => {
      expect((await devnet.mote('chaos', 'kill', hostile.name)).code).toBe(0)
      const keys = await readKeyFile(layout.nodeKey(devnet.directory, hostile.name))
      const genesis = await readGenesisFile(layout.genesis(devnet.directory))
      const beganAt = performance.now()
      await playCoordination(
        {
          peer: { genesis, keys, port: hostile.p2p.port },
          api: hostile.api,
          fullNodes,
          thirdParty: { host: '127.0.0.1', port },
        },
        counts,
        over,
      )
      misledMs = performance.now() - beganAt
    },
    () => counts.of('assignments refused') > 0,
  )
  const after = await usage()
  process.stdout.write(`${JSON.stringify({ ...counts.all, dialled, slowestJoinMs, before, after })}\n`)
  expect(counts.of('refused')).toBeGreaterThan(0)
  expect(counts.of('assignments refused')).toBeGreaterThan(0)
  // Those name active full nodes by their own signatures, and the node goes where those say.
  expect(counts.of('assignments taken')).toBeLessThanOrEqual(Math.ceil(11 + misledMs / 2_000))
  expect(dialled).toBe(0)
  // A newcomer that is kept waiting goes to the next one after 5 s.
  expect(reads.acknowledged).toBeGreaterThan(0)
  expect(slowestJoinMs).toBeLessThan(20_000)
  const now = await source.status()
  expect(now.certifiedHeight).toBeGreaterThan(height)
  expect(fullNodes.map(({ id }) => id)).toContain(now.servedBy)
  if (before && after) expect(after.memoryBytes - before.memoryBytes).toBeLessThan(100 * 1024 * 1024)
  thirdParty.close()
})

const siegeTimeoutMs = 400_000

test(
  'all of them at once: nothing acknowledged is lost, no honest process ends, and every service serves again',
  async ({ skip }) => {
    skip(!isLong, 'a siege takes longer than short phases; npm run test:hostile has it')
    const { value, code } = await devnet.json<SiegeReport>(
      'chaos',
      'run',
      'siege',
      '--duration',
      `${phaseMs / 1_000}`,
    )
    process.stdout.write(`${JSON.stringify(value)}\n`)
    // How fast a busy machine starts two processes is no matter of this test.
    const isTimed = (name: string) => name.startsWith('every honest service serves again')
    for (const { name, pass, detail } of value.invariants)
      if (!isTimed(name)) expect(pass, `${name}: ${detail}`).toBe(true)
    expect(value.services.filter(({ servedMs }) => servedMs === null)).toEqual([])
    expect(code).toBe(value.pass ? 0 : 1)
  },
  siegeTimeoutMs,
)
