/**
 * A command's way to the chain of the devnet in its directory, and the names of devices and groups on this machine.
 */

import { join } from 'node:path'
import { type DeviceId, GroupId, isDigest } from '../chain/brands.ts'
import { groupIdOf } from '../chain/records.ts'
import { MoteError } from '../chain/result.ts'
import { readFileIfThere, writeFileAtomic } from '../client/atomic-file.ts'
import { Deadline } from '../client/deadline.ts'
import type { IdentityKeys } from '../client/key-directory.ts'
import { type ChainAccess, type OpenOptions, openDevnetChain } from '../devnet/access.ts'
import { type DevnetDescription, readDescription } from '../devnet/layout.ts'
import { isLive } from '../devnet/run.ts'
import type { Context } from './context.ts'
import type { AsOf } from './output.ts'

/** The description of the devnet in the context's directory. Throws `not-running`. */
export async function requireDescription(context: Context): Promise<DevnetDescription> {
  const description = await readDescription(context.directory)
  if (description) return description
  throw new MoteError('not-running', `${context.directory}: no devnet here`)
}

/** Opens the chain and catches up with its newest certified header. Throws when no node gives a valid one. */
export async function openChain(context: Context, options?: OpenOptions): Promise<ChainAccess> {
  const access = await openChainUnsynced(context, options)
  await access.client.follower.sync()
  return access
}

/** The same, for what needs a devnet that runs. Throws `not-running`, with what starts it, where none does. */
export async function openRunningChain(context: Context): Promise<ChainAccess> {
  const { directory } = context
  if (!(await isLive(await requireDescription(context))))
    throw new MoteError('not-running', `${directory}: its devnet is not up; \`mote devnet up\` starts it`)
  return openChain(context)
}

/** The same without asking any node yet. */
export async function openChainUnsynced(context: Context, options?: OpenOptions): Promise<ChainAccess> {
  return openDevnetChain(context.directory, await requireDescription(context), options)
}

/** The newest certified header here, which answers are as of. */
export function newestHead({ client }: ChainAccess): AsOf {
  const { height, term } = client.follower.head.header
  return { height, term, ageMs: client.records.ageMs() }
}

/** Catches up with the newest certified header. Throws `timeout` after `patienceMs`, when nodes hang say. */
export async function syncWithin({ client }: ChainAccess, patienceMs: number): Promise<void> {
  const late = () => new MoteError('timeout', `no answer within ${patienceMs} ms`)
  await new Deadline(patienceMs).within(client.follower.sync(), late)
}

/** The keys of a device as they are now, without those that nothing comes for any more, which are erased. Throws `key-not-found`. */
export async function currentKeys({ keys, client }: ChainAccess, name: string): Promise<IdentityKeys> {
  // By certified time: a wall clock that is wrong must not cost a key.
  await keys.eraseFormerKeys(name, client.follower.head.header.time)
  return keys.load(name)
}

/** The id of a device that was named or written out. Throws `not-found`. */
export async function requireDevice({ keys }: ChainAccess, nameOrId: string): Promise<DeviceId> {
  const id = await keys.resolve(nameOrId)
  if (id) return id
  throw new MoteError(
    'not-found',
    `device: '${nameOrId}' is no name here and no id of 64 hexadecimal characters`,
  )
}

/** The local name of an id, if there is one. */
export async function deviceNameOf(access: ChainAccess, id: DeviceId): Promise<string | null> {
  return (await deviceNames(access))(id)
}

/** The same for many ids: the names are read once. */
export async function deviceNames({ keys }: ChainAccess): Promise<(id: DeviceId) => string | null> {
  // Of several names the first.
  const names = new Map((await keys.names()).map(({ id, name }) => [id, name] as const).reverse())
  return id => names.get(id) ?? null
}

const groupNamesFile = (directory: string): string => join(directory, 'groups.json')

/** Local names of groups. A name belongs to an owner on the chain; here it is unique. */
export async function readGroupNames(directory: string): Promise<Map<string, GroupId>> {
  const content = await readFileIfThere(groupNamesFile(directory))
  if (!content) return new Map()
  const names = JSON.parse(Buffer.from(content).toString('utf8')) as Record<string, string>
  return new Map(Object.entries(names).map(([name, id]) => [name, GroupId(id)]))
}

export async function rememberGroup(directory: string, name: string, id: GroupId): Promise<void> {
  const names = (await readGroupNames(directory)).set(name, id)
  await writeFileAtomic(
    groupNamesFile(directory),
    `${JSON.stringify(Object.fromEntries(names), undefined, 2)}\n`,
  )
}

/** The id of a group that was named here, written out, or is named by its owner. Throws `not-found`. */
export async function requireGroup(
  { directory, description }: ChainAccess,
  nameOrId: string,
  owner?: DeviceId,
): Promise<GroupId> {
  if (isDigest(nameOrId)) return GroupId(nameOrId)
  const known = (await readGroupNames(directory)).get(nameOrId)
  const id = known ?? description.groups.find(group => group.name === nameOrId)?.id
  if (id) return id
  if (owner) return groupIdOf(owner, nameOrId)
  throw new MoteError(
    'not-found',
    `group: '${nameOrId}' is no name here and no id of 64 hexadecimal characters`,
  )
}

/** That a group, which was asked for by this name, is proven not to be on the chain. */
export function absentGroup(name: string, id: GroupId, height: number): MoteError {
  const which = name === id ? `group ${id}` : `group '${name}' (${id})`
  return new MoteError('unknown-subject', `${which}: proven absent at height ${height}`)
}

/** The local name of a group, or its id. */
export async function groupNameOf({ directory, description }: ChainAccess, id: GroupId): Promise<string> {
  const described = description.groups.find(group => group.id === id)?.name
  if (described) return described
  return [...(await readGroupNames(directory))].find(([, known]) => known === id)?.[0] ?? id
}
