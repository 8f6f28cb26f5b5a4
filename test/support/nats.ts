/** NATS servers of this machine, three that have JetStream together, on free ports of loopback. */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { choosePorts, loopback } from '../../devnet/ports.ts'

/** Why tests that need it are skipped; undefined where it is installed. */
export const noNats = spawnSync('nats-server', ['--version']).error && 'needs nats-server 2.9'

const count = 3

export class NatsCluster implements AsyncDisposable {
  /** `host:port` of each. */
  readonly servers: readonly string[]
  readonly #directory: string
  readonly #processes: (ChildProcess | undefined)[] = []

  private constructor(servers: readonly string[], directory: string) {
    this.servers = servers
    this.#directory = directory
  }

  static async start(): Promise<NatsCluster> {
    const directory = await mkdtemp(join(tmpdir(), 'mote-nats-'))
    const ports = await choosePorts(2 * count, 'auto')
    const routes = ports.slice(count).map(port => `nats://${loopback}:${port}`)
    const servers = ports.slice(0, count).map(port => `${loopback}:${port}`)
    const cluster = new NatsCluster(servers, directory)
    for (const [index, listen] of servers.entries()) {
      const lines = [
        `server_name: n${index}`,
        `listen: "${listen}"`,
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
