/**
 * What a transaction can say about groups and open topics: its variants, their numbers on the wire, and their codecs
 * (docs/FORMATS.md, "Transactions").
 */
import type { DeviceId, GroupId, Hash } from './brands.ts'
import { type Codec, digest, list, optional, struct, text, uint } from './codec.ts'
import { maxMembersPerTransaction } from './limits.ts'
import { type TopicOpening, topicKeyCodec, topicOpeningCodec } from './open-topics.ts'

/** Makes a group whose owner and first member is the signer; with `topic` an open topic, which has no epoch key before its boxes. */
export interface GroupCreateBody {
  readonly type: 'group.create'
  readonly name: string
  /** Hash of the first epoch key, if there is one already. */
  readonly epochKeyHash: Hash | undefined
  readonly topic?: TopicOpening | undefined
}
interface MembershipEdit {
  readonly group: GroupId
  /** Of the group as the signer saw it: what moves it is only what the signer judged by, and no re-key of a member. */
  readonly membershipVersion: number
  /** Strictly ascending. */
  readonly members: readonly DeviceId[]
}
export interface GroupAddBody extends MembershipEdit {
  readonly type: 'group.add'
}
export interface GroupRemoveBody extends MembershipEdit {
  readonly type: 'group.remove'
}
/** Compare-and-set: sets epoch + 1 if membership version and epoch are still these. `topicKey`: X25519, 32 bytes, for an open topic only. */
export interface GroupRekeyBody {
  readonly type: 'group.rekey'
  readonly group: GroupId
  readonly membershipVersion: number
  readonly epoch: number
  readonly epochKeyHash: Hash
  /** Hash over the epoch key sealed to each member (Hsu C5). */
  readonly boxesHash: Hash
  readonly topicKey?: Uint8Array | undefined
}

/** An authority gives a group to another of its members: when the owner is revoked, say. */
export interface GroupOwnerBody {
  readonly type: 'group.owner'
  readonly group: GroupId
  /** Who owns it now. Named instead of a version, which every edit by the owner would raise. */
  readonly from: DeviceId
  readonly owner: DeviceId
}

export type GroupBody = GroupCreateBody | GroupAddBody | GroupRemoveBody | GroupRekeyBody | GroupOwnerBody

/** Groups are named in lower-case letters, digits and hyphens; 1 to 32 characters. */
export const groupNameCodec: Codec<string> = text(32, /^[a-z0-9-]{1,32}$/)
const versionCodec = uint(0xffff_ffff)
const membershipEdit = {
  group: digest<GroupId>(),
  membershipVersion: versionCodec,
  members: list(digest<DeviceId>(), maxMembersPerTransaction, 1),
}

type Fields<K extends GroupBody['type']> = Omit<Extract<GroupBody, { type: K }>, 'type'>

/** Number and codec of the fields, by kind. */
export const groupBodies: {
  readonly [K in GroupBody['type']]: readonly [kind: number, fields: Codec<Fields<K>>]
} = {
  'group.create': [
    32,
    struct<Fields<'group.create'>>({
      name: groupNameCodec,
      epochKeyHash: optional(digest<Hash>()),
      topic: optional(topicOpeningCodec),
    }),
  ],
  'group.add': [33, struct<Fields<'group.add'>>(membershipEdit)],
  'group.remove': [34, struct<Fields<'group.remove'>>(membershipEdit)],
  'group.rekey': [
    35,
    struct<Fields<'group.rekey'>>({
      group: digest<GroupId>(),
      membershipVersion: versionCodec,
      epoch: versionCodec,
      epochKeyHash: digest<Hash>(),
      boxesHash: digest<Hash>(),
      topicKey: optional(topicKeyCodec),
    }),
  ],
  'group.owner': [
    36,
    struct<Fields<'group.owner'>>({
      group: digest<GroupId>(),
      from: digest<DeviceId>(),
      owner: digest<DeviceId>(),
    }),
  ],
}
