/** A Mosquitto of this machine on a free port of loopback: with the files that `mote gateway mosquitto` writes, or open to anybody. */
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

export const hasMosquitto = spawnSync('mosquitto', ['-h']).error === undefined

/** Why tests that need it are skipped; undefined where it is installed with its plugin. */
export const noMosquitto =
  hasMosquitto && findPlugin() ? undefined : 'needs mosquitto 2 with its dynamic-security plugin'

export const testLogins = {
  gateway: { username: gatewayUsername, password: 'of the gateway' },
  accounts: { username: accountsUsername, password: 'of who changes accounts' },
} as const

function isListening({ host, port }: BrokerAddress): Promise<boolean> {
  const { promise, resolve } = Promise.withResolvers<boolean>()
  const socket = connect(port, host, () => resolve(true)).on('error', () => resolve(false))
  return promise.finally(() => socket.destroy())
}

export class Mosquitto implements AsyncDisposable {
  readonly address: BrokerAddress
  readonly directory: string
  #process: ChildProcess | undefined
  readonly log: string[] = []

  private constructor(address: BrokerAddress, directory: string) {
    this.address = address
    this.directory = directory
  }

  static start(
    devices: readonly BrokerAccount[] = [],
    logins: Parameters<typeof accountsFile>[0] = testLogins,
    tls?: MosquittoTls,
  ): Promise<Mosquitto> {
    const plugin = findPlugin() ?? ''
    const user = userInfo().username
    return Mosquitto.#startWith((address, directory) => ({
      [mosquittoFileNames.configuration]: mosquittoConfiguration({
        ...address,
        plugin,
        directory,
        tls,
        user,
      }),
      [mosquittoFileNames.access]: accessRules(),
      [mosquittoFileNames.accounts]: accountsFile(logins, devices),
    }))
  }

  /** As its package has it, and open to anybody: what ours is compared with. */
  static startOpen(): Promise<Mosquitto> {
    return Mosquitto.#startWith(({ host, port }) => ({
      [mosquittoFileNames.configuration]: `listener ${port} ${host}\nallow_anonymous true\n`,
    }))
  }

  static async #startWith(
    filesOf: (address: BrokerAddress, directory: string) => Readonly<Record<string, string>>,
  ): Promise<Mosquitto> {
    const directory = await mkdtemp(join(tmpdir(), 'mote-mosquitto-'))
    const [port] = (await choosePorts(1, 'auto')) as [number]
    const address = { host: loopback, port }
    for (const [name, content] of Object.entries(filesOf(address, directory)))
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

  async [Symbol.asyncDispose](): Promise<void> {
    await this.end('SIGKILL')
    await rm(this.directory, { recursive: true, force: true })
  }
}
