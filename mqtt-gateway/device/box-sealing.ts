/**
 * Sealing a group's epoch key to its members and opening one's own box, which only a device does (docs/FORMATS.md,
 * "Group keys").
 *
 * Invariant: box and key are bound to chain, group, epoch and member.
 */
import { hexToBytes } from '@noble/hashes/utils.js'
import type { ChainId, DeviceId } from '../../chain/brands.ts'
import { domainBytes, u64be } from '../../chain/hashing.ts'
import { type EncryptionKey, keyIdOf } from '../../chain/keys.ts'
import { ok, type Result, refuse } from '../../chain/result.ts'
import { type EpochBox, type EpochName, encodeEpochBoxes, type MemberBox } from '../protocol/epoch-boxes.ts'
import type { DecryptionKey, SealContext } from './decryption-key.ts'
import { openWithKey, sealToKey } from './key-sealing.ts'

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
    const sealed = key && (await sealToKey(key, epochKey, boxContext(name, member)))
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
  return ok({ boxes: encodeEpochBoxes(group, epoch, boxes), leftOut })
}

/**
 * The epoch key in a box. The caller compares `epochKeyHash` of it with the chain: whoever re-keyed may have sealed
 * something else. Refuses `cannot-open`.
 */
export async function openMemberBox(
  chainId: ChainId,
  { group, epoch, box }: MemberBox,
  key: DecryptionKey,
): Promise<Result<Uint8Array>> {
  if (box.keyId !== keyIdOf(key.publicKey))
    return refuse('cannot-open', `box: sealed to key ${box.keyId}, which is not this device's`)
  return openWithKey(key, box, boxContext({ chainId, group, epoch }, box.member))
}

function boxContext({ chainId, group, epoch }: EpochName, member: DeviceId): SealContext {
  return {
    info: domainBytes('mote/box-info/1', hexToBytes(chainId)),
    aad: domainBytes('mote/box-aad/1', hexToBytes(group), u64be(epoch), hexToBytes(member)),
  }
}
