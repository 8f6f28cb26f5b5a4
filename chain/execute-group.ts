/**
 * Execution of groups (Hsu C4, C5): membership, and the compare-and-set that makes a new epoch.
 *
 * The chain never holds a group key, only hashes. Which epoch a message may use follows from the record:
 * - after a removal the current epoch and the one before are refused at once: who left knows both;
 * - after a join the current epoch has a grace, so that members can make one that the newcomer can read;
 * - after a re-key the epoch before has a grace, if nobody was removed.
 *
 * Invariants
 * 1. The member list is sorted, and memberCount and memberRoot are its own.
 * 2. An id is in the list of a group exactly if the group is in the id's membership list; both are bounded.
 * 3. Nobody is added who is not active.
 * 4. An owner adds an identity to a share of the identity's places at most: nobody else could add it, nor could it make a group of
 *    its own, if one owner filled the list. (An owner is a member of each of its groups, so its own list names them all.)
 * 5. An owner is a member, unless it was revoked: then an authority gives the group to another member. So an authority decides who
 *    edits a group, and lets nobody in.
 * 6. An open topic has a topic key exactly if it has an epoch, every epoch with its own; a group has none. A topic stays one.
 */

import type { ChainEvent } from './block.ts'
import { type DeviceId, type GroupId, Milliseconds } from './brands.ts'
import type { ExecutionContext } from './execution-context.ts'
import { maxEditedVersion, maxOperatorEditedVersion, maxOwnerSharePercent } from './limits.ts'
import { type ExecutionResult, permit, reject } from './outcome.ts'
import { type GroupRecord, groupIdOf, type IdentityRecord, memberRootOf } from './records.ts'
import { assert } from './result.ts'
import type {
  GroupAddBody,
  GroupCreateBody,
  GroupOwnerBody,
  GroupRekeyBody,
  GroupRemoveBody,
} from './transaction.ts'
import { keyFlaw } from './usable-keys.ts'

const never = Milliseconds(0)

/** Makes a group with its owner as first member. */
export function executeGroupCreate(
  context: ExecutionContext,
  body: GroupCreateBody,
  owner: IdentityRecord,
): ExecutionResult<readonly ChainEvent[]> {
  const { view, height } = context
  const id = groupIdOf(owner.id, body.name)
  if (view.group(id)) return reject('already-exists', `group ${body.name} of ${owner.id} exists`)
  const opening = checkOpening(context, body)
  if (!opening.ok) return opening
  const joined = joinGroup(context, id, owner.id)
  if (!joined.ok) return joined
  view.putMembers(id, [owner.id])
  view.putGroup({
    id,
    name: body.name,
    owner: owner.id,
    version: 1,
    memberCount: 1,
    memberRoot: memberRootOf([owner.id]),
    membershipVersion: 1,
    epoch: body.epochKeyHash ? 1 : 0,
    epochKeyHash: body.epochKeyHash,
    boxesHash: undefined,
    epochMembershipVersion: body.epochKeyHash ? 1 : 0,
    epochGraceUntil: undefined,
    previousEpochGraceUntil: never,
    topic: body.topic && { publishers: body.topic.publishers, key: undefined },
    createdAt: height,
    updatedAt: height,
  })
  return permit([{ type: 'group.membership', group: id, membershipVersion: 1, memberCount: 1 }])
}

function checkOpening(
  { view }: ExecutionContext,
  { topic, epochKeyHash }: GroupCreateBody,
): ExecutionResult<void> {
  if (topic && epochKeyHash) return reject('malformed', 'epochKeyHash: expected none for an open topic')
  const publishers = topic?.publishers
  return publishers && !view.group(publishers)
    ? reject('unknown-subject', `publishers: no group ${publishers}`)
    : permit(undefined)
}

export function executeGroupAdd(
  context: ExecutionContext,
  body: GroupAddBody,
): ExecutionResult<readonly ChainEvent[]> {
  const { view, time } = context
  const checked = checkMembershipEdit(context, body)
  if (!checked.ok) return checked
  const group = checked.value
  const members = view.members(group.id)
  const { groupMembers } = view.parameters().limits
  if (members.length + body.members.length > groupMembers)
    return reject('limit-exceeded', `members: expected at most ${groupMembers}`)
  const present = new Set(members)
  const owned = groupsOwnedBy(context, group.owner)
  for (const id of body.members) {
    if (present.has(id)) return reject('already-exists', `members: ${id} is a member`)
    const share = checkOwnerShare(context, owned, id)
    if (!share.ok) return share
    const joined = joinGroup(context, group.id, id)
    if (!joined.ok) return joined
  }
  const grace = time + view.parameters().epochGraceMs
  // A second join does not prolong the grace of the first, nor does a join undo what a removal ended.
  const epochGraceUntil = Milliseconds(Math.min(group.epochGraceUntil ?? grace, grace))
  return permit([putMembership(context, { ...group, epochGraceUntil }, [...members, ...body.members].sort())])
}

/** The owner cannot leave: a group without one could not be changed. */
export function executeGroupRemove(
  context: ExecutionContext,
  body: GroupRemoveBody,
): ExecutionResult<readonly ChainEvent[]> {
  const { view } = context
  const checked = checkMembershipEdit(context, body)
  if (!checked.ok) return checked
  const group = checked.value
  if (body.members.includes(group.owner)) return reject('invalid-state', 'members: the owner stays')
  const present = new Set(view.members(group.id))
  const stranger = body.members.find(id => !present.has(id))
  if (stranger) return reject('unknown-subject', `members: ${stranger} is no member`)
  return permit([removeFromGroup(context, group.id, body.members)])
}

/** Takes members out, and with them the epochs that they know. Also what a revocation does. */
export function removeFromGroup(
  context: ExecutionContext,
  groupId: GroupId,
  leaving: readonly DeviceId[],
): ChainEvent {
  const { view } = context
  const group = view.group(groupId)
  assert(group, `group ${groupId} is in a membership list and must exist`)
  for (const id of leaving)
    view.putMemberships(
      id,
      view.memberships(id).filter(other => other !== groupId),
    )
  const left = new Set(leaving)
  const members = view.members(groupId).filter(id => !left.has(id))
  return putMembership(context, { ...group, epochGraceUntil: never, previousEpochGraceUntil: never }, members)
}

/** Compare-and-set of the epoch: of members who re-key at once, the first wins and the others read its key. */
export function executeGroupRekey(
  context: ExecutionContext,
  body: GroupRekeyBody,
): ExecutionResult<readonly ChainEvent[]> {
  const { view, time, height } = context
  const group = view.group(body.group)
  assert(group, 'the permission of a group transaction is judged by its group')
  if (group.membershipVersion !== body.membershipVersion || group.epoch !== body.epoch)
    return reject(
      'epoch-conflict',
      `membershipVersion, epoch: expected ${group.membershipVersion}, ${group.epoch}, got ${body.membershipVersion}, ${body.epoch}`,
    )
  const room = checkRoom(group)
  if (!room.ok) return room
  const topicKey = checkTopicKey(group, body)
  if (!topicKey.ok) return topicKey
  view.putGroup({
    ...group,
    topic: group.topic && { ...group.topic, key: body.topicKey },
    version: group.version + 1,
    epoch: group.epoch + 1,
    epochKeyHash: body.epochKeyHash,
    boxesHash: body.boxesHash,
    epochMembershipVersion: group.membershipVersion,
    epochGraceUntil: undefined,
    previousEpochGraceUntil: group.epochGraceUntil ?? Milliseconds(time + view.parameters().epochGraceMs),
    updatedAt: height,
  })
  return permit([{ type: 'group.rekeyed', group: group.id, epoch: group.epoch + 1 }])
}

/** That it is the half of the epoch key that it should be, only members can tell: they re-key if it is not. */
function checkTopicKey({ topic }: GroupRecord, { topicKey }: GroupRekeyBody): ExecutionResult<void> {
  if ((topic === undefined) !== (topicKey === undefined))
    return reject('malformed', `topicKey: expected ${topic ? 'one for an open topic' : 'none for a group'}`)
  const flaw = topicKey && keyFlaw({ suite: 'x25519', bytes: topicKey })
  return flaw === undefined ? permit(undefined) : reject('key-not-usable', `topicKey: ${flaw}`)
}

/** Gives the group to another of its members. */
export function executeGroupOwner(
  { view, height }: ExecutionContext,
  { group: id, from, owner }: GroupOwnerBody,
): ExecutionResult<readonly ChainEvent[]> {
  const group = view.group(id)
  if (!group) return reject('unknown-subject', `group: there is none with the id ${id}`)
  if (group.owner !== from)
    return reject('version-conflict', `from: expected the owner ${group.owner}, got ${from}`)
  if (owner === from) return reject('already-exists', `owner: ${owner} owns the group`)
  if (!view.memberships(owner).includes(id)) return reject('invalid-state', `owner: ${owner} is no member`)
  const status = view.identity(owner)?.status
  if (status !== 'active') return reject('invalid-state', `owner: ${owner} is ${status}`)
  const room = checkRoom(group, maxOperatorEditedVersion)
  if (!room.ok) return room
  view.putGroup({ ...group, owner, version: group.version + 1, updatedAt: height })
  return permit([{ type: 'group.owner', group: id, owner }])
}

/** Every edit raises the version, so that it is ahead of membership version and epoch. */
function checkRoom({ version }: GroupRecord, most = maxEditedVersion): ExecutionResult<void> {
  return version < most
    ? permit(undefined)
    : reject('limit-exceeded', `version: expected less than ${most}, got ${version}`)
}

function checkMembershipEdit(
  { view }: ExecutionContext,
  body: GroupAddBody | GroupRemoveBody,
): ExecutionResult<GroupRecord> {
  const group = view.group(body.group)
  assert(group, 'the permission of a group transaction is judged by its group')
  const { membershipVersion } = group
  if (membershipVersion !== body.membershipVersion)
    return reject(
      'version-conflict',
      `membershipVersion: expected ${membershipVersion}, got ${body.membershipVersion}`,
    )
  const room = checkRoom(group)
  if (!room.ok) return room
  const { members } = body
  if (members.some((id, i) => i > 0 && (members[i - 1] as DeviceId) >= id))
    return reject('malformed', 'members: expected sorted and distinct ids')
  return permit(group)
}

function groupsOwnedBy({ view }: ExecutionContext, owner: DeviceId): ReadonlySet<GroupId> {
  return new Set(view.memberships(owner).filter(id => view.group(id)?.owner === owner))
}

function checkOwnerShare(
  { view }: ExecutionContext,
  owned: ReadonlySet<GroupId>,
  id: DeviceId,
): ExecutionResult<void> {
  const most = Math.ceil((view.parameters().limits.groupsPerIdentity * maxOwnerSharePercent) / 100)
  return view.memberships(id).filter(group => owned.has(group)).length < most
    ? permit(undefined)
    : reject('limit-exceeded', `members: ${id} is in ${most} groups of this owner already`)
}

/** Puts the group into the id's membership list. */
function joinGroup({ view }: ExecutionContext, group: GroupId, id: DeviceId): ExecutionResult<void> {
  const record = view.identity(id)
  if (!record) return reject('unknown-subject', `members: no identity ${id}`)
  if (record.status !== 'active') return reject('invalid-state', `members: ${id} is ${record.status}`)
  const memberships = view.memberships(id)
  const { groupsPerIdentity } = view.parameters().limits
  if (memberships.length >= groupsPerIdentity)
    return reject('limit-exceeded', `members: ${id} is in ${groupsPerIdentity} groups already`)
  view.putMemberships(id, [...memberships, group].sort())
  return permit(undefined)
}

function putMembership(
  { view, height }: ExecutionContext,
  group: GroupRecord,
  members: readonly DeviceId[],
): ChainEvent {
  const membershipVersion = group.membershipVersion + 1
  view.putMembers(group.id, members)
  view.putGroup({
    ...group,
    version: group.version + 1,
    memberCount: members.length,
    memberRoot: memberRootOf(members),
    membershipVersion,
    updatedAt: height,
  })
  return { type: 'group.membership', group: group.id, membershipVersion, memberCount: members.length }
}
