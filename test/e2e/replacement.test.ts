/**
 * A consenter loses its disk and is replaced while the chain runs (docs/OPERATIONS.md, "Replacing a consenter"): the wiped
 * one may not come back as the member it was; a new full node is let in, learns, and takes its place by a handover that
 * clients, gateways and newcomers follow from the genesis on.
 */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { NodeStatus } from '../../client/chain-source.ts'
import { type DevnetDescription, layout, readDescription } from '../../devnet/layout.ts'
import type { PeerStatus } from '../../node/ports.ts'
import { type CommandResult, MoteCommand, runMote } from '../support/mote-command.ts'

const root = mkdtempSync(join(tmpdir(), 'mote-e2e-replacement-'))
const directory = join(root, 'net')
const started: MoteCommand[] = []
let description: DevnetDescription

const mote = (...args: string[]): Promise<CommandResult> => runMote(args, { MOTE_DIR: directory })

async function succeeds<T>(...args: string[]): Promise<T> {
  const result = await mote(...args, '--json')
  expect(result.code, result.stderr + result.stdout).toBe(0)
  return JSON.parse(result.stdout) as T
}

async function until<T>(
  what: string,
  attempt: () => Promise<T | undefined>,
  deadlineMs = 60_000,
): Promise<T> {
  const deadline = performance.now() + deadlineMs
  for (;;) {
    const result = await attempt().catch(() => undefined)
    if (result !== undefined) return result
    if (performance.now() > deadline) throw new Error(`${what}: not within ${deadlineMs} ms`)
    await new Promise(resolve => setTimeout(resolve, 50))
  }
}

async function statusAt(api: string): Promise<NodeStatus> {
  const answer = await fetch(`${api}/v1/status`, { signal: AbortSignal.timeout(2_000) })
  return (await answer.json()) as NodeStatus
}

const apiOf = (name: string): string => {
  const { host, port } = description.nodes.find(node => node.name === name)!.api
  return `http://${host}:${port}`
}

const logged = (name: string, pattern: RegExp): string[] =>
  readFileSync(layout.nodeLog(directory, name), 'utf8')
    .split('\n')
    .filter(line => pattern.test(line))

/** Lets a node in, writes its configuration after that of a neighbour, starts it; resolves to its API. */
async function startNew(name: string, label: 'full' | 'coordination', like: string): Promise<string> {
  await succeeds('device', 'join', name, '--label', label)
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

beforeAll(async () => {
  const up = await mote(
    'devnet',
    'up',
    '--detach',
    '--seed',
    'replacement',
    '--lightweight',
    '1',
    '--devices',
    '2',
  )
  expect(up.code, up.stderr).toBe(0)
  description = (await readDescription(directory))!
})
afterAll(async () => {
  for (const { process } of started) process.kill('SIGTERM')
  await Promise.all(started.map(({ ended }) => ended))
  await mote('devnet', 'down')
  rmSync(root, { recursive: true, force: true })
})

describe('a consenter that lost its disk is replaced', () => {
  let fullFour = ''

  test('wiped, it does not come back as the member it was', async () => {
    await succeeds('chaos', 'wipe', 'full-3')
    await expect(statusAt(apiOf('full-3'))).rejects.toThrow()
  })

  test('a new full node learns the chain, and takes its place by a certified handover', async () => {
    fullFour = await startNew('full-4', 'full', 'full-3')
    const target = (await statusAt(apiOf('full-1'))).certifiedHeight
    await until(
      'full-4 has caught up',
      async () => (await statusAt(fullFour)).certifiedHeight >= target || undefined,
    )
    for (const name of ['lightweight-1', 'coordination-1']) await succeeds('chaos', 'kill', name)
    const set = ['chain', 'consenters', 'set', 'full-1', 'full-2', 'full-4', '--wait']
    await succeeds(...set)
    const { consenters } = await succeeds<{ consenters: { name: string }[] }>('chain', 'consenters')
    expect(consenters.map(({ name }) => name).sort()).toEqual(['full-1', 'full-2', 'full-4'])
    // A proof made at the handover itself is the old consenters' word, which a peer that has a block above refuses (`stale`) until there
    // is a new one: so that no clock decides who is refused, there is a block above.
    await succeeds('device', 'grant')
  })

  test('light nodes that were away meanwhile take each other: each shows what the new consenters signed', async () => {
    await succeeds('chaos', 'restart', 'coordination-1')
    await succeeds('chaos', 'restart', 'lightweight-1')
    const { id } = description.nodes.find(({ label }) => label === 'coordination')!
    await until('it is connected', async () => {
      const { peers } = (await statusAt(apiOf('lightweight-1'))) as { peers?: readonly PeerStatus[] }
      return peers?.some(peer => peer.id === id && peer.state === 'connected') || undefined
    })
    for (const name of ['lightweight-1', 'coordination-1']) expect(logged(name, /peer refused/)).toEqual([])
    const unheard = logged('lightweight-1', /did not answer.*not connected|not connected.*did not answer/)
    expect(unheard, 'only who is connected is missed').toEqual([])
  })

  test('with it the chain bears the loss of another: writes, reads, light nodes and newcomers go on', async () => {
    const { pid } = await statusAt(apiOf('full-2'))
    process.kill(pid, 'SIGSTOP')
    try {
      const granted = await until('a certified write', async () => {
        const result = await mote('device', 'grant', '--json')
        return result.code === 0 ? (JSON.parse(result.stdout) as { height: number }) : undefined
      })
      await until('the light node verifies it', async () => {
        const { height } = await statusAt(apiOf('lightweight-1'))
        return height >= granted.height || undefined
      })
      expect((await mote('device', 'trust', '1111')).code).toBe(0)
      expect((await statusAt(fullFour)).certifiedHeight).toBeGreaterThanOrEqual(granted.height)
      const coordinator = await startNew('coordination-2', 'coordination', 'coordination-1')
      await until('the newcomer has followed the handover', async () => {
        const { height } = await statusAt(coordinator)
        return height >= granted.height || undefined
      })
    } finally {
      process.kill(pid, 'SIGCONT')
    }
  })
})
