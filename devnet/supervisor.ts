/**
 * The one process that owns a devnet: it starts every node and the gateway, waits until each has answered a query,
 * answers on the control socket, applies faults, and ends them all.
 *
 * A child that ends by itself or by a fault stays down until `restart`: a devnet is there to show what the others do
 * then. Nothing is restarted behind the user's back.
 */

import type { Server } from 'node:net'
import { MoteError } from '../chain/result.ts'
import { Deadline, pause } from '../client/deadline.ts'
import { httpSource } from '../client/http-source.ts'
import { answersAt, brokerChild, brokerName } from './broker-child.ts'
import { Child, type Program } from './child.ts'
import { type ControlRequest, serveControl } from './control.ts'
import { joinedNode, requireUp } from './joined.ts'
import {
  apiUrl,
  type DevnetDescription,
  type DevnetNode,
  layout,
  removeControlSocket,
  writeDescription,
} from './layout.ts'
import { LinkNetwork } from './link-network.ts'
import { type NodeRow, nodeRow, type ProcessStatus, stateText } from './process-status.ts'
import { isWiped, moveDataAway, putDataBack } from './wipe.ts'

/** What came of a wipe: whether the node stays up. `kept`: where the data went. */
export type WipeAnswer =
  | { readonly started: true; readonly kept: string; readonly pid: number }
  | { readonly started: false; readonly kept: string; readonly reason: string }

export interface SupervisorOptions {
  readonly directory: string
  readonly description: DevnetDescription
  readonly program: Program
  /** Asks the gateway something over MQTT; throws until it answers. */
  readonly probeGateway: (description: DevnetDescription, signal: AbortSignal) => Promise<void>
  readonly onProgress: (message: string) => void
}

/** The program that holds the devices' agents, among the children. */
const agentsName = 'agents'
/** Children get this long to drain before they are killed. */
const drainDeadlineMs = 10_000
const restartDeadlineMs = 60_000
/** A wiped consenter learns from its peers that it is one, once it has reached them. */
const refusalDeadlineMs = 10_000
/** What joined earlier has this long to come up with the devnet; nobody else waits longer for it. */
const joinedPatienceMs = 15_000
const pollMs = 100

export class Supervisor {
  readonly #options: SupervisorOptions
  readonly #children = new Map<string, Child>()
  readonly #closed = Promise.withResolvers<void>()
  readonly #links: LinkNetwork
  /** Grows with what joins. */
  #description: DevnetDescription
  #control: Server | undefined
  #stopping: Promise<void> | undefined

  private constructor(options: SupervisorOptions, links: LinkNetwork) {
    this.#options = options
    this.#links = links
    this.#description = options.description
    const { nodes, gateway } = options.description
    for (const { name } of [...nodes, gateway]) this.#children.set(name, this.#childOf(name))
    if (options.description.agents) this.#children.set(agentsName, this.#childOf(agentsName))
    if (gateway.mqtt.brokerOf)
      this.#children.set(
        brokerName,
        brokerChild(options.directory, ended => this.#unexpectedEnd(ended)),
      )
  }

  /** Listens on the control socket and on the links; no child runs yet. Throws `in-use`. */
  static async open(options: SupervisorOptions): Promise<Supervisor> {
    const supervisor = new Supervisor(options, await LinkNetwork.open(options.description))
    const path = options.description.controlSocket
    supervisor.#control = await serveControl(path, request => supervisor.#handle(request))
    return supervisor
  }

  /** Resolves when everything has ended. */
  get closed(): Promise<void> {
    return this.#closed.promise
  }

  /** Starts the nodes and waits until each has answered and the full nodes have a leader. Throws `start-failed`. */
  async startNodes(signal: AbortSignal): Promise<void> {
    const nodes = this.#description.nodes.filter(node => !node.joined)
    for (const node of nodes) this.#child(node.name).start()
    await Promise.all(nodes.map(node => this.#waitForAnswer(node, signal)))
    await this.#waitForLeader(nodes, signal)
  }

  /** Starts what joined earlier. One that does not come up (it was revoked, say) is told of, and stays down. */
  async startJoined(signal: AbortSignal): Promise<void> {
    const { onProgress } = this.#options
    const joined = this.#description.nodes.filter(node => node.joined)
    await Promise.all(
      joined.map(async node => {
        this.#child(node.name).start()
        const patience = new Deadline(joinedPatienceMs, { signal }).signal
        await this.#waitForAnswer(node, patience).catch((error: unknown) => {
          if (signal.aborted) throw error
          onProgress(error instanceof MoteError ? error.detail : String(error))
        })
      }),
    )
  }

  /** Starts the broker that stands before the gateway, if there is one, and waits until it listens. Throws `start-failed`. */
  async startBroker(signal: AbortSignal): Promise<void> {
    const child = this.#children.get(brokerName)
    if (!child) return
    child.start()
    await untilDone(child, signal, () => answersAt(this.#description.gateway.mqtt))
    child.markReady()
    this.#options.onProgress(`${child.name} listens`)
  }

  /** Starts the gateway and waits until it listens. Throws `start-failed`. */
  async startGateway(signal: AbortSignal): Promise<void> {
    const child = this.#child(this.#options.description.gateway.name)
    child.start()
    await child.waitUntilReady(signal)
    this.#options.onProgress(`${child.name} listens`)
  }

  /** Waits until the gateway has answered a query over MQTT. Throws `start-failed`. */
  async waitForGateway(signal: AbortSignal): Promise<void> {
    const { description, probeGateway, onProgress } = this.#options
    const child = this.#child(description.gateway.name)
    await untilDone(child, signal, () => probeGateway(description, signal))
    onProgress(`${child.name} answers`)
  }

  /** Starts the agents of the devices, if they are wanted, and waits until each had its turn to connect. Throws `start-failed`. */
  async startAgents(signal: AbortSignal): Promise<void> {
    const { description, onProgress } = this.#options
    if (!description.agents) return
    const child = this.#child(agentsName)
    child.start()
    await child.waitUntilReady(signal)
    onProgress(`${agentsName}: ${description.devices.length} devices in one process`)
  }

  async status(): Promise<ProcessStatus> {
    const nodes = await Promise.all(this.#description.nodes.map(node => this.#nodeRow(node)))
    const { name, id, mqtt, mqtts } = this.#description.gateway
    const child = this.#child(name)
    const gateway = {
      name,
      id,
      state: stateText(child),
      pid: child.pid ?? null,
      clockOffsetMs: child.clockOffsetMs,
      mqtt: `mqtt://${mqtt.host}:${mqtt.port}`,
      ...(mqtts && { mqtts: `mqtts://${mqtts.host}:${mqtts.port}` }),
    }
    const agents = this.#children.get(agentsName)
    const broker = this.#children.get(brokerName)
    const { devices } = this.#description
    return {
      nodes,
      gateway,
      ...(broker && { broker: { name: brokerName, state: stateText(broker), pid: broker.pid ?? null } }),
      agents: agents ? { state: stateText(agents), pid: agents.pid ?? null, devices: devices.length } : null,
    }
  }

  /** Ends every child, in order, each with a deadline, and then the control socket. Safe to call twice. */
  stop(): Promise<void> {
    this.#stopping ??= this.#stop()
    return this.#stopping
  }

  /** SIGKILL to every child, now. */
  killAll(): void {
    for (const child of this.#children.values()) child.kill()
  }

  async #stop(): Promise<void> {
    const description = this.#description
    // The edge first, so that nobody is served by a chain that is going away; the full nodes last.
    await this.#children.get(agentsName)?.stop(drainDeadlineMs)
    await this.#child(description.gateway.name).stop(drainDeadlineMs)
    await this.#children.get(brokerName)?.stop(drainDeadlineMs)
    const byLabel = Map.groupBy(description.nodes, node => (node.label === 'full' ? 'full' : 'other'))
    for (const group of ['other', 'full'] as const)
      await Promise.all((byLabel.get(group) ?? []).map(node => this.#child(node.name).stop(drainDeadlineMs)))
    this.#links.close()
    this.#control?.close()
    removeControlSocket(this.#options.directory, description.controlSocket)
    this.#closed.resolve()
  }

  async #handle(request: ControlRequest): Promise<unknown> {
    switch (request.command) {
      case 'ping':
        return { pid: process.pid }
      case 'status':
        return this.status()
      case 'down':
        await this.stop()
        return null
      case 'signal':
        return this.#fault(request)
      case 'run':
        return this.#run(request.node)
      case 'restart':
        return this.#restart(request.node)
      case 'clock': {
        const child = this.#child(request.node)
        child.shiftClock(request.offsetMs)
        return { pid: child.pid ?? null }
      }
      case 'links':
        return this.#links.apply(request.change)
      case 'wipe':
        return this.#wipe(request.node)
      case 'unwipe':
        return this.#unwipe(request.node)
    }
  }

  async #fault({ node, signal }: Extract<ControlRequest, { command: 'signal' }>): Promise<{ pid: number }> {
    const child = this.#child(node)
    const { pid } = child
    child.signal(signal)
    if (signal === 'SIGKILL') await child.ended
    return { pid: pid ?? -1 }
  }

  /** Takes in what joined: from its first answer on it is a node of this devnet, also after a restart of the whole. */
  async #run(name: string): Promise<NodeRow> {
    const running = this.#children.get(name)
    if (running?.pid !== undefined)
      throw new MoteError('in-use', `${name}: runs already, process ${running.pid}`)
    if (
      this.#description.nodes.some(node => node.name === name && !node.joined) ||
      name === this.#description.gateway.name
    )
      throw new MoteError(
        'already-exists',
        `${name}: a program of this devnet; \`mote chaos restart\` starts it`,
      )
    const { directory } = this.#options
    const node = await joinedNode(directory, name)
    const child = this.#childOf(name)
    this.#children.set(name, child)
    child.start()
    try {
      await this.#waitForAnswer(node, AbortSignal.timeout(restartDeadlineMs))
    } catch (error) {
      await child.stop(drainDeadlineMs)
      if (running) this.#children.set(name, running)
      else this.#children.delete(name)
      throw error
    }
    const others = this.#description.nodes.filter(other => other.name !== name)
    this.#description = { ...this.#description, nodes: [...others, node] }
    await writeDescription(directory, this.#description)
    return this.#nodeRow(node)
  }

  async #restart(name: string): Promise<{ pid: number }> {
    const child = this.#child(name)
    const signal = AbortSignal.timeout(restartDeadlineMs)
    await child.stop(drainDeadlineMs)
    if (name === brokerName) {
      await this.startBroker(signal)
      await this.waitForGateway(signal)
      return { pid: child.pid ?? -1 }
    }
    child.start()
    const node = this.#description.nodes.find(candidate => candidate.name === name)
    if (node) await this.#waitForAnswer(node, signal)
    else {
      await child.waitUntilReady(signal)
      await this.waitForGateway(signal)
    }
    return { pid: child.pid ?? -1 }
  }

  /** A node may refuse to start without what it has said and signed before: that is an answer, not a failure. */
  async #wipe(name: string): Promise<WipeAnswer> {
    const child = this.#child(name)
    await child.stop(drainDeadlineMs)
    const kept = await moveDataAway(layout.nodeData(this.#options.directory, name))
    try {
      const started = await this.#restart(name)
      const consenter = this.#description.nodes.some(node => node.name === name && node.label === 'full')
      if (!consenter || !(await endsWithin(child, refusalDeadlineMs)))
        return { started: true, kept, ...started }
      return { started: false, kept, reason: child.said?.message ?? child.log.tail(2).join('\n') }
    } catch (error) {
      if (!(error instanceof MoteError) || child.pid !== undefined) throw error
      return { started: false, kept, reason: error.detail }
    }
  }

  async #unwipe(name: string): Promise<{ pid: number }> {
    const child = this.#child(name)
    const data = layout.nodeData(this.#options.directory, name)
    if (!(await isWiped(data))) throw new MoteError('not-found', `${name}: its data was not wiped`)
    await child.stop(drainDeadlineMs)
    await putDataBack(data)
    return this.#restart(name)
  }

  #childOf(name: string): Child {
    const { directory, program } = this.#options
    const family = name === this.#description.gateway.name ? 'gateway' : 'node'
    return new Child({
      name,
      program,
      arguments:
        name === agentsName
          ? ['devnet', 'agents', '--dir', directory]
          : [family, 'start', '--config', layout.nodeConfig(directory, name)],
      logPath: layout.nodeLog(directory, name),
      onUnexpectedEnd: ended => this.#unexpectedEnd(ended),
    })
  }

  #unexpectedEnd({ name, log }: Child): void {
    this.#options.onProgress(`${name} ended; see ${log.path}`)
  }

  #child(name: string): Child {
    const child = this.#children.get(name)
    if (!child) {
      const names = [...this.#children.keys()].join(', ')
      throw new MoteError('not-found', `node: expected one of ${names}, got '${name}'`)
    }
    return child
  }

  async #waitForAnswer(node: DevnetNode, signal: AbortSignal): Promise<void> {
    const child = this.#child(node.name)
    await child.waitUntilReady(signal)
    const source = httpSource(apiUrl(node.api))
    // One that joined has something to prove.
    await untilDone(child, signal, () => (node.joined ? requireUp(node) : source.status()))
    this.#options.onProgress(`${node.name} answers`)
  }

  /** Until one node leads, it has certified a block of its term, and every node has heard of a certified block. */
  async #waitForLeader(nodes: readonly DevnetNode[], signal: AbortSignal): Promise<void> {
    const first = this.#child(nodes[0]?.name ?? '')
    await untilDone(first, signal, async () => {
      const answers = await Promise.all(nodes.map(node => httpSource(apiUrl(node.api)).status()))
      const leader = answers.find(answer => answer.role === 'leader')
      if (!leader) throw new MoteError('no-leader', 'the full nodes have not elected a leader')
      this.#options.onProgress(`${leader.name} leads in term ${leader.term}`)
    })
  }

  #nodeRow(node: DevnetNode): Promise<NodeRow> {
    return nodeRow(node, this.#child(node.name), id => this.#nameOf(id))
  }

  #nameOf(id: string | undefined): string | undefined {
    return this.#description.nodes.find(node => node.id === id)?.name ?? id
  }
}

/** True if the child ends by itself before the deadline. */
async function endsWithin(child: Child, deadlineMs: number): Promise<boolean> {
  return (await new Deadline(deadlineMs).until(() => child.pid === undefined, pollMs)) ?? false
}

/** Repeats `attempt` until it succeeds. Throws why it does not when time is over or the child has ended (child.ts). */
async function untilDone(child: Child, signal: AbortSignal, attempt: () => Promise<unknown>): Promise<void> {
  let last: unknown
  while (!signal.aborted && child.pid !== undefined) {
    try {
      await attempt()
      return
    } catch (error) {
      last = error
      await pause(pollMs, signal)
    }
  }
  const reason = last instanceof Error ? last.message : 'no answer'
  throw child.failure(`did not answer in time (${reason})`, last)
}
