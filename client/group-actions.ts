/**
 * What a group's owner and members do to it on the chain: create, add, remove, re-key. Like the operator's actions,
 * each one waits until certified and hands back the verified group.
 *
 * Making and sealing an epoch key happens off the chain (box-sealing.ts); here only its hashes go on it.
 */
import type { DeviceId, GroupId, Hash } from '../chain/brands.ts'
import type { TopicOpening } from '../chain/open-topics.ts'
import { groupIdOf } from '../chain/records.ts'
import { MoteError } from '../chain/result.ts'
import type { TransactionBody } from '../chain/transaction.ts'
import type { ChainClient } from './chain-client.ts'
import type { IdentityKeys } from './key-directory.ts'
import type { SubmitOptions } from './submission.ts'
import type { Verified, VerifiedGroup } from './verified-chain.ts'

/** A group that exists. */
export type ExistingGroup = Verified<VerifiedGroup> & { readonly value: VerifiedGroup }

/** Makes a group, or an open topic; the signer owns it and is its first member. Throws `already-exists`, `unknown-subject`. */
export async function createGroup(
  client: ChainClient,
  owner: IdentityKeys,
  name: string,
  { topic, ...options }: SubmitOptions & { readonly topic?: TopicOpening | undefined } = {},
): Promise<ExistingGroup> {
  await client.follower.sync()
  await client.perform(owner, { type: 'group.create', name, epochKeyHash: undefined, topic }, options)
  return readGroup(client, groupIdOf(owner.id, name))
}

/** Adds devices; those that are members already are left as they are. */
export function addMembers(
  client: ChainClient,
  actor: IdentityKeys,
  change: { readonly group: GroupId; readonly devices: readonly DeviceId[] },
  options?: SubmitOptions,
): Promise<ExistingGroup> {
  return editMembers(client, actor, { ...change, type: 'group.add' }, options)
}

/** Removes devices; those that are no members are ignored. */
export function removeMembers(
  client: ChainClient,
  actor: IdentityKeys,
  change: { readonly group: GroupId; readonly devices: readonly DeviceId[] },
  options?: SubmitOptions,
): Promise<ExistingGroup> {
  return editMembers(client, actor, { ...change, type: 'group.remove' }, options)
}

/**
 * Records a new epoch key for the membership it was made for, members without a usable encryption key included, though no
 * box is theirs: compare-and-set, so `epoch-conflict` means that another
 * member was first, or that the membership changed.
 */
export async function rekeyGroup(
  client: ChainClient,
  member: IdentityKeys,
  change: {
    /** The group as it was read when the key was made. */
    readonly group: VerifiedGroup
    readonly epochKeyHash: Hash
    readonly boxesHash: Hash
    /** Of an open topic, and only there: 32 bytes of X25519. */
    readonly topicKey?: Uint8Array | undefined
  },
  options?: SubmitOptions,
): Promise<ExistingGroup> {
  const { id: group, membershipVersion, epoch } = change.group.record
  const { epochKeyHash, boxesHash, topicKey } = change
  const body: TransactionBody = {
    type: 'group.rekey',
    group,
    membershipVersion,
    epoch,
    epochKeyHash,
    boxesHash,
    topicKey,
  }
  await client.perform(member, body, options)
  return readGroup(client, group)
}

interface MembershipChange {
  readonly type: 'group.add' | 'group.remove'
  readonly group: GroupId
  readonly devices: readonly DeviceId[]
}

const editRounds = 4

async function editMembers(
  client: ChainClient,
  actor: IdentityKeys,
  { type, group, devices }: MembershipChange,
  options?: SubmitOptions,
): Promise<ExistingGroup> {
  for (let round = 0; round < editRounds; round++) {
    const current = await readGroup(client, group)
    const present = new Set(current.value.members)
    const members = [...new Set(devices)].filter(id => present.has(id) === (type === 'group.remove')).sort()
    if (members.length === 0) return current
    const { membershipVersion } = current.value.record
    try {
      await client.perform(actor, { type, group, membershipVersion, members }, options)
    } catch (error) {
      if (!(error instanceof MoteError) || error.code !== 'version-conflict') throw error
    }
  }
  throw new MoteError('version-conflict', `group ${group}: it keeps changing`)
}

/** The group as of the newest header. Throws `unknown-subject` if it is proven absent. */
async function readGroup(client: ChainClient, id: GroupId): Promise<ExistingGroup> {
  await client.follower.sync()
  const group = await client.records.group(id)
  const { value } = group
  if (!value) throw new MoteError('unknown-subject', `group ${id}: not on the chain`)
  return { ...group, value }
}
