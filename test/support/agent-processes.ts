/** Agents of a devnet as processes, each with a local port for applications, which are `mosquitto_pub` and `mosquitto_sub`. */
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { choosePorts } from '../../devnet/ports.ts'
import type { DevnetFixture } from './devnet-fixture.ts'
import type { ForeignProgram } from './foreign-program.ts'
import { until } from './gateway-fixture.ts'
import { startMosquitto } from './mosquitto-clients.ts'
import type { MoteCommand } from './mote-command.ts'

const host = '127.0.0.1'

interface AgentProcess {
  readonly name: string
  readonly port: number
  readonly file: string
  running?: { readonly command: MoteCommand; readonly pid: number }
}

export class AgentProcesses implements AsyncDisposable {
  readonly #devnet: DevnetFixture
  readonly #agents: ReadonlyMap<string, AgentProcess>
  readonly #subscribers: ForeignProgram[] = []

  private constructor(devnet: DevnetFixture, agents: readonly AgentProcess[]) {
    this.#devnet = devnet
    this.#agents = new Map(agents.map(agent => [agent.name, agent]))
  }

  /** Starts one for each device. @param routes of its configuration, by device */
  static async start(
    devnet: DevnetFixture,
    routes: Readonly<Record<string, object>>,
  ): Promise<AgentProcesses> {
    const names = Object.keys(routes)
    const ports = await choosePorts(names.length, 'auto')
    const agents = await Promise.all(
      names.map(async (name, i): Promise<AgentProcess> => {
        const port = ports[i] ?? 0
        const file = join(devnet.directory, `${name}.json`)
        const settings = { version: 1, mqtt: { host, port }, coap: false, ...routes[name] }
        await writeFile(file, JSON.stringify(settings))
        return { name, port, file }
      }),
    )
    const processes = new AgentProcesses(devnet, agents)
    await processes.restart(...names)
    return processes
  }

  /** Starts those that were killed, as a service manager would: with the same configuration. */
  async restart(...names: readonly string[]): Promise<void> {
    await Promise.all(
      names.map(async name => {
        const agent = this.#agent(name)
        const command = this.#devnet.spawn('device', 'agent', name, '--config', agent.file)
        const ready = await until(() => /^{"ready":true.*}$/m.exec(command.stdout)?.[0], `${name} is ready`)
        agent.running = { command, pid: (JSON.parse(ready) as { pid: number }).pid }
      }),
    )
  }

  async kill(...names: readonly string[]): Promise<void> {
    await Promise.all(
      names.map(async name => {
        const { pid, command } = this.#running(name)
        process.kill(pid, 'SIGKILL')
        await command.ended
      }),
    )
  }

  /** What an agent has said since its last start. */
  said(name: string): string {
    return this.#running(name).command.stderr
  }

  /** True if the agent has acknowledged it. */
  async publish(name: string, topicName: string, text: string): Promise<boolean> {
    const words = ['-h', host, '-p', `${this.#agent(name).port}`, '-t', topicName, '-m', text]
    return (await startMosquitto('pub', words).ended).code === 0
  }

  /** An application that prints what it gets. */
  subscribe(name: string, topicFilter: string, ...words: readonly string[]): ForeignProgram {
    const login = ['-h', host, '-p', `${this.#agent(name).port}`, '-t', topicFilter]
    const subscriber = startMosquitto('sub', [...login, ...words])
    this.#subscribers.push(subscriber)
    return subscriber
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const subscriber of this.#subscribers) subscriber.stop()
    for (const { running } of this.#agents.values()) await running?.command[Symbol.asyncDispose]()
  }

  #agent(name: string): AgentProcess {
    const agent = this.#agents.get(name)
    if (!agent) throw new Error(`no agent of ${name}`)
    return agent
  }

  #running(name: string): NonNullable<AgentProcess['running']> {
    const { running } = this.#agent(name)
    if (!running) throw new Error(`the agent of ${name} has not been started`)
    return running
  }
}
