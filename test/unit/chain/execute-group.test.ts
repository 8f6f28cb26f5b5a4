/** Groups: each refusal of execute-group.ts, membership in both directions, and which epoch is accepted when. */
import { describe, expect, test } from 'vitest'
import { devicesOf } from '../../../chain/block.ts'
import { type GroupId, Hash, Milliseconds } from '../../../chain/brands.ts'
import { topicKeyOf } from '../../../chain/open-topics.ts'
import { groupCodec, groupIdOf, isEpochAccepted, isMemberListOf, stateKeyOf } from '../../../chain/records.ts'
import { unwrap } from '../../../chain/result.ts'
import { type GroupRekeyBody, parseTransaction } from '../../../chain/transaction.ts'
import { encryptionKeyOf } from '../../../client/encryption-keys.ts'
import {
  type Actor,
  devices,
  newcomer,
  operator,
  SampleLedger,
  second,
  sorted,
  withLeaf,
} from './sample-ledger.ts'

const [owner, member, other, stranger] = devices as [Actor, Actor, Actor, Actor]
const id = groupIdOf(owner.id, 'hsu0001')
const hash = Hash('cd'.repeat(32))
const grace = 60 * second

function add(chain: SampleLedger, members: readonly Actor[], by = owner, seen?: number) {
  const membershipVersion = seen ?? chain.group(id).membershipVersion
  return chain.run(by, {
    type: 'group.add',
    group: id,
    membershipVersion,
    members: sorted(...members),
  })
}

function remove(chain: SampleLedger, members: readonly Actor[], by = owner, seen?: number) {
  const membershipVersion = seen ?? chain.group(id).membershipVersion
  return chain.run(by, {
    type: 'group.remove',
    group: id,
    membershipVersion,
    members: sorted(...members),
  })
}

function rekey(chain: SampleLedger, by = owner, parts: Partial<GroupRekeyBody> = {}) {
  const { membershipVersion, epoch } = chain.group(id)
  return chain.run(by, {
    type: 'group.rekey',
    group: id,
    membershipVersion,
    epoch,
    epochKeyHash: hash,
    boxesHash: hash,
    ...parts,
  })
}

function accepted(chain: SampleLedger, epoch: number, after = 0): boolean {
  return isEpochAccepted(chain.group(id), epoch, Milliseconds(chain.time + after))
}

/** The group of Hsu C4, with an epoch key. */
function withGroup(choices: ConstructorParameters<typeof SampleLedger>[0] = {}): SampleLedger {
  const chain = new SampleLedger(choices)
  expect(chain.run(owner, { type: 'group.create', name: 'hsu0001', epochKeyHash: undefined })).toBe('ok')
  expect(add(chain, [member, other])).toBe('ok')
  expect(rekey(chain)).toBe('ok')
  return chain
}

describe('versions at their end', () => {
  const most = 0xffff_ffff - 2 ** 20

  test('group: no member edits it from the last version on, and a revocation still takes one out', () => {
    const chain = withGroup()
    const key = stateKeyOf.group(id)
    const near = { ...chain.group(id), version: most - 1, membershipVersion: most - 1, epoch: most - 1 }
    expect(rekey(withLeaf(chain, key, groupCodec, near))).toBe('ok')
    expect(chain.group(id)).toMatchObject({ version: most, epoch: most })
    expect(rekey(chain)).toBe('limit-exceeded')
    expect(add(chain, [stranger])).toBe('limit-exceeded')
    expect(remove(chain, [other])).toBe('limit-exceeded')
    const revoke = { type: 'identity.revoke', subject: member.id, reason: '' } as const
    expect(chain.run(operator, revoke)).toBe('ok')
    expect(chain.group(id).version).toBe(most + 1)
  })
})

describe('membership', () => {
  test('group: owner is the first member, members are added in batches (Hsu C4)', () => {
    const chain = withGroup()
    expect(chain.members(id)).toEqual(sorted(owner, member, other))
    expect(chain.group(id)).toMatchObject({ memberCount: 3, membershipVersion: 2, version: 3, epoch: 1 })
    expect(isMemberListOf(chain.group(id), chain.members(id))).toBe(true)
    for (const who of [owner, member, other]) expect(chain.memberships(who.id)).toEqual([id])
  })

  test('group: a member list that lacks, adds or repeats one is not the list of the record', () => {
    const chain = withGroup()
    const group = chain.group(id)
    const list = chain.members(id)
    expect(isMemberListOf(group, list.slice(1))).toBe(false)
    expect(isMemberListOf(group, sorted(owner, member, stranger))).toBe(false)
    expect(isMemberListOf(group, [list[0]!, list[0]!, list[1]!])).toBe(false)
    expect(isMemberListOf(group, [...list].reverse())).toBe(false)
  })

  test('group.create: refuses a name that the owner has used, not one that another has', () => {
    const chain = withGroup()
    const body = { type: 'group.create', name: 'hsu0001', epochKeyHash: hash } as const
    expect(chain.run(owner, body)).toBe('already-exists')
    expect(chain.run(member, body)).toBe('ok')
    expect(chain.group(groupIdOf(member.id, 'hsu0001'))).toMatchObject({ epoch: 1, epochKeyHash: hash })
  })

  test('group.add: refuses who is not on the chain or not active', () => {
    const chain = withGroup()
    expect(add(chain, [newcomer])).toBe('unknown-subject')
    chain.suspend(stranger)
    expect(add(chain, [stranger])).toBe('invalid-state')
  })

  test('group.add: refuses a member twice, and adds none of the batch', () => {
    const chain = withGroup()
    expect(add(chain, [member, stranger])).toBe('already-exists')
    expect(chain.memberships(stranger.id)).toEqual([])
  })

  test('group.add: refuses ids that are not sorted and distinct', () => {
    const chain = new SampleLedger()
    chain.run(owner, { type: 'group.create', name: 'hsu0001', epochKeyHash: undefined })
    const members = sorted(member, other)
    const body = { type: 'group.add', group: id, membershipVersion: 1 } as const
    expect(chain.run(owner, { ...body, members: [...members].reverse() })).toBe('malformed')
    expect(chain.run(owner, { ...body, members: [member.id, member.id] })).toBe('malformed')
    expect(chain.run(owner, { ...body, members })).toBe('ok')
  })

  test('group.add: refuses another version, an unknown group, and who is not the owner', () => {
    const chain = withGroup()
    expect(add(chain, [stranger], owner, 1)).toBe('version-conflict')
    expect(add(chain, [stranger], member)).toBe('not-authorised')
    expect(add(chain, [stranger], operator)).toBe('not-authorised')
    const unknown = groupIdOf(owner.id, 'none')
    const body = {
      type: 'group.add',
      group: unknown,
      membershipVersion: 1,
      members: sorted(stranger),
    } as const
    expect(chain.run(owner, body)).toBe('unknown-subject')
  })

  test('group.add: refuses more members than the chain allows', () => {
    const chain = withGroup({ limits: { groupMembers: 3 } })
    expect(add(chain, [stranger])).toBe('limit-exceeded')
  })

  test('group: refuses more groups of one identity than the chain allows', () => {
    const chain = withGroup({ limits: { groupsPerIdentity: 1 } })
    const body = { type: 'group.create', name: 'second', epochKeyHash: undefined } as const
    expect(chain.run(owner, body)).toBe('limit-exceeded')
    expect(chain.run(stranger, body)).toBe('ok')
    expect(add(chain, [stranger])).toBe('limit-exceeded')
  })

  test('group.add: one owner fills a quarter of the list of another, and others and it still find places', () => {
    const chain = withGroup({ limits: { groupsPerIdentity: 5 } })
    const create = (by: Actor, name: string) => {
      expect(chain.run(by, { type: 'group.create', name, epochKeyHash: undefined })).toBe('ok')
      return groupIdOf(by.id, name)
    }
    const addTo = (group: GroupId, by: Actor, ...members: readonly Actor[]) => {
      const { membershipVersion } = chain.group(group)
      const body = { type: 'group.add', group, membershipVersion, members: sorted(...members) } as const
      return chain.run(by, body)
    }
    const more = ['second', 'third', 'fourth'].map(name => create(owner, name))
    expect(addTo(more[0]!, owner, member)).toBe('ok')
    expect(addTo(more[1]!, owner, stranger, member)).toBe('limit-exceeded')
    expect(chain.memberships(stranger.id)).toEqual([])
    expect(addTo(more[1]!, owner, stranger)).toBe('ok')
    expect(addTo(create(other, 'hers'), other, member)).toBe('ok')
    create(member, 'own')
    expect(chain.memberships(member.id)).toHaveLength(4)
    expect(remove(chain, [member], member)).toBe('ok')
    expect(addTo(more[2]!, owner, member)).toBe('ok')
  })

  test('group.remove: a removed member is in neither list', () => {
    const chain = withGroup()
    expect(remove(chain, [member])).toBe('ok')
    expect(chain.members(id)).toEqual(sorted(owner, other))
    expect(isMemberListOf(chain.group(id), chain.members(id))).toBe(true)
    expect(chain.memberships(member.id)).toEqual([])
    expect(rekey(chain, member)).toBe('not-authorised')
  })

  test('group.remove: a member may leave, but take nobody along', () => {
    const chain = withGroup()
    expect(remove(chain, [member, other], member)).toBe('not-authorised')
    expect(remove(chain, [other], member)).toBe('not-authorised')
    expect(remove(chain, [member], member)).toBe('ok')
  })

  test('group.remove: refuses strangers, the owner, another version', () => {
    const chain = withGroup()
    expect(remove(chain, [stranger])).toBe('unknown-subject')
    expect(remove(chain, [owner])).toBe('invalid-state')
    expect(remove(chain, [member], owner, 1)).toBe('version-conflict')
  })

  test('group.remove: a member that re-keys the group does not keep the owner from taking it out', () => {
    const chain = withGroup()
    const { membershipVersion } = chain.group(id)
    for (let n = 0; n < 3; n++) expect(rekey(chain, member)).toBe('ok')
    expect(remove(chain, [member], owner, membershipVersion)).toBe('ok')
  })

  test('group: a revoked identity leaves every group in the same transaction', () => {
    const chain = withGroup()
    const second = groupIdOf(other.id, 'hsu0002')
    chain.run(other, { type: 'group.create', name: 'hsu0002', epochKeyHash: hash })
    chain.run(other, { type: 'group.add', group: second, membershipVersion: 1, members: [member.id] })
    expect(chain.revoke(member)).toBe('ok')
    for (const group of [id, second]) {
      expect(chain.members(group)).not.toContain(member.id)
      expect(isMemberListOf(chain.group(group), chain.members(group))).toBe(true)
      expect(isEpochAccepted(chain.group(group), 1, Milliseconds(chain.time))).toBe(false)
    }
    expect(chain.memberships(member.id)).toEqual([])
  })
})

describe('epochs', () => {
  test('group.rekey: any member may, the next epoch is one more', () => {
    const chain = withGroup()
    expect(rekey(chain, member)).toBe('ok')
    expect(chain.group(id)).toMatchObject({ epoch: 2, boxesHash: hash, epochMembershipVersion: 2 })
  })

  test('group.rekey: of two members at once the first wins', () => {
    const chain = withGroup()
    const { membershipVersion, epoch } = chain.group(id)
    expect(rekey(chain, member, { membershipVersion, epoch })).toBe('ok')
    expect(rekey(chain, other, { membershipVersion, epoch })).toBe('epoch-conflict')
  })

  test('group.rekey: a key made for an earlier membership is refused', () => {
    const chain = withGroup()
    const { membershipVersion } = chain.group(id)
    remove(chain, [other])
    expect(rekey(chain, member, { membershipVersion })).toBe('epoch-conflict')
  })

  test('group.rekey: refuses who is no member, and an unknown group', () => {
    const chain = withGroup()
    expect(rekey(chain, stranger)).toBe('not-authorised')
    expect(rekey(chain, owner, { group: groupIdOf(owner.id, 'none') })).toBe('unknown-subject')
  })

  test('epoch: none is accepted before there is a key, nor one from the future', () => {
    const chain = new SampleLedger()
    chain.run(owner, { type: 'group.create', name: 'hsu0001', epochKeyHash: undefined })
    expect([accepted(chain, 0), accepted(chain, 1)]).toEqual([false, false])
  })

  test('epoch: after a removal the old epoch and the one before are refused at once', () => {
    const chain = withGroup()
    rekey(chain)
    expect([accepted(chain, 1), accepted(chain, 2)]).toEqual([true, true])
    remove(chain, [member])
    expect([accepted(chain, 1), accepted(chain, 2)]).toEqual([false, false])
    rekey(chain)
    expect([accepted(chain, 2), accepted(chain, 3)]).toEqual([false, true])
  })

  test('epoch: a join after a removal does not give the old epoch back', () => {
    const chain = withGroup()
    remove(chain, [member])
    add(chain, [stranger])
    expect(accepted(chain, 1)).toBe(false)
    rekey(chain)
    expect([accepted(chain, 1), accepted(chain, 2)]).toEqual([false, true])
  })

  test('epoch: after a join the current epoch has a grace, which a second join does not prolong', () => {
    const chain = withGroup()
    add(chain, [stranger])
    const joinedAt = chain.time
    expect([accepted(chain, 1, grace - 1), accepted(chain, 1, grace)]).toEqual([true, false])
    add(chain, [operator])
    expect(chain.group(id).epochGraceUntil).toBe(joinedAt + grace)
    rekey(chain)
    expect(chain.group(id).previousEpochGraceUntil).toBe(joinedAt + grace)
  })

  test('epoch: after a rotation the epoch before has a grace, the one before that has none', () => {
    const chain = withGroup()
    rekey(chain)
    expect([accepted(chain, 1, grace - 1), accepted(chain, 1, grace)]).toEqual([true, false])
    expect(accepted(chain, 2, 1000 * grace)).toBe(true)
    rekey(chain)
    expect([accepted(chain, 1), accepted(chain, 2), accepted(chain, 3)]).toEqual([false, true, true])
  })
})

describe('group.owner', () => {
  const give = (chain: SampleLedger, to: Actor, from = owner, by = operator) =>
    chain.run(by, { type: 'group.owner', group: id, from: from.id, owner: to.id })

  test('an authority gives the group of a revoked owner to another member, who edits it then', () => {
    const chain = withGroup()
    expect(chain.revoke(owner)).toBe('ok')
    expect(add(chain, [stranger], member)).toBe('not-authorised')
    expect(give(chain, member)).toBe('ok')
    expect(chain.group(id)).toMatchObject({ owner: member.id, id })
    expect(add(chain, [stranger], member)).toBe('ok')
  })

  test('edits by the owner do not outrun it, and the owner that was stays a member', () => {
    const chain = withGroup()
    for (let i = 0; i < 3; i++) expect(rekey(chain)).toBe('ok')
    expect(give(chain, member)).toBe('ok')
    expect(chain.members(id)).toContain(owner.id)
    expect(add(chain, [stranger], owner)).toBe('not-authorised')
    expect(remove(chain, [owner], member)).toBe('ok')
  })

  test('is in the history of both owners', () => {
    const chain = withGroup()
    const wire = chain.sign(operator, { type: 'group.owner', group: id, from: owner.id, owner: member.id })
    expect(devicesOf(unwrap(parseTransaction(wire)).unsigned)).toEqual([operator.id, owner.id, member.id])
  })

  test('refuses an unknown group, another owner than there is, who is no active member, and who owns it', () => {
    const chain = withGroup()
    const nowhere = groupIdOf(stranger.id, 'hsu0001')
    const body = { type: 'group.owner', group: nowhere, from: owner.id, owner: member.id } as const
    expect(chain.run(operator, body)).toBe('unknown-subject')
    expect(give(chain, member, other)).toBe('version-conflict')
    expect(give(chain, owner)).toBe('already-exists')
    expect(give(chain, stranger)).toBe('invalid-state')
    expect(give(chain, newcomer)).toBe('invalid-state')
    expect(chain.suspend(member)).toBe('ok')
    expect(give(chain, member)).toBe('invalid-state')
    expect(chain.group(id).owner).toBe(owner.id)
  })

  test('an authority goes beyond the last version of the owner, and leaves room for revocations', () => {
    const chain = withGroup()
    const last = 0xffff_ffff - 2 ** 19
    const near = { ...chain.group(id), version: last - 1 }
    expect(give(withLeaf(chain, stateKeyOf.group(id), groupCodec, near), member)).toBe('ok')
    expect(give(chain, owner, member)).toBe('limit-exceeded')
    expect(chain.revoke(other)).toBe('ok')
  })
})

describe('open topics', () => {
  const topicKey = encryptionKeyOf('x25519', new Uint8Array(32).fill(9)).bytes
  const opening = { type: 'group.create', name: 'hsu0001', epochKeyHash: undefined } as const

  test('group.create: an open topic has no key until a member makes its first epoch, whose key goes on the chain (Hsu-Lu B4)', () => {
    const chain = new SampleLedger()
    expect(chain.run(owner, { ...opening, topic: { publishers: undefined } })).toBe('ok')
    expect(chain.group(id).topic).toEqual({ publishers: undefined, key: undefined })
    expect(rekey(chain, owner, { topicKey })).toBe('ok')
    expect(chain.group(id).topic).toEqual({ publishers: undefined, key: topicKey })
    expect(topicKeyOf(chain.group(id))).toEqual({ suite: 'x25519', bytes: topicKey })
    expect(add(chain, [member])).toBe('ok')
    const next = encryptionKeyOf('x25519', new Uint8Array(32).fill(8)).bytes
    expect(rekey(chain, member, { topicKey: next })).toBe('ok')
    expect(chain.group(id).topic?.key, 'each epoch has its own').toEqual(next)
  })

  test('group.create: who may publish is a group that exists', () => {
    const chain = withGroup()
    const second = { ...opening, name: 'second' }
    const none = groupIdOf(owner.id, 'none')
    expect(chain.run(owner, { ...second, topic: { publishers: none } })).toBe('unknown-subject')
    expect(chain.run(owner, { ...second, topic: { publishers: id } })).toBe('ok')
    expect(chain.group(groupIdOf(owner.id, 'second')).topic?.publishers).toBe(id)
  })

  test('group.create: an open topic has no epoch key before its boxes', () => {
    const chain = new SampleLedger()
    const body = { ...opening, epochKeyHash: hash, topic: { publishers: undefined } }
    expect(chain.run(owner, body)).toBe('malformed')
  })

  test('group.rekey: a topic key in every epoch of an open topic, in none of a group', () => {
    expect(rekey(withGroup(), owner, { topicKey })).toBe('malformed')
    const chain = new SampleLedger()
    chain.run(owner, { ...opening, topic: { publishers: undefined } })
    expect(rekey(chain)).toBe('malformed')
    expect(chain.group(id).epoch).toBe(0)
  })

  test('group.rekey: a topic key that nobody can seal to is refused', () => {
    const chain = new SampleLedger()
    chain.run(owner, { ...opening, topic: { publishers: undefined } })
    for (const bytes of [new Uint8Array(32), new Uint8Array(32).fill(0xff)])
      expect(rekey(chain, owner, { topicKey: bytes })).toBe('key-not-usable')
  })
})
