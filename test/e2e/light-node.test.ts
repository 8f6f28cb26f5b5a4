/**
 * Joining and light nodes with real processes: a device is admitted and proves it, every lie of a full node is caught,
 * and the death of a full node costs its lightweight nodes nothing. The tests of one devnet, in order: what has joined in
 * one of them is the light node and the coordination node of those that follow.
 */
import { randomBytes } from 'node:crypto'
import { mkdtemp, readFile, rm, stat } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { ChainId, DeviceId } from '../../chain/brands.ts'
import { decode } from '../../chain/codec.ts'
import { checkpointFromGenesis, type GenesisDocument } from '../../chain/genesis.ts'
import type { Signer } from '../../chain/keys.ts'
import { stateAnswerCodec } from '../../chain/light-client.ts'
import { stateKeyOf } from '../../chain/records.ts'
import { MoteError } from '../../chain/result.ts'
import { type CapabilityProfile, grantTokenSigningBytes } from '../../chain/transaction.ts'
import { ChainClient } from '../../client/chain-client.ts'
import { readGenesisFile } from '../../client/genesis-file.ts'
import { httpSource } from '../../client/http-source.ts'
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
import type { KillLeaderReport } from '../../devnet/chaos/kill-leader.ts'
import { apiUrl, type DevnetDescription, layout, readDescription } from '../../devnet/layout.ts'
import { readNodeConfig } from '../../node/config.ts'
import { unreadiness } from '../contract/health.ts'
import { beginInProcess } from '../support/command-in-process.ts'
import { keysOfFullBlocks, makeFullBlocks } from '../support/full-blocks.ts'
import { lyingProxy } from '../support/lying-proxy.ts'
import { MoteCommand, pidsOf, runMote, ShellCommand, untilGone } from '../support/mote-command.ts'

interface Status {
  readonly id: string
  readonly pid: number
  readonly role: string
  readonly height: number
  readonly servedBy?: string
  readonly assignedFullNode?: { readonly id: string }
  readonly backups?: readonly { readonly id: string }[]
  readonly fullNodes?: readonly unknown[]
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
    readonly pid: number | null
  }[]
  readonly gateway: { readonly pid: number | null }
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

/** URL of the full node that leads, as soon as one does. */
async function leaderUrl(): Promise<string> {
  const urls = ['full-1', 'full-2', 'full-3'].map(urlOf)
  const rolesOf = () => Promise.all(urls.map(async url => (await statusOf(url)).role))
  const roles = await until(rolesOf, found => found.includes('leader'))
  return urls[roles.indexOf('leader')]!
}

/** Waits until every full node that runs is at this height and not connected to the device. */
async function cutOffEverywhere(id: DeviceId, height: number): Promise<void> {
  const { nodes } = await mote<StatusAnswer>('devnet', 'status')
  const running = nodes.filter(({ label, state }) => label === 'full' && state === 'answers')
  expect(running.length).toBeGreaterThan(1)
  for (const { name } of running)
    await until(
      () => statusOf(urlOf(name)),
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
async function until<T>(ask: () => Promise<T>, holds: (value: T) => boolean, withinMs = 60_000): Promise<T> {
  const deadline = performance.now() + withinMs
  for (let last: unknown; ; ) {
    try {
      const value = await ask()
      if (holds(value)) return value
      last = value
    } catch (error) {
      last = error
    }
    if (performance.now() > deadline) throw new Error(`not within ${withinMs} ms: ${JSON.stringify(last)}`)
    await new Promise(resolve => setTimeout(resolve, 50))
  }
}

async function refusal(promise: Promise<unknown>): Promise<string> {
  const error = await promise.then(
    () => undefined,
    (cause: unknown) => cause,
  )
  return error instanceof MoteError ? error.code : `not refused: ${String(error)}`
}

/** Where a devnet is that names no directory. */
const inNoDirectory = () => ({ XDG_STATE_HOME: join(root, 'state') })

beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), 'mote-e2e-light-'))
  const size = ['--full', '3', '--coordination', '1', '--lightweight', '0', '--devices', '1']
  const up = await runMote(
    ['devnet', 'up', '--detach', '--json', '--seed', 'light', ...size],
    inNoDirectory(),
  )
  expect(up.code, up.stderr).toBe(0)
  directory = (JSON.parse(up.stdout) as { directory: string }).directory
  devnet = (await readDescription(directory))!
  genesis = await readGenesisFile(layout.genesis(directory))
  operator = await (await KeyDirectory.open(layout.operator(directory))).load('operator')
})

afterAll(async () => {
  await runMote(['devnet', 'down'], inNoDirectory())
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
  /** The light node of these tests: a device that joins and runs in the foreground. */
  let sensor: {
    readonly command: MoteCommand
    readonly id: DeviceId
    readonly api: string
    readonly pid: number
  }
  /** A coordination node that has joined, under the supervisor. */
  let helper: { readonly id: DeviceId; readonly api: string }

  const sensorStatus = () => statusOf(sensor.api)
  /** Served by the full node that it is assigned, with both others as backups. */
  const settled = ({ backups, servedBy, assignedFullNode }: Status) =>
    backups?.length === 2 && servedBy === assignedFullNode?.id

  /** Resolves when the helper has heard of so many full nodes: they come one after the other. */
  const heardOf = (count: number) =>
    until(
      () => statusOf(helper.api),
      ({ fullNodes }) => fullNodes?.length === count,
    )

  afterAll(() => sensor?.command[Symbol.asyncDispose]())

  test('light node: a device joins and runs with the command that join prints', async () => {
    const joined = await mote<{
      next: string
      assignedFullNode: { name: string }
      backups: readonly unknown[]
    }>('device', 'join', 'camera')
    expect(joined.assignedFullNode.name).toMatch(/^full-/)
    expect(joined.backups).toHaveLength(2)
    expect(joined.next).toContain('mote node init camera --label lightweight')
    // What npx does is npm's matter, and costs a second each time.
    await using node = new ShellCommand(joined.next.replaceAll('npx mote', `${process.execPath} bin/mote.js`))
    const { api } = await until(
      () => readNodeConfig(layout.nodeConfig(directory, 'camera')),
      config => config.name === 'camera',
    )
    await until(
      () => statusOf(apiUrl(api)),
      status => status.servedBy !== undefined,
    )
    const camera = await deviceNamed('camera')
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

  test('light node: serves verified answers from its own API', async () => {
    const command = new MoteCommand(['device', 'join', 'sensor-9', '--run', '--json'], {
      MOTE_DIR: directory,
    })
    interface Answer {
      readonly id: DeviceId
      readonly node?: { readonly api: string; readonly pid: number }
    }
    const { id, node } = await until(
      async () => JSON.parse(command.stdout || '{}') as Answer,
      answer => answer.node !== undefined,
    )
    sensor = { command, id, ...node! }
    const client = await clientOf(sensor.api)
    await client.follower.sync()
    const { value, ageMs } = await client.records.device(devnet.devices[0]!.id)
    expect(value?.status).toBe('active')
    expect(ageMs).toBeLessThan(devnet.trustTtlMs)
    expect((await fetch(`${sensor.api}/readyz`)).status).toBe(200)
    expect((await deviceNamed('sensor-9'))?.servedBy).toMatch(/^full-/)
  })

  test('light node: a coordination node joins and runs under the supervisor, like its own', async () => {
    const args = ['device', 'join', 'helper', '--label', 'coordination', '--run', '--detach']
    const { id, node } = await mote<{ id: DeviceId; node: { api: string } }>(...args)
    helper = { id, api: node.api }
    // It is up: full nodes have its signed address and tell it that they live, so it takes newcomers.
    expect((await fetch(`${helper.api}/readyz`)).status).toBe(200)
    const twice = await runMote(args, { MOTE_DIR: directory })
    expect(twice.stderr).toContain('in-use: helper: runs already')
  })

  test('light node: both coordination nodes give the same assignment', async () => {
    const { id } = devnet.devices[0]!
    const [one, two] = [urlOf('coordination-1'), helper.api].map(httpContact)
    // What is signed may be of two heartbeats.
    const unsigned = ({ signed: _, ...where }: NodeAddress) => where
    const assignedBy = async (contact: CoordinationContact) => {
      const { fullNode, backups } = await askAssignment(contact, id)
      return { fullNode: unsigned(fullNode), backups: backups.map(unsigned) }
    }
    await heardOf(3)
    const assigned = await assignedBy(one!)
    expect(assigned.backups).toHaveLength(2)
    expect(assigned).toEqual(await assignedBy(two!))
    const response = await fetch(`${urlOf('coordination-1')}/v1/assignment/${id}`)
    const { assignedFullNode } = (await response.json()) as { assignedFullNode: unknown }
    expect(assignedFullNode).toEqual(assigned.fullNode)
  })

  test('light node: a lightweight and a coordination node that were stopped for 58 blocks are level again, two of them with 480 changed keys, more than 32 KiB in one answer', async () => {
    await mote('chaos', 'pause', 'coordination-1')
    process.kill(sensor.pid, 'SIGSTOP')
    let changes = 0
    try {
      const client = await honestClient()
      const { height } = (await client.follower.sync()).header
      for (let i = 0; i < 58; i++) {
        const { publicKey: tokenKey } = nativeSignerFromSeed('ed25519', randomBytes(32))
        await grant(client, operator, { tokenKey })
      }
      expect((await client.follower.sync()).header.height).toBeGreaterThanOrEqual(height + 58)
      // What comes while a block is under way is to be one block.
      await mote('chaos', 'delay', 'all', '100')
      changes = await makeFullBlocks({ client, operator, keys: keysOfFullBlocks, leader: leaderUrl })
    } finally {
      await mote('chaos', 'delay', 'all', '0')
      process.kill(sensor.pid, 'SIGCONT')
      await mote('chaos', 'resume', 'coordination-1', ...patience)
    }
    expect(changes).toBeGreaterThanOrEqual(keysOfFullBlocks)
    const { height } = await statusOf(await leaderUrl())
    for (const url of [urlOf('coordination-1'), sensor.api]) {
      const level = (status: { certifiedHeight: number; lag: number }) =>
        status.certifiedHeight >= height && status.lag === 0
      await until(() => httpSource(url).status(), level, 5_000)
      // A coordination node has no full node to name until one has shown that it lives.
      await until(
        () => unreadiness(url),
        reason => reason === undefined,
      )
    }
  })

  test('light node: its full node is killed; it goes on with a backup and verifies new blocks: kill-leader loses nothing', async () => {
    const before = await until(sensorStatus, settled)
    const dead = nameOf(before.assignedFullNode!.id)
    const backups = before.backups!.map(({ id }) => nameOf(id))
    const { id: leader } = await statusOf(await leaderUrl())
    if (nameOf(leader) !== dead) {
      const config = layout.nodeConfig(directory, nameOf(leader))
      await mote('node', 'transfer', '--config', config, '--to', nodeNamed(dead).id)
    }
    const killed = await mote<KillLeaderReport>('chaos', 'kill-leader')
    expect(killed.ackedLost).toBe(0)
    expect(killed.acked).toBeGreaterThan(0)
    expect(killed.oldLeader).toBe(dead)
    expect(killed.newLeader).not.toBe(dead)
    expect(killed.newTerm).toBeGreaterThan(killed.oldTerm)
    expect(killed.electionMs).toBeGreaterThan(0)
    expect(killed.unavailableMs).toBeGreaterThanOrEqual(killed.electionMs)
    expect(await nodeRow(dead)).toMatchObject({ state: 'down (SIGKILL)', role: null, pid: null })

    const height = await newBlock()
    const after = await until(
      sensorStatus,
      status => nameOf(status.assignedFullNode!.id) !== dead && status.height >= height,
    )
    expect(nameOf(after.assignedFullNode!.id), 'the first backup serves').toBe(backups[0])
    expect((await deviceNamed('sensor-9'))?.servedBy).toBe(backups[0])
    const client = await clientOf(sensor.api)
    await client.follower.sync()
    expect((await client.records.device(devnet.devices[0]!.id)).value?.status).toBe('active')
    await until(
      () => statusOf(helper.api),
      status => status.height >= height,
    )
    await mote('chaos', 'restart', dead)
    expect((await runMote(['chaos', 'restart', 'full-9'], { MOTE_DIR: directory })).code).toBe(3)
    await until(sensorStatus, status => settled(status) && nameOf(status.assignedFullNode!.id) === dead)
    for (const { name } of (await readDescription(directory))!.nodes)
      expect(await readFile(layout.nodeLog(directory, name), 'utf8'), name).not.toContain('peer refused')
  })

  test('light node: a full node that hangs is left by timeout', async () => {
    const hung = nameOf((await sensorStatus()).assignedFullNode!.id)
    const { pid } = await statusOf(urlOf(hung))
    process.kill(pid, 'SIGSTOP')
    try {
      const height = await newBlock()
      await until(sensorStatus, status => nameOf(status.servedBy ?? '') !== hung && status.height >= height)
    } finally {
      process.kill(pid, 'SIGCONT')
    }
    await until(sensorStatus, status => nameOf(status.servedBy ?? '') === hung)
  })

  test('light node: goes on by itself when both coordination nodes are gone too', async () => {
    process.kill((await statusOf(urlOf('coordination-1'))).pid, 'SIGKILL')
    await mote('chaos', 'kill', 'helper')
    expect(await nodeRow('helper')).toMatchObject({ state: 'down (SIGKILL)', label: 'coordination' })
    const before = await sensorStatus()
    const dead = nameOf(before.assignedFullNode!.id)
    process.kill((await statusOf(urlOf(dead))).pid, 'SIGKILL')
    const height = await newBlock()
    const after = await until(sensorStatus, status => status.height >= height)
    expect(nameOf(after.servedBy ?? '')).not.toBe(dead)
    const client = await clientOf(sensor.api)
    expect((await client.records.device(devnet.devices[0]!.id)).value?.status).toBe('active')
  })

  test('light node: newcomers find a coordination node that has joined and was killed and restarted, by asking full nodes', async () => {
    // The one that the files name is gone by now, and so is one full node.
    await mote('chaos', 'restart', 'helper')
    await heardOf(2)
    const { through, backups } = await mote<{ through: string; backups: readonly unknown[] }>(
      'device',
      'join',
      'late',
    )
    expect(through).toBe('helper')
    expect(backups).toHaveLength(1)
    const { nodes } = await mote<StatusAnswer>('devnet', 'status')
    const alive = nodes
      .filter(({ label, state }) => label === 'full' && state === 'answers')
      .map(({ id }) => id)
    const { peers } = await until(sensorStatus, status => alive.includes(status.assignedFullNode?.id ?? ''))
    expect(peers, 'a light node finds it too').toContainEqual(
      expect.objectContaining({ id: helper.id, state: 'connected' }),
    )
  })

  test('light node: a joined device and a joined coordination node are cut off when revoked', async () => {
    const { command } = sensor
    const { transaction } = await revoke(await honestClient(), operator, { id: sensor.id, reason: 'lost' })
    const certifiedAt = performance.now()
    await cutOffEverywhere(sensor.id, transaction!.height)
    expect(performance.now() - certifiedAt).toBeLessThan(1_000)
    const { code, stderr } = await command.ended
    const { error } = JSON.parse(stderr) as { error: { code: string; detail: string } }
    expect(error).toMatchObject({
      code: 'device-revoked',
      detail: expect.stringContaining('join under another name'),
    })
    expect(code).toBe(5)
    expect(await deviceNamed('sensor-9')).toMatchObject({ status: 'revoked', servedBy: null })
    const joinAgain = ['device', 'join', 'sensor-9', '--run']
    const refused = await beginInProcess(joinAgain, { ...process.env, MOTE_DIR: directory }).ended
    expect(refused.stderr).toContain('device-revoked')

    const { pid } = await statusOf(helper.api)
    const revoked = await revoke(await honestClient(), operator, { id: helper.id, reason: 'lost' })
    await cutOffEverywhere(helper.id, revoked.transaction!.height)
    await untilGone([pid])
    await until(
      () => nodeRow('helper'),
      row => row?.state.startsWith('down') === true,
    )
    const again = await runMote(['chaos', 'restart', 'helper'], { MOTE_DIR: directory })
    expect(again.stderr.split('\n')[0]).toMatch(/^mote: device-revoked: helper was revoked, known at height /)
    expect(again.code).toBe(5)
  })

  test('children end when their supervisor is killed; without --dir the directory is temporary', async () => {
    const running = pidsOf(await mote<StatusAnswer>('devnet', 'status'))
    expect(running.length).toBeGreaterThan(2)
    process.kill(devnet.supervisorPid, 'SIGKILL')
    await untilGone(running)
    const down = await runMote(['devnet', 'down', '--json'], inNoDirectory())
    expect(JSON.parse(down.stdout)).toMatchObject({ stopped: false, removed: true, directory })
    await expect(stat(directory)).rejects.toMatchObject({ code: 'ENOENT' })
    expect((await runMote(['devnet', 'down'], inNoDirectory())).code).toBe(3)
  })
})

/** What the token key signed for its rightful newcomer. */
function signatureFor(token: Signer, chainId: ChainId, newcomer: Newcomer): Uint8Array {
  return token.sign(grantTokenSigningBytes(chainId, newcomer.keys.id))
}
