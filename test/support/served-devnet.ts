/** A devnet directory whose full nodes answer for a chain in memory, and commands that run on it in this process. */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { writeGenesisFile } from '../../client/genesis-file.ts'
import { type IdentityKeys, KeyDirectory } from '../../client/key-directory.ts'
import { type DevnetDescription, layout, writeDescription } from '../../devnet/layout.ts'
import { beginInProcess } from './command-in-process.ts'
import { type ServedChain, serveChain } from './served-chain.ts'
import { keysOf, TestChain, type TestChainOptions, type TestSource } from './test-chain.ts'

/** What a command has printed; `notes` are messages for people. */
export interface Printed {
  readonly stdout: string
  readonly notes: string
}

/** A command that runs until it ends or is interrupted. */
export interface BegunCommand extends Printed {
  readonly ended: Promise<Printed & { readonly code: number }>
  interrupt(): void
}

export interface ServedDevnet extends AsyncDisposable {
  readonly directory: string
  readonly chain: TestChain
  /** The full nodes, in the order in which commands ask them. */
  readonly sources: readonly TestSource[]
  /** Stores the keys of a device here, as `mote device join` does. */
  keep(keys: IdentityKeys): Promise<void>
  /** Changes the description that commands read. */
  describe(change: Partial<DevnetDescription>): Promise<void>
  begin(...args: readonly string[]): BegunCommand
  /** Runs one command on the chain to its end. */
  mote(...args: readonly string[]): BegunCommand['ended']
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
  const description: DevnetDescription = {
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
  }
  await writeDescription(directory, description)
  const begin = (...args: readonly string[]): BegunCommand => {
    const interrupted = new AbortController()
    const command = beginInProcess([...args, '--dir', directory], { HOME: directory }, interrupted.signal)
    return {
      get stdout() {
        return command.stdout
      },
      get notes() {
        return command.stderr
      },
      ended: command.ended.then(({ stderr, ...rest }) => ({ ...rest, notes: stderr })),
      interrupt: () => interrupted.abort(),
    }
  }
  return {
    directory,
    chain,
    sources,
    keep: async identity => void (await keys.store(identity)),
    describe: change => writeDescription(directory, { ...description, ...change }),
    begin,
    mote: (...args) => begin(...args).ended,
    async [Symbol.asyncDispose]() {
      for (const each of served.values()) await each[Symbol.asyncDispose]()
      rmSync(directory, { recursive: true, force: true })
    },
  }
}
