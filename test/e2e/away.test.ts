/**
 * A light node and a coordination node that were away for any number of blocks, empty ones and full ones, are level with
 * their full node within seconds: all of it in one process, over real connections, real handlers and real frames.
 */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import pino from 'pino'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { writeGenesisFile } from '../../client/genesis-file.ts'
import { httpSource } from '../../client/http-source.ts'
import { type IdentityKeys, signerOf, writeKeyFile } from '../../client/key-directory.ts'
import { type NodeConfigFile, parseNodeConfig } from '../../node/config.ts'
import { startCoordinationNode } from '../../node/coordination-node.ts'
import { lightConfiguration } from '../../node/effective-configuration.ts'
import type { RunningNode } from '../../node/full-node.ts'
import { startLightweightNode } from '../../node/lightweight-node.ts'
import { queryHandler } from '../../node/network/requests.ts'
import { unreadiness } from '../contract/health.ts'
import { LongChain, strangeKeys } from '../support/long-chain.ts'
import { sampleChain, startTestNode, type TestNode } from '../support/network-nodes.ts'
import type { SampleIdentity } from '../support/sample-genesis.ts'
import { keysOf, TestChain } from '../support/test-chain.ts'

const away = [1, 50, 57, 58, 500, 1_024, 1_025, 5_000]
/** What five ordinary transactions of one device change at most, and a little less than the first limit that this met. */
const keysOfFullBlock = 950
const levelWithinMs = 5_000

const labels = ['lightweight', 'coordination'] as const
const fills = { empty: [], full: strangeKeys(keysOfFullBlock) } as const

const chain = new TestChain({ devices: ['sensor', 'sensor-2'], startTime: Date.now() - 60_000 })
const long = new LongChain(chain)
const stoppers: (() => Promise<unknown>)[] = []
let root = ''
let fullNode: TestNode
const nodes = new Map<string, RunningNode>()

function sampleOf({ name, id, signing, transport, ...keys }: IdentityKeys): SampleIdentity {
  const signer = signerOf({ name, id, signing, transport, ...keys })
  return {
    name,
    id,
    signer,
    transportSeed: transport!.seed.expose(),
    transportKey: transport!.publicKey,
  }
}

async function startLight(
  label: (typeof labels)[number],
  keys: IdentityKeys,
  change: Partial<NodeConfigFile> = {},
): Promise<RunningNode> {
  const directory = join(root, change.data ?? label)
  await writeKeyFile(join(root, `${keys.name}.key`), keys)
  const file = {
    version: 1,
    name: label,
    label,
    chainId: chain.chainId,
    genesis: '../genesis.json',
    data: '.',
    key: `../${keys.name}.key`,
    api: { host: '127.0.0.1', port: 0 },
    p2p: { host: '127.0.0.1', port: 0 },
    peers: [{ id: fullNode.identity.id, address: fullNode.address }],
    coordination: [],
    ...change,
  }
  const config = parseNodeConfig(JSON.stringify(file), join(directory, 'node.json'))
  const start = label === 'lightweight' ? startLightweightNode : startCoordinationNode
  const node = await start(
    lightConfiguration(config, { supervised: false, logFile: undefined }),
    pino({ level: 'silent' }),
  )
  stoppers.push(() => node.stop())
  return node
}

beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), 'mote-away-'))
  await writeGenesisFile(join(root, 'genesis.json'), chain.genesis)
  const full = chain.fullNodes.map(sampleOf)
  fullNode = await startTestNode(sampleChain(chain.genesis, full), full[0]!, {
    prepare: network =>
      network.handle(
        'query',
        queryHandler(long.service, () => []),
      ),
  })
  stoppers.push(() => fullNode.network.stop())
  long.grow(1, [])
  nodes.set('lightweight', await startLight('lightweight', keysOf('sensor')))
  nodes.set('coordination', await startLight('coordination', chain.coordination))
})

afterAll(async () => {
  long.service.stop()
  for (const stop of stoppers.reverse()) await stop()
  await rm(root, { recursive: true, force: true })
})

const apiOf = (label: string) => (nodes.get(label)!.ready as { api: string }).api

/** Milliseconds that this process, in which all of them are, has waited or computed: not those in which the machine did other work. */
function ownMs(): number {
  const { user, system } = process.cpuUsage()
  return performance.eventLoopUtilization().idle + (user + system) / 1_000
}

/** Resolves when the node is level with the chain; fails with how far behind it is. */
async function level(label: string): Promise<void> {
  const source = httpSource(apiOf(label))
  const deadline = ownMs() + levelWithinMs
  for (;;) {
    const { certifiedHeight } = await source.status()
    if (certifiedHeight === long.height) return
    if (ownMs() > deadline)
      throw new Error(`${label}: at ${certifiedHeight} of ${long.height} after ${levelWithinMs} ms`)
    // Each question takes time from the nodes, which are in this process.
    await new Promise(resolve => setTimeout(resolve, 50))
  }
}

test('away: until it is level a node says how far behind it is, and that it is not ready', async () => {
  for (const label of labels) await level(label)
  const read = long.service.headersFrom.bind(long.service)
  const gate = Promise.withResolvers<void>()
  long.service.headersFrom = async (from, limit) => {
    await gate.promise
    return read(from, limit)
  }
  long.grow(58, [])
  for (const label of labels) {
    const source = httpSource(apiOf(label))
    const deadline = performance.now() + levelWithinMs
    while ((await source.status()).lag !== 58 && performance.now() < deadline)
      await new Promise(resolve => setTimeout(resolve, 10))
    expect((await source.status()).lag).toBe(58)
    const missing = await unreadiness(apiOf(label))
    expect(missing?.code).toBe('not-ready')
    expect(missing?.detail).toContain(`expected ${long.height}`)
  }
  gate.resolve()
  long.service.headersFrom = read
  for (const label of labels) {
    await level(label)
    expect((await httpSource(apiOf(label)).status()).lag).toBe(0)
  }
  expect(await unreadiness(apiOf('lightweight'))).toBeUndefined()
  expect((await unreadiness(apiOf('coordination')))?.code).toBe('no-full-node')
})

test('away: trustTtlMs is the age of the head from which a node says stale', async () => {
  const node = await startLight('lightweight', keysOf('sensor-2'), { data: 'impatient', trustTtlMs: 1_000 })
  const { api } = node.ready as { api: string }
  while ((await httpSource(api).status()).certifiedHeight !== long.height)
    await new Promise(resolve => setTimeout(resolve, 10))
  expect((await unreadiness(api))?.code).toBe('stale')
  expect(await unreadiness(apiOf('lightweight'))).toBeUndefined()
})

test('away: a node that starts again is level, empty and full blocks alike', async () => {
  await level('lightweight')
  await nodes.get('lightweight')!.stop()
  long.grow(58, [])
  long.grow(1, fills.full)
  nodes.set('lightweight', await startLight('lightweight', keysOf('sensor')))
  expect((await unreadiness(apiOf('lightweight')))?.code).toBe('not-ready')
  await level('lightweight')
  expect(await unreadiness(apiOf('lightweight'))).toBeUndefined()
})

describe.each(Object.entries(fills))('away: for %s blocks', (_, keys) => {
  test.each(away)('away: %i of them, and level within 5 s', async blocks => {
    for (const label of labels) await level(label)
    long.grow(blocks, keys)
    await Promise.all(labels.map(level))
    expect(long.height).toBeGreaterThan(blocks)
  })
})
