/**
 * What each field of a node's configuration does, on a chain of one full node in this process: real directory, real ports.
 * docs/OPERATIONS.md, Configuration, says which test shows which field.
 */

import { access, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest'
import { blockLeavesCodec, foreignLeaves } from '../../chain/block-leaves.ts'
import { Height, Milliseconds } from '../../chain/brands.ts'
import { decodeOwn, encode } from '../../chain/codec.ts'
import {
  chainIdOf,
  defaultGenesisParameters,
  type GenesisDocument,
  genesisDocument,
} from '../../chain/genesis.ts'
import type { NodeStatus } from '../../client/chain-source.ts'
import { submissionCodec } from '../../client/chain-source.ts'
import { writeGenesisFile } from '../../client/genesis-file.ts'
import { exchange, httpSource } from '../../client/http-source.ts'
import { writeKeyFile } from '../../client/key-directory.ts'
import { signedBody } from '../../client/submission.ts'
import { choosePorts } from '../../devnet/ports.ts'
import type { NodeConfigFile } from '../../node/config.ts'
import { recoverChain } from '../../node/ledger/chain-recovery.ts'
import { type RunningNode, startNode } from '../../node/main.ts'
import { defaultNetworkLimits } from '../../node/network/protocols.ts'
import { openLevelStorage } from '../../node/storage/level-storage.ts'
import { MoteCommand, runMote } from '../support/mote-command.ts'
import { keysOf, tokenOf } from '../support/test-chain.ts'

const keys = keysOf('full-1')
const operator = keysOf('operator')
const host = '127.0.0.1'
let root = ''
let genesis: GenesisDocument
const running: RunningNode[] = []
let directories = 0

beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), 'mote-configuration-'))
  genesis = genesisDocument({
    name: 'one',
    createdAt: Milliseconds(Date.now() - 1_000),
    consenters: [{ id: keys.id, key: keys.signing.publicKey }],
    quorumPolicy: 'majority',
    authorities: [{ id: operator.id, key: operator.signing.publicKey }],
    threshold: 1,
    parameters: defaultGenesisParameters,
    identities: [[keys, 'full'] as const, [operator, 'lightweight'] as const].map(
      ([{ signing, encryption, transport }, label]) => ({
        inceptionKey: signing.publicKey,
        label,
        encryptionKey: encryption.publicKey,
        transportKey: transport?.publicKey,
        metadataHash: undefined,
      }),
    ),
  })
  await writeGenesisFile(join(root, 'genesis.json'), genesis)
  await writeKeyFile(join(root, 'key.json'), keys)
})
afterEach(async () => {
  for (const node of running.splice(0)) await node.stop()
})
afterAll(() => rm(root, { recursive: true, force: true }))

interface Started {
  readonly node: RunningNode
  readonly directory: string
  readonly api: string
  readonly status: () => Promise<NodeStatus>
}

/** @param directory that of an earlier attempt; a new one unless given */
async function start(
  change: Partial<NodeConfigFile> = {},
  directory = join(root, `node-${directories++}`),
): Promise<Started> {
  await mkdir(directory, { recursive: true })
  const file: NodeConfigFile = {
    version: 1,
    name: 'full-1',
    label: 'full',
    chainId: chainIdOf(genesis),
    genesis: '../genesis.json',
    data: 'data',
    key: '../key.json',
    api: { host, port: 0 },
    p2p: { host, port: 0 },
    peers: [],
    coordination: [],
    log: { file: 'log/node.log' },
    ...change,
  }
  const path = join(directory, 'config.json')
  await writeFile(path, JSON.stringify(file))
  const node = await startNode(path)
  running.push(node)
  const { api } = node.ready as { api: string }
  return { node, directory, api, status: () => httpSource(api).status() }
}

/** Waits without an end of its own: that of the test ends what hangs. */
async function until(holds: () => Promise<boolean>): Promise<void> {
  while (!(await holds())) await new Promise(resolve => setTimeout(resolve, 10))
}

const leads = async ({ status }: Started) => {
  const { role, certifiedHeight } = await status()
  return role === 'leader' && certifiedHeight > 0
}

/** Submits grants in one batch, until they are certified. */
async function submitGrants({ api }: Started, count: number): Promise<void> {
  const chainId = chainIdOf(genesis)
  const time = Milliseconds(Date.now())
  const batch = Array.from({ length: count }, (_, i) =>
    signedBody({
      chainId,
      keys: operator,
      time,
      body: {
        type: 'identity.grant',
        tokenKey: tokenOf(`${i}`).publicKey,
        quota: 1,
        expiry: Milliseconds(time + 60_000),
        highestLabel: 'lightweight',
      },
    }),
  )
  const path = '/v1/transactions/batch?wait=certified'
  await exchange(api, { path, timeoutMs: 60_000, signal: undefined, body: encode(submissionCodec, batch) })
}

/** The number of transactions of each block that so many grants are in. */
async function blockSizes(node: Started, count: number): Promise<readonly number[]> {
  const { api, status } = node
  await submitGrants(node, count)
  const { height } = await status()
  const sizes: number[] = []
  for (let at = 1; at <= height; at++) {
    const { transactions } = (await (await fetch(`${api}/v1/blocks/${at}`)).json()) as {
      transactions: unknown[]
    }
    if (transactions.length > 0) sizes.push(transactions.length)
  }
  expect(sizes.reduce((sum, size) => sum + size, 0)).toBe(count)
  return sizes
}

test('configuration: name, label, data, api and p2p are where a node is and what it is called', async () => {
  const [api, p2p] = (await choosePorts(2, 'auto')) as [number, number]
  const node = await start({
    name: 'gate-7',
    data: 'elsewhere',
    api: { host, port: api },
    p2p: { host, port: p2p },
  })
  expect(node.api).toBe(`http://${host}:${api}`)
  const status = await node.status()
  expect(status).toMatchObject({ name: 'gate-7', label: 'full', id: keys.id })
  expect(status.addresses).toEqual([expect.stringContaining(`/ip4/${host}/tcp/${p2p}`)])
  await access(join(node.directory, 'elsewhere', 'chain'))
})

test.each(['full', 'lightweight', 'coordination'] as const)(
  'configuration: `mote node status` prints what takes effect in a %s node',
  async label => {
    const [port] = (await choosePorts(1, 'auto')) as [number]
    const own = label === 'full' ? { raft: { tickMs: 20 } } : { trustTtlMs: 7_000 }
    const { directory } = await start({ label, api: { host, port }, ...own })
    const command = ['node', 'status', '--config', join(directory, 'config.json')]
    const asked = [...command, '--json']
    const json = label === 'full' ? await new MoteCommand(asked).ended : await runMote(asked)
    const { status, configuration } = JSON.parse(json.stdout)
    expect(status).toMatchObject({ name: 'full-1', label })
    expect(configuration).toMatchObject({
      label,
      network: defaultNetworkLimits,
      log: { level: 'info' },
      ...own,
    })
    expect(configuration.producer?.bytesPerBlock).toBe(label === 'full' ? 1024 * 1024 : undefined)
    const { stdout } = await runMote(command)
    expect(stdout).toMatch(label === 'full' ? /^raft\.tickMs +20 ms +50 ms$/m : /^trustTtlMs +7 s +3 min$/m)
    expect(stdout).toMatch(/^network\.maxConnections +512$/m)
  },
)

test.each(['full', 'lightweight', 'coordination'] as const)(
  'configuration: a %s node whose api address is taken gives everything back, and starts on another one',
  async label => {
    const [port] = (await choosePorts(1, 'auto')) as [number]
    await start({ api: { host, port } })
    const directory = join(root, `taken-${label}`)
    await expect(start({ label, api: { host, port } }, directory)).rejects.toMatchObject({
      code: 'start-failed',
      detail: expect.stringContaining('another program uses it'),
    })
    expect((await start({ label }, directory)).api).not.toContain(`${port}`)
  },
)

test('configuration: a genesis of another chain, and a key or genesis that is not there, are refused', async () => {
  await expect(start({ chainId: 'ab'.repeat(32) })).rejects.toMatchObject({ code: 'wrong-chain' })
  await expect(start({ genesis: 'nowhere.json' })).rejects.toMatchObject({ code: 'config-invalid' })
  await expect(start({ key: 'nowhere.json' })).rejects.toMatchObject({ code: 'key-not-found' })
})

test('configuration: log.file and log.level say where the log goes and what is in it', async () => {
  const [loud, quiet] = [
    await start({ log: { file: 'a/b.log', level: 'info' } }),
    await start({ log: { file: 'a/b.log', level: 'error' } }),
  ]
  const lines = async ({ directory }: Started) => readFile(join(directory, 'a', 'b.1.log'), 'utf8')
  await until(async () => (await leads(loud)) && (await leads(quiet)))
  expect(await lines(loud)).toMatch(/"level":"info".*"name":"full-1".*serving/)
  expect(await lines(quiet)).toBe('')
})

test('configuration: raft.tickMs and raft.electionTimeoutTicks decide when a node stands for election', async () => {
  const slow = await start({ raft: { tickMs: 10_000 } })
  const patient = await start({ raft: { electionTimeoutTicks: 1_000 } })
  const usual = await start()
  await until(() => leads(usual))
  for (const each of [slow, patient]) expect((await each.status()).leader).toBeUndefined()
})

test('configuration: heartbeatMs is the quiet time after which an empty block is cut', async () => {
  const [restless, usual] = [await start({ heartbeatMs: 100 }), await start()]
  await until(() => leads(usual))
  const { height } = await usual.status()
  await until(async () => (await restless.status()).certifiedHeight > height + 3)
  expect((await usual.status()).height).toBe(height)
})

test('configuration: producer.transactionsPerBlock and bytesPerBlock bound a block', async () => {
  const three = await start({ producer: { transactionsPerBlock: 3 } })
  const small = await start({ producer: { bytesPerBlock: 1 } })
  const usual = await start()
  for (const each of [three, small, usual]) await until(() => leads(each))
  expect(Math.max(...(await blockSizes(three, 20)))).toBeLessThanOrEqual(3)
  expect(Math.max(...(await blockSizes(usual, 200)))).toBeGreaterThan(3)
  expect(Math.max(...(await blockSizes(small, 20)))).toBe(1)
})

test('configuration: retention reduces blocks that are old enough to leaf hashes, which their headers prove', async () => {
  const forgetful = await start({
    retention: { blocks: 2, ageMs: 0 },
    producer: { transactionsPerBlock: 3 },
    heartbeatMs: 100,
  })
  const patient = await start({ retention: { blocks: 2 }, heartbeatMs: 100 })
  for (const each of [forgetful, patient]) await until(() => leads(each))
  await submitGrants(forgetful, 20)
  const blockAt = ({ api }: Started, height: number, what: string) =>
    fetch(`${api}/v1/blocks/${height}/${what}`)
  const { height } = await forgetful.status()
  await until(async () => (await blockAt(forgetful, height, 'content')).status === 410)
  expect(await (await blockAt(forgetful, height, 'content')).json()).toMatchObject({ code: 'forgotten' })
  await until(async () => (await patient.status()).certifiedHeight > 10)
  // For a day a block is kept in any case.
  expect((await blockAt(patient, 1, 'content')).status).toBe(200)
  for (let at = 1; at <= height; at++) {
    const { header } = await httpSource(forgetful.api).certifiedHeader(Height(at))
    const bytes = new Uint8Array(await (await blockAt(forgetful, at, 'leaves')).arrayBuffer())
    expect(foreignLeaves(header, decodeOwn(blockLeavesCodec, bytes)), `block ${at}`).toEqual([])
  }
  for (const node of running.splice(0)) await node.stop()
  const config = join(forgetful.directory, 'config.json')
  const { code, stdout } = await runMote(['node', 'verify', '--config', config, '--json'])
  const report = JSON.parse(stdout)
  expect(report, stdout).toMatchObject({ findings: [], missing: 0, executed: 0 })
  expect(report.forgotten).toBeGreaterThanOrEqual(height)
  expect(report.forgotten + report.blocks).toBe(report.height)
  expect(code).toBe(0)
})

test.each(['entriesKept', 'bytesKept'] as const)(
  'configuration: compaction.%s bounds the log',
  async field => {
    const short = await start({ compaction: { [field]: 1 }, heartbeatMs: 100 })
    const whole = await start({ heartbeatMs: 100 })
    for (const each of [short, whole]) await until(async () => (await each.status()).certifiedHeight > 10)
    for (const node of running.splice(0)) await node.stop()
    const before = async ({ directory }: Started): Promise<number> => {
      const owner = { chainId: chainIdOf(genesis), deviceId: keys.id }
      const storage = await openLevelStorage(join(directory, 'data', 'chain'), owner)
      try {
        return (await recoverChain(storage, genesis)).raft.snapshot.lastIncludedIndex
      } finally {
        await storage.close()
      }
    }
    expect(await before(short)).toBeGreaterThan(1)
    expect(await before(whole)).toBe(0)
  },
)
