/**
 * Epoch keys of groups (Hsu C3, C4, C5; docs/FORMATS.md, "Group keys").
 *
 * A member makes a random key for the next epoch and seals it to every member's encryption key: the boxes. The chain
 * holds two hashes only: of the key (so a member who opens a box knows that it is the agreed one) and of all boxes
 * (so that who was left out shows afterwards). A member without a usable encryption key gets no box. The boxes travel over MQTT and are retained there.
 *
 * Invariants: boxes are sorted by member, one each; box and key are bound to chain, group and epoch.
 */
import { hexToBytes } from '@noble/hashes/utils.js'
import type { ChainId, DeviceId, GroupId, Hash, KeyId } from '../chain/brands.ts'
import { bytes, constant, decode, digest, encode, list, struct, uint } from '../chain/codec.ts'
import { domainBytes, hashHex, u64be } from '../chain/hashing.ts'
import { type EncryptionKey, keyIdOf } from '../chain/keys.ts'
import { maxGroupMembers } from '../chain/limits.ts'
import { ok, type Result, refuse } from '../chain/result.ts'
import { epochKeyBytes } from './envelope.ts'
import { encBytes, hpkeOpen, hpkeSeal, type SealContext, tagBytes } from './hpke-seal.ts'

const formatVersion = 1 as const

/** An epoch key sealed to one member. */
export interface EpochBox {
  readonly member: DeviceId
  /** The member's encryption key that it is sealed to. */
  readonly keyId: KeyId
  readonly enc: Uint8Array
  readonly ciphertext: Uint8Array
}

/** What a re-keying member publishes: all boxes of one epoch. */
export interface EpochBoxes {
  readonly version: typeof formatVersion
  readonly group: GroupId
  readonly epoch: number
  readonly boxes: readonly EpochBox[]
}

/** What the gateway retains for one member. */
export interface MemberBox {
  readonly version: typeof formatVersion
  readonly group: GroupId
  readonly epoch: number
  readonly box: EpochBox
}

const boxCodec = struct<EpochBox>({
  member: digest<DeviceId>(),
  keyId: digest<KeyId>(),
  enc: bytes(encBytes),
  ciphertext: bytes(epochKeyBytes + tagBytes),
})
const boxesCodec = struct<EpochBoxes>({
  version: constant(formatVersion),
  group: digest<GroupId>(),
  epoch: uint(0xffff_ffff),
  boxes: list(boxCodec, maxGroupMembers, 1),
})
const memberBoxCodec = struct<MemberBox>({
  version: constant(formatVersion),
  group: digest<GroupId>(),
  epoch: uint(0xffff_ffff),
  box: boxCodec,
})

/** Largest encoded `EpochBoxes`: 256 KiB. */
export const maxBoxesBytes = 256 * 1024
const maxMemberBoxBytes = 512

/** Which epoch of which group on which chain. */
export interface EpochName {
  readonly chainId: ChainId
  readonly group: GroupId
  readonly epoch: number
}

/** The chain's `epochKeyHash`. */
export function epochKeyHash({ chainId, group, epoch }: EpochName, epochKey: Uint8Array): Hash {
  return hashHex('mote/epoch-key/1', hexToBytes(chainId), hexToBytes(group), u64be(epoch), epochKey)
}

/** The chain's `boxesHash`: over the encoded `EpochBoxes`. */
export function boxesHash(encodedBoxes: Uint8Array): Hash {
  return hashHex('mote/boxes/1', encodedBoxes)
}

/** A member and the encryption key that the chain holds for it, if it holds one. */
export interface Member {
  readonly id: DeviceId
  readonly key: EncryptionKey | undefined
}

/** A member that gets no box, and why. */
export interface LeftOut {
  readonly member: DeviceId
  readonly reason: string
}

/** Boxes as they are published, and who is in none of them. */
export interface SealedEpoch {
  /** Encoded `EpochBoxes`. */
  readonly boxes: Uint8Array
  readonly leftOut: readonly LeftOut[]
}

/**
 * Seals `epochKey` to every member that has a key to seal to: one that has none cannot keep the others from a new key. Refuses
 * `key-not-usable` if nobody has one.
 */
export async function sealEpochKey(
  name: EpochName,
  epochKey: Uint8Array,
  members: readonly Member[],
): Promise<Result<SealedEpoch>> {
  const boxes: EpochBox[] = []
  const leftOut: LeftOut[] = []
  for (const { id: member, key } of members.toSorted((a, b) => (a.id < b.id ? -1 : 1))) {
    const sealed = key && (await hpkeSeal(key, epochKey, boxContext(name, member)))
    if (sealed?.ok) boxes.push({ member, keyId: keyIdOf(key as EncryptionKey), ...sealed.value })
    else
      leftOut.push({
        member,
        reason: sealed?.error.detail ?? 'key: expected a valid encryption key to seal to, got none',
      })
  }
  const { group, epoch } = name
  if (boxes.length === 0)
    return refuse('key-not-usable', `group ${group}: no member has an encryption key that can be sealed to`)
  return ok({ boxes: encode(boxesCodec, { version: formatVersion, group, epoch, boxes }), leftOut })
}

/** Reads published boxes from hostile bytes. Refuses `too-large`, `malformed`. */
export function parseEpochBoxes(wire: Uint8Array): Result<EpochBoxes> {
  const parsed = decode(boxesCodec, wire, maxBoxesBytes)
  if (!parsed.ok) return parsed
  const { boxes } = parsed.value
  for (const [i, { member }] of boxes.entries()) {
    const before = boxes[i - 1]
    if (before && before.member >= member)
      return refuse('malformed', `boxes[${i}].member: expected members in ascending order`)
  }
  return parsed
}

/** The retained message for each member of one epoch. */
export function memberBoxes({
  group,
  epoch,
  boxes,
}: EpochBoxes): { member: DeviceId; payload: Uint8Array }[] {
  return boxes.map(box => ({
    member: box.member,
    payload: encode(memberBoxCodec, { version: formatVersion, group, epoch, box }),
  }))
}

/** Reads one retained box. Refuses `too-large`, `malformed`. */
export function parseMemberBox(wire: Uint8Array): Result<MemberBox> {
  return decode(memberBoxCodec, wire, maxMemberBoxBytes)
}

/**
 * The epoch key in a box. The caller compares `epochKeyHash` of it with the chain: whoever re-keyed may have sealed
 * something else. Refuses `cannot-open`.
 */
export async function openMemberBox(
  chainId: ChainId,
  { group, epoch, box }: MemberBox,
  secret: Uint8Array,
): Promise<Result<Uint8Array>> {
  return hpkeOpen(secret, box, boxContext({ chainId, group, epoch }, box.member))
}

function boxContext({ chainId, group, epoch }: EpochName, member: DeviceId): SealContext {
  return {
    info: domainBytes('mote/boxes/1', hexToBytes(chainId)),
    aad: domainBytes('mote/boxes/1', hexToBytes(group), u64be(epoch), hexToBytes(member)),
  }
}
