/**
 * Who a devnet's devices are: those it began with, and whatever has joined since under a name of this directory; each
 * record verified, and for a lightweight node the full node that it says serves it.
 */
import type { DeviceId } from '../chain/brands.ts'
import type { ChainAccess } from '../devnet/access.ts'
import { joinedNode } from '../devnet/joined.ts'
import type { DevnetDescription } from '../devnet/layout.ts'
import { type NodeRow, unsupervisedRow } from '../devnet/process-status.ts'
import { newestHead, syncWithin } from './chain-access.ts'
import type { Context } from './context.ts'
import type { AsOf } from './output.ts'

/** Fields of the record are null where no full node gave a valid answer. */
export interface IdentityRow {
  readonly name: string
  readonly id: DeviceId
  readonly label: string | null
  readonly status: string | null
  readonly level: number | null
  /** Name (or id) of the full node that serves this device's node now; null if it runs none, or nobody serves it. */
  readonly servedBy: string | null
}

export interface Identities {
  readonly devices: readonly IdentityRow[]
  /** The certified head at which they were read; null when no full node answers. */
  readonly asOf: AsOf | null
}

/** How long the nodes may take to prove the devices; the processes are shown in any case. */
const patienceMs = 3_000

/** The devices, verified. Those whose registration never came through are left out. */
export async function readIdentities(
  context: Context,
  access: ChainAccess,
  nodes: readonly NodeRow[],
): Promise<Identities> {
  const named = await namesOf(access)
  try {
    await syncWithin(access, patienceMs)
    const rows = await Promise.all(named.map(entry => rowOf(access, entry, nodes)))
    const isDevice = new Set(access.description.devices.map(({ id }) => id))
    const devices = rows.filter(({ id, status }) => status !== 'unknown' || isDevice.has(id))
    return { devices, asOf: newestHead(access) }
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error)
    context.output.note(`devices: no verified answer (${reason})`)
    const unread = { label: null, status: null, level: null, servedBy: null }
    return { devices: named.map(entry => ({ ...entry, ...unread })), asOf: null }
  }
}

/** Nodes of this directory's identities that run and are not the supervisor's. */
export async function unsupervisedNodes(
  access: ChainAccess,
  supervised: readonly NodeRow[],
): Promise<readonly NodeRow[]> {
  const { directory, description } = access
  const others = (await namesOf(access)).filter(({ id }) => !supervised.some(node => node.id === id))
  const rows = await Promise.all(
    others.map(async ({ name }) => {
      const node = await joinedNode(directory, name).catch(() => undefined)
      return node && unsupervisedRow(node, id => nodeNameOf(description, id))
    }),
  )
  return rows.filter(row => row !== undefined)
}

interface NamedIdentity {
  readonly name: string
  readonly id: DeviceId
}

/** The devnet's devices first, then what has keys here beside them. */
async function namesOf({ description, keys }: ChainAccess): Promise<readonly NamedIdentity[]> {
  const { devices } = description
  const others = (await keys.names())
    .filter(({ id, hasKeys }) => hasKeys && !devices.some(device => device.id === id))
    .map(({ name, id }) => ({ name, id }))
  return [...devices, ...others]
}

async function rowOf(
  { client }: ChainAccess,
  { name, id }: NamedIdentity,
  nodes: readonly NodeRow[],
): Promise<IdentityRow> {
  const { value } = await client.records.device(id)
  return {
    name,
    id,
    label: value?.label ?? null,
    status: value?.status ?? 'unknown',
    level: value?.trustLevel ?? null,
    servedBy: nodes.find(node => node.name === name)?.servedBy ?? null,
  }
}

/** The name of a node here, or its id. */
export function nodeNameOf({ nodes }: DevnetDescription, id: string | undefined): string | null {
  return nodes.find(node => node.id === id)?.name ?? id ?? null
}
