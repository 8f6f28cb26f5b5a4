/**
 * Three (or so) full nodes as real processes in a temporary directory, with a genesis of their own that holds an operator
 * and as many active devices as asked for. For the benchmark and for tests of processes; people use `mote devnet`.
 *
 * Everything derives from one seed. The nodes end when this process does: they watch their standard input.
 */

import { type ChildProcess, spawn } from 'node:child_process'
import { rmSync } from 'node:fs'
import { mkdir, mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { sha256 } from '@noble/hashes/sha2.js'
import { utf8ToBytes } from '@noble/hashes/utils.js'
import { type ChainId, type DeviceId, Milliseconds } from '../chain/brands.ts'
import {
  chainIdOf,
  defaultGenesisParameters,
  type GenesisDocument,
  genesisDocument,
} from '../chain/genesis.ts'
import type { NodeStatus } from '../client/chain-source.ts'
import { Deadline } from '../client/deadline.ts'
import { writeGenesisFile } from '../client/genesis-file.ts'
import { httpSource } from '../client/http-source.ts'
import { type IdentityKeys, makeKeys, writeKeyFile } from '../client/key-directory.ts'
import { operatorAccess } from '../client/operator-access.ts'
import { LinkNetwork } from '../devnet/link-network.ts'
import { choosePorts, loopback } from '../devnet/ports.ts'
import { type NodeConfigFile, writeNodeConfig } from '../node/config.ts'
import { configurationLine, type EffectiveConfiguration } from '../node/effective-configuration.ts'
import { checkoutHere } from './checkout.ts'

export interface ClusterOptions {
  /** Full nodes that the chain knows, that are no consenters, and that run only if a test plays them. */
  readonly learners?: number
  /** The same of lightweight nodes. */
  readonly lightweight?: number
  /** Checkout whose nodes run, from its sources. Default: this one, by the launcher. */
  readonly root?: string
  readonly fullNodes?: number
  readonly devices?: number
  readonly seed?: string
  readonly heartbeatMs?: number
  readonly raft?: NodeConfigFile['raft']
  readonly producer?: NodeConfigFile['producer']
  /** Nodes reach one another through links of this process, which can be slow. */
  readonly delay?: LinkDelay
  /** Arguments for Node itself, `--cpu-prof` say. */
  readonly nodeArguments?: readonly string[]
}

/** A node that is stopped in its tracks does not see that this process has gone: it is ended here. */
const running = new Set<ChildProcess>()
const directories = new Set<string>()
process.on('exit', () => {
  for (const child of running) child.kill('SIGKILL')
  for (const directory of directories) rmSync(directory, { recursive: true, force: true, maxRetries: 3 })
})

/** The same keys in every run with this seed. */
export function derivedKeys(seed: string, name: string, transport = false): IdentityKeys {
  const seedOf = (purpose: string) => sha256(utf8ToBytes(`${seed}/${name}/${purpose}`))
  return makeKeys(name, { seedOf, transport })
}

/** A node became leader. */
export interface Won {
  readonly term: number
  /** Milliseconds since 1970, as the node's log has it. */
  readonly atMs: number
}

export interface LinkDelay {
  readonly delayMs: number
  readonly jitterMs: number
}

export class ClusterNode {
  readonly name: string
  readonly id: DeviceId
  readonly api: string
  readonly directory: string
  readonly #entry: string
  readonly #nodeArguments: readonly string[]
  #process: ChildProcess | undefined
  #exited: Promise<number | NodeJS.Signals | null> = Promise.resolve(null)
  #output = ''

  constructor(options: {
    name: string
    id: DeviceId
    api: string
    directory: string
    root: string | undefined
    nodeArguments: readonly string[]
  }) {
    this.name = options.name
    this.id = options.id
    this.api = options.api
    this.directory = options.directory
    const { root } = options
    this.#entry = root === undefined ? join(checkoutHere, 'bin', 'mote.js') : join(root, 'cli', 'main.ts')
    this.#nodeArguments = options.nodeArguments
  }

  get pid(): number | undefined {
    return this.#process?.pid
  }

  /** What it wrote to its standard error. */
  get output(): string {
    return this.#output
  }

  /** The elections that it has won, as far as they are still in its output. */
  get won(): readonly Won[] {
    return this.#output.split('\n').flatMap(line => {
      if (!line.includes('"role":"leader"')) return []
      const { term, time } = JSON.parse(line.slice(line.indexOf('{'))) as { term: number; time: string }
      return [{ term, atMs: Date.parse(time) }]
    })
  }

  /** Starts the process and waits for its ready line. */
  async start(): Promise<void> {
    const config = join(this.directory, 'config.json')
    const child = spawn(
      process.execPath,
      [...this.#nodeArguments, this.#entry, 'node', 'start', '--config', config],
      {
        stdio: ['pipe', 'pipe', 'pipe'],
        cwd: this.directory,
        env: { ...process.env, MOTE_SUPERVISED: '1' },
      },
    )
    this.#process = child
    running.add(child)
    const exited = Promise.withResolvers<number | NodeJS.Signals | null>()
    this.#exited = exited.promise
    const ready = Promise.withResolvers<void>()
    child.once('exit', (code, signal) => {
      running.delete(child)
      exited.resolve(code ?? signal)
      ready.reject(
        new Error(`${this.name} ended before it was ready (${code ?? signal}): ${this.#output.slice(-2000)}`),
      )
    })
    ready.promise.catch(() => {})
    child.stderr?.on('data', chunk => {
      this.#output = (this.#output + String(chunk)).slice(-100_000)
    })
    let line = ''
    child.stdout?.on('data', chunk => {
      line += String(chunk)
      if (line.includes('"ready":true')) ready.resolve()
    })
    child.stdin?.on('error', () => {})
    await ready.promise
  }

  /** Sends a signal that does not end it: SIGSTOP, SIGCONT. */
  signal(name: NodeJS.Signals): void {
    this.#process?.kill(name)
  }

  /** Sends a signal; resolves with the exit code, or the signal that ended it, when the process is gone. */
  async end(signal: NodeJS.Signals): Promise<number | NodeJS.Signals | null> {
    this.#process?.kill(signal)
    const outcome = await this.#exited
    this.#process = undefined
    return outcome
  }

  status(): Promise<NodeStatus> {
    return httpSource(this.api, { requestTimeoutMs: 2_000 }).status()
  }

  /** One line: the settings that take effect in this node, as it says itself. */
  async settings(): Promise<string> {
    const answer = await fetch(`${this.api}/v1/configuration`, { headers: await this.#asOperator() })
    // An older commit has no such route.
    if (!answer.ok) return 'settings: this version of the node does not say'
    return configurationLine((await answer.json()) as EffectiveConfiguration)
  }

  /** Transfers its leadership, to `to` if given. */
  async transfer(to?: string): Promise<Response> {
    return fetch(`${this.api}/v1/transfer`, {
      method: 'POST',
      headers: { ...(await this.#asOperator()), 'content-type': 'application/json' },
      body: JSON.stringify({ to }),
    })
  }

  /** An older commit has no tokens. */
  async #asOperator(): Promise<{ authorization?: string }> {
    const access = await operatorAccess(join(this.directory, 'data')).catch(() => undefined)
    return access ? { authorization: `Bearer ${access.token}` } : {}
  }
}

export class LocalCluster {
  readonly directory: string
  readonly genesis: GenesisDocument
  readonly chainId: ChainId
  readonly nodes: readonly ClusterNode[]
  readonly operator: IdentityKeys
  readonly devices: readonly IdentityKeys[]
  readonly links: LinkNetwork | undefined

  constructor(parts: Omit<LocalCluster, 'start' | 'leader' | 'until' | 'settings' | 'stop' | 'chainId'>) {
    this.directory = parts.directory
    this.genesis = parts.genesis
    this.chainId = chainIdOf(parts.genesis)
    this.nodes = parts.nodes
    this.operator = parts.operator
    this.devices = parts.devices
    this.links = parts.links
  }

  /** Starts every node and waits until a leader has certified a block. */
  async start(): Promise<void> {
    await Promise.all(this.nodes.map(node => node.start()))
    await this.leader()
  }

  /** The node that leads, once a block is certified there. */
  async leader(timeoutMs = 30_000): Promise<ClusterNode> {
    return this.until('a leader', timeoutMs, async () => {
      for (const node of this.nodes) {
        if (node.pid === undefined) continue
        const status = await node.status().catch(() => undefined)
        if (status?.role === 'leader' && status.certifiedHeight > 0) return node
      }
      return undefined
    })
  }

  /** Asks again and again until there is a value. */
  async until<T>(what: string, timeoutMs: number, ask: () => Promise<T | undefined>): Promise<T> {
    const value = await new Deadline(timeoutMs).until(ask, 20)
    if (value !== undefined) return value as T
    const outputs = this.nodes.map(node => `${node.name}: ${node.output.slice(-1500)}`).join('\n')
    throw new Error(`${what}: not within ${timeoutMs} ms\n${outputs}`)
  }

  /** One line: the settings that take effect in each node. They are the same: all have one configuration. */
  settings(): Promise<string> {
    return (this.nodes[0] as ClusterNode).settings()
  }

  /** Ends every process and removes the directory. */
  async stop(options: { signal?: NodeJS.Signals; keep?: boolean } = {}): Promise<void> {
    await Promise.all(
      this.nodes.filter(node => node.pid !== undefined).map(node => node.end(options.signal ?? 'SIGTERM')),
    )
    this.links?.close()
    directories.delete(this.directory)
    if (!options.keep) await rm(this.directory, { recursive: true, force: true })
  }
}

/** Writes genesis, keys and configurations; starts nothing. */
export async function createCluster(options: ClusterOptions = {}): Promise<LocalCluster> {
  const {
    fullNodes = 3,
    learners = 0,
    lightweight = 0,
    devices = 0,
    seed = 'cluster',
    heartbeatMs = 1_000,
    raft,
    producer,
    delay,
  } = options
  const directory = await mkdtemp(join(tmpdir(), 'mote-cluster-'))
  directories.add(directory)
  const names = Array.from({ length: fullNodes }, (_, i) => `full-${i + 1}`)
  const keys = names.map(name => derivedKeys(seed, name, true))
  const operator = derivedKeys(seed, 'operator')
  const learnerKeys = Array.from({ length: learners }, (_, i) => derivedKeys(seed, `learner-${i + 1}`, true))
  const lightKeys = Array.from({ length: lightweight }, (_, i) => derivedKeys(seed, `light-${i + 1}`, true))
  const deviceKeys = Array.from({ length: devices }, (_, i) => derivedKeys(seed, `device-${i + 1}`, true))
  const identity = (label: 'full' | 'lightweight') => (each: IdentityKeys) => ({
    inceptionKey: each.signing.publicKey,
    label,
    encryptionKey: each.encryption.publicKey,
    transportKey: each.transport?.publicKey,
    metadataHash: undefined,
  })
  const genesis = genesisDocument({
    name: 'cluster',
    createdAt: Milliseconds(Date.now()),
    consenters: keys.map(each => ({ id: each.id, key: each.signing.publicKey })),
    quorumPolicy: 'majority',
    authorities: [{ id: operator.id, key: operator.signing.publicKey }],
    threshold: 1,
    parameters: defaultGenesisParameters,
    identities: [
      ...[...keys, ...learnerKeys].map(identity('full')),
      ...[operator, ...deviceKeys, ...lightKeys].map(identity('lightweight')),
    ],
  })
  const genesisPath = join(directory, 'genesis.json')
  await writeGenesisFile(genesisPath, genesis)
  const linkCount = delay ? fullNodes * (fullNodes - 1) : 0
  const ports = await choosePorts(2 * fullNodes + linkCount, 'auto')
  const portOf = (i: number, use: 'api' | 'p2p') => ports[2 * i + (use === 'api' ? 0 : 1)] as number
  const nodes: ClusterNode[] = []
  const links = delay && (await openLinks({ names, portOf, delay, ports: ports.slice(2 * fullNodes) }))
  for (const [i, each] of keys.entries()) {
    const home = join(directory, each.name)
    await mkdir(home, { recursive: true })
    await writeKeyFile(join(home, 'key.json'), each)
    await writeNodeConfig(join(home, 'config.json'), {
      version: 1,
      name: each.name,
      label: 'full',
      chainId: chainIdOf(genesis),
      genesis: genesisPath,
      data: join(home, 'data'),
      key: join(home, 'key.json'),
      api: { host: loopback, port: portOf(i, 'api') },
      p2p: { host: loopback, port: portOf(i, 'p2p') },
      peers: keys.flatMap((peer, j) =>
        i === j
          ? []
          : [{ id: peer.id, address: `/ip4/${loopback}/tcp/${links?.port(each, peer) ?? portOf(j, 'p2p')}` }],
      ),
      coordination: [],
      heartbeatMs,
      ...(raft && { raft }),
      ...(producer && { producer }),
      log: { level: 'info' },
    })
    const api = `http://${loopback}:${portOf(i, 'api')}`
    const { root, nodeArguments = [] } = options
    nodes.push(new ClusterNode({ name: each.name, id: each.id, api, directory: home, root, nodeArguments }))
  }
  const network = links?.network
  return new LocalCluster({ directory, genesis, nodes, operator, devices: deviceKeys, links: network })
}

interface Links {
  readonly network: LinkNetwork
  /** Where `from` dials `to`. */
  port(from: { readonly name: string }, to: { readonly name: string }): number | undefined
}

/** A link from every node to every other one, as slow as asked for. */
async function openLinks({
  names,
  portOf,
  ports,
  delay,
}: {
  readonly names: readonly string[]
  readonly portOf: (i: number, use: 'api' | 'p2p') => number
  readonly ports: readonly number[]
  readonly delay: LinkDelay
}): Promise<Links> {
  const pairs = names.flatMap(from => names.filter(to => to !== from).map(to => ({ from, to })))
  const links = pairs.map((pair, i) => ({ ...pair, port: ports[i] as number }))
  const nodes = names.map((name, i) => ({
    name,
    api: { host: loopback, port: portOf(i, 'api') },
    p2p: { host: loopback, port: portOf(i, 'p2p') },
  }))
  const network = await LinkNetwork.open({ links, nodes, gateway: { name: '' } })
  network.apply({ type: 'delay', nodes: [], ...delay })
  return {
    network,
    port: (from, to) => links.find(link => link.from === from.name && link.to === to.name)?.port,
  }
}
