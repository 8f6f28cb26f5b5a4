/**
 * Who a devnet's devices are: those it began with, and whatever has joined since under a name of this directory; each
 * record verified, and for a lightweight node the full node that it says serves it.
 */
import type { DeviceId } from '../chain/brands.ts'
import type { NodeStatus } from '../client/chain-source.ts'
import { httpSource } from '../client/http-source.ts'
import type { ChainAccess } from '../devnet/access.ts'
import { joinedNode } from '../devnet/joined.ts'
import { apiUrl, type DevnetDescription } from '../devnet/layout.ts'
import type { NodeRow } from '../devnet/process-status.ts'
import { openChainUnsynced, syncWithin } from './chain-access.ts'
import type { Context } from './context.ts'

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
  readonly asOf: { readonly height: number; readonly term: number; readonly ageMs: number } | null
}

/** How long the nodes may take to prove the devices; the processes are shown in any case. */
const patienceMs = 3_000
const statusTimeoutMs = 1_000

/** The devices, verified. Those whose registration never came through are left out. */
export async function readIdentities(
  context: Context,
  description: DevnetDescription,
  nodes: readonly NodeRow[],
): Promise<Identities> {
  const access = await openChainUnsynced(context)
  const named = await namesOf(access)
  try {
    await syncWithin(access, patienceMs)
    const rows = await Promise.all(named.map(entry => rowOf(access, entry, nodes)))
    const { follower, records } = access.client
    const { height, term } = follower.head.header
    const isDevice = new Set(description.devices.map(({ id }) => id))
    const devices = rows.filter(({ id, status }) => status !== 'unknown' || isDevice.has(id))
    return { devices, asOf: { height, term, ageMs: records.ageMs() } }
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error)
    context.output.note(`devices: no verified answer (${reason})`)
    const unread = { label: null, status: null, level: null, servedBy: null }
    return { devices: named.map(entry => ({ ...entry, ...unread })), asOf: null }
  }
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
  { client, description, directory }: ChainAccess,
  { name, id }: NamedIdentity,
  nodes: readonly NodeRow[],
): Promise<IdentityRow> {
  const { value } = await client.records.device(id)
  const supervised = nodes.find(node => node.name === name)
  const servedBy = supervised
    ? supervised.servedBy
    : nodeNameOf(description, (await ownStatus(directory, name, id))?.servedBy)
  return {
    name,
    id,
    label: value?.label ?? null,
    status: value?.status ?? 'unknown',
    level: value?.trustLevel ?? null,
    servedBy,
  }
}

/** What a node of this device says that runs here and is not the supervisor's; undefined if none answers. */
async function ownStatus(directory: string, name: string, id: DeviceId): Promise<NodeStatus | undefined> {
  try {
    const { api } = await joinedNode(directory, name)
    const status = await httpSource(apiUrl(api), { requestTimeoutMs: statusTimeoutMs }).status()
    return status.id === id ? status : undefined
  } catch {
    return undefined
  }
}

/** The name of a node here, or its id. */
export function nodeNameOf({ nodes }: DevnetDescription, id: string | undefined): string | null {
  return nodes.find(node => node.id === id)?.name ?? id ?? null
}
