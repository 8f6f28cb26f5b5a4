/**
 * `mote group create|add|remove|owner|show`: who may read what is sent to a group. The chain holds the members. What changes
 * them makes a new epoch key too, sealed to every member, so that it is there before the first message (Hsu C3).
 */
import type { Command } from 'commander'
import { exitCodes } from '../chain/errors.ts'
import { keyIdOf } from '../chain/keys.ts'
import { topicKeyOf } from '../chain/open-topics.ts'
import { groupIdOf } from '../chain/records.ts'
import { MoteError } from '../chain/result.ts'
import { addMembers, createGroup, removeMembers } from '../client/group-actions.ts'
import { giveGroup } from '../client/operator-actions.ts'
import type { Verified, VerifiedGroup } from '../client/verified-chain.ts'
import { type ChainAccess, operatorKeys } from '../devnet/access.ts'
import {
  absentGroup,
  deviceNameOf,
  groupNameOf,
  openChain,
  rememberGroup,
  requireDevice,
  requireGroup,
} from './chain-access.ts'
import type { AddCommand } from './command.ts'
import type { Context } from './context.ts'
import { withEpoch } from './group-epochs.ts'
import { groupListCommand } from './lists.ts'
import { provenance, shortId } from './output.ts'

interface FromOption {
  readonly from: string
}

interface CreateOptions extends FromOption {
  readonly open?: boolean
  readonly publishers?: string
}

const from = {
  flags: '--from <owner>',
  description: 'the device that signs: the owner of the group',
  required: true,
} as const

export function groupCommands(family: Command, add: AddCommand): void {
  add<CreateOptions>({
    parent: family,
    usage: 'create <group> [devices...]',
    description: 'make a group, whose owner is its first member, and add devices',
    options: [
      from,
      { flags: '--open', description: 'an open topic: others publish to it, its members read' },
      {
        flags: '--publishers <group>',
        description: 'with --open: whose members publish; any, the default, is every active device',
      },
    ],
    action: create,
  })
  add<FromOption>({
    parent: family,
    usage: 'add <group> <devices...>',
    description: 'let devices read what is sent from now on',
    options: [from],
    action: (context, args, options) => edit(context, args, options, addMembers),
  })
  add<FromOption>({
    parent: family,
    usage: 'remove <group> <devices...>',
    description: 'end the membership of devices; the next message is under a new key',
    options: [from],
    action: (context, args, options) => edit(context, args, options, removeMembers),
  })
  add({
    parent: family,
    usage: 'owner <group> <device>',
    description: "give the group to another of its members (an operator's transaction)",
    action: giveTo,
  })
  add<Partial<FromOption>>({
    parent: family,
    usage: 'show <group>',
    description: 'the group and its complete member list, verified',
    options: [{ ...from, required: false, description: 'the owner, for a group that has no name here' }],
    action: show,
  })
  groupListCommand(family, add)
}

async function create(
  context: Context,
  [name = '', ...devices]: readonly string[],
  options: CreateOptions,
): Promise<number> {
  if (options.publishers !== undefined && !options.open)
    throw new MoteError('usage', 'publishers: expected --open with it')
  const access = await openChain(context)
  const owner = await access.keys.load(options.from)
  const limited = options.publishers !== undefined && options.publishers !== 'any'
  const publishers = limited ? await requireGroup(access, options.publishers, owner.id) : undefined
  const topic = options.open ? { publishers } : undefined
  let group: Verified<VerifiedGroup> = await createGroup(access.client, owner, name, { topic })
  const id = groupIdOf(owner.id, name)
  await rememberGroup(access.directory, name, id)
  if (devices.length > 0) {
    const members = await Promise.all(devices.map(device => requireDevice(access, device)))
    group = await addMembers(access.client, owner, { group: id, devices: members })
  }
  return print(context, access, await withEpoch(context, access, owner, group))
}

async function edit(
  context: Context,
  [name = '', ...devices]: readonly string[],
  options: FromOption,
  change: typeof addMembers,
): Promise<number> {
  const access = await openChain(context)
  const owner = await access.keys.load(options.from)
  const group = await requireGroup(access, name, owner.id)
  const members = await Promise.all(devices.map(device => requireDevice(access, device)))
  const changed = await change(access.client, owner, { group, devices: members })
  return print(context, access, await withEpoch(context, access, owner, changed))
}

async function giveTo(context: Context, [name = '', device = '']: readonly string[]): Promise<number> {
  const access = await openChain(context)
  const group = await requireGroup(access, name)
  const owner = await requireDevice(access, device)
  const operator = await operatorKeys(access)
  const { timeoutMs } = context
  return print(context, access, await giveGroup(access.client, operator, { group, owner }, { timeoutMs }))
}

async function show(
  context: Context,
  [name = '']: readonly string[],
  options: Partial<FromOption>,
): Promise<number> {
  const access = await openChain(context)
  const owner = options.from === undefined ? undefined : await requireDevice(access, options.from)
  const id = await requireGroup(access, name, owner)
  const group = await access.client.records.group(id, { maxAgeMs: access.description.trustTtlMs })
  if (!group.value) throw absentGroup(name, id, group.height)
  return print(context, access, group)
}

async function print(context: Context, access: ChainAccess, group: Verified<VerifiedGroup>): Promise<number> {
  const { value, height, term, ageMs } = group
  if (!value) throw new MoteError('not-found', 'group: not on the chain')
  const { record } = value
  const members = await Promise.all(
    value.members.map(async id => ({ name: await deviceNameOf(access, id), id })),
  )
  const { topic } = record
  const publishers = topic?.publishers ? await groupNameOf(access, topic.publishers) : 'any'
  const key = topicKeyOf(record)
  const topicKeyId = key ? keyIdOf(key) : null
  const answer = {
    id: record.id,
    name: record.name,
    owner: { name: await deviceNameOf(access, record.owner), id: record.owner },
    members,
    membershipVersion: record.membershipVersion,
    epoch: record.epoch,
    ...(topic && { open: true, publishers, topicKeyId }),
    height,
    term,
    ageMs,
    verified: true,
  }
  context.output.data(answer, () =>
    [
      context.output.fields({
        id: record.id,
        name: record.name,
        owner: answer.owner.name ?? shortId(record.owner),
        members: members.map(member => member.name ?? shortId(member.id)).join(', '),
        'membership version': record.membershipVersion,
        epoch: record.epoch,
        ...(topic && { 'open to': publishers, 'topic key': topicKeyId ?? 'none yet' }),
      }),
      `verified ${provenance(answer)}`,
    ].join('\n'),
  )
  return exitCodes.ok
}
