/**
 * A revoked peer with its last good proof, at nodes that keep no state: a lightweight and a coordination node that have
 * just started, and ones that have skipped the headers with the revocation. Real composition roots over real libp2p.
 */

import { mkdir, mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import pino from 'pino'
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import type { DeviceId, Height, Milliseconds } from '../../chain/brands.ts'
import { decodeOwn, encode } from '../../chain/codec.ts'
import { genesisState } from '../../chain/genesis.ts'
import { stateAnswerCodec } from '../../chain/light-client.ts'
import { identityCodec, stateKeyOf } from '../../chain/records.ts'
import type { MoteError } from '../../chain/result.ts'
import type { Label } from '../../chain/transaction.ts'
import { systemClock } from '../../client/clock.ts'
import { writeGenesisFile } from '../../client/genesis-file.ts'
import { type IdentityKeys, writeKeyFile } from '../../client/key-directory.ts'
import { nativeVerifier } from '../../client/native-crypto.ts'
import { parseNodeConfig } from '../../node/config.ts'
import { startCoordinationNode } from '../../node/coordination-node.ts'
import { lightConfiguration } from '../../node/effective-configuration.ts'
import type { RunningNode } from '../../node/full-node.ts'
import { startLightweightNode } from '../../node/lightweight-node.ts'
import type { IdentityProvider } from '../../node/network/hello.ts'
import { Libp2pNetwork } from '../../node/network/libp2p-network.ts'
import { defaultNetworkLimits } from '../../node/network/protocols.ts'
import { type Heartbeat, registryReports } from '../../node/network/request-table.ts'
import { ask, queryHandler } from '../../node/network/requests.ts'
import { eventually } from '../support/network-nodes.ts'
import { keysOf, TestChain, type TestSource } from '../support/test-chain.ts'

const silent = pino({ level: 'silent' })
const trustTtlMs = 60_000
/** The revoked peer proves its record at this height; it is revoked in the next block. */
const proofHeight = 2
/** More than a follower walks. */
const skippedHeaders = 1_100

let root: string
const closing: (() => Promise<unknown>)[] = []
beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), 'mote-revoked-'))
})
afterAll(() => rm(root, { recursive: true }))
afterEach(async () => {
  await Promise.all(closing.splice(0).map(close => close()))
})

/** A chain that revoked `peer` right after `proofHeight`, an hour ago, and goes on until now. */
function chainThatRevoked(peer: IdentityKeys, quietBlocks: number): TestChain {
  const chain = new TestChain({
    devices: ['sensor'],
    spares: ['full-4'],
    startTime: Date.now() - 3_600_000 - quietBlocks * 1_000,
  })
  for (let i = 0; i < proofHeight; i++) chain.append()
  chain.revoke(peer.id)
  for (let i = 0; i < quietBlocks; i++) chain.append([], { certify: i === quietBlocks - 1 })
  chain.append([], { afterMs: Date.now() - chain.time })
  return chain
}

interface TestPeer {
  readonly keys: IdentityKeys
  readonly network: Libp2pNetwork
  readonly source: TestSource
  readonly address: string
}

/** A peer with the record of `keys`, proven at `height`, that serves the chain as far as its source shows it. */
async function startPeer(chain: TestChain, keys: IdentityKeys, height: number): Promise<TestPeer> {
  const genesis = genesisState(chain.genesis)
  const identities: IdentityProvider = {
    chainId: chain.chainId,
    deviceId: keys.id,
    verifier: nativeVerifier,
    ownProof: () => ({
      type: 'certified',
      answer: encode(stateAnswerCodec, chain.answer(stateKeyOf.identity(keys.id), height)),
      handovers: [],
    }),
    trusted: () => chain.checkpoint,
    genesisIdentity: id => decodeOwn(identityCodec, genesis.get(stateKeyOf.identity(id))!),
    known: () => undefined,
    isCurrent: () => true,
  }
  const network = new Libp2pNetwork({
    host: '127.0.0.1',
    port: 0,
    transportSeed: keys.transport!.seed.expose(),
    identities,
    clock: systemClock,
    log: silent,
    limits: { ...defaultNetworkLimits, retryDelayMs: 20, retryDelayMsMax: 50 },
  })
  const source = chain.source(keys.name)
  network.handle(
    'query',
    queryHandler(source, () => []),
  )
  await network.start({ message: () => {}, unreachable: () => {}, peer: () => {}, isCounted: () => true })
  closing.push(() => network.stop())
  return { keys, network, source, address: network.addresses()[0]!.replace(/\/p2p\/.*/, '') }
}

interface TestNode {
  readonly id: DeviceId
  readonly p2p: string
  status(): Promise<{
    readonly height: number
    readonly peers: readonly { readonly id: DeviceId; readonly state: string }[]
    readonly fullNodes?: readonly { readonly id: DeviceId }[]
    readonly assignedFullNode?: { readonly id: DeviceId }
  }>
}

const roots: Record<
  'lightweight' | 'coordination',
  { keys: IdentityKeys; start: typeof startLightweightNode }
> = {
  lightweight: { keys: keysOf('sensor'), start: startLightweightNode },
  coordination: { keys: keysOf('coordination-1'), start: startCoordinationNode },
}

let directories = 0

async function startNode(
  chain: TestChain,
  label: 'lightweight' | 'coordination',
  known: { readonly peers: readonly TestPeer[]; readonly coordination?: readonly TestPeer[] },
): Promise<TestNode> {
  const directory = join(root, `node-${++directories}`)
  const { keys, start } = roots[label]
  await mkdir(directory)
  await writeGenesisFile(join(directory, 'genesis.json'), chain.genesis)
  await writeKeyFile(join(directory, 'key.json'), keys)
  const listed = (peers: readonly TestPeer[] = []) =>
    peers.map(({ keys: { id }, address }) => ({ id, address }))
  const content = JSON.stringify({
    version: 1,
    name: keys.name,
    label: label as Label,
    chainId: chain.chainId,
    genesis: 'genesis.json',
    key: 'key.json',
    data: 'data',
    api: { host: '127.0.0.1', port: 0 },
    p2p: { host: '127.0.0.1', port: 0 },
    peers: listed(known.peers),
    coordination: listed(known.coordination),
    trustTtlMs,
  })
  const node: RunningNode = await start(
    lightConfiguration(parseNodeConfig(content, join(directory, 'config.json')), {
      supervised: false,
      logFile: undefined,
    }),
    silent,
  )
  closing.push(() => node.stop())
  const { api, addresses } = node.ready as { api: string; addresses: readonly string[] }
  return {
    id: keys.id,
    p2p: addresses[0]!,
    status: async () => (await fetch(`${api}/v1/status`)).json() as ReturnType<TestNode['status']>,
  }
}

const isConnected = ({ network }: TestPeer, id: DeviceId) =>
  network.peers().some(peer => peer.id === id && peer.state === 'connected')

async function statusUntil(
  node: TestNode,
  what: string,
  holds: (status: Awaited<ReturnType<TestNode['status']>>) => boolean,
): Promise<void> {
  const deadline = Date.now() + 10_000
  for (let status = await node.status(); !holds(status); status = await node.status()) {
    if (Date.now() > deadline) throw new Error(`not in time: ${what}; ${JSON.stringify(status)}`)
    await new Promise(resolve => setTimeout(resolve, 10))
  }
}

/** What comes of a heartbeat at a coordination node, and of an assignment at a lightweight one. */
function says(peer: TestPeer, node: TestNode, label: 'lightweight' | 'coordination'): Promise<string> {
  const { network, keys, address } = peer
  const beat: Heartbeat = {
    addresses: [address],
    api: '',
    height: 1 as Height,
    certifiedHeight: 1 as Height,
    signed: Uint8Array.of(1),
    clients: 0,
    maxClients: 1,
    time: Date.now() as Milliseconds,
  }
  const assignment = {
    fullNode: { id: keys.id, api: 'http://127.0.0.1:1', addresses: [address] },
    backups: [],
  }
  const said =
    label === 'coordination'
      ? ask(network, node.id, registryReports.heartbeat, beat, 2_000)
      : ask(network, node.id, registryReports.assignment, assignment, 2_000)
  return said.then(
    () => 'taken',
    (error: MoteError) => error.code,
  )
}

/** Requests that reached a peer and need more than proofs. */
const askedForMore = ({ source }: TestPeer) =>
  [...source.asked.keys()].filter(
    method => !['certifiedHeader', 'headersFrom', 'waitForHeader', 'state'].includes(method),
  )

describe.each(['lightweight', 'coordination'] as const)('a %s node', label => {
  const revoked = label === 'lightweight' ? keysOf('coordination-1') : keysOf('full-4')

  test('that has just started takes nothing from a peer with an old proof, and closes when it learns of its end', async () => {
    const chain = chainThatRevoked(revoked, 3)
    const old = await startPeer(chain, revoked, proofHeight)
    old.source.frozenAt = proofHeight
    // Only the one that shows the chain up to before its own end can be reached.
    const honest = await startPeer(chain, keysOf('full-1'), chain.height)
    honest.source.frozenAt = proofHeight
    const node = await startNode(
      chain,
      label,
      label === 'lightweight' ? { peers: [honest], coordination: [old] } : { peers: [honest, old] },
    )
    await statusUntil(node, 'headers of before', ({ height }) => height === proofHeight)
    await eventually('hello has passed', () => isConnected(old, node.id))
    expect(await says(old, node, label)).toBe('not-ready')
    honest.source.frozenAt = Number.POSITIVE_INFINITY
    chain.append([], { afterMs: 1 })
    await statusUntil(node, 'all headers', ({ height }) => height === chain.height)
    await eventually('closed', () => !isConnected(old, node.id))
    expect(askedForMore(old)).toEqual([])
    if (label === 'coordination') expect(await says(honest, node, label)).toBe('taken')
    const { fullNodes = [], assignedFullNode } = await node.status()
    expect([...fullNodes, ...(assignedFullNode ? [assignedFullNode] : [])].map(({ id }) => id)).not.toContain(
      revoked.id,
    )
  })

  test('that has skipped the revocation asks for the record at the head, and closes', async () => {
    const chain = chainThatRevoked(revoked, skippedHeaders)
    const honest = await startPeer(chain, keysOf('full-1'), chain.height)
    const node = await startNode(chain, label, { peers: [honest] })
    await statusUntil(node, 'the head', ({ height }) => height === chain.height)
    expect(honest.source.asked.has('headersFrom')).toBe(false)
    const old = await startPeer(chain, revoked, proofHeight)
    old.network.keep({ id: node.id, address: node.p2p.replace(/\/p2p\/.*/, '') })
    expect(await says(old, node, label)).not.toBe('taken')
    await eventually('closed', () => old.network.peers().every(({ state }) => state === 'disconnected'))
    expect(honest.source.asked.get('state')).toBeGreaterThan(0)
    if (label === 'coordination') expect(await says(honest, node, label)).toBe('taken')
  })
})
