/**
 * Faults on the real processes of one devnet and the links between them, through `mote chaos` (docs/OPERATIONS.md, section
 * Faults): nodes that are killed, paused, wiped and cut off, a network without a majority, and a short storm. Then a record
 * that was rewritten on the disk of one full node; and the consenter that is gone for good, which a new full node replaces
 * by a handover that clients, gateways and newcomers follow from the genesis on ("Replacing a consenter").
 */
import { randomBytes } from 'node:crypto'
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { Height, type Milliseconds } from '../../chain/brands.ts'
import { checkpointFromGenesis } from '../../chain/genesis.ts'
import { signerFromSeed } from '../../chain/noble-crypto.ts'
import type { NodeStatus } from '../../client/chain-source.ts'
import { Deadline } from '../../client/deadline.ts'
import { readGenesisFile } from '../../client/genesis-file.ts'
import { httpSource } from '../../client/http-source.ts'
import { type IdentityKeys, KeyDirectory } from '../../client/key-directory.ts'
import { signedBody } from '../../client/submission.ts'
import { fullNodesOf, nodeStatusOf, rolesOf } from '../../devnet/chaos/faults.ts'
import { PlainClient } from '../../devnet/chaos/plain-client.ts'
import type { ChaosReport } from '../../devnet/chaos/scenario-run.ts'
import {
  apiUrl,
  type DevnetDescription,
  type DevnetNode,
  layout,
  readDescription,
  writeDescription,
} from '../../devnet/layout.ts'
import type { WipeAnswer } from '../../devnet/supervisor.ts'
import type { PeerStatus } from '../../node/ports.ts'
import type { VerifyReport } from '../../node/verify.ts'
import { type CommandResult, MoteCommand, runMote } from '../support/mote-command.ts'
import { rewriteRecord } from '../support/rewritten-record.ts'

const root = mkdtempSync(join(tmpdir(), 'mote-e2e-faults-'))
const directory = join(root, 'net')
let description: DevnetDescription
let operator: IdentityKeys

function mote(...args: string[]): Promise<CommandResult> {
  return runMote(args, { MOTE_DIR: directory })
}

async function succeeds(...args: string[]): Promise<CommandResult> {
  const result = await mote(...args)
  expect(result.code, result.stderr + result.stdout).toBe(0)
  return result
}

beforeAll(async () => {
  await succeeds('devnet', 'up', '--detach', '--seed', 'faults', '--lightweight', '1', '--devices', '2')
  description = (await readDescription(directory))!
  operator = await (await KeyDirectory.open(layout.operator(directory))).load('operator')
})
afterAll(async () => {
  await mote('devnet', 'down')
  rmSync(root, { recursive: true, force: true })
})

async function grant(): Promise<Uint8Array> {
  const { chainId } = checkpointFromGenesis(await readGenesisFile(layout.genesis(directory)))
  const tokenKey = signerFromSeed('ed25519', Uint8Array.from(randomBytes(32))).publicKey
  const time = Date.now() as Milliseconds
  const expiry = (time + 60_000) as Milliseconds
  const body = { type: 'identity.grant', tokenKey, quota: 1, expiry, highestLabel: 'lightweight' } as const
  return signedBody({ chainId, body, keys: operator, time })
}

async function until<T>(what: string, attempt: () => Promise<T | undefined | false>): Promise<T> {
  let failure: unknown
  const ask = async () => {
    const found = await attempt().catch(error => {
      failure = error
    })
    return found || undefined
  }
  const value = await new Deadline(60_000).until(ask, 50)
  if (value === undefined) throw new Error(`${what}: not within 60 s`, { cause: failure })
  return value as T
}

function statusAt(api: string): Promise<NodeStatus> {
  return httpSource(api, { requestTimeoutMs: 2_000 }).status()
}

function nodeOf(name: string): DevnetNode {
  return description.nodes.find(node => node.name === name)!
}

const apiOf = (name: string): string => apiUrl(nodeOf(name).api)

/** Lines of a node's log so far. */
const logOf = (name: string): string[] =>
  readFileSync(layout.nodeLog(directory, name), 'utf8').trimEnd().split('\n')

describe('faults on real processes', () => {
  test('chaos: what cannot be done is said, with its exit code, and nothing is done', async () => {
    const refusals: readonly (readonly [number, RegExp, ...string[]])[] = [
      [3, /node: expected one of full-1.*got 'full-9'/, 'kill', 'full-9'],
      [3, /expected one of full-1/, 'pause', 'full-9'],
      [3, /expected one of full-1/, 'restart', 'full-9'],
      [3, /expected one of full-1/, 'wipe', 'full-9'],
      [3, /full-1: its data was not wiped/, 'unwipe', 'full-1'],
      [2, /missing required argument 'node'/, 'resume'],
      [2, /expected A,B\/C or A>B, got 'full-1'/, 'partition', 'full-1'],
      [2, /got 'full-9'/, 'partition', 'full-1/full-9'],
      [2, /delay: expected milliseconds.*got 'soon'/, 'delay', 'full-1', 'soon'],
      [3, /expected one of full-1/, 'delay', 'full-9', '20±10'],
      [2, /loss: expected a percentage from 0 to 90, got '500'/, 'loss', 'full-1', '500'],
      [2, /scenario: expected one of storm/, 'run', 'sunshine'],
      [2, /--duration.*expected seconds above 0, got 'x'/, 'run', 'storm', '--duration', 'x'],
      [2, /--think.*expected whole milliseconds, got 'x'/, 'run', 'storm', '--think', 'x'],
      [2, /too short for one episode of gateway-cut/, 'run', 'gateway-cut', '--duration', '5'],
    ]
    await Promise.all(
      refusals.map(async ([code, message, ...args]) =>
        expect(await mote('chaos', ...args), args.join(' ')).toMatchObject({
          code,
          stdout: '',
          stderr: expect.stringMatching(message),
        }),
      ),
    )
    const nowhere = await runMote(['chaos', 'heal'], { MOTE_DIR: join(root, 'nothing') })
    expect(nowhere).toMatchObject({ code: 3, stderr: expect.stringContaining('no devnet here') })
    const nodes = await Promise.all(fullNodesOf(description).map(nodeStatusOf))
    expect(nodes.every(status => status !== undefined)).toBe(true)
  })

  test('chaos: the leader is not killed when that leaves no majority; restart and resume exit 0 for a node that has caught up, of any label, and 124 with the reason else', async () => {
    const full = fullNodesOf(description)
    const { followers } = await rolesOf(full)
    const [away] = followers as [string]
    const others = full.filter(({ name }) => name !== away)
    const client = new PlainClient({ sources: others.map(({ source }) => source) })
    const newBlock = async () =>
      expect(await client.submit(await grant(), AbortSignal.timeout(20_000))).toMatchObject({
        type: 'acknowledged',
      })
    // Of each label at once, because most of it is waiting.
    const each = (nodes: readonly string[], ...args: string[]) =>
      Promise.all(nodes.map(node => succeeds('chaos', args[0]!, node, ...args.slice(1))))
    const areLevel = async (nodes: readonly string[]) => {
      for (const { stdout } of await each(nodes, 'resume', '--json', '--timeout', '100'))
        expect(JSON.parse(stdout).height).toBeGreaterThan(0)
    }
    const cut = [away, 'coordination-1']
    const ended = [...cut, 'lightweight-1']

    await each(ended, 'kill')
    expect(await mote('chaos', 'kill-leader')).toMatchObject({
      code: 6,
      stderr: expect.stringContaining('not killed: without the leader, 1 of 3 full nodes would be left'),
    })
    await succeeds('chaos', 'partition', `${cut}/${others.map(({ name }) => name)}`)
    await newBlock()
    await Promise.all(
      cut.map(async node =>
        expect(await mote('chaos', 'restart', node, '--timeout', '8')).toMatchObject({
          code: 124,
          stdout: '',
          stderr: expect.stringMatching(new RegExp(`${node}: at height \\d+, full nodes at \\d+, not level`)),
        }),
      ),
    )
    await succeeds('chaos', 'heal')
    const { stdout } = await succeeds('chaos', 'restart', 'lightweight-1', '--timeout', '100')
    expect(stdout).toMatch(/level at height \d+/)
    await areLevel(cut)

    await each(ended, 'pause')
    await newBlock()
    await areLevel(ended)
    expect((await mote('chaos', 'resume', 'gateway')).code).toBe(0)

    await each(
      full.map(({ name }) => name),
      'pause',
    )
    expect(await mote('chaos', 'resume', 'lightweight-1', '--timeout', '4')).toMatchObject({
      code: 124,
      stderr: expect.stringContaining('no full node answers'),
    })
    await succeeds('chaos', 'heal')
  })

  test('chaos: a wiped node ends and does not come back as the member it was; with its data it does', async () => {
    const full = fullNodesOf(description)
    await until('a leader', async () => (await rolesOf(full)).leader !== undefined)
    const [wiped] = (await rolesOf(full)).followers as [string]
    const answer = JSON.parse((await succeeds('chaos', 'wipe', wiped, '--json')).stdout) as WipeAnswer
    expect(answer).toMatchObject({
      started: false,
      reason: expect.stringContaining('state-lost: '),
    })
    await expect(statusAt(apiOf(wiped))).rejects.toThrow()
    const { stdout } = await succeeds('chaos', 'unwipe', wiped)
    expect(stdout).toContain(wiped)
    expect((await rolesOf(full)).followers).toContain(wiped)
    await until('it follows', async () => {
      const all = await Promise.all(full.map(nodeStatusOf))
      return all.every(status => status?.leader !== undefined)
    })
  })

  test('without a majority nothing is acknowledged; healed, the same bytes are, once', async () => {
    const nodes = fullNodesOf(description)
    const names = nodes.map(({ name }) => name)
    const { stdout } = await succeeds('chaos', 'partition', names.join('/'), '--json')
    expect((JSON.parse(stdout) as { blocked: unknown[] }).blocked).toHaveLength(6)
    await until('every leader stepped down', async () =>
      (await Promise.all(nodes.map(nodeStatusOf))).every(status => status && status.role !== 'leader'),
    )
    const bytes = await grant()
    const client = new PlainClient({ sources: nodes.map(({ source }) => source) })
    expect(await client.submit(bytes, AbortSignal.timeout(1_000))).toEqual({ type: 'open' })
    expect([...client.met.keys()].filter(code => code !== 'no-leader')).toEqual([])
    await succeeds('chaos', 'heal')
    const outcome = await client.submit(bytes, AbortSignal.timeout(20_000))
    expect(outcome.type).toBe('acknowledged')
    // Sent once more: the same answer.
    const again = await client.submit(bytes, AbortSignal.timeout(20_000))
    expect(again).toMatchObject({ type: 'acknowledged', height: 'height' in outcome ? outcome.height : 0 })
  })

  test('trust: a verified answer that is older than trustTtl exits 1, and 0 again after healing', async () => {
    const names = fullNodesOf(description).map(({ name }) => name)
    await writeDescription(directory, { ...description, trustTtlMs: 1_500 })
    await succeeds('chaos', 'partition', names.join('/'))
    const ask = async () => {
      const { code, stdout } = await mote('device', 'trust', '1111', '--json')
      return { ...(JSON.parse(stdout) as { verified: boolean; stale: boolean }), code }
    }
    await until('the answer is stale', async () => (await ask()).stale)
    expect(await ask()).toMatchObject({
      code: 1,
      verified: true,
      stale: true,
      status: 'active',
      trusted: false,
    })
    await succeeds('chaos', 'heal')
    await writeDescription(directory, description)
    await until('trusted again', async () => (await ask()).code === 0)
  })

  test('trust: full nodes that hang cost 6 s at most, and exit 1', async () => {
    const names = fullNodesOf(description).map(({ name }) => name)
    await Promise.all(names.map(name => succeeds('chaos', 'pause', name)))
    const timed = async (...args: readonly string[]) => {
      const startedAt = performance.now()
      const result = await mote(...args)
      return { ...result, tookMs: performance.now() - startedAt }
    }
    const { tookMs: startMs } = await timed('device', 'trust', '--help')
    const { code, stdout, tookMs } = await timed('device', 'trust', '1111', '--json')
    await succeeds('chaos', 'heal')
    expect(code).toBe(1)
    expect(JSON.parse(stdout)).toMatchObject({ verified: false, trusted: false, code: 'timeout' })
    // Five seconds of patience, and the start of a program, which takes as long as the machine is busy.
    expect(tookMs).toBeLessThan(5_750 + 3 * startMs)
  })

  test('a leader that can send but hears nobody steps down; the others elect and go on', async () => {
    const nodes = fullNodesOf(description)
    await until('a leader', async () => (await rolesOf(nodes)).leader !== undefined)
    const { leader, followers, term } = await rolesOf(nodes)
    await succeeds('chaos', 'partition', ...followers.map(name => `${name}>${leader}`))
    await until('another leads a later term', async () => {
      const now = await rolesOf(nodes.filter(({ name }) => name !== leader))
      return now.leader !== undefined && now.term > term
    })
    const old = nodes.find(({ name }) => name === leader)!
    await until('the old one knows', async () => (await nodeStatusOf(old))?.role !== 'leader')
    await succeeds('chaos', 'heal')
  })

  test('a short storm under load breaks no invariant, and a line says that light nodes caught up', async () => {
    // Pauses the lightweight node, isolates the leader and kills it, on links that lose frames.
    const seed = process.env['MOTE_FAULTS_SEED'] ?? 's11954'
    const args = ['storm', '--seed', seed, '--duration', '6', '--think', '400', '--json']
    const report = JSON.parse((await succeeds('chaos', 'run', ...args)).stdout) as ChaosReport
    expect(report.invariants.filter(({ pass }) => !pass)).toEqual([])
    expect(report.invariants.length).toBeGreaterThanOrEqual(9)
    expect(report.episodes).toBeGreaterThan(0)
    expect(report.transactions.acknowledged).toBeGreaterThan(50)
    expect(report.transactions.pending).toBe(0)
    expect(report.gateway.relayed).toBeGreaterThan(0)
    const line = report.invariants.find(({ name }) => name.startsWith('lightweight and coordination nodes'))
    // Who is hit in so short a run, the machine decides; that each label comes back is shown above, node by node.
    for (const node of ['lightweight-1', 'coordination-1'])
      expect(line?.detail).toMatch(new RegExp(`${node} at \\d+`))
    expect(line?.detail).toMatch(/\d+ ms after (kill|pause|restart)/)
  })
})

describe('a record that somebody has rewritten in the database of one full node', () => {
  test('rewritten record: the node is named as a liar by who asks it, its operator finds the record, and the others go on; what was kept of it outlives its block', async () => {
    const add = async (level: number) => {
      const { stdout } = await succeeds('record', 'add', '1111', 'tank', `{"level":${level}}`, '--json')
      return JSON.parse(stdout) as { readonly id: string; readonly height: number }
    }
    const lightStatus = async () =>
      (await statusAt(apiOf('lightweight-1'))) as NodeStatus & { assignedFullNode?: { id: string } }
    const { assignedFullNode } = await lightStatus()
    const liar = description.nodes.find(({ id }) => id === assignedFullNode?.id)!
    const config = layout.nodeConfig(directory, liar.name)
    const verify = async () => {
      const { code, stdout } = await mote('node', 'verify', '--config', config, '--json')
      return { code, findings: (JSON.parse(stdout) as VerifyReport).findings }
    }

    // The light node is away while the record comes, so that it will ask for this header.
    await succeeds('chaos', 'kill', 'lightweight-1')
    const { id, height } = await add(311)
    for (const level of [312, 313]) await add(level)
    await succeeds('chaos', 'kill', liar.name)
    const rewriting = {
      directory: join(layout.nodeData(directory, liar.name), 'chain'),
      height: Height(height),
    }
    await rewriteRecord({ ...rewriting, from: '"level":311', to: '"level":911', isWhole: false })
    const first = await verify()
    expect(first.code).toBe(5)
    expect(first.findings).toContainEqual({
      height,
      problem: 'transaction 0: other bytes than were certified',
      transaction: id,
    })
    // It starts and serves, for it reads old blocks only when it is asked for them.
    await succeeds('chaos', 'restart', liar.name)
    const alone = join(root, 'liar-alone')
    cpSync(layout.genesis(directory), layout.genesis(alone))
    await writeDescription(alone, { ...description, nodes: [liar] })
    for (const args of [
      ['record', 'show', id],
      ['record', 'proof', id, '--out', join(root, 'not-made')],
      ['record', 'list', '--device', description.devices[0]!.id],
    ]) {
      const { code, stderr } = await runMote(args, { MOTE_DIR: alone })
      expect(stderr, args.join(' ')).toContain(`mote: bad-proof: ${apiUrl(liar.api)}: block ${height}`)
      expect(code).toBe(1)
    }
    // With it among others it is passed over.
    const nodes = [liar, ...description.nodes.filter(node => node !== liar)]
    await writeDescription(alone, { ...description, nodes })
    const shown = await runMote(['record', 'show', id, '--json'], { MOTE_DIR: alone })
    expect(JSON.parse(shown.stdout)).toMatchObject({ payload: '{"level":311}', verified: true })
    // Nor does it help to make the block right by itself.
    await succeeds('chaos', 'kill', liar.name)
    await rewriteRecord({ ...rewriting, from: '"level":911', to: '"level":912', isWhole: true })
    const second = await verify()
    expect(second.code).toBe(5)
    expect(second.findings.filter(each => each.height === height).map(({ problem }) => problem)).toEqual([
      'transaction 0: its receipt says ok, execution bad-signature',
      expect.stringMatching(/^execution: gives another .*receiptsRoot/),
      'certificate: is of another header than is stored',
      'signature: this node has signed another header than is stored',
    ])
    await succeeds('chaos', 'restart', liar.name)
    // While the liar alone answers, the light node says so; it is level by another one.
    const others = fullNodesOf(description).filter(({ name }) => name !== liar.name)
    await Promise.all(others.map(({ name }) => succeeds('chaos', 'pause', name)))
    const isLevel = succeeds('chaos', 'restart', 'lightweight-1')
    const toldOfLiar = async () =>
      logOf('lightweight-1')
        .filter(line => line.includes('a full node gave an answer that does not verify'))
        .map(line => JSON.parse(line))
        .some(({ source, code }) => source === liar.id && code === 'bad-header')
    await until('the light node says who lied', toldOfLiar)
    await succeeds('chaos', 'heal')
    await isLevel
    expect((await lightStatus()).servedBy).not.toBe(liar.id)
    await add(314)

    // What the operator does: everything is fetched anew. From now on this node forgets old blocks.
    const [kept, proof] = [join(root, 'kept'), join(root, 'proof')]
    await succeeds('record', 'keep', id, '--out', kept)
    await succeeds('chaos', 'kill', liar.name)
    await succeeds('node', 'rebuild', '--config', config)
    const file = JSON.parse(readFileSync(config, 'utf8'))
    writeFileSync(config, JSON.stringify({ ...file, retention: { blocks: 1, ageMs: 0 } }))
    await succeeds('chaos', 'restart', liar.name)
    await add(315)
    const content = `${apiUrl(liar.api)}/v1/blocks/${height}/content`
    await until('it has forgotten', async () => (await fetch(content)).status === 410)
    await writeDescription(alone, { ...description, nodes: [liar] })
    const onIt = (...args: string[]) => runMote(args, { MOTE_DIR: alone })
    expect(await onIt('record', 'show', id)).toMatchObject({
      code: 3,
      stderr: expect.stringContaining(`mote: forgotten: block ${height}: only its leaf hashes are kept here`),
    })
    expect((await succeeds('record', 'show', id)).stdout).toContain('311')
    const proven = await onIt('record', 'proof', '--from', kept, '--out', proof)
    expect(proven.code, proven.stderr).toBe(0)
    await succeeds('node', 'drain', '--config', config)
    const verified = await onIt('record', 'verify', proof, '--json')
    expect(JSON.parse(verified.stdout)).toMatchObject({ id, values: { level: 311 }, signatureVerified: true })
    expect(await verify()).toEqual({ code: 0, findings: [] })
  })
})

describe('a consenter that is gone for good is replaced', () => {
  const started: MoteCommand[] = []
  let gone = ''
  let survivors: readonly string[] = []
  let fullFour = ''

  beforeAll(async () => {
    const full = fullNodesOf(description)
    const answers = await Promise.all(full.map(async node => ({ ...node, status: await nodeStatusOf(node) })))
    // The one that was drained, if that test has run.
    gone = answers.find(({ status }) => status === undefined)?.name ?? 'full-3'
    if (answers.every(({ status }) => status !== undefined)) await succeeds('chaos', 'kill', gone)
    survivors = full.map(({ name }) => name).filter(name => name !== gone)
  })
  afterAll(async () => {
    for (const { process } of started) process.kill('SIGTERM')
    await Promise.all(started.map(({ ended }) => ended))
  })

  test('a new full node learns the chain, and takes its place by a certified handover', async () => {
    fullFour = await startNew('full-4', 'full', gone)
    const target = (await statusAt(apiOf(survivors[0]!))).certifiedHeight
    await until('full-4 has caught up', async () => (await statusAt(fullFour)).certifiedHeight >= target)
    for (const name of ['lightweight-1', 'coordination-1']) await succeeds('chaos', 'kill', name)
    await succeeds('chain', 'consenters', 'set', ...survivors, 'full-4', '--wait')
    const { stdout } = await succeeds('chain', 'consenters', '--json')
    const { consenters } = JSON.parse(stdout) as { consenters: readonly { name: string }[] }
    expect(consenters.map(({ name }) => name).sort()).toEqual([...survivors, 'full-4'])
    // A proof made at the handover itself is the old consenters' word, which a peer that has a block above refuses (`stale`) until there
    // is a new one: so that no clock decides who is refused, there is a block above.
    await succeeds('device', 'grant')
  })

  test('light nodes that were away meanwhile take each other: each shows what the new consenters signed', async () => {
    const light = ['lightweight-1', 'coordination-1']
    const before = new Map(light.map(name => [name, logOf(name).length]))
    await succeeds('chaos', 'restart', 'coordination-1')
    await succeeds('chaos', 'restart', 'lightweight-1')
    const { id } = nodeOf('coordination-1')
    await until('it is connected', async () => {
      const { peers } = (await statusAt(apiOf('lightweight-1'))) as { peers?: readonly PeerStatus[] }
      return peers?.some(peer => peer.id === id && peer.state === 'connected')
    })
    const logged = (name: string, pattern: RegExp) =>
      logOf(name)
        .slice(before.get(name))
        .filter(line => pattern.test(line))
    for (const name of light) expect(logged(name, /peer refused/)).toEqual([])
    const unheard = logged('lightweight-1', /did not answer.*not connected|not connected.*did not answer/)
    expect(unheard, 'only who is connected is missed').toEqual([])
  })

  test('with it the chain bears the loss of another: writes, reads, light nodes and newcomers go on', async () => {
    await succeeds('chaos', 'pause', survivors[1]!)
    const granted = await until('a certified write', async () => {
      const result = await mote('device', 'grant', '--json')
      return result.code === 0 && (JSON.parse(result.stdout) as { height: number })
    })
    await until('the light node verifies it', async () => {
      const { height } = await statusAt(apiOf('lightweight-1'))
      return height >= granted.height
    })
    expect((await mote('device', 'trust', '1111')).code).toBe(0)
    expect((await statusAt(fullFour)).certifiedHeight).toBeGreaterThanOrEqual(granted.height)
    const coordinator = await startNew('coordination-2', 'coordination', 'coordination-1')
    await until('the newcomer has followed the handover', async () => {
      const { height } = await statusAt(coordinator)
      return height >= granted.height
    })
    await succeeds('chaos', 'heal')
  })

  /** Lets a node in, writes its configuration after that of another, starts it; resolves to its API. */
  async function startNew(name: string, label: 'full' | 'coordination', like: string): Promise<string> {
    await succeeds('device', 'join', name, '--label', label, '--json')
    const neighbour = JSON.parse(readFileSync(layout.nodeConfig(directory, like), 'utf8'))
    const config = {
      ...neighbour,
      name,
      genesis: layout.genesis(directory),
      key: join(directory, 'keys', `${name}.json`),
      data: join(root, name),
      api: { host: '127.0.0.1', port: 0 },
      p2p: { host: '127.0.0.1', port: 0 },
      coordination: label === 'coordination' ? [] : neighbour.coordination,
      retention: undefined,
    }
    const file = join(root, `${name}.json`)
    writeFileSync(file, JSON.stringify(config))
    const command = new MoteCommand(['node', 'start', '--config', file])
    started.push(command)
    return until(`${name} is ready`, async () => {
      const line = command.stdout.split('\n').find(text => text.startsWith('{'))
      return line === undefined ? undefined : (JSON.parse(line) as { api: string }).api
    }).catch(error => {
      throw new Error(`${String(error)}; it said: ${command.stdout}${command.stderr}`)
    })
  }
})
