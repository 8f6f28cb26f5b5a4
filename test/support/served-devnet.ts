/** A devnet directory whose full nodes answer for a chain in memory, and commands that run on it in this process. */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Writable } from 'node:stream'
import { run } from '../../cli/program.ts'
import { writeGenesisFile } from '../../client/genesis-file.ts'
import { KeyDirectory } from '../../client/key-directory.ts'
import { layout, writeDescription } from '../../devnet/layout.ts'
import { type ServedChain, serveChain } from './served-chain.ts'
import { keysOf, TestChain, type TestChainOptions, type TestSource } from './test-chain.ts'

class Capture extends Writable {
  text = ''
  override _write(chunk: Buffer, _encoding: string, done: () => void): void {
    this.text += chunk.toString('utf8')
    done()
  }
}

export interface ServedDevnet extends AsyncDisposable {
  readonly chain: TestChain
  /** The full nodes, in the order in which commands ask them. */
  readonly sources: readonly TestSource[]
  /** Runs one command on the chain. Messages for people are collected in `notes` while it runs. */
  mote(...args: readonly string[]): Promise<{ code: number; stdout: string; notes: string }>
}

export const operatorNames = ['operator', 'operator-2', 'operator-3']

/** A devnet directory whose full nodes 1 to 3 answer for the chain; of the spares nobody answers. */
export async function serveDevnet(options: TestChainOptions = {}): Promise<ServedDevnet> {
  const directory = mkdtempSync(join(tmpdir(), 'mote-served-'))
  const chain = new TestChain({ spares: ['full-4', 'full-5'], devices: ['sensor'], ...options })
  chain.append()
  const served = new Map<string, ServedChain>()
  const sources = chain.fullNodes.map(({ name }) => chain.source(name))
  for (const source of sources) served.set(source.name, await serveChain(source))
  const keys = await KeyDirectory.open(directory)
  const operators = await KeyDirectory.open(layout.operator(directory))
  for (const name of operatorNames) {
    await operators.store(keysOf(name))
    await keys.alias(name, keysOf(name).id)
  }
  for (const { name, id } of [...chain.fullNodes, ...chain.spares, keysOf('sensor')])
    await keys.alias(name, id)
  await operators.store(keysOf('sensor'))
  await writeGenesisFile(layout.genesis(directory), chain.genesis)
  const nowhere = { host: '127.0.0.1', port: 1 }
  await writeDescription(directory, {
    version: 1,
    chainId: chain.chainId,
    seed: 'x',
    temporary: false,
    supervisorPid: process.pid,
    controlSocket: layout.controlSocket(directory),
    nodes: [...chain.fullNodes, ...chain.spares].map(({ name, id }) => ({
      name,
      id,
      label: 'full' as const,
      api: served.get(name) ?? nowhere,
      p2p: nowhere,
    })),
    gateway: { name: 'gateway', id: keysOf('sensor').id, mqtt: nowhere },
    devices: [],
    groups: [],
    links: [],
    trustTtlMs: 1000,
  })
  return {
    chain,
    sources,
    async mote(...args) {
      const [stdout, stderr] = [new Capture(), new Capture()]
      const code = await run([...args, '--dir', directory], {
        variables: { HOME: directory },
        streams: { stdout, stderr },
        interrupted: new AbortController().signal,
      })
      return { code, stdout: stdout.text, notes: stderr.text }
    },
    async [Symbol.asyncDispose]() {
      for (const each of served.values()) await each[Symbol.asyncDispose]()
      rmSync(directory, { recursive: true, force: true })
    },
  }
}
