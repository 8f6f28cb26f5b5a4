/**
 * Epoch keys of groups (Hsu C3, C4, C5; docs/FORMATS.md, "Group keys").
 *
 * A member makes a random key for the next epoch and seals it to every member's encryption key: the boxes. The chain
 * holds two hashes only: of the key (so a member who opens a box knows that it is the agreed one) and of all boxes
 * (so that who was left out shows afterwards). A member without a usable encryption key gets no box. The boxes travel
 * over MQTT and are retained there. This is their format; a device makes and opens them (box-sealing.ts).
 *
 * Invariant: boxes are sorted by member, one each.
 */
import { hexToBytes } from '@noble/hashes/utils.js'
import type { ChainId, DeviceId, GroupId, Hash, KeyId } from '../../chain/brands.ts'
import { bytes, constant, decode, digest, encode, list, struct, uint } from '../../chain/codec.ts'
import { hashHex, u64be } from '../../chain/hashing.ts'
import { maxGroupMembers } from '../../chain/limits.ts'
import { type Result, refuse } from '../../chain/result.ts'
import { epochKeyBytes, maxEncBytes, type Sealed, tagBytes } from './envelope.ts'

const formatVersion = 1 as const

/** An epoch key sealed to one member. */
export interface EpochBox extends Sealed {
  readonly member: DeviceId
  /** The member's encryption key that it is sealed to. */
  readonly keyId: KeyId
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
  enc: bytes(1, maxEncBytes),
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

/** Largest encoded `EpochBoxes`: 640 KiB, room for `maxGroupMembers` RSA keys of 3,072 bits. */
export const maxBoxesBytes = 640 * 1024
/** Largest encoded `MemberBox`. */
export const maxMemberBoxBytes = 1024

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

/** Boxes as they are published. The caller has sorted them by member. */
export function encodeEpochBoxes(group: GroupId, epoch: number, boxes: readonly EpochBox[]): Uint8Array {
  return encode(boxesCodec, { version: formatVersion, group, epoch, boxes })
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
