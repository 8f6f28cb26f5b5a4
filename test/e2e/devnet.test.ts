/**
 * A devnet of real processes from the command line, as a newcomer uses it: up, look, join, send, break, down. It has one
 * full node: what it takes three for is in light-node.test.ts, which ends one that is temporary by its supervisor's death.
 * Nothing is left behind (test/leftovers.ts looks again at the end of the run).
 */
import { spawnSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { layout } from '../../devnet/layout.ts'
import { beginInProcess } from '../support/command-in-process.ts'
import { until } from '../support/gateway-fixture.ts'
import { type CommandResult, MoteCommand, pidsOf, runMote, untilGone } from '../support/mote-command.ts'
import { repositoryRoot } from '../support/source-files.ts'

const root = mkdtempSync(join(tmpdir(), 'mote-e2e-devnet-'))
const directory = join(root, 'net')
const size = ['--full', '1', '--lightweight', '0', '--seed', 'end-to-end']

interface StatusJson {
  readonly chainId: string
  readonly height: number
  readonly nodes: readonly Record<string, unknown>[]
  readonly gateway: { readonly mqtt: string; readonly pid: number }
  readonly devices: readonly { readonly name: string; readonly id: string; readonly status: string }[]
}

function mote(...args: string[]): Promise<CommandResult> {
  return runMote(args, { MOTE_DIR: directory })
}

/** Runs with --json and returns the exit code and the one value printed. */
async function json<T = Record<string, unknown>>(
  ...args: string[]
): Promise<{ code: number | null; value: T }> {
  const { code, stdout, stderr } = await mote(...args, '--json')
  const lines = stdout.trimEnd().split('\n')
  expect(lines, stderr).toHaveLength(1)
  return { code, value: JSON.parse(lines[0]!) as T }
}

let started: { code: number | null; value: StatusJson }

beforeAll(async () => {
  started = await json<StatusJson>('devnet', 'up', '--detach', ...size)
})
afterAll(async () => {
  await mote('devnet', 'down')
  rmSync(root, { recursive: true, force: true })
})

describe('devnet', () => {
  test('up --detach returns when every node and the gateway have answered', () => {
    expect(started.code).toBe(0)
    const { nodes, gateway, devices } = started.value
    expect(nodes.map(node => node['name'])).toEqual(['full-1', 'coordination-1'])
    for (const node of nodes)
      expect(node).toMatchObject({
        id: expect.stringMatching(/^[0-9a-f]{64}$/),
        state: 'answers',
        role: expect.any(String),
        term: expect.any(Number),
        height: expect.any(Number),
        lag: expect.any(Number),
        pid: expect.any(Number),
        api: expect.stringMatching(/^http:/),
        addresses: expect.any(Array),
      })
    expect(nodes.filter(node => node['role'] === 'leader')).toHaveLength(1)
    expect(gateway.mqtt).toMatch(/^mqtt:\/\/127\.0\.0\.1:\d+$/)
    expect(devices.map(({ name, status }) => `${name} ${status}`)).toEqual([
      '1111 active',
      '1112 active',
      '1113 active',
      '1114 active',
      'observer active',
    ])
  })

  test('a second up on the live directory exits 1 and harms nothing', async () => {
    const inForeground = await mote('devnet', 'up')
    expect(inForeground).toMatchObject({ code: 1, stderr: expect.stringContaining('in-use') })
    const environment = { ...process.env, MOTE_DIR: directory }
    const detached = await beginInProcess(['devnet', 'up', '--detach'], environment).ended
    expect(detached).toMatchObject({ code: 1, stderr: expect.stringContaining('in-use') })
    expect(
      (await json<StatusJson>('devnet', 'status')).value.nodes.every(node => node['state'] === 'answers'),
    ).toBe(true)
  })

  test('trust: 0 for a device, 3 with an absence proof for an unknown id, 3 for an unknown name', async () => {
    const known = await json('device', 'trust', '1113')
    expect(known.code).toBe(0)
    expect(known.value).toMatchObject({
      name: '1113',
      status: 'active',
      trustLevel: 2,
      label: 'lightweight',
      verified: true,
      term: expect.any(Number),
      ageMs: expect.any(Number),
    })
    expect(known.value['keyIds']).toHaveLength(2)
    expect((await json('device', 'trust', '1113', '--level', '3')).code).toBe(5)
    const unknown = await json('device', 'trust', '0'.repeat(64))
    expect(unknown).toMatchObject({ code: 3, value: { status: 'unknown', verified: true } })
    expect((await mote('device', 'trust', 'nobody')).code).toBe(3)
  })

  test('join: keys, grant, challenge, registration, assignment; a spent token is refused with exit 4', async () => {
    const granted = await json<{ token: string }>('device', 'grant')
    expect(granted.code).toBe(0)
    const tokenFile = join(root, 'token')
    writeFileSync(tokenFile, `${granted.value.token}\n`, { mode: 0o600 })
    const kinds = ['--signing-key', 'p256', '--encryption-key', 'rsa-3072']
    const joined = await json('device', 'join', 'sensor-9', '--token-file', tokenFile, ...kinds)
    expect(joined.code).toBe(0)
    expect(joined.value).toMatchObject({ name: 'sensor-9', height: expect.any(Number), verified: true })
    expect(joined.value['assignedFullNode']).toMatchObject({ name: expect.stringMatching(/^full-/) })
    expect(joined.value['backups']).toEqual([])
    const again = await mote('device', 'join', 'sensor-10', '--token-file', tokenFile)
    expect(again.stderr).toContain('grant-not-valid')
    expect(again.code).toBe(4)
    writeFileSync(tokenFile, 'ab'.repeat(32))
    const foreign = await mote('device', 'join', 'sensor-10', '--token-file', tokenFile)
    expect(foreign.stderr).toContain('grant-not-valid')
    expect(foreign.code).toBe(4)
    expect((await json('device', 'trust', 'sensor-10')).code).toBe(3)
    const shown = await json<{
      keys: { suite: string; publicKey: string }[]
      transactions: { kind: string; id: string }[]
    }>('device', 'show', 'sensor-9')
    expect(shown.value.keys.map(({ suite, publicKey }) => [suite, publicKey.length / 2])).toEqual([
      ['p256', 33],
      ['rsa-oaep', 398],
    ])
    const x25519 = await mote('device', 'join', 'sensor-9', '--encryption-key', 'x25519')
    expect(x25519).toMatchObject({
      code: 1,
      stderr: expect.stringContaining('sensor-9 has keys of p256 and rsa-3072'),
    })
    expect(shown.value.transactions.map(({ kind }) => kind)).toEqual(['identity.register'])
    const status = await json('tx', 'status', shown.value.transactions[0]!.id)
    expect(status).toMatchObject({ code: 0, value: { status: 'certified', height: joined.value['height'] } })
    expect((await mote('tx', 'status', 'f'.repeat(64))).code).toBe(3)
    const { id } = shown.value.transactions[0]!
    expect(await json('tx', 'show', id)).toMatchObject({
      code: 0,
      value: { id, code: 'ok', body: { type: 'identity.register', label: 'lightweight' }, verified: true },
    })
    expect((await mote('tx', 'show', 'f'.repeat(64))).code).toBe(3)
    const block = await mote('block', String(joined.value['height']))
    expect(block.code).toBe(0)
    expect(block.stdout).toMatch(/^time +\d{4}-\d\d-\d\dT\S+Z$/m)
    expect(block.stdout).toMatch(new RegExp(`^0 +${id} +identity\\.register +[0-9a-f]{64} +ok$`, 'm'))
  })

  test('join --run --detach: the device is a node of the devnet from then on', async () => {
    const joined = await json<{ node: { servedBy: string } }>('device', 'join', 'meter', '--run', '--detach')
    expect(joined).toMatchObject({ code: 0, value: { label: 'lightweight', next: null } })
    expect(joined.value.node.servedBy).toMatch(/^full-/)
    const { nodes } = (await json<StatusJson>('devnet', 'status')).value
    expect(nodes.at(-1)).toMatchObject({ name: 'meter', label: 'lightweight', state: 'answers' })
    expect((await mote('device', 'join', 'meter', '--label', 'full')).stderr).toContain('already-exists')
  })

  test('send and listen: the recipient reads it; a group is read by its members only', async () => {
    const environment = { MOTE_DIR: directory }
    const reader = new MoteCommand(['device', 'listen', '1113', '--count', '2', '--json'], environment)
    const out = join(root, 'received')
    const outsider = new MoteCommand(['device', 'listen', '1114', '--json', '--out', out], environment)
    await Promise.all([reader.untilSays('listening'), outsider.untilSays('listening')])
    const sent = await json('device', 'send', '1113', 'hello', '--from', '1111')
    expect(sent).toMatchObject({ code: 0, value: { verdict: 'Check', reason: null } })
    const toGroup = await json('device', 'send', '--group', 'hsu0001', 'hello group', '--from', '1111')
    expect(toGroup).toMatchObject({ code: 0, value: { verdict: 'Check' } })
    const { code, stdout } = await reader.ended
    expect(code).toBe(0)
    const messages = stdout
      .trimEnd()
      .split('\n')
      .map(line => JSON.parse(line) as Record<string, unknown>)
    expect(messages).toMatchObject([
      { from: '1111', to: '1113', text: 'hello', messageId: sent.value['messageId'], at: expect.any(String) },
      { from: '1111', group: 'hsu0001', text: 'hello group', messageId: toGroup.value['messageId'] },
    ])
    expect(outsider.stdout).toBe('')
    const content = randomBytes(2 ** 20 + 1)
    const piped = ['device', 'send', '1114', '--file', '-', '--from', '1111', '--json']
    const { status, stderr } = spawnSync(process.execPath, [join(repositoryRoot, 'bin/mote.js'), ...piped], {
      input: content,
      env: { ...process.env, ...environment },
      encoding: 'utf8',
    })
    expect(stderr).toContain('relayed 1.0 of 1.0 MiB')
    expect(status).toBe(0)
    await outsider.untilPrints('"bytes":1048577')
    const { file } = JSON.parse(outsider.stdout) as { file: string }
    expect(readFileSync(file).equals(content)).toBe(true)
    outsider.process.kill('SIGINT')
    expect(await outsider.ended).toMatchObject({ code: 130 })
    const large = join(root, 'large')
    writeFileSync(large, new Uint8Array(16 * 2 ** 20 + 1))
    const refused = await mote('device', 'send', '1114', '--file', large, '--from', '1111')
    expect(refused).toMatchObject({ code: 1, stderr: expect.stringContaining('too-large: ') })
    const toRsa = await json('device', 'send', 'sensor-9', 'hello', '--from', '1111', '--light')
    expect(toRsa).toMatchObject({ code: 0, value: { verdict: 'Check' } })
  })

  test('group: create, add, remove, show', async () => {
    expect((await json('group', 'create', 'valves', '1112', '--from', '1114')).code).toBe(0)
    expect((await json('group', 'add', 'valves', '1113', '--from', '1114')).code).toBe(0)
    const names = async (): Promise<string[]> => {
      const { value } = await json<{ members: { name: string }[] }>('group', 'show', 'valves')
      return value.members.map(({ name }) => name).sort()
    }
    expect(await names()).toEqual(['1112', '1113', '1114'])
    expect((await json('group', 'remove', 'valves', '1112', '--from', '1114')).code).toBe(0)
    expect(await names()).toEqual(['1113', '1114'])
    expect((await mote('group', 'add', 'valves', '1111', '--from', '1113')).code).toBe(4)
    expect((await mote('group', 'show', 'nothing')).code).toBe(3)
    const [groups, devices] = await Promise.all([json('group', 'list'), json('device', 'list')])
    const members = expect.arrayContaining([expect.objectContaining({ name: '1113' })])
    const valves = expect.objectContaining({ name: 'valves', members, holders: members })
    expect(groups).toMatchObject({ code: 0, value: { groups: expect.arrayContaining([valves]), next: null } })
    const listed = expect.arrayContaining([expect.objectContaining({ name: '1113', status: 'active' })])
    expect(devices).toMatchObject({ code: 0, value: { devices: listed, next: null } })
  })

  test('revoke: trust says 5, sending says 5', async () => {
    expect(await json('device', 'revoke', 'sensor-9')).toMatchObject({
      code: 0,
      value: { status: 'revoked' },
    })
    expect(await json('device', 'trust', 'sensor-9')).toMatchObject({ code: 5, value: { status: 'revoked' } })
    const sent = await json('device', 'send', '1113', 'let me in', '--from', 'sensor-9')
    expect(sent).toMatchObject({ code: 5, value: { verdict: 'Error', code: 'signer-not-active' } })
    const again = await mote('device', 'join', 'sensor-9')
    expect(again.stderr).toContain('device-revoked: sensor-9 is revoked')
    expect(again.code).toBe(5)
  })

  test('credentials: what any MQTT client needs', async () => {
    const { code, value } = await json('device', 'credentials', '1112')
    expect(code).toBe(0)
    expect(Object.keys(value).sort()).toEqual([
      'clientId',
      'expiresAt',
      'host',
      'password',
      'port',
      'username',
    ])
  })

  test('no log of any program has a secret of this network in it, the gateway neither', () => {
    const within = (folder: string): string[] => {
      const all = readdirSync(folder, { recursive: true, withFileTypes: true })
      return all.filter(entry => entry.isFile()).map(({ parentPath, name }) => join(parentPath, name))
    }
    const read = (path: string): string => readFileSync(path, 'latin1')
    const files = within(directory)
    // The fields of key files and of what a node grants to its operator.
    const secret = /"(?:seed|secret|token|password)": ?"([^"]+)"/g
    const secrets = files
      .filter(path => path.endsWith('.json'))
      .flatMap(path => [...read(path).matchAll(secret)].map(([, text = '']) => text))
    expect(secrets.length).toBeGreaterThan(20)
    // What is being written anew has another name for a moment.
    const logs = files.filter(path => /(?:^|\/)(?:log|decisions)[^/]*(?<!\.new)$/.test(path))
    for (const name of ['full-1', 'coordination-1', 'meter', 'gateway'])
      expect(logs.some(path => path.includes(`/${name}/`) && read(path) !== '')).toBe(true)
    const written = logs.map(path => [path, read(path)] as const)
    expect(
      written.flatMap(([path, text]) => (secrets.some(each => text.includes(each)) ? [path] : [])),
    ).toEqual([])
    // Nor what devices have sent, which the gateway has decided about.
    const text = written.map(([, each]) => each).join('\n')
    expect(text).toContain('"event":"message"')
    expect(text).not.toContain('hello group')
  })

  test('without a full node nothing is trusted: exit 1, unverified', async () => {
    expect((await json('chaos', 'kill', 'full-1')).code).toBe(0)
    const answer = await json('device', 'trust', '1113')
    expect(answer).toMatchObject({ code: 1, value: { verified: false, status: 'unverified' } })
    expect((await json('devnet', 'status')).code).toBe(0)
  })

  test('down stops everything and keeps a named directory; up goes on with it; SIGTERM drains', async () => {
    const before = (await json<StatusJson>('devnet', 'status')).value
    expect(await json('devnet', 'down')).toMatchObject({ code: 0, value: { removed: false } })
    await untilGone(pidsOf(before))
    expect((await mote('devnet', 'status')).code).toBe(3)

    const foreground = new MoteCommand(['devnet', 'up', '--json'], { MOTE_DIR: directory })
    await until(() => foreground.stdout !== '', 'it is up', 60_000)
    const after = (await json<StatusJson>('devnet', 'status')).value
    expect(after.chainId).toBe(before.chainId)
    expect(after.devices.map(({ name, status }) => `${name} ${status}`)).toEqual([
      '1111 active',
      '1112 active',
      '1113 active',
      '1114 active',
      'meter active',
      'observer active',
      'sensor-9 revoked',
    ])
    expect(after.nodes.at(-1), 'what joined goes on too').toMatchObject({ name: 'meter', state: 'answers' })
    expect((await json('device', 'trust', 'sensor-9')).code).toBe(5)
    foreground.process.kill('SIGTERM')
    expect((await foreground.ended).code).toBe(0)
    await untilGone(pidsOf(after))
  })

  test('a node that cannot start: exit 1, its name, the end of its log, nothing left running', async () => {
    const config = layout.nodeConfig(directory, 'coordination-1')
    writeFileSync(config, readFileSync(config, 'utf8').replace('"version": 1', '"version": 99'))
    const { code, stderr } = await mote('devnet', 'up', '--detach')
    expect(code).toBe(1)
    expect(stderr).toContain('start-failed: coordination-1 ended before it was ready')
    expect(stderr).toContain('version: expected 1')
    expect((await mote('devnet', 'status')).code).toBe(3)
  })
})
