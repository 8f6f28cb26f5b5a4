/** NATS servers of this machine, three that have JetStream together, on free ports of loopback. */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { nkeys } from '@nats-io/transport-node'
import { SecretBytes } from '../../client/secret-bytes.ts'
import { choosePorts, loopback } from '../../devnet/ports.ts'

/** Why tests that need it are skipped; undefined where it is installed. */
export const noNats = spawnSync('nats-server', ['--version']).error && 'needs nats-server 2.9'

const count = 3

export class NatsCluster implements AsyncDisposable {
  /** `host:port` of each. */
  readonly servers: readonly string[]
  /** Of the only user that they let in, and the file with it. */
  readonly seed: SecretBytes
  readonly seedFile: string
  readonly #directory: string
  readonly #processes: (ChildProcess | undefined)[] = []

  private constructor(servers: readonly string[], directory: string, seed: Uint8Array) {
    this.servers = servers
    this.#directory = directory
    this.seed = new SecretBytes(seed)
    this.seedFile = join(directory, 'gateway.nk')
  }

  static async start(): Promise<NatsCluster> {
    const directory = await mkdtemp(join(tmpdir(), 'mote-nats-'))
    const ports = await choosePorts(2 * count, 'auto')
    const routes = ports.slice(count).map(port => `nats://${loopback}:${port}`)
    const servers = ports.slice(0, count).map(port => `${loopback}:${port}`)
    const user = nkeys.createUser()
    const cluster = new NatsCluster(servers, directory, user.getSeed())
    await writeFile(cluster.seedFile, user.getSeed(), { mode: 0o600 })
    for (const [index, listen] of servers.entries()) {
      const lines = [
        `server_name: n${index}`,
        `listen: "${listen}"`,
        `authorization { users: [{ nkey: "${user.getPublicKey()}" }] }`,
        `jetstream { store_dir: "${join(directory, String(index))}" }`,
        `cluster { name: mote, listen: "${loopback}:${ports[count + index]}", routes: ${JSON.stringify(routes)} }`,
      ]
      await writeFile(cluster.#configuration(index), lines.join('\n'))
      cluster.run(index)
    }
    return cluster
  }

  /** Starts one, for the first time or again. */
  run(index: number): void {
    const child = spawn('nats-server', ['-c', this.#configuration(index)], { stdio: 'ignore' })
    this.#processes[index] = child
  }

  async kill(index: number): Promise<void> {
    const child = this.#processes[index]
    if (!child || child.exitCode !== null || child.signalCode !== null) return
    const ended = once(child, 'exit')
    child.kill('SIGKILL')
    await ended
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.servers.map((_, index) => this.kill(index)))
    await rm(this.#directory, { recursive: true, force: true })
  }

  #configuration(index: number): string {
    return join(this.#directory, `${index}.conf`)
  }
}
