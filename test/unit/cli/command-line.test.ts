/**
 * The command line without a chain behind it: words, options, exit codes, streams.
 */
import { mkdtempSync, rmSync } from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { DeviceId } from '../../../chain/brands.ts'
import { defaultDirectory } from '../../../cli/context.ts'
import { type DevnetDescription, layout, writeDescription } from '../../../devnet/layout.ts'
import { beginInProcess, type CommandInProcess } from '../../support/command-in-process.ts'

function mote(
  args: readonly string[],
  options: { readonly variables?: NodeJS.ProcessEnv; readonly interrupted?: AbortSignal } = {},
): CommandInProcess['ended'] {
  return beginInProcess(args, { HOME: directory, ...options.variables }, options.interrupted).ended
}

let directory: string
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'mote-cli-'))
})
afterEach(() => {
  rmSync(directory, { recursive: true, force: true })
})

/** A devnet on paper, with a supervisor that listens and says nothing. */
async function silentDevnet(): Promise<{ close(): Promise<void> }> {
  const description: DevnetDescription = {
    version: 1,
    chainId: 'a'.repeat(64),
    seed: 'x',
    temporary: false,
    supervisorPid: process.pid,
    controlSocket: layout.controlSocket(directory),
    nodes: [],
    gateway: { name: 'gateway', id: DeviceId('b'.repeat(64)), mqtt: { host: '127.0.0.1', port: 1 } },
    devices: [],
    groups: [],
    links: [],
    trustTtlMs: 1000,
  }
  await writeDescription(directory, description)
  const server = createServer(socket => socket.on('error', () => {}).resume())
  await new Promise<void>(resolve => server.listen(description.controlSocket, resolve))
  return { close: () => new Promise(resolve => server.close(() => resolve())) }
}

describe('command line', () => {
  test('wrong words: exit 2, the reason on standard error, nothing on standard output', async () => {
    const wrong = [
      ['frobnicate'],
      ['devnet', 'frobnicate'],
      ['device', 'trust'],
      ['device', 'trust', '1113', '--level', '4'],
      ['device', 'join', 'x', '--label', 'huge'],
      ['device', 'join', 'x', '--token', 'ab'.repeat(32)],
      ['devnet', 'up', '--full', '0'],
      ['devnet', 'up', '--devices', '1001'],
      ['devnet', 'up', '--broker', 'mosquitto', '--tls'],
      ['devnet', 'status', '--timeout', 'soon'],
      ['device', 'send', '1113', 'hello'],
      ['node', 'start'],
      ['group', 'show', '--bogus', 'x'],
      [],
    ]
    for (const args of wrong) {
      const { code, stdout, stderr } = await mote(args)
      expect(code, args.join(' ')).toBe(2)
      expect(stdout, args.join(' ')).toBe('')
      expect(stderr, args.join(' ')).not.toBe('')
    }
  })

  test('every command of the contract has --help, which is data: exit 0', async () => {
    const commands = [
      'devnet up|devnet status|devnet logs|devnet down|device join|device trust|device show|device revoke',
      'device rights|group owner',
      'device credentials|device listen|device send|group create|group add|group remove|group show',
      'tx status|tx show|device contact refresh|block|chaos kill-leader|chaos restart|node start|gateway start',
      'chain consenters show|chain consenters set',
    ].flatMap(line => line.split('|'))
    for (const command of commands) {
      const { code, stdout } = await mote([...command.split(' '), '--help'])
      expect(code, command).toBe(0)
      expect(stdout, command).toContain(`Usage: mote ${command}`)
      for (const option of ['--json', '--dir', '--timeout']) expect(stdout, command).toContain(option)
      expect(stdout, command).toMatch(/^Exit codes:(\n {2}\d+ +\S.*)+$/m)
    }
  })

  test('the help of the program is the same, whatever is named behind it', async () => {
    const { stdout } = await mote(['--help'])
    expect(stdout).toContain('block [options] <height>')
    for (const word of ['device', 'tx', 'block', 'nothing'])
      expect((await mote(['--help', word])).stdout).toBe(stdout)
  })

  test('the help of a command says what an exit code means there', async () => {
    const meanings = {
      'device trust': ['0    trusted', '1    unverified or stale', '3    unknown', '5    not trusted'],
      'device send': ['0    checked and relayed', '5    refused'],
      'device join': ['0    joined', '4    refused'],
      'chaos kill-leader': ['1    an acknowledged transaction was lost', 'electionMs', 'unavailableMs'],
    }
    for (const [command, texts] of Object.entries(meanings)) {
      const { stdout } = await mote([...command.split(' '), '--help'])
      for (const text of texts) expect(stdout).toContain(text)
    }
  })

  test('an argument with a minus sign is an argument where a command says so, and an unknown option is none', async () => {
    expect(await mote(['chaos', 'clock', 'full-1', '-70s'])).toMatchObject({
      code: 3,
      stderr: expect.stringContaining('no devnet here'),
    })
    const wrong = [
      ['chaos', 'clock', 'full-1', '-70s', '--bogus'],
      ['chaos', 'clock', 'full-1', '--bogus'],
      ['chaos', 'clock', 'full-1'],
      ['chaos', 'clock', 'full-1', '-70'],
      ['chaos', 'delay', 'full-1', '-70s'],
    ]
    for (const args of wrong) expect(await mote(args), args.join(' ')).toMatchObject({ code: 2, stdout: '' })
    const { stdout } = await mote(['chaos', 'clock', '--help'])
    for (const text of ['clock', '<node> <offset>', '+400d', 'stays off over `restart`'])
      expect(stdout).toContain(text)
    expect((await mote(['chaos', '--help'])).stdout).toMatch(/clock .*<node> <offset>/)
  })

  test('no devnet in the directory: exit 3, as text and as JSON', async () => {
    for (const args of [
      ['devnet', 'status'],
      ['devnet', 'down'],
      ['device', 'trust', '1113'],
      ['devnet', 'logs'],
    ]) {
      const { code, stderr } = await mote(args)
      expect(code, args.join(' ')).toBe(3)
      expect(stderr).toContain('mote: not-running: ')
    }
    const { stderr, stdout } = await mote(['devnet', 'status', '--json'])
    expect(JSON.parse(stderr)).toMatchObject({ error: { code: 'not-running', retry: false } })
    expect(stdout).toBe('')
  })

  test('a supervisor that does not answer: exit 124 at the deadline, by option or environment', async () => {
    const devnet = await silentDevnet()
    try {
      const status = ['devnet', 'status', '--dir', directory]
      expect((await mote([...status, '--timeout', '0.2'])).code).toBe(124)
      expect((await mote(status, { variables: { MOTE_TIMEOUT: '0.2' } })).code).toBe(124)
      const named = { MOTE_DIR: directory, MOTE_TIMEOUT: '0.2', MOTE_JSON: '1' }
      expect((await mote(['devnet', 'status'], { variables: named })).code).toBe(124)
    } finally {
      await devnet.close()
    }
  })

  test('a signal: exit 130', async () => {
    const devnet = await silentDevnet()
    const interrupted = AbortSignal.timeout(100)
    try {
      expect((await mote(['devnet', 'status', '--dir', directory], { interrupted })).code).toBe(130)
    } finally {
      await devnet.close()
    }
  })

  test('MOTE_TIMEOUT that is no number: exit 2', async () => {
    expect((await mote(['devnet', 'status'], { variables: { MOTE_TIMEOUT: 'soon' } })).code).toBe(2)
  })

  test('the default directory is per user, and XDG_STATE_HOME moves it', () => {
    expect(defaultDirectory({ HOME: '/h' })).toBe('/h/.local/state/mote/devnet')
    expect(defaultDirectory({ HOME: '/h', XDG_STATE_HOME: '/s' })).toBe('/s/mote/devnet')
  })

  test('a configuration that is not there or not JSON: exit 2', async () => {
    const config = join(directory, 'none.json')
    for (const family of ['node', 'gateway']) {
      const { code, stderr } = await mote([family, 'start', '--config', config])
      expect(code).toBe(2)
      expect(stderr).toContain('config-invalid')
    }
  })
})
