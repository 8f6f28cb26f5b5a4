/**
 * What the state holds: one leaf per identity, group, member list, membership list, grant, approval, set of rights and set of
 * credentials, and one for the parameters (docs/FORMATS.md, section Records); what it holds of contracts is in contract-records.ts.
 *
 * A leaf's value begins with the number of its record type and format, so bytes of one type never read as another. Every
 * record counts its edits in `version`; an edit by its own device names the version it changes.
 *
 * Lists are leaves of their own: `members` of a group (checked against `memberCount` and `memberRoot` of the group's
 * record, so the list is provably complete) and `memberships` of an identity (so a revocation finds the groups it must leave).
 */
import { utf8ToBytes } from '@noble/hashes/utils.js'
import type {
  ContractAddress,
  DeviceId,
  GrantId,
  GroupId,
  Hash,
  Height,
  KeyId,
  Milliseconds,
  StateKey,
} from './brands.ts'
import { type ChainParameters, parametersFields } from './chain-parameters.ts'
import { type Codec, digest, list, oneOf, optional, struct, uint } from './codec.ts'
import { type ConsenterSet, consenterSetCodec } from './consenters.ts'
import type { StreamId, TopicId } from './contract-records.ts'
import { type CredentialsRecord, credentialsListCodec } from './credentials.ts'
import { groupNameCodec } from './group-bodies.ts'
import { hashHex } from './hashing.ts'
import { hexToBytes } from './hex.ts'
import { byPurpose, type Label, labelCodec, transportKeyCodec } from './identity-bodies.ts'
import { type EncryptionKey, encryptionKeyCodec, keyIdOf, type PublicKey, publicKeyCodec } from './keys.ts'
import { maxGrantQuota, maxGroupMembers, maxGroupsPerIdentity, maxKeysPerIdentity } from './limits.ts'
import { merkleRoot } from './merkle.ts'
import { type TopicRecord, topicRecordCodec } from './open-topics.ts'
import { RecentMap } from './recent-map.ts'
import { type RightsRecord, rightsFields } from './rights.ts'
import { leaf, type RecordType, stateKey } from './state-leaves.ts'

export * from './chain-parameters.ts'
export * from './contract-records.ts'
export { isRecordOf } from './state-leaves.ts'

export type IdentityStatus = 'pending' | 'active' | 'suspended' | 'revoked'
/** 0 quarantined · 1 watched · 2 as registered · 3 raised by governance or by genesis. */
export type TrustLevel = 0 | 1 | 2 | 3
export const identityStatusCodec: Codec<IdentityStatus> = oneOf<IdentityStatus>({
  pending: 1,
  active: 2,
  suspended: 3,
  revoked: 4,
})
/** Trust level of an identity that registers. */
export const registeredTrustLevel: TrustLevel = 2

interface KeyLifetime {
  /** Valid from this time on. */
  readonly notBefore: Milliseconds
  /** Not valid from this time on. */
  readonly notAfter: Milliseconds | undefined
  /** Not valid from this time on, because its owner said so. */
  readonly revokedAt: Milliseconds | undefined
}
/** A key of an identity and when it is valid; its id is `keyIdOf(key)`. */
export type KeyEntry =
  | ({ readonly purpose: 'sign'; readonly key: PublicKey } & KeyLifetime)
  | ({ readonly purpose: 'encrypt'; readonly key: EncryptionKey } & KeyLifetime)

export interface IdentityRecord {
  readonly id: DeviceId
  readonly version: number
  readonly label: Label
  readonly status: IdentityStatus
  readonly trustLevel: TrustLevel
  /** Oldest first; ended keys stay, for whoever verifies old signatures, until their place is needed. */
  readonly keys: readonly KeyEntry[]
  /** Undefined for an identity of the genesis. */
  readonly admittedBy: { readonly grant: GrantId; readonly operator: DeviceId } | undefined
  /** Hash of a credential such as an X.509 certificate (Hsu C2). */
  readonly credential: Hash | undefined
  readonly metadataHash: Hash | undefined
  /** Ed25519 key of the libp2p transport, 32 bytes; the PeerId follows from it. */
  readonly transportKey: Uint8Array | undefined
  readonly incidents: number
  /** Hash over the incidents on record (Qiu A5). */
  readonly incidentsHash: Hash | undefined
  readonly registeredAt: Height
  readonly updatedAt: Height
}

export interface GroupRecord {
  readonly id: GroupId
  readonly name: string
  readonly owner: DeviceId
  readonly version: number
  readonly memberCount: number
  /** RFC 6962 root over the sorted member ids, 32 bytes each. */
  readonly memberRoot: Hash
  /** Counts changes of membership; starts at 1. */
  readonly membershipVersion: number
  /** Number of the current epoch key; 0 before there is one. */
  readonly epoch: number
  readonly epochKeyHash: Hash | undefined
  readonly boxesHash: Hash | undefined
  /** Membership version for which the current epoch key was made. */
  readonly epochMembershipVersion: number
  /** The current epoch is refused from this time on: 0 after a removal, a grace after a join, undefined while it fits. */
  readonly epochGraceUntil: Milliseconds | undefined
  /** The epoch before is accepted until this time; 0 for never. */
  readonly previousEpochGraceUntil: Milliseconds
  /** Undefined for a group of which only members publish. */
  readonly topic: TopicRecord | undefined
  readonly createdAt: Height
  readonly updatedAt: Height
}

export interface GrantRecord {
  readonly id: GrantId
  readonly tokenKey: PublicKey
  readonly operator: DeviceId
  readonly quota: number
  readonly used: number
  readonly expiry: Milliseconds
  readonly highestLabel: Label
  readonly grantedAt: Height
}

/**
 * What an authority approves of now. Each authority has one such slot, so a new approval takes the place of its last one.
 * Whether it still counts, `countsAsApproval` says.
 */
export interface ApprovalRecord {
  /** The whole set and not its hash, so that whoever is asked to approve as well can read what. */
  readonly target: ConsenterSet
  /** Version of the parameters at that time. */
  readonly parametersVersion: number
}

const counter = uint(0xffff_ffff)
const time = uint<Milliseconds>()
const height = uint<Height>()
type EntryFields<P extends KeyEntry['purpose']> = Omit<Extract<KeyEntry, { purpose: P }>, 'purpose'>
const lifetime = { notBefore: time, notAfter: optional(time), revokedAt: optional(time) }
const keyEntryCodec = byPurpose<KeyEntry>(
  struct<EntryFields<'sign'>>({ key: publicKeyCodec, ...lifetime }),
  struct<EntryFields<'encrypt'>>({ key: encryptionKeyCodec, ...lifetime }),
)

export const identityCodec: Codec<IdentityRecord> = leaf(
  'identity',
  struct<IdentityRecord>({
    id: digest<DeviceId>(),
    version: counter,
    label: labelCodec,
    status: identityStatusCodec,
    trustLevel: uint(3) as Codec<number> as Codec<TrustLevel>,
    keys: list(keyEntryCodec, maxKeysPerIdentity, 1),
    admittedBy: optional(
      struct<{ grant: GrantId; operator: DeviceId }>({
        grant: digest<GrantId>(),
        operator: digest<DeviceId>(),
      }),
    ),
    credential: optional(digest<Hash>()),
    metadataHash: optional(digest<Hash>()),
    transportKey: optional(transportKeyCodec),
    incidents: counter,
    incidentsHash: optional(digest<Hash>()),
    registeredAt: height,
    updatedAt: height,
  }),
)

export const groupCodec: Codec<GroupRecord> = leaf(
  'group',
  struct<GroupRecord>({
    id: digest<GroupId>(),
    name: groupNameCodec,
    owner: digest<DeviceId>(),
    version: counter,
    memberCount: uint(maxGroupMembers),
    memberRoot: digest<Hash>(),
    membershipVersion: counter,
    epoch: counter,
    epochKeyHash: optional(digest<Hash>()),
    boxesHash: optional(digest<Hash>()),
    epochMembershipVersion: counter,
    epochGraceUntil: optional(time),
    previousEpochGraceUntil: time,
    topic: optional(topicRecordCodec),
    createdAt: height,
    updatedAt: height,
  }),
)

/** Sorted ids of a group's members. */
export const membersCodec: Codec<readonly DeviceId[]> = leaf(
  'members',
  list(digest<DeviceId>(), maxGroupMembers),
)
/** Sorted ids of the groups of which an identity is a member. */
export const membershipsCodec: Codec<readonly GroupId[]> = leaf(
  'memberships',
  list(digest<GroupId>(), maxGroupsPerIdentity),
)

export const grantCodec: Codec<GrantRecord> = leaf(
  'grant',
  struct<GrantRecord>({
    id: digest<GrantId>(),
    tokenKey: publicKeyCodec,
    operator: digest<DeviceId>(),
    quota: uint(maxGrantQuota),
    used: uint(maxGrantQuota),
    expiry: time,
    highestLabel: labelCodec,
    grantedAt: height,
  }),
)

export const parametersCodec: Codec<ChainParameters> = leaf('parameters', parametersFields)

/** The slot of an authority. */
export const approvalCodec: Codec<ApprovalRecord> = leaf(
  'approval',
  struct<ApprovalRecord>({ target: consenterSetCodec, parametersVersion: counter }),
)

/** The rights of an identity; absent for none. */
export const rightsCodec: Codec<RightsRecord> = leaf(
  'rights',
  struct<RightsRecord>({ id: digest<DeviceId>(), version: counter, ...rightsFields, updatedAt: height }),
)

/** The credentials of an identity; absent for none. */
export const credentialsCodec: Codec<CredentialsRecord> = leaf(
  'credentials',
  struct<CredentialsRecord>({
    id: digest<DeviceId>(),
    version: counter,
    credentials: credentialsListCodec,
    updatedAt: height,
  }),
)

const parametersKey = stateKey('parameters')

/** State keys of records used lately: every look at a record asks for its key, and several looks make a transaction. */
function rememberedKeys<Id extends string>(type: RecordType): (id: Id) => StateKey {
  const remembered = new RecentMap<Id, StateKey>(8192)
  return id => {
    const known = remembered.get(id)
    if (known !== undefined) return known
    const key = stateKey(type, id)
    remembered.set(id, key)
    return key
  }
}

/** Where a record lies in the state: hash of its type number and the id it is about. */
export const stateKeyOf = {
  identity: rememberedKeys<DeviceId>('identity'),
  group: rememberedKeys<GroupId>('group'),
  members: rememberedKeys<GroupId>('members'),
  memberships: rememberedKeys<DeviceId>('memberships'),
  grant: rememberedKeys<GrantId>('grant'),
  parameters: (): StateKey => parametersKey,
  /** By the id of the authority. */
  approval: rememberedKeys<DeviceId>('approval'),
  /** By the id of the identity. */
  rights: rememberedKeys<DeviceId>('rights'),
  /** By the id of the identity. */
  credentials: rememberedKeys<DeviceId>('credentials'),
  contract: rememberedKeys<ContractAddress>('contract'),
  /** By the contract's address. */
  contractState: rememberedKeys<ContractAddress>('contractState'),
  /** By `topicIdOf`. */
  topic: rememberedKeys<TopicId>('topic'),
  /** By `streamIdOf`. */
  reading: rememberedKeys<StreamId>('reading'),
} as const

/** Id of the group that `owner` names `name`. */
export function groupIdOf(owner: DeviceId, name: string): GroupId {
  return hashHex('mote/group/1', hexToBytes(owner), utf8ToBytes(name)) as string as GroupId
}

/** `memberRoot` of these members, which must be sorted. */
export function memberRootOf(members: readonly DeviceId[]): Hash {
  return merkleRoot(members.map(id => hexToBytes(id)))
}

/** True if `members` is the complete, sorted member list of `group`. */
export function isMemberListOf(group: GroupRecord, members: readonly DeviceId[]): boolean {
  return (
    members.length === group.memberCount &&
    members.every((id, i) => i === 0 || (members[i - 1] as DeviceId) < id) &&
    memberRootOf(members) === group.memberRoot
  )
}

/** True if the key may be used at `now`: begun, not ended, not revoked. */
export function isKeyValidAt(entry: KeyEntry, now: Milliseconds): boolean {
  return (
    entry.notBefore <= now &&
    (entry.notAfter === undefined || now < entry.notAfter) &&
    (entry.revokedAt === undefined || now < entry.revokedAt)
  )
}

/** The entry of an identity with this key id, ended or not. */
export function findKey(record: IdentityRecord, keyId: KeyId): KeyEntry | undefined {
  return record.keys.find(entry => keyIdOf(entry.key) === keyId)
}

/** The newest encryption key that is valid at `now` and can be used by who asks, which may know one suite only: the one that senders use. */
export function currentEncryptionKey(
  record: IdentityRecord,
  now: Milliseconds,
  isUsable: (key: EncryptionKey) => boolean,
): Extract<KeyEntry, { purpose: 'encrypt' }> | undefined {
  return record.keys.findLast(
    (entry): entry is Extract<KeyEntry, { purpose: 'encrypt' }> =>
      entry.purpose === 'encrypt' && isKeyValidAt(entry, now) && isUsable(entry.key),
  )
}

/** Whether a message under `epoch` of the group is accepted at `now`. */
export function isEpochAccepted(group: GroupRecord, epoch: number, now: Milliseconds): boolean {
  if (epoch === 0) return false
  if (epoch === group.epoch) return group.epochGraceUntil === undefined || now < group.epochGraceUntil
  return epoch === group.epoch - 1 && now < group.previousEpochGraceUntil
}
