/**
 * `mote device list` and `mote group list`: the node list and the topic list of Hsu-Lu, Tables 1 and 2: who holds which key.
 *
 * Each row is proven; that none is missing is the word of the node that was asked (client/record-list.ts).
 */
import { join } from 'node:path'
import type { Command } from 'commander'
import { type DeviceId, type GroupId, isDigest, type StateKey } from '../chain/brands.ts'
import { exitCodes } from '../chain/errors.ts'
import { keyIdOf } from '../chain/keys.ts'
import { topicKeyOf } from '../chain/open-topics.ts'
import { currentEncryptionKey, type IdentityRecord, isKeyValidAt } from '../chain/records.ts'
import { MoteError } from '../chain/result.ts'
import { devicePage, groupPage, type ListedIds } from '../client/record-list.ts'
import type { ChainAccess } from '../devnet/access.ts'
import { newestHead, openChain, readGroupNames } from './chain-access.ts'
import type { AddCommand } from './command.ts'
import { type Context, parseCount } from './context.ts'
import { provenance, shortId } from './output.ts'

interface ListOptions {
  readonly limit: number
  readonly after?: string
  readonly from?: string
}

/** Rows that are printed unless told otherwise, and at most. */
const defaultRows = 1_000
const maxListRows = 10_000
/** Pages that are asked for by one command: some of them may have no row. */
const maxListPages = 1_024
/** Groups that are asked for at the same time. */
const groupsAtOnce = 8

const notes =
  'Each row is proven from the genesis on. That no row is missing is the word of the full node that was asked, since a proof shows what is there and not that nothing else is. The order is that of the state keys; with more rows than --limit the answer ends with what --after goes on from.'

const paging = [
  {
    flags: '--limit <n>',
    description: 'rows at most, to the end of a page',
    read: parseCount('limit', 1, maxListRows),
    default: defaultRows,
  },
  { flags: '--after <key>', description: 'go on where another list ended' },
] as const

export function deviceListCommand(family: Command, add: AddCommand): void {
  add<ListOptions>({
    parent: family,
    usage: 'list',
    description: 'the node list: every identity with its keys, each row verified',
    options: [
      ...paging,
      { flags: '--from <name>', description: "compare this device's copies of the keys with the chain's" },
    ],
    notes,
    action: listDevices,
  })
}

export function groupListCommand(family: Command, add: AddCommand): void {
  add<ListOptions>({
    parent: family,
    usage: 'list',
    description: 'the topic list: every group with its members and its key, each row verified',
    options: paging,
    notes,
    action: listGroups,
  })
}

/** Ids from page to page, until there are `limit` or more, or `maxListPages` were asked for. */
export async function gather<Id>(
  { limit, after }: Pick<ListOptions, 'limit' | 'after'>,
  pageAfter: (after: StateKey | undefined) => Promise<ListedIds<Id>>,
): Promise<ListedIds<Id>> {
  if (after !== undefined && !isDigest(after))
    throw new MoteError('usage', `after: expected 64 hexadecimal characters, got '${after}'`)
  const ids: Id[] = []
  let next = after as StateKey | undefined
  for (let pages = 0; pages < maxListPages; pages++) {
    const page = await pageAfter(next)
    ids.push(...page.ids)
    next = page.next
    if (next === undefined || ids.length >= limit) return { ids, next }
  }
  return { ids, next }
}

async function listDevices(
  context: Context,
  _args: readonly string[],
  options: ListOptions,
): Promise<number> {
  const access = await openChain(context)
  const { client } = access
  const copies = options.from === undefined ? undefined : await copiesOf(access, options.from)
  const { ids, next } = await gather(options, after => devicePage(client, after))
  const names = await namesById(access)
  const devices = await Promise.all(
    ids.map(async id => {
      const { value, time } = await client.records.device(id)
      if (!value) throw new MoteError('bad-proof', `device ${id}: was listed, and is absent`)
      const keys = value.keys
        .filter(entry => isKeyValidAt(entry, time))
        .map(({ purpose, key }) => ({ purpose, suite: key.suite, keyId: keyIdOf(key) }))
      const { label, status, trustLevel } = value
      const name = names.get(id) ?? null
      const copy = copies && { copy: await copies(value) }
      return { name, id, label, status, trustLevel, keys, ...copy }
    }),
  )
  const keyOf = (row: (typeof devices)[number], purpose: 'sign' | 'encrypt'): string => {
    const key = row.keys.findLast(entry => entry.purpose === purpose)
    return key ? `${key.suite} ${shortId(key.keyId)}` : '-'
  }
  return print(context, access, { devices, next: next ?? null }, () =>
    context.output.table(devices, {
      name: row => row.name,
      id: row => shortId(row.id),
      status: row => row.status,
      'signs with': row => keyOf(row, 'sign'),
      'encrypt to': row => keyOf(row, 'encrypt'),
      ...(copies && { copy: row => row.copy }),
    }),
  )
}

/** What a device's copy of a key is, beside the chain's: `same`, `differs`, or `absent`. */
async function copiesOf(
  { keys, directory, client }: ChainAccess,
  from: string,
): Promise<(record: IdentityRecord) => Promise<'same' | 'differs' | 'absent'>> {
  const [{ DeviceState }, { copyOf, isSameKey }, { canSealTo }] = await Promise.all([
    import('../mqtt-gateway/device/device-state.ts'),
    import('../mqtt-gateway/device/ballots.ts'),
    import('../mqtt-gateway/protocol/envelope.ts'),
  ])
  const { id: device, name, encryption } = await keys.load(from)
  const state = await DeviceState.open(join(directory, 'devices', name))
  const isUsable = canSealTo((await client.records.parameters()).value?.envelopeSuites ?? [])
  const now = client.records.time()
  return async record => {
    const held = await copyOf({ device, ownKey: () => encryption.publicKey, state }, record.id)
    if (!held.key && held.flaw === undefined) return 'absent'
    return isSameKey(held.key, currentEncryptionKey(record, now, isUsable)?.key) ? 'same' : 'differs'
  }
}

async function listGroups(context: Context, _args: readonly string[], options: ListOptions): Promise<number> {
  const access = await openChain(context)
  const { ids, next } = await gather(options, after => groupPage(access.client, after))
  const names = await namesById(access)
  const named = (id: DeviceId) => ({ name: names.get(id) ?? null, id })
  const localNames = new Map([...(await readGroupNames(access.directory))].map(([name, id]) => [id, name]))
  const groups: Awaited<ReturnType<typeof groupRow>>[] = []
  for (let from = 0; from < ids.length; from += groupsAtOnce)
    groups.push(
      ...(await Promise.all(ids.slice(from, from + groupsAtOnce).map(id => groupRow(access, id, named)))),
    )
  const shown = ({ name, id }: ReturnType<typeof named>): string => name ?? shortId(id)
  return print(context, access, { groups, next: next ?? null }, () =>
    context.output.table(groups, {
      name: row => localNames.get(row.id) ?? row.name,
      id: row => shortId(row.id),
      owner: row => shown(row.owner),
      members: row => row.members.map(shown).join(', '),
      epoch: row => row.epoch,
      key: row => row.epochKeyHash && shortId(row.epochKeyHash),
      'topic key': row => row.topicKeyId && shortId(row.topicKeyId),
      'held by': row => (row.holders.length === row.members.length ? 'all members' : 'the members before'),
    }),
  )
}

/** A group, and who holds its current key: the members, unless the key was made for other members than there are now. */
async function groupRow(
  { client }: ChainAccess,
  id: GroupId,
  named: (id: DeviceId) => { readonly name: string | null; readonly id: DeviceId },
) {
  const { value } = await client.records.group(id)
  if (!value) throw new MoteError('bad-proof', `group ${id}: was listed, and is absent`)
  const { record } = value
  const members = value.members.map(named)
  const topicKey = topicKeyOf(record)
  const isCurrent = record.epoch > 0 && record.epochMembershipVersion === record.membershipVersion
  return {
    name: record.name,
    id,
    owner: named(record.owner),
    members,
    membershipVersion: record.membershipVersion,
    epoch: record.epoch,
    epochKeyHash: record.epochKeyHash ?? null,
    /** Of an open topic. */
    topicKeyId: topicKey ? keyIdOf(topicKey) : null,
    holders: isCurrent ? members : [],
  }
}

async function namesById({ keys }: ChainAccess): Promise<ReadonlyMap<DeviceId, string>> {
  return new Map((await keys.names()).map(({ id, name }) => [id, name]))
}

function print(
  { output }: Context,
  access: ChainAccess,
  list: { readonly next: StateKey | null } & Readonly<Record<string, unknown>>,
  table: () => string,
): number {
  const answer = { ...list, ...newestHead(access), verified: true }
  output.data(answer, () =>
    [
      table(),
      ...(list.next === null ? [] : [`more: --after ${list.next}`]),
      `each row verified ${provenance(answer)}; that none is missing is the node's word`,
    ].join('\n'),
  )
  return exitCodes.ok
}
