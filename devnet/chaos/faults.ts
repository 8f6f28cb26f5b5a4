/** Puts the faults of an episode on a running devnet, and takes them off again. */

import { assertNever, MoteError } from '../../chain/result.ts'
import type { ChainSource, NodeStatus } from '../../client/chain-source.ts'
import { Deadline, pause } from '../../client/deadline.ts'
import { httpSource } from '../../client/http-source.ts'
import { askControl, type ControlRequest } from '../control.ts'
import { apiUrl, type DevnetDescription } from '../layout.ts'
import type { Link, LinkChange } from '../link-faults.ts'
import type { LinkStatus } from '../link-network.ts'
import type { ProcessStatus } from '../process-status.ts'
import type { WipeAnswer } from '../supervisor.ts'
import type { Fault, Target } from './scenarios.ts'

/** Who is who when an episode begins. */
export interface Roles {
  /** Undefined: nobody led for a while. */
  readonly leader: string | undefined
  readonly term: number
  readonly followers: readonly string[]
}

/** A fault of one process. */
type ProcessFault = Extract<Fault, { type: 'kill' | 'pause' | 'restart' }>

export interface FullNode {
  readonly name: string
  readonly source: ChainSource
}

export function fullNodesOf({ nodes }: DevnetDescription): readonly FullNode[] {
  return nodes
    .filter(({ label }) => label === 'full')
    .map(({ name, api }) => ({
      name,
      source: httpSource(apiUrl(api), { requestTimeoutMs: 2_000, submitTimeoutMs: 4_000 }),
    }))
}

export async function nodeStatusOf({ source }: FullNode): Promise<NodeStatus | undefined> {
  return source.status().catch(() => undefined)
}

const leaderWaitMs = 3_000
const pollMs = 20

/** Asks until a node leads, for a while. */
export async function rolesOf(nodes: readonly FullNode[]): Promise<Roles> {
  const deadline = new Deadline(leaderWaitMs)
  for (;;) {
    const answers = await Promise.all(
      nodes.map(async node => ({ name: node.name, status: await nodeStatusOf(node) })),
    )
    const term = Math.max(0, ...answers.map(({ status }) => status?.term ?? 0))
    const leader = answers.find(({ status }) => status?.role === 'leader' && status.term === term)?.name
    if (leader !== undefined || deadline.isOver)
      return { leader, term, followers: nodes.map(({ name }) => name).filter(name => name !== leader) }
    await pause(pollMs)
  }
}

/** A node without blocks was hit. */
export interface EdgeHit {
  readonly node: string
  readonly fault: Fault['type']
}

/** What became of a wiped node. */
export interface WipeOutcome {
  readonly node: string
  readonly refused: boolean
}

/** Names of what has links. */
export function linkedNames({ links }: DevnetDescription): readonly string[] {
  return [...new Set(links.flatMap(({ from, to }) => [from, to]))]
}

/** Asks the supervisor for a change. */
export async function changeLinks(
  { controlSocket }: DevnetDescription,
  change: LinkChange,
  signal?: AbortSignal,
): Promise<LinkStatus> {
  return (await askControl(controlSocket, { command: 'links', change }, signal)) as LinkStatus
}

/** Sets every clock right, and lets every process that is stopped in its tracks go on. Returns the names of those that are down. */
export async function healProcesses(
  { controlSocket }: DevnetDescription,
  signal?: AbortSignal,
): Promise<readonly string[]> {
  const { nodes, gateway } = (await askControl(controlSocket, { command: 'status' }, signal)) as ProcessStatus
  const down: string[] = []
  for (const { name: node, pid, clockOffsetMs } of [...nodes, gateway]) {
    if (clockOffsetMs !== 0) await askControl(controlSocket, { command: 'clock', node, offsetMs: 0 }, signal)
    if (pid === null) down.push(node)
    else await askControl(controlSocket, { command: 'signal', node, signal: 'SIGCONT' }, signal)
  }
  return down
}

export class FaultInjector {
  readonly wipes: WipeOutcome[] = []
  readonly #description: DevnetDescription
  readonly #nodes: readonly string[]
  readonly #note: (text: string) => void
  #blocked: Link[] = []
  #hits: EdgeHit[] = []
  #undo: (() => Promise<unknown>)[] = []
  /** Joined nodes that do not come back: their identities have ended. */
  readonly #ended = new Set<string>()

  constructor(description: DevnetDescription, note: (text: string) => void) {
    this.#description = description
    this.#nodes = fullNodesOf(description).map(({ name }) => name)
    this.#note = note
  }

  /** The devnet without the nodes whose identities have ended, as far as `restoreAll` has found any. */
  get living(): DevnetDescription {
    const nodes = this.#description.nodes.filter(({ name }) => !this.#ended.has(name))
    return { ...this.#description, nodes }
  }

  async apply(fault: Fault, roles: Roles): Promise<void> {
    switch (fault.type) {
      case 'kill':
      case 'pause':
      case 'restart':
        return this.#hit(fault, roles)
      case 'everyone':
        await Promise.all(this.#nodes.map(name => this.#kill(name)))
        return
      case 'wipe':
        return this.#wipe(fullNodeOf(fault.target, roles))
      case 'isolate':
        return this.#cut(this.#isolated(fullNodeOf(fault.target, roles), fault.direction))
      case 'cut': {
        const [from, to] = fault.between.map(target => fullNodeOf(target, roles)) as [string, string]
        return this.#cut(both(from, to))
      }
      case 'gateway':
        return this.#cut(this.#nodes.flatMap(name => both(this.#description.gateway.name, name)))
      case 'delay':
      case 'loss':
        await changeLinks(this.#description, { ...fault, nodes: [] })
        return
      default:
        return assertNever(fault)
    }
  }

  /** Takes every fault off; what was killed runs and answers again. */
  async undo(): Promise<void> {
    this.#blocked = []
    await changeLinks(this.#description, { type: 'heal' })
    const undo = this.#undo
    this.#undo = []
    await Promise.all(undo.map(step => step()))
  }

  /** Nodes without blocks that were hit since this was asked last. */
  takeHits(): readonly EdgeHit[] {
    return this.#hits.splice(0)
  }

  /**
   * Whatever state the devnet is in: everything runs, every link is whole, every clock is right. Says which nodes do not
   * come back because they were revoked, and leaves them out from then on.
   */
  async restoreAll(): Promise<void> {
    await this.undo()
    for (const name of await healProcesses(this.#description)) {
      if (this.#ended.has(name)) continue
      await this.#bringBack(name).catch((error: unknown) => {
        if (!(error instanceof MoteError) || error.code !== 'device-revoked') throw error
        this.#ended.add(name)
        this.#note(`${name} stays down and is left out: it was revoked`)
      })
    }
  }

  async #hit(fault: ProcessFault, roles: Roles): Promise<void> {
    const { type, target } = fault
    const isEdge = target.type === 'lightweight' || target.type === 'coordination'
    const node = isEdge ? this.#edgeNodeOf(target) : fullNodeOf(target, roles)
    if (node === undefined) return this.#note(`  no ${target.type} node is here`)
    if (isEdge) this.#hits.push({ node, fault: type })
    if (type === 'kill') return this.#kill(node)
    if (type === 'pause') return this.#pause(node)
    await this.#ask({ command: 'restart', node })
  }

  /** Undefined if the devnet has none of this label. */
  #edgeNodeOf({ type, number }: Exclude<Target, { type: 'leader' }>): string | undefined {
    const names = this.living.nodes.filter(({ label }) => label === type).map(({ name }) => name)
    return names.sort()[number % names.length]
  }

  async #pause(node: string): Promise<void> {
    await this.#ask({ command: 'signal', node, signal: 'SIGSTOP' })
    this.#undo.push(() => this.#ask({ command: 'signal', node, signal: 'SIGCONT' }))
  }

  #ask(request: ControlRequest): Promise<unknown> {
    return askControl(this.#description.controlSocket, request)
  }

  async #kill(node: string): Promise<void> {
    await this.#ask({ command: 'signal', node, signal: 'SIGKILL' })
    this.#undo.push(() => this.#ask({ command: 'restart', node }))
  }

  async #wipe(node: string): Promise<void> {
    this.#undo.push(() => this.#ask({ command: 'unwipe', node }))
    const { started } = (await this.#ask({ command: 'wipe', node })) as WipeAnswer
    this.wipes.push({ node, refused: !started })
    this.#note(`  ${node} ${started ? 'runs' : 'did not stay up'} without its data`)
  }

  /** Starts a node that is down, with its data if somebody has wiped it. */
  async #bringBack(node: string): Promise<void> {
    await this.#ask({ command: 'unwipe', node }).catch((error: unknown) => {
      if (!(error instanceof MoteError) || error.code !== 'not-found') throw error
      return this.#ask({ command: 'restart', node })
    })
  }

  async #cut(links: readonly Link[]): Promise<void> {
    this.#blocked.push(...links)
    await changeLinks(this.#description, { type: 'partition', blocked: this.#blocked })
  }

  #isolated(node: string, direction: 'both' | 'out' | 'in'): readonly Link[] {
    const others = this.#nodes.filter(name => name !== node)
    return others
      .flatMap(other => both(node, other))
      .filter(({ from, to }) =>
        direction === 'both' ? true : direction === 'out' ? from === node : to === node,
      )
  }
}

function both(a: string, b: string): readonly Link[] {
  return [
    { from: a, to: b },
    { from: b, to: a },
  ]
}

/** Without a leader, its place is taken by the first of the others. */
function fullNodeOf(target: Target, { leader, followers }: Roles): string {
  const number = target.type === 'leader' ? 0 : target.number
  const name =
    target.type === 'leader' && leader !== undefined ? leader : followers[number % followers.length]
  if (name === undefined) throw new MoteError('not-found', 'chaos: the devnet has too few full nodes')
  return name
}

/** Throws `usage` for a devnet on which scenarios make no sense. */
export function requireQuorumToLose(description: DevnetDescription): void {
  if (fullNodesOf(description).length < 3)
    throw new MoteError('usage', 'chaos: expected a devnet of at least 3 full nodes')
  if (linkedNames(description).length === 0)
    throw new MoteError('usage', 'chaos: this devnet has no links; make it anew with `mote devnet up`')
}
