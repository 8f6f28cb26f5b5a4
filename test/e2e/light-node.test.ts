/**
 * Joining and light nodes with real processes: a device is admitted and proves it, every lie of a full node is caught,
 * and the death of a full node costs its lightweight nodes nothing.
 */
import { randomBytes } from 'node:crypto'
import { mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type ChainId, type DeviceId, Milliseconds } from '../../chain/brands.ts'
import { decode, encode } from '../../chain/codec.ts'
import { checkpointFromGenesis, type GenesisDocument } from '../../chain/genesis.ts'
import type { Signer } from '../../chain/keys.ts'
import { stateAnswerCodec } from '../../chain/light-client.ts'
import { stateKeyOf } from '../../chain/records.ts'
import { MoteError } from '../../chain/result.ts'
import { type CapabilityProfile, grantTokenSigningBytes } from '../../chain/transaction.ts'
import { ChainClient } from '../../client/chain-client.ts'
import { submissionCodec } from '../../client/chain-source.ts'
import { readGenesisFile } from '../../client/genesis-file.ts'
import { exchange, httpSource } from '../../client/http-source.ts'
import {
  askAssignment,
  type CoordinationContact,
  httpContact,
  join as joinChain,
  type Newcomer,
  registration,
} from '../../client/join.ts'
import type { NodeAddress } from '../../client/join-messages.ts'
import { type IdentityKeys, KeyDirectory, makeKeys } from '../../client/key-directory.ts'
import { nativeSignerFromSeed } from '../../client/native-crypto.ts'
import { grant, revoke } from '../../client/operator-actions.ts'
import { signedBody } from '../../client/submission.ts'
import { apiUrl, type DevnetDescription, layout, readDescription } from '../../devnet/layout.ts'
import { unreadiness } from '../contract/health.ts'
import { lyingProxy } from '../support/lying-proxy.ts'
import { MoteCommand, runMote, ShellCommand } from '../support/mote-command.ts'

interface Status {
  readonly id: string
  readonly pid: number
  readonly role: string
  readonly height: number
  readonly servedBy?: string
  readonly assignedFullNode?: { readonly id: string }
  readonly backups?: readonly { readonly id: string }[]
  readonly peers?: readonly { readonly id: string; readonly state: string }[]
}

const profile: CapabilityProfile = {
  connectionLifetime: 'hours',
  cores: 1,
  memoryMebibytes: 64,
  storageMebibytes: 128,
}

let root = ''
let directory = ''
let devnet: DevnetDescription
let genesis: GenesisDocument
let operator: IdentityKeys

const nodeNamed = (name: string) => devnet.nodes.find(node => node.name === name)!
const urlOf = (name: string) => apiUrl(nodeNamed(name).api)
const nameOf = (id: string) => devnet.nodes.find(node => node.id === id)?.name ?? id
const contact = () => httpContact(urlOf('coordination-1'))

interface DeviceRow {
  readonly name: string
  readonly label: string | null
  readonly status: string | null
  readonly level: number | null
  readonly servedBy: string | null
}
interface StatusAnswer {
  readonly nodes: readonly {
    readonly name: string
    readonly id: string
    readonly label: string
    readonly state: string
  }[]
  readonly devices: readonly DeviceRow[]
}

/** Runs a command on the devnet, which must succeed, and gives its answer. */
async function mote<T = unknown>(...args: readonly string[]): Promise<T> {
  const { code, stdout, stderr } = await runMote([...args, '--json'], { MOTE_DIR: directory })
  expect(code, stderr).toBe(0)
  return JSON.parse(stdout) as T
}

async function deviceNamed(name: string): Promise<DeviceRow | undefined> {
  return (await mote<StatusAnswer>('devnet', 'status')).devices.find(row => row.name === name)
}

async function nodeRow(name: string) {
  return (await mote<StatusAnswer>('devnet', 'status')).nodes.find(row => row.name === name)
}

function clientOf(...urls: readonly string[]): Promise<ChainClient> {
  const sources = urls.map(url => httpSource(url))
  return ChainClient.open({ sources, checkpoint: checkpointFromGenesis(genesis) })
}

const honestClient = () => clientOf(urlOf('full-1'), urlOf('full-2'), urlOf('full-3'))

async function grantedToken(): Promise<Signer> {
  const token = nativeSignerFromSeed('ed25519', randomBytes(32))
  await grant(await honestClient(), operator, { tokenKey: token.publicKey })
  return token
}

/** Has a block made, and returns its height. */
async function newBlock(): Promise<number> {
  const { publicKey: tokenKey } = nativeSignerFromSeed('ed25519', randomBytes(32))
  return (await grant(await honestClient(), operator, { tokenKey })).height
}

/** For what waits on a busy machine. */
const patience = ['--timeout', '100'] as const

/** Changed keys whose headers are over the first limit that an answer had, 32 KiB. */
const keysOfFullBlocks = 950
/** Grants at once: nearly as many as one operator may have wait for a block. */
const grantsAtOnce = 481

const forFullBlocks = { producer: { pipelinedTransactions: 2_000 }, raft: { electionTimeoutTicks: 30 } }

/** URL of the full node that leads, as soon as one does. */
async function leaderUrl(): Promise<string> {
  const urls = ['full-1', 'full-2', 'full-3'].map(urlOf)
  const rolesOf = () => Promise.all(urls.map(async url => (await statusOf(url)).role))
  const roles = await until(rolesOf, found => found.includes('leader'))
  return urls[roles.indexOf('leader')]!
}

/** Gives out grants, as many at once as one operator may, until their blocks change so many keys; returns how many. */
async function changesOfFullBlocks(wanted: number): Promise<number> {
  const client = await honestClient()
  let changed = 0
  for (let attempt = 0; attempt < 10 && changed < wanted; attempt++) {
    const { height: from, time } = (await client.follower.sync()).header
    const signed = Array.from({ length: grantsAtOnce }, () => {
      const { publicKey: tokenKey } = nativeSignerFromSeed('ed25519', randomBytes(32))
      const expiry = Milliseconds(time + 60 * 60_000)
      const body = {
        type: 'identity.grant',
        tokenKey,
        quota: 1,
        expiry,
        highestLabel: 'lightweight',
      } as const
      return signedBody({ chainId: client.chainId, body, keys: operator, time })
    })
    const leader = await leaderUrl()
    // The first is on its way when the others come.
    const batches = [signed.slice(0, 1), signed.slice(1, 241), signed.slice(241)]
    await Promise.all(
      batches.map(batch =>
        exchange(leader, {
          path: '/v1/transactions/batch?wait=certified',
          timeoutMs: 60_000,
          signal: undefined,
          body: encode(submissionCodec, batch),
        }),
      ),
    )
    const { height: to } = (await client.follower.sync()).header
    for (const { changes } of await httpSource(leader).headersFrom(from, to - from + 1))
      if (changes.length > grantsAtOnce / 2) changed += changes.length
  }
  return changed
}

/** Waits until every full node is at this height and not connected to the device. */
async function cutOffEverywhere(id: DeviceId, height: number): Promise<void> {
  for (const full of ['full-1', 'full-2', 'full-3'])
    await until(
      () => statusOf(urlOf(full)),
      now => now.height >= height && !now.peers?.some(peer => peer.id === id && peer.state === 'connected'),
    )
}

function newcomerNamed(name: string, token: Signer): Newcomer {
  return { keys: makeKeys(name, { transport: true }), label: 'lightweight', profile, token }
}

async function joined(name: string): Promise<IdentityKeys> {
  const newcomer = newcomerNamed(name, await grantedToken())
  await joinChain(await honestClient(), newcomer, [contact()])
  return newcomer.keys
}

async function statusOf(url: string): Promise<Status> {
  return (await httpSource(url).status()) as unknown as Status
}

/** Asks until the condition holds; fails with the last answer after the time. */
async function until<T>(ask: () => Promise<T>, holds: (value: T) => boolean, timeoutMs = 60_000): Promise<T> {
  const deadline = performance.now() + timeoutMs
  for (let last: unknown; ; ) {
    try {
      const value = await ask()
      if (holds(value)) return value
      last = value
    } catch (error) {
      last = error
    }
    if (performance.now() > deadline) throw new Error(`not within ${timeoutMs} ms: ${JSON.stringify(last)}`)
    await new Promise(resolve => setTimeout(resolve, 25))
  }
}

async function refusal(promise: Promise<unknown>): Promise<string> {
  const error = await promise.then(
    () => undefined,
    (cause: unknown) => cause,
  )
  return error instanceof MoteError ? error.code : `not refused: ${String(error)}`
}

beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), 'mote-e2e-light-'))
  directory = join(root, 'net')
  const size = ['--full', '3', '--coordination', '2', '--lightweight', '1', '--devices', '1']
  const up = await runMote(['devnet', 'up', '--detach', '--seed', 'light', '--dir', directory, ...size])
  expect(up.code, up.stderr).toBe(0)
  devnet = (await readDescription(directory))!
  genesis = await readGenesisFile(layout.genesis(directory))
  operator = await (await KeyDirectory.open(layout.operator(directory))).load('operator')
})

afterAll(async () => {
  await runMote(['devnet', 'down', '--dir', directory])
  await rm(root, { recursive: true, force: true })
})

describe('light node: joining', () => {
  test('light node: a device joins, is assigned a full node and backups, and verifies its own record', async () => {
    const newcomer = newcomerNamed('sensor', await grantedToken())
    const client = await honestClient()
    const { record, height, assignment } = await joinChain(client, newcomer, [contact()])
    expect(record.value).toMatchObject({ id: newcomer.keys.id, status: 'active', registeredAt: height })
    const all = [assignment.fullNode, ...assignment.backups]
    expect(all.map(({ id }) => nameOf(id)).sort()).toEqual(['full-1', 'full-2', 'full-3'])
    expect(all.map(({ api }) => api).sort()).toEqual(['full-1', 'full-2', 'full-3'].map(urlOf).sort())
    expect(client.follower.head.header.height).toBeGreaterThanOrEqual(height)
  })

  test('light node: both coordination nodes give the same assignment', async () => {
    const { id } = devnet.devices[0]!
    const [one, two] = ['coordination-1', 'coordination-2'].map(name => httpContact(urlOf(name)))
    // What is signed may be of two heartbeats.
    const unsigned = ({ signed: _, ...where }: NodeAddress) => where
    const assignedBy = async (contact: CoordinationContact) => {
      const { fullNode, backups } = await askAssignment(contact, id)
      return { fullNode: unsigned(fullNode), backups: backups.map(unsigned) }
    }
    const assigned = await assignedBy(one!)
    expect(assigned).toEqual(await assignedBy(two!))
    const response = await fetch(`${urlOf('coordination-1')}/v1/assignment/${id}`)
    const { assignedFullNode } = (await response.json()) as { assignedFullNode: unknown }
    expect(assignedFullNode).toEqual(assigned.fullNode)
  })

  test('light node: a coordinator cannot spend a grant on another device, not even past its own checks', async () => {
    const token = await grantedToken()
    const client = await honestClient()
    await client.follower.sync()
    const victim = newcomerNamed('victim', token)
    const { chainId } = client
    const { id: coordinator } = nodeNamed('coordination-1')
    const nonce = Uint8Array.from(randomBytes(16))
    const { time: issuedAt } = client.follower.head.header
    const seen = registration(chainId, victim, { coordinator, nonce, issuedAt })
    const thief = newcomerNamed('thief', { ...token, sign: () => signatureFor(token, chainId, victim) })
    const forged = registration(chainId, thief, { coordinator, nonce, issuedAt })
    expect(await refusal(client.submit(forged))).toBe('possession-not-proven')
    expect((await client.records.device(thief.keys.id)).value).toBeUndefined()
    await client.submit(seen)
    expect((await client.records.device(victim.keys.id)).value?.status).toBe('active')
  })

  test('light node: no grant, no admission, by any way', async () => {
    const stranger = newcomerNamed('stranger', nativeSignerFromSeed('ed25519', randomBytes(32)))
    const client = await honestClient()
    expect(await refusal(joinChain(client, stranger, [contact()]))).toBe('grant-not-valid')
    await client.follower.sync()
    expect((await client.records.device(stranger.keys.id)).value).toBeUndefined()
  })
})

describe('light node: full nodes that lie', () => {
  test('light node: refuses the answer of a full node with one byte changed anywhere', async () => {
    const { id } = devnet.devices[0]!
    await using proxy = await lyingProxy(urlOf('full-1'))
    const path = `/v1/state/${stateKeyOf.identity(id)}`
    let honest = new Uint8Array(0)
    proxy.lie = (asked, body) => {
      if (asked === path) honest = Uint8Array.from(body)
      return body
    }
    const reader = await clientOf(proxy.url)
    await reader.follower.sync()
    expect((await reader.records.device(id)).value?.status).toBe('active')
    expect(decode(stateAnswerCodec, honest).ok).toBe(true)
    // Each byte: test/unit/chain/light-client.test.ts.
    for (let i = 0; i < honest.length; i += 17) {
      const changed = honest.with(i, honest[i]! ^ 0x01)
      proxy.lie = (asked, body) => (asked === path ? changed : body)
      const client = await clientOf(proxy.url)
      expect(await refusal(client.records.device(id)), `byte ${i}`).toMatch(
        /^(bad-proof|bad-certificate|bad-header|stale)$/,
      )
    }
  })

  test('light node: catches a full node that withholds a revocation while it serves fresh headers', async () => {
    const { id } = await joined('soon-revoked')
    await using proxy = await lyingProxy(urlOf('full-1'))
    const path = `/v1/state/${stateKeyOf.identity(id)}`
    const client = await clientOf(proxy.url, urlOf('full-2'), urlOf('full-3'))
    await client.follower.sync()
    let old: Uint8Array | undefined
    proxy.lie = (asked, body) => {
      if (asked !== path) return body
      old ??= body
      return old
    }
    expect((await client.records.device(id)).value?.status).toBe('active')
    const { transaction } = await revoke(await honestClient(), operator, { id, reason: 'stolen' })
    await client.follower.reach(transaction!.height)
    expect((await client.records.device(id)).value?.status).toBe('revoked')
    const liar = client.pool.preferred
    expect(liar?.name).not.toBe(proxy.url)
    expect(proxy.served.filter(asked => asked === path).length).toBeGreaterThan(1)

    const alone = await clientOf(proxy.url)
    await alone.follower.sync()
    expect(await refusal(alone.records.device(id))).toBe('withheld')
  })
})

describe('light node: processes', () => {
  test('light node: serves verified answers from its own API', async () => {
    const client = await clientOf(urlOf('lightweight-1'))
    await client.follower.sync()
    const { value, ageMs } = await client.records.device(devnet.devices[0]!.id)
    expect(value?.status).toBe('active')
    expect(ageMs).toBeLessThan(devnet.trustTtlMs)
    expect((await fetch(`${urlOf('lightweight-1')}/readyz`)).status).toBe(200)
  })

  test('light node: a lightweight and a coordination node that were stopped for 58 blocks are level again', async () => {
    const nodes = ['lightweight-1', 'coordination-2']
    await Promise.all(nodes.map(node => mote('chaos', 'pause', node)))
    const client = await honestClient()
    let height = 0
    for (let i = 0; i < 58; i++) {
      const { publicKey: tokenKey } = nativeSignerFromSeed('ed25519', randomBytes(32))
      height = (await grant(client, operator, { tokenKey })).height
    }
    await Promise.all(nodes.map(node => mote('chaos', 'resume', node)))
    for (const node of nodes) {
      const level = (status: { certifiedHeight: number; lag: number }) =>
        status.certifiedHeight >= height && status.lag === 0
      await until(() => httpSource(urlOf(node)).status(), level, 5_000)
      expect((await fetch(`${urlOf(node)}/readyz`)).status).toBe(200)
    }
  })

  test('light node: two blocks of 480 changed keys, more than 32 KiB in one answer, do not stop those who were away for them', async () => {
    // What comes while a block is under way is to be one block, and slow links no reason for an election.
    const full = ['full-1', 'full-2', 'full-3']
    for (const name of full) {
      const file = layout.nodeConfig(directory, name)
      const config = JSON.parse(await readFile(file, 'utf8')) as object
      await writeFile(file, JSON.stringify({ ...config, ...forFullBlocks }))
    }
    await Promise.all(full.map(name => mote('chaos', 'restart', name, ...patience)))
    const nodes = ['lightweight-1', 'coordination-2']
    await Promise.all(nodes.map(node => mote('chaos', 'pause', node)))
    let changes = 0
    try {
      await mote('chaos', 'delay', 'all', '300')
      changes = await changesOfFullBlocks(keysOfFullBlocks)
    } finally {
      await mote('chaos', 'delay', 'all', '0')
      await Promise.all(nodes.map(node => mote('chaos', 'resume', node, ...patience)))
    }
    expect(changes).toBeGreaterThanOrEqual(keysOfFullBlocks)
    for (const node of nodes) {
      await until(
        () => httpSource(urlOf(node)).status(),
        status => status.lag === 0,
      )
      expect(await unreadiness(urlOf(node)), node).toBeUndefined()
    }
  })

  test('light node: a device joins and runs with the command that join prints', async () => {
    const { next } = await mote<{ next: string }>('device', 'join', 'camera')
    expect(next).toContain('mote node init camera --label lightweight')
    // What npx does is npm's matter, and costs a second each time.
    await using node = new ShellCommand(next.replaceAll('npx mote', `${process.execPath} bin/mote.js`))
    const camera = await until(
      () => deviceNamed('camera'),
      row => row?.servedBy !== null,
      30_000,
    )
    expect(camera).toMatchObject({ label: 'lightweight', status: 'active', level: 2 })
    expect(nodeNamed(camera!.servedBy!).label).toBe('full')
    expect(await nodeRow('camera')).toMatchObject({
      state: 'answers',
      supervised: false,
      pid: expect.any(Number),
    })
    for (const file of ['keys/camera.json', 'nodes/camera/config.json'])
      expect((await stat(join(directory, file))).mode & 0o777, file).toBe(0o600)
    await node.end()
    expect((await deviceNamed('camera'))?.servedBy).toBeNull()
    expect(await nodeRow('camera')).toBeUndefined()
  })

  test('light node: a joined device follows headers, goes on without its full node, and is cut off when revoked', async () => {
    await using node = new MoteCommand(['device', 'join', 'sensor-9', '--run', '--json'], {
      MOTE_DIR: directory,
    })
    const { id, node: up } = await until(
      async () => JSON.parse(node.stdout || '{}') as { id: DeviceId; node?: { api: string } },
      answer => answer.node !== undefined,
      30_000,
    )
    const url = up!.api
    const { assignedFullNode } = await until(
      () => statusOf(url),
      status => status.backups?.length === 2 && status.servedBy === status.assignedFullNode?.id,
    )
    const dead = nameOf(assignedFullNode!.id)
    await mote('chaos', 'kill', dead)
    const height = await newBlock()
    const after = await until(
      () => statusOf(url),
      status => status.height >= height && status.servedBy !== undefined,
    )
    expect(nameOf(after.servedBy!)).not.toBe(dead)
    expect((await deviceNamed('sensor-9'))?.servedBy).toMatch(/^full-/)
    await mote('chaos', 'restart', dead)

    const { transaction } = await revoke(await honestClient(), operator, { id, reason: 'lost' })
    const certifiedAt = performance.now()
    await cutOffEverywhere(id, transaction!.height)
    expect(performance.now() - certifiedAt).toBeLessThan(1_000)
    const { code, stderr } = await node.ended
    const { error } = JSON.parse(stderr) as { error: { code: string; detail: string } }
    expect(error).toMatchObject({
      code: 'device-revoked',
      detail: expect.stringContaining('join under another name'),
    })
    expect(code).toBe(5)
    expect(await deviceNamed('sensor-9')).toMatchObject({ status: 'revoked', servedBy: null })
    const again = await runMote(['device', 'join', 'sensor-9', '--run'], { MOTE_DIR: directory })
    expect(again.stderr).toContain('device-revoked')
  })

  test('light node: a joined node under the supervisor is killed, restarted and shown like its own', async () => {
    const args = ['device', 'join', 'helper', '--label', 'coordination', '--run', '--detach']
    const { node } = await mote<{ node: { api: string } }>(...args)
    // It is up: full nodes have its signed address and tell it that they live, so it takes newcomers.
    expect((await fetch(`${node.api}/readyz`)).status).toBe(200)
    const twice = await runMote(args, { MOTE_DIR: directory })
    expect(twice.stderr).toContain('in-use: helper: runs already')
    await mote('chaos', 'kill', 'helper')
    expect(await nodeRow('helper')).toMatchObject({ state: 'down (SIGKILL)', label: 'coordination' })
    await mote('chaos', 'restart', 'helper')
  })

  test('light node: a joined coordination node goes on without a full node, and is cut off when revoked', async () => {
    const args = ['device', 'join', 'helper-2', '--label', 'coordination', '--run', '--detach']
    const { id, node } = await mote<{ id: DeviceId; node: { api: string } }>(...args)
    const ready = () => fetch(`${node.api}/readyz`)
    await until(ready, ({ status }) => status === 200, 20_000)
    await mote('chaos', 'kill', 'full-2')
    const height = await newBlock()
    await until(
      () => statusOf(node.api),
      status => status.height >= height,
    )
    await mote('chaos', 'restart', 'full-2')
    const { transaction } = await revoke(await honestClient(), operator, { id, reason: 'lost' })
    await cutOffEverywhere(id, transaction!.height)
    await until(
      () => nodeRow('helper-2'),
      row => row?.state.startsWith('down') === true,
    )
    const again = await runMote(['chaos', 'restart', 'helper-2'], { MOTE_DIR: directory })
    expect(again.stderr.split('\n')[0]).toMatch(
      /^mote: device-revoked: helper-2 was revoked, known at height /,
    )
    expect(again.code).toBe(5)
  })

  test('light node: its full node is killed; it goes on with a backup and verifies new blocks', async () => {
    const url = urlOf('lightweight-1')
    const before = await until(
      () => statusOf(url),
      status => status.backups?.length === 2 && status.servedBy === status.assignedFullNode?.id,
    )
    const dead = nameOf(before.assignedFullNode!.id)
    const backups = before.backups!.map(({ id }) => nameOf(id))
    process.kill((await statusOf(urlOf(dead))).pid, 'SIGKILL')
    const height = await newBlock()
    const after = await until(
      () => statusOf(url),
      status => nameOf(status.assignedFullNode!.id) !== dead && status.height >= height,
    )
    expect(nameOf(after.assignedFullNode!.id), 'the first backup serves').toBe(backups[0])
    const client = await clientOf(url)
    await client.follower.sync()
    expect((await client.records.device(devnet.devices[0]!.id)).value?.status).toBe('active')
    expect((await runMote(['chaos', 'restart', dead, '--dir', directory])).code).toBe(0)
    await until(
      () => statusOf(url),
      status => nameOf(status.assignedFullNode!.id) === dead && status.backups?.length === 2,
    )
  })

  test('light node: a full node that hangs is left by timeout', async () => {
    const url = urlOf('lightweight-1')
    const before = await statusOf(url)
    const hung = nameOf(before.assignedFullNode!.id)
    const { pid } = await statusOf(urlOf(hung))
    process.kill(pid, 'SIGSTOP')
    try {
      const height = await newBlock()
      await until(
        () => statusOf(url),
        status => nameOf(status.servedBy ?? '') !== hung && status.height >= height,
        30_000,
      )
    } finally {
      process.kill(pid, 'SIGCONT')
    }
    await until(
      () => statusOf(url),
      status => nameOf(status.servedBy ?? '') === hung,
      30_000,
    )
  })

  test('light node: goes on by itself when both coordination nodes are gone too', async () => {
    const url = urlOf('lightweight-1')
    for (const name of ['coordination-1', 'coordination-2'])
      process.kill((await statusOf(urlOf(name))).pid, 'SIGKILL')
    const before = await statusOf(url)
    const dead = nameOf(before.assignedFullNode!.id)
    process.kill((await statusOf(urlOf(dead))).pid, 'SIGKILL')
    const height = await newBlock()
    const after = await until(
      () => statusOf(url),
      status => status.height >= height,
      30_000,
    )
    expect(nameOf(after.servedBy ?? '')).not.toBe(dead)
    const client = await clientOf(url)
    expect((await client.records.device(devnet.devices[0]!.id)).value?.status).toBe('active')
  })

  test('light node: newcomers find a coordination node that has joined, by asking full nodes', async () => {
    // Both that the files name are gone by now, and so is one full node.
    const { through, backups } = await mote<{ through: string; backups: readonly unknown[] }>(
      'device',
      'join',
      'late',
    )
    expect(through).toBe('helper')
    expect(backups).toHaveLength(1)
    const { nodes } = await mote<StatusAnswer>('devnet', 'status')
    const helper = nodes.find(({ name }) => name === 'helper')
    const alive = nodes
      .filter(({ label, state }) => label === 'full' && state === 'answers')
      .map(({ id }) => id)
    const { peers } = await until(
      () => statusOf(urlOf('lightweight-1')),
      status => alive.includes(status.assignedFullNode?.id ?? ''),
    )
    expect(peers, 'a light node finds it too').toContainEqual(
      expect.objectContaining({ id: helper?.id, state: 'connected' }),
    )
  })
})

/** What the token key signed for its rightful newcomer. */
function signatureFor(token: Signer, chainId: ChainId, newcomer: Newcomer): Uint8Array {
  return token.sign(grantTokenSigningBytes(chainId, newcomer.keys.id))
}
