/**
 * A devnet of real processes for a test file, started and stopped by the command line, in a directory of its own that
 * is gone afterwards.
 */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect } from 'vitest'
import { checkpointFromGenesis } from '../../chain/genesis.ts'
import { ChainClient } from '../../client/chain-client.ts'
import { readGenesisFile } from '../../client/genesis-file.ts'
import { httpSource } from '../../client/http-source.ts'
import { type IdentityKeys, KeyDirectory } from '../../client/key-directory.ts'
import { apiUrl, type DevnetDescription, layout, readDescription } from '../../devnet/layout.ts'
import { type AgentOptions, DeviceAgent } from '../../mqtt-gateway/device/agent.ts'
import { agentChain } from '../../mqtt-gateway/device/agent-chain.ts'
import { type CommandResult, MoteCommand, runMote } from './mote-command.ts'

/** What an MQTT client logs in with, as `mote device credentials` prints it. */
export interface PrintedLogin {
  readonly host: string
  readonly port: number
  readonly clientId: string
  readonly username: string
  readonly password: string
}

export class DevnetFixture {
  readonly directory: string
  readonly #root: string
  #description: DevnetDescription | undefined

  private constructor(root: string) {
    this.#root = root
    this.directory = join(root, 'net')
  }

  /** @param size options of `mote devnet up`; the seed is `name` */
  static async start(name: string, size: readonly string[] = []): Promise<DevnetFixture> {
    const fixture = new DevnetFixture(mkdtempSync(join(tmpdir(), `mote-e2e-${name}-`)))
    const up = await fixture.mote('devnet', 'up', '--detach', '--seed', name, ...size)
    expect(up.code, up.stderr).toBe(0)
    fixture.#description = await readDescription(fixture.directory)
    return fixture
  }

  get description(): DevnetDescription {
    if (!this.#description) throw new Error('the devnet has not come up')
    return this.#description
  }

  idOf(device: string): string {
    const found = this.description.devices.find(({ name }) => name === device)
    if (!found) throw new Error(`no device ${device}`)
    return found.id
  }

  mote(...args: string[]): Promise<CommandResult> {
    return runMote(args, { MOTE_DIR: this.directory })
  }

  /** A command that goes on until it is stopped. */
  spawn(...args: string[]): MoteCommand {
    return new MoteCommand(args, { MOTE_DIR: this.directory })
  }

  /** Runs with --json and returns the exit code and the one value printed. */
  async json<T = Record<string, unknown>>(
    ...args: string[]
  ): Promise<{ readonly code: number | null; readonly value: T }> {
    const { code, stdout, stderr } = await this.mote(...args, '--json')
    const lines = stdout.trimEnd().split('\n')
    expect(lines, stderr).toHaveLength(1)
    expect(lines[0], stderr).not.toBe('')
    return { code, value: JSON.parse(lines[0] as string) as T }
  }

  /** @param more options of `mote device credentials` */
  async credentials(device: string, ...more: readonly string[]): Promise<PrintedLogin> {
    const { value } = await this.json<PrintedLogin>('device', 'credentials', device, ...more)
    const { host, port, clientId, username, password } = value
    return { host, port, clientId, username, password }
  }

  /** A verifying client of the full nodes. */
  async client(): Promise<ChainClient> {
    const genesis = await readGenesisFile(layout.genesis(this.directory))
    const sources = this.description.nodes
      .filter(node => node.label === 'full')
      .map(node => httpSource(apiUrl(node.api)))
    const client = await ChainClient.open({ sources, checkpoint: checkpointFromGenesis(genesis) })
    await client.follower.sync()
    return client
  }

  /** A device in this process, as `mote device listen` has it. @param client one that follows the chain */
  async agent(client: ChainClient, name: string, more: Partial<AgentOptions> = {}): Promise<DeviceAgent> {
    const keys = await this.keys(name)
    return DeviceAgent.connect({
      keys,
      chain: agentChain(client, keys),
      gateway: this.description.gateway.mqtt,
      stateDirectory: join(this.directory, 'devices', name),
      ...more,
    })
  }

  async operator(): Promise<IdentityKeys> {
    return (await KeyDirectory.open(layout.operator(this.directory))).load('operator')
  }

  async keys(name: string): Promise<IdentityKeys> {
    return (await KeyDirectory.open(this.directory)).load(name)
  }

  async stop(): Promise<void> {
    await this.mote('devnet', 'down')
    rmSync(this.#root, { recursive: true, force: true })
  }
}
