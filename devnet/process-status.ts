/** The processes of a devnet as `mote devnet status` shows them: what the supervisor knows, and what each node says of itself. */
import type { NodeStatus } from '../client/chain-source.ts'
import { httpSource } from '../client/http-source.ts'
import type { Child } from './child.ts'
import { apiUrl, type DevnetNode } from './layout.ts'

/** A process as `mote devnet status` shows it. A node that does not answer has no `role`, `term` or `height`. */
export interface NodeRow {
  readonly name: string
  readonly id: string
  readonly label: string
  readonly state: string
  /** False for a node that somebody has started by hand from a configuration of this directory. */
  readonly supervised: boolean
  readonly role: string | null
  readonly term: number | null
  readonly height: number | null
  readonly certifiedHeight: number | null
  readonly lag: number | null
  readonly leader: string | null
  /** Name of the full node that serves a lightweight node now; its id where it has no name here. */
  readonly servedBy: string | null
  readonly pid: number | null
  /** By how much `mote chaos clock` has shifted its wall clock. */
  readonly clockOffsetMs: number
  /** Whose clocks it calls wrong, by name where there is one; ahead if positive. */
  readonly oddClocks: readonly { readonly node: string; readonly offsetMs: number }[]
  readonly api: string
  readonly addresses: readonly string[]
}

export interface GatewayRow {
  readonly name: string
  readonly id: string
  readonly state: string
  readonly pid: number | null
  readonly clockOffsetMs: number
  /** `mqtt://host:port`. */
  readonly mqtt: string
  /** `mqtts://host:port`, if it has that. */
  readonly mqtts?: string
}

export interface ProcessStatus {
  readonly nodes: readonly NodeRow[]
  readonly gateway: GatewayRow
  /** The broker that the gateway stands beside, where it is not its own. */
  readonly broker?: { readonly name: string; readonly state: string; readonly pid: number | null }
  /** The process that holds the agents of all devices; null where there is none. */
  readonly agents: { readonly state: string; readonly pid: number | null; readonly devices: number } | null
}

const statusTimeoutMs = 1_000

/** The name of an id, or the id where it has none here. */
type NameOf = (id: string | undefined) => string | null | undefined

/** One node of the supervisor. */
export async function nodeRow(node: DevnetNode, child: Child, nameOf: NameOf): Promise<NodeRow> {
  const answer = child.pid === undefined ? undefined : await statusOf(node)
  const state = answer ? 'answers' : child.pid === undefined ? stateText(child) : 'silent'
  const { pid = null, clockOffsetMs } = child
  return rowOf(node, answer, { state, supervised: true, pid, clockOffsetMs }, nameOf)
}

/** A node that somebody has started by hand, if it answers under its own id. */
export async function unsupervisedRow(node: DevnetNode, nameOf: NameOf): Promise<NodeRow | undefined> {
  const answer = await statusOf(node)
  if (answer?.id !== node.id) return undefined
  return rowOf(
    node,
    answer,
    { state: 'answers', supervised: false, pid: answer.pid, clockOffsetMs: 0 },
    nameOf,
  )
}

function rowOf(
  node: DevnetNode,
  answer: NodeStatus | undefined,
  process: Pick<NodeRow, 'state' | 'supervised' | 'pid' | 'clockOffsetMs'>,
  nameOf: NameOf,
): NodeRow {
  return {
    name: node.name,
    id: node.id,
    label: node.label,
    ...process,
    role: answer?.role ?? null,
    term: answer?.term ?? null,
    height: answer?.height ?? null,
    certifiedHeight: answer?.certifiedHeight ?? null,
    lag: answer?.lag ?? null,
    leader: answer?.leader ?? null,
    servedBy: nameOf(answer?.servedBy) ?? null,
    oddClocks: (answer?.oddClocks ?? []).map(({ id, offsetMs }) => ({ node: nameOf(id) ?? id, offsetMs })),
    api: apiUrl(node.api),
    addresses: answer?.addresses ?? [],
  }
}

async function statusOf(node: DevnetNode): Promise<NodeStatus | undefined> {
  try {
    return await httpSource(apiUrl(node.api)).status({ signal: AbortSignal.timeout(statusTimeoutMs) })
  } catch {
    return undefined
  }
}

/** Whether the process runs, or how it ended. */
export function stateText({ state }: Child): string {
  switch (state.type) {
    case 'stopped':
      return 'not started'
    case 'running':
      return state.ready ? 'running' : 'starting'
    case 'ended':
      return `down (${state.signal ?? `exit ${state.code}`})`
  }
}
