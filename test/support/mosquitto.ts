/** A Mosquitto of this machine, with the files that `mote gateway mosquitto` writes, on a free port of loopback. */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { connect } from 'node:net'
import { tmpdir, userInfo } from 'node:os'
import { join } from 'node:path'
import { Deadline } from '../../client/deadline.ts'
import { choosePorts, loopback } from '../../devnet/ports.ts'
import type { BrokerAddress } from '../../mqtt-gateway/server/broker.ts'
import type { BrokerAccount } from '../../mqtt-gateway/server/broker-accounts.ts'
import { accountsUsername, gatewayUsername } from '../../mqtt-gateway/server/gateway-logins.ts'
import {
  accessRules,
  accountsFile,
  findPlugin,
  type MosquittoTls,
  mosquittoConfiguration,
  mosquittoFileNames,
} from '../../mqtt-gateway/server/mosquitto-files.ts'

/** Why tests that need it are skipped; undefined where it is installed with its plugin. */
export const noMosquitto =
  spawnSync('mosquitto', ['-h']).error !== undefined || !findPlugin()
    ? 'needs mosquitto 2 with its dynamic-security plugin'
    : undefined

export const testLogins = {
  gateway: { username: gatewayUsername, password: 'of the gateway' },
  accounts: { username: accountsUsername, password: 'of who changes accounts' },
} as const

function isListening({ host, port }: BrokerAddress): Promise<boolean> {
  const { promise, resolve } = Promise.withResolvers<boolean>()
  const socket = connect(port, host, () => resolve(true)).on('error', () => resolve(false))
  return promise.finally(() => socket.destroy())
}

export class Mosquitto {
  readonly address: BrokerAddress
  readonly directory: string
  #process: ChildProcess | undefined
  readonly log: string[] = []

  private constructor(address: BrokerAddress, directory: string) {
    this.address = address
    this.directory = directory
  }

  static async start(
    devices: readonly BrokerAccount[] = [],
    logins: Parameters<typeof accountsFile>[0] = testLogins,
    tls?: MosquittoTls,
  ): Promise<Mosquitto> {
    const directory = await mkdtemp(join(tmpdir(), 'mote-mosquitto-'))
    const [port] = (await choosePorts(1, 'auto')) as [number]
    const address = { host: loopback, port }
    const plugin = findPlugin() ?? ''
    const files = {
      [mosquittoFileNames.configuration]: mosquittoConfiguration({
        ...address,
        plugin,
        directory,
        tls,
        user: userInfo().username,
      }),
      [mosquittoFileNames.access]: accessRules(),
      [mosquittoFileNames.accounts]: accountsFile(logins, devices),
    }
    for (const [name, content] of Object.entries(files))
      await writeFile(join(directory, name), content, { mode: 0o600 })
    const mosquitto = new Mosquitto(address, directory)
    await mosquitto.run()
    return mosquitto
  }

  /** Starts it, for the first time or again. */
  async run(): Promise<void> {
    const conf = join(this.directory, mosquittoFileNames.configuration)
    const child = spawn('mosquitto', ['-c', conf], { stdio: ['ignore', 'ignore', 'pipe'] })
    this.#process = child
    child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      this.log.push(...text.split('\n').filter(line => line !== ''))
    })
    await new Deadline(10_000).until(
      async () => child.exitCode !== null || (await isListening(this.address)),
      20,
    )
    if (child.exitCode !== null) throw new Error(`mosquitto ended: ${this.log.join('\n')}`)
  }

  async end(signal: NodeJS.Signals = 'SIGTERM'): Promise<void> {
    const child = this.#process
    if (!child || child.exitCode !== null || child.signalCode !== null) return
    const ended = once(child, 'exit')
    child.kill(signal)
    await ended
  }

  async destroy(): Promise<void> {
    await this.end('SIGKILL')
    await rm(this.directory, { recursive: true, force: true })
  }
}
