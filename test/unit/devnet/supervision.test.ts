/**
 * The supervisor's parts without a chain: children, control socket, logs, ports. The children are small programs
 * written here, run by this Node.
 */
import { spawnSync } from 'node:child_process'
import { existsSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { createConnection, createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { MoteError } from '../../../chain/result.ts'
import { FaultInjector } from '../../../devnet/chaos/faults.ts'
import { Child } from '../../../devnet/child.ts'
import { askControl, parseRequest, serveControl } from '../../../devnet/control.ts'
import { chooseControlSocket, type DevnetDescription, removeControlSocket } from '../../../devnet/layout.ts'
import { LogFile } from '../../../devnet/log-file.ts'
import { choosePorts } from '../../../devnet/ports.ts'
import { repositoryRoot } from '../../support/source-files.ts'

let directory: string
const never = AbortSignal.timeout(60_000)
const children: Child[] = []
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'mote-devnet-'))
})
afterEach(async () => {
  for (const child of children.splice(0)) {
    child.kill()
    await child.ended
  }
  rmSync(directory, { recursive: true, force: true })
})

function childOf(source: string, onUnexpectedEnd: () => void = () => {}): Child {
  const entry = join(directory, 'program.mjs')
  writeFileSync(entry, source)
  const child = new Child({
    name: 'program',
    program: { executable: process.execPath, entry },
    arguments: [],
    logPath: join(directory, 'log'),
    onUnexpectedEnd,
  })
  children.push(child)
  return child
}

const readyThenWait = `
  console.log('{"ready":'); console.log('not yet'); console.log('{"ready":true}')
  process.stdin.on('end', () => process.exit(0)).resume()
`

describe('child', () => {
  test('is ready when it says so on a line of its own, and not before', async () => {
    const child = childOf(readyThenWait)
    child.start()
    expect(child.state).toMatchObject({ type: 'running', ready: false })
    await child.waitUntilReady(AbortSignal.timeout(10_000))
    expect(child.state).toMatchObject({ type: 'running', ready: true })
    expect(child.log.tail(1)).toEqual(['{"ready":true}'])
  })

  test('that ends before it is ready: start-failed, with the end of its log', async () => {
    const child = childOf(`console.error('the disk is on fire'); process.exit(3)`)
    child.start()
    await expect(child.waitUntilReady(AbortSignal.timeout(10_000))).rejects.toMatchObject({
      code: 'start-failed',
      detail: expect.stringMatching(/exit code 3[\s\S]*the disk is on fire/),
    })
  })

  test('that was revoked says so itself: its own code and sentence, also after it was ready', async () => {
    const failed = JSON.stringify({ failed: { code: 'device-revoked', detail: 'program was revoked' } })
    const late = `setTimeout(() => { console.log('${failed}'); process.exit(5) }, 20)`
    for (const [source, waits] of [
      [`console.log('${failed}'); process.exit(5)`, (child: Child) => child.waitUntilReady(never)],
      [`console.log('{"ready":true}'); ${late}`, (child: Child) => child.ended],
    ] as const) {
      const child = childOf(source)
      child.start()
      await waits(child).catch(() => {})
      expect(child.failure('did not answer')).toMatchObject({
        code: 'device-revoked',
        detail: 'program was revoked',
      })
      expect(child.state).toMatchObject({ type: 'ended', code: 5 })
    }
  })

  test('that says anything else when it ends: start-failed, with the end of its log', async () => {
    for (const said of [
      '{"failed":{"code":"storage-corrupt","detail":"x"}}',
      '{"failed":{"code":"nonsense"}}',
    ]) {
      const child = childOf(`console.log('${said}'); process.exit(1)`)
      child.start()
      await expect(child.waitUntilReady(never)).rejects.toMatchObject({
        code: 'start-failed',
        detail: expect.stringContaining(said),
      })
    }
  })

  test('that is silent: start-failed at the deadline', async () => {
    const child = childOf('setInterval(() => {}, 1000)')
    child.start()
    await expect(child.waitUntilReady(AbortSignal.timeout(100))).rejects.toMatchObject({
      code: 'start-failed',
    })
  })

  test('that ignores SIGTERM is killed at the deadline; a paused one is woken to end', async () => {
    const stubborn = childOf(`process.on('SIGTERM', () => {}); ${readyThenWait}`)
    stubborn.start()
    await stubborn.waitUntilReady(AbortSignal.timeout(10_000))
    await stubborn.stop(100)
    expect(stubborn.state).toMatchObject({ type: 'ended', signal: 'SIGKILL' })

    const paused = childOf(`process.on('SIGTERM', () => process.exit(0)); ${readyThenWait}`)
    paused.start()
    await paused.waitUntilReady(AbortSignal.timeout(10_000))
    paused.signal('SIGSTOP')
    await paused.stop(5_000)
    expect(paused.state).toMatchObject({ type: 'ended', code: 0 })
  })

  test('that ends by itself is reported, one that was asked to end is not; it can be started again', async () => {
    const report = vi.fn()
    const child = childOf(readyThenWait, report)
    child.start()
    await child.waitUntilReady(AbortSignal.timeout(10_000))
    expect(() => child.start()).toThrow('runs already')
    child.signal('SIGKILL', false)
    await child.ended
    expect(report).toHaveBeenCalledTimes(1)
    child.start()
    await child.waitUntilReady(AbortSignal.timeout(10_000))
    await child.stop(5_000)
    expect(report).toHaveBeenCalledTimes(1)
    expect(() => child.signal('SIGSTOP')).toThrow('not-running')
  })
})

describe('control socket', () => {
  const path = (): string => join(directory, 'control.sock')

  test('is for this user only, answers in order, and goes with its server', async () => {
    const server = await serveControl(path(), async request => ({ echo: request.command }))
    expect(statSync(path()).mode & 0o777).toBe(0o600)
    expect(await askControl(path(), { command: 'ping' })).toEqual({ echo: 'ping' })
    await new Promise(resolve => server.close(resolve))
    expect(existsSync(path())).toBe(false)
    await expect(askControl(path(), { command: 'ping' })).rejects.toMatchObject({ code: 'not-running' })
  })

  test('in a directory with a long name is one that nobody can tell beforehand, in a directory for this user only', async () => {
    const long = join(directory, 'x'.repeat(100))
    const chosen = [await chooseControlSocket(long), await chooseControlSocket(long)]
    try {
      expect(new Set(chosen).size).toBe(2)
      for (const each of chosen) {
        expect(Buffer.byteLength(each)).toBeLessThanOrEqual(100)
        expect(statSync(dirname(each)).mode & 0o777).toBe(0o700)
      }
    } finally {
      for (const each of chosen) removeControlSocket(long, each)
    }
    for (const each of chosen) expect(existsSync(dirname(each))).toBe(false)
    expect(await chooseControlSocket(directory)).toBe(path())
    removeControlSocket(directory, path())
    expect(existsSync(directory)).toBe(true)
  })

  test('passes refusals on with their code', async () => {
    const server = await serveControl(path(), async request =>
      parseRequest(JSON.stringify({ ...request, node: 1 })),
    )
    await expect(askControl(path(), { command: 'restart', node: 'full-1' })).rejects.toMatchObject({
      code: 'malformed',
    })
    await new Promise(resolve => server.close(resolve))
  })

  test('closes on a line without end and on too many requests at once', async () => {
    const server = await serveControl(path(), () => new Promise(() => {}))
    for (const flood of ['x'.repeat(70_000), '{"command":"ping"}\n'.repeat(100)]) {
      const socket = createConnection(path())
      let answer = ''
      socket.on('data', chunk => {
        answer += chunk.toString('utf8')
      })
      const closed = new Promise(resolve => socket.once('close', resolve))
      socket.on('error', () => {})
      socket.write(flood)
      await closed
      if (answer !== '') expect(answer).toContain('malformed')
    }
    await new Promise<void>(resolve => {
      server.close(() => resolve())
    })
  })

  test('gives up at the deadline of who asks', async () => {
    const server = await serveControl(path(), () => new Promise(() => {}))
    await expect(askControl(path(), { command: 'status' }, AbortSignal.timeout(100))).rejects.toMatchObject({
      code: 'timeout',
    })
    await new Promise(resolve => server.close(resolve))
  })

  test('reads only what it knows', () => {
    for (const text of [
      '',
      '[]',
      'null',
      '{"command":"format-disk"}',
      '{"command":"signal","node":"a","signal":"SIGUSR1"}',
      '{"command":"restart"}',
    ])
      expect(() => parseRequest(text), text).toThrow('malformed')
    expect(parseRequest('{"command":"signal","node":"a","signal":"SIGSTOP","more":1}')).toEqual({
      command: 'signal',
      node: 'a',
      signal: 'SIGSTOP',
    })
  })
})

describe('log file', () => {
  test('is rotated at its size and keeps two older ones', () => {
    const path = join(directory, 'log')
    const log = new LogFile(path)
    const block = `${'y'.repeat(1024 * 1024 - 1)}\n`
    for (let i = 0; i < 30; i++) log.append(block)
    expect(statSync(path).size).toBeLessThanOrEqual(8 * 1024 * 1024)
    expect([1, 2, 3].map(i => existsSync(`${path}.${i}`))).toEqual([true, true, false])
    log.append('last\n')
    expect(new LogFile(path).tail(1)).toEqual(['last'])
    expect(readFileSync(path, 'utf8').endsWith('last\n')).toBe(true)
  })
})

describe('ports', () => {
  test('auto gives no port again, and none that is near to those of another process, while this one runs', async () => {
    const [first, second] = [await choosePorts(100, 'auto'), await choosePorts(100, 'auto')]
    expect(new Set([...first, ...second]).size).toBe(200)
    const child =
      'import("./devnet/ports.ts").then(async ({ choosePorts }) => console.log(...await choosePorts(1000, "auto")))'
    const { stdout } = spawnSync(process.execPath, ['-e', child], { encoding: 'utf8', cwd: repositoryRoot })
    const others = stdout.trim().split(' ').map(Number)
    expect(new Set(others).size).toBe(1000)
    const blockOf = (port: number) => Math.floor((port - 15_000) / 64)
    const ours = new Set([...first, ...second].map(blockOf))
    expect(others.filter(port => ours.has(blockOf(port)))).toEqual([])
  })

  test('auto gives different free ports; a base that is taken is refused', async () => {
    const ports = await choosePorts(8, 'auto')
    expect(new Set(ports).size).toBe(8)
    const server = createServer()
    await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
    const address = server.address()
    const taken = typeof address === 'object' && address ? address.port : 0
    await expect(choosePorts(1, taken)).rejects.toMatchObject({ code: 'in-use' })
    await new Promise(resolve => server.close(resolve))
  })
})

describe('bringing everything back', () => {
  const description = (): DevnetDescription => {
    const nodes = ['full-1', 'sensor-9', 'meter'].map(name => ({
      name,
      label: name === 'full-1' ? 'full' : 'lightweight',
      api: { host: '127.0.0.1', port: 1 },
    }))
    return {
      controlSocket: join(directory, 'control.sock'),
      nodes,
      links: [],
    } as unknown as DevnetDescription
  }

  /** A supervisor under which everything but full-1 is down, and these answers to `restart`. */
  async function restored(onRestart: (node: string) => void) {
    const rows = ['full-1', 'sensor-9', 'meter'].map(name => ({
      name,
      pid: name === 'full-1' ? 1 : null,
      clockOffsetMs: 0,
    }))
    const asked: string[] = []
    const server = await serveControl(description().controlSocket, async request => {
      if (request.command === 'status')
        return { nodes: rows, gateway: { name: 'gateway', pid: 2, clockOffsetMs: 0 } }
      if (request.command === 'unwipe') throw new MoteError('not-found', 'not wiped')
      if (request.command !== 'restart') return null
      asked.push(request.node)
      return onRestart(request.node)
    })
    const notes: string[] = []
    const injector = new FaultInjector(description(), text => void notes.push(text))
    const restore = () => injector.restoreAll().finally(() => new Promise(resolve => server.close(resolve)))
    return { injector, asked, notes, restore }
  }

  test('a node that was revoked is left out, and said to be; it is not started a second time', async () => {
    const { injector, asked, notes, restore } = await restored(node => {
      if (node === 'sensor-9') throw new MoteError('device-revoked', 'sensor-9 was revoked')
    })
    await injector.restoreAll()
    await restore()
    expect(notes).toEqual(['sensor-9 stays down and is left out: it was revoked'])
    expect(asked).toEqual(['sensor-9', 'meter', 'meter'])
    expect(injector.living.nodes.map(({ name }) => name)).toEqual(['full-1', 'meter'])
  })

  test('a node that does not start for another reason ends the run', async () => {
    const { restore } = await restored(node => {
      if (node === 'meter') throw new MoteError('start-failed', 'meter ended')
    })
    await expect(restore()).rejects.toMatchObject({ code: 'start-failed' })
  })
})
