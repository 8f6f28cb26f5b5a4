/**
 * The one process that owns a devnet: it starts every node and the gateway, waits until each has answered a query,
 * answers on the control socket, applies faults, and ends them all.
 *
 * A child that ends by itself or by a fault stays down until `restart`: a devnet is there to show what the others do
 * then. Nothing is restarted behind the user's back.
 */
import { rmSync } from 'node:fs'
import type { Server } from 'node:net'
import { MoteError } from '../chain/result.ts'
import type { NodeStatus } from '../client/chain-source.ts'
import { httpSource } from '../client/http-source.ts'
import { Child, type Program } from './child.ts'
import { type ControlRequest, serveControl } from './control.ts'
import { apiUrl, type DevnetDescription, type DevnetNode, layout } from './layout.ts'
import { LinkNetwork } from './link-network.ts'
import { isWiped, moveDataAway, putDataBack } from './wipe.ts'

/** A process as `mote devnet status` shows it. A node that does not answer has no `role`, `term` or `height`. */
export interface NodeRow {
  readonly name: string
  readonly id: string
  readonly label: string
  readonly state: string
  readonly role: string | null
  readonly term: number | null
  readonly height: number | null
  readonly certifiedHeight: number | null
  readonly lag: number | null
  readonly leader: string | null
  readonly pid: number | null
  readonly api: string
  readonly addresses: readonly string[]
}

export interface GatewayRow {
  readonly name: string
  readonly id: string
  readonly state: string
  readonly pid: number | null
  /** `mqtt://host:port`. */
  readonly mqtt: string
}

export interface ProcessStatus {
  readonly nodes: readonly NodeRow[]
  readonly gateway: GatewayRow
}

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

/** Children get this long to drain before they are killed. */
const drainDeadlineMs = 10_000
const statusTimeoutMs = 1_000
const restartDeadlineMs = 60_000
/** A wiped consenter learns from its peers that it is one, once it has reached them. */
const refusalDeadlineMs = 10_000
const pollMs = 50

export class Supervisor {
  readonly #options: SupervisorOptions
  readonly #children = new Map<string, Child>()
  readonly #closed = Promise.withResolvers<void>()
  readonly #links: LinkNetwork
  #control: Server | undefined
  #stopping: Promise<void> | undefined

  private constructor(options: SupervisorOptions, links: LinkNetwork) {
    this.#options = options
    this.#links = links
    const { description, directory, program } = options
    for (const name of [...description.nodes, description.gateway].map(node => node.name)) {
      const family = name === description.gateway.name ? 'gateway' : 'node'
      const child = new Child({
        name,
        program,
        arguments: [family, 'start', '--config', layout.nodeConfig(directory, name)],
        logPath: layout.nodeLog(directory, name),
        onUnexpectedEnd: ended => this.#options.onProgress(`${ended.name} ended; see ${ended.log.path}`),
      })
      this.#children.set(name, child)
    }
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
    const { nodes } = this.#options.description
    for (const node of nodes) this.#child(node.name).start()
    await Promise.all(nodes.map(node => this.#waitForAnswer(node, signal)))
    await this.#waitForLeader(signal)
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

  async status(): Promise<ProcessStatus> {
    const { description } = this.#options
    const nodes = await Promise.all(description.nodes.map(node => this.#nodeRow(node)))
    const { name, id, mqtt } = description.gateway
    const child = this.#child(name)
    return {
      nodes,
      gateway: {
        name,
        id,
        state: stateText(child),
        pid: child.pid ?? null,
        mqtt: `mqtt://${mqtt.host}:${mqtt.port}`,
      },
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
    const { description } = this.#options
    // The edge first, so that nobody is served by a chain that is going away; the full nodes last.
    await this.#child(description.gateway.name).stop(drainDeadlineMs)
    const byLabel = Map.groupBy(description.nodes, node => (node.label === 'full' ? 'full' : 'other'))
    for (const group of ['other', 'full'] as const)
      await Promise.all((byLabel.get(group) ?? []).map(node => this.#child(node.name).stop(drainDeadlineMs)))
    this.#links.close()
    this.#control?.close()
    rmSync(description.controlSocket, { force: true })
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
      case 'restart':
        return this.#restart(request.node)
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

  async #restart(name: string): Promise<{ pid: number }> {
    const { description } = this.#options
    const child = this.#child(name)
    const signal = AbortSignal.timeout(restartDeadlineMs)
    await child.stop(drainDeadlineMs)
    child.start()
    const node = description.nodes.find(candidate => candidate.name === name)
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
      const consenter = this.#options.description.nodes.some(
        node => node.name === name && node.label === 'full',
      )
      if (!consenter || !(await endsWithin(child, refusalDeadlineMs)))
        return { started: true, kept, ...started }
      return { started: false, kept, reason: child.log.tail(2).join('\n') }
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
    await untilDone(child, signal, () => source.status())
    this.#options.onProgress(`${node.name} answers`)
  }

  /** Until one node leads, it has certified a block of its term, and every node has heard of a certified block. */
  async #waitForLeader(signal: AbortSignal): Promise<void> {
    const { nodes } = this.#options.description
    const first = this.#child(nodes[0]?.name ?? '')
    await untilDone(first, signal, async () => {
      const answers = await Promise.all(nodes.map(node => httpSource(apiUrl(node.api)).status()))
      const leader = answers.find(answer => answer.role === 'leader')
      if (!leader) throw new MoteError('no-leader', 'the full nodes have not elected a leader')
      this.#options.onProgress(`${leader.name} leads in term ${leader.term}`)
    })
  }

  async #nodeRow(node: DevnetNode): Promise<NodeRow> {
    const child = this.#child(node.name)
    const answer = child.pid === undefined ? undefined : await statusOf(node)
    return {
      name: node.name,
      id: node.id,
      label: node.label,
      state: answer ? 'answers' : child.pid === undefined ? stateText(child) : 'silent',
      role: answer?.role ?? null,
      term: answer?.term ?? null,
      height: answer?.height ?? null,
      certifiedHeight: answer?.certifiedHeight ?? null,
      lag: answer?.lag ?? null,
      leader: answer?.leader ?? null,
      pid: child.pid ?? null,
      api: apiUrl(node.api),
      addresses: answer?.addresses ?? [],
    }
  }
}

async function statusOf(node: DevnetNode): Promise<NodeStatus | undefined> {
  try {
    return await httpSource(apiUrl(node.api)).status({ signal: AbortSignal.timeout(statusTimeoutMs) })
  } catch {
    return undefined
  }
}

function stateText({ state }: Child): string {
  switch (state.type) {
    case 'stopped':
      return 'not started'
    case 'running':
      return state.ready ? 'running' : 'starting'
    case 'ended':
      return `down (${state.signal ?? `exit ${state.code}`})`
  }
}

/** True if the child ends by itself before the deadline. */
async function endsWithin(child: Child, deadlineMs: number): Promise<boolean> {
  for (const deadline = performance.now() + deadlineMs; performance.now() < deadline; ) {
    if (child.pid === undefined) return true
    await new Promise(resolve => setTimeout(resolve, pollMs))
  }
  return false
}

/** Repeats `attempt` until it succeeds. Throws `start-failed` with the end of the child's log when time is over. */
async function untilDone(child: Child, signal: AbortSignal, attempt: () => Promise<unknown>): Promise<void> {
  let last: unknown
  while (!signal.aborted && child.pid !== undefined) {
    try {
      await attempt()
      return
    } catch (error) {
      last = error
      await new Promise(resolve => setTimeout(resolve, pollMs))
    }
  }
  const reason = last instanceof Error ? last.message : 'no answer'
  const tail = child.log.tail(20).map(line => `  ${line}`)
  const head = `${child.name} did not answer in time (${reason}); the end of ${child.log.path}:`
  throw new MoteError('start-failed', [head, ...tail].join('\n'), { cause: last })
}
