/** NATS servers of this machine, which have JetStream together if they are several, on free ports of loopback. */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import {
  JetStreamApiError,
  type JetStreamManager,
  jetstreamManager,
  type StreamInfo,
} from '@nats-io/jetstream'
import { nkeys } from '@nats-io/transport-node'
import type { ChainId } from '../../chain/brands.ts'
import { pause } from '../../client/deadline.ts'
import { SecretBytes } from '../../client/secret-bytes.ts'
import { choosePorts, loopback } from '../../devnet/ports.ts'
import { streamNameOf } from '../../mqtt-gateway/records/jetstream-queue.ts'
import { connectNats } from '../../mqtt-gateway/records/nats-connection.ts'
import type { TlsFiles } from '../../mqtt-gateway/server/tls-identity.ts'

/** Why tests that need it are skipped; undefined where it is installed. */
export const noNats = spawnSync('nats-server', ['--version']).error && 'needs nats-server 2.9'

export interface NatsOptions {
  readonly count: number
  readonly tls?: TlsFiles
}

/** Two servers of three, one of them just killed, take this long at worst on a busy machine. */
const managedWithinMs = 60_000

export class NatsFixture implements AsyncDisposable {
  /** `host:port` of each. */
  readonly servers: readonly string[]
  /** Of the only user that they let in, and the file with it. */
  readonly seed: SecretBytes
  readonly seedFile: string
  readonly #user = nkeys.createUser()
  readonly #routes: readonly string[]
  readonly #tls: TlsFiles | undefined
  readonly #directory: string
  readonly #processes: (ChildProcess | undefined)[] = []

  private constructor(ports: readonly number[], directory: string, { count, tls }: NatsOptions) {
    this.servers = ports.slice(0, count).map(port => `${loopback}:${port}`)
    this.#routes = ports.slice(count).map(port => `${loopback}:${port}`)
    this.#directory = directory
    this.#tls = tls
    this.seed = new SecretBytes(this.#user.getSeed())
    this.seedFile = join(directory, 'gateway.nk')
  }

  static async start(options: NatsOptions): Promise<NatsFixture> {
    const directory = await mkdtemp(join(tmpdir(), 'mote-nats-'))
    const fixture = new NatsFixture(await choosePorts(2 * options.count, 'auto'), directory, options)
    await writeFile(fixture.seedFile, fixture.seed.expose(), { mode: 0o600 })
    for (const index of fixture.servers.keys()) {
      await fixture.#configure(index)
      fixture.run(index)
    }
    return fixture
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

  /** The server lets in nobody but this user from now on, and cuts off who is there. */
  async admit(index: number, publicKey: string = this.#user.getPublicKey()): Promise<void> {
    await this.#configure(index, publicKey)
    this.#processes[index]?.kill('SIGHUP')
  }

  /** What the servers say of a chain's queue. */
  stream(chainId: ChainId): Promise<StreamInfo> {
    return this.#managed(({ streams }) => streams.info(streamNameOf(chainId)))
  }

  /** As an operator, to whom it belongs once it is there. */
  async boundStream(chainId: ChainId, bytes: number): Promise<void> {
    await this.#managed(({ streams }) => streams.update(streamNameOf(chainId), { max_bytes: bytes }))
  }

  /** Which server leads it. */
  async leaderOf(chainId: ChainId): Promise<number> {
    const { cluster } = await this.stream(chainId)
    return Number(cluster?.leader?.slice(1))
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.servers.map((_, index) => this.kill(index)))
    await rm(this.#directory, { recursive: true, force: true })
  }

  async #managed<T>(step: (manager: JetStreamManager) => Promise<T>): Promise<T> {
    const connection = await connectNats({ servers: this.servers, ca: undefined, seed: this.seed })
    try {
      const deadline = performance.now() + managedWithinMs
      for (;;)
        try {
          return await step(await jetstreamManager(connection))
        } catch (error) {
          const isRefused = error instanceof JetStreamApiError && error.status !== 503
          if (isRefused || performance.now() > deadline) throw error
          await pause(100)
        }
    } finally {
      await connection.close()
    }
  }

  async #configure(index: number, publicKey = this.#user.getPublicKey()): Promise<void> {
    const routes = JSON.stringify(this.#routes.map(route => `nats://${route}`))
    const { certificate, key } = this.#tls ?? {}
    const lines = [
      `server_name: n${index}`,
      `listen: "${this.servers[index]}"`,
      `authorization { users: [{ nkey: "${publicKey}" }] }`,
      `jetstream { store_dir: "${join(this.#directory, String(index))}" }`,
      ...(this.servers.length > 1
        ? [`cluster { name: mote, listen: "${this.#routes[index]}", routes: ${routes} }`]
        : []),
      ...(this.#tls ? [`tls { cert_file: "${certificate}", key_file: "${key}" }`] : []),
    ]
    await writeFile(this.#configuration(index), lines.join('\n'))
  }

  #configuration(index: number): string {
    return join(this.#directory, `${index}.conf`)
  }
}
