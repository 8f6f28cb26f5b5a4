/** Epoch keys: each member opens its own box and no other (Hsu C4). */
import fc from 'fast-check'
import { expect, test } from 'vitest'
import type { ChainId, DeviceId, GroupId, KeyId } from '../../../chain/brands.ts'
import { encryptionSuites } from '../../../chain/keys.ts'
import { maxGroupMembers } from '../../../chain/limits.ts'
import { unwrap } from '../../../chain/result.ts'
import { type Member, openMemberBox, sealEpochKey } from '../../../mqtt-gateway/device/box-sealing.ts'
import {
  boxesHash,
  encodeEpochBoxes,
  epochKeyHash,
  memberBoxes,
  parseEpochBoxes,
  parseMemberBox,
} from '../../../mqtt-gateway/protocol/epoch-boxes.ts'
import { decryptionKey } from '../../support/device-keys.ts'

const chainId = '11'.repeat(32) as ChainId
const name = { chainId, group: '22'.repeat(32) as GroupId, epoch: 3 }
/** One member of each suite. */
const keyPairs = encryptionSuites.map((suite, i) => decryptionKey(suite, 5 + i))
const members: Member[] = keyPairs.map(({ publicKey }, i) => ({
  id: `${9 - i}`.repeat(64) as DeviceId,
  key: publicKey,
}))
const epochKey = new Uint8Array(32).fill(42)
const keyOf = (member: DeviceId) => keyPairs[members.findIndex(({ id }) => id === member)]!

test('group keys: every member opens its box, and nobody another one', async () => {
  const boxes = memberBoxes(
    unwrap(parseEpochBoxes(unwrap(await sealEpochKey(name, epochKey, members)).boxes)),
  )
  expect(boxes.map(({ member }) => member)).toEqual(members.map(({ id }) => id).toSorted())
  for (const { member, payload } of boxes) {
    const box = unwrap(parseMemberBox(payload))
    for (const { id } of members) {
      const opened = await openMemberBox(chainId, box, keyOf(id))
      expect(opened.ok).toBe(id === member)
      if (opened.ok) expect(opened.value).toEqual(epochKey)
    }
  }
})

test('group keys: a box does not open for another epoch, group, member or chain', async () => {
  const boxes = unwrap(parseEpochBoxes(unwrap(await sealEpochKey(name, epochKey, members)).boxes))
  const box = unwrap(parseMemberBox(memberBoxes(boxes)[0]!.payload))
  const key = keyOf(box.box.member)
  const opens = async (changed: typeof box, chain = chainId) => (await openMemberBox(chain, changed, key)).ok
  expect(await opens(box)).toBe(true)
  expect(await opens({ ...box, epoch: 4 })).toBe(false)
  expect(await opens({ ...box, group: '23'.repeat(32) as GroupId })).toBe(false)
  expect(await opens({ ...box, box: { ...box.box, member: members[1]!.id } })).toBe(false)
  expect(await opens(box, '12'.repeat(32) as ChainId)).toBe(false)
})

test('group keys: the hashes on the chain name chain, group, epoch, key and every box', async () => {
  const hash = epochKeyHash(name, epochKey)
  expect(epochKeyHash({ ...name, epoch: 4 }, epochKey)).not.toBe(hash)
  expect(epochKeyHash({ ...name, group: '23'.repeat(32) as GroupId }, epochKey)).not.toBe(hash)
  expect(epochKeyHash({ ...name, chainId: '12'.repeat(32) as ChainId }, epochKey)).not.toBe(hash)
  const boxes = unwrap(await sealEpochKey(name, epochKey, members)).boxes
  const fewer = unwrap(await sealEpochKey(name, epochKey, members.slice(1))).boxes
  expect(boxesHash(fewer)).not.toBe(boxesHash(boxes))
})

test.each<[string, Member['key']]>([
  ['is no point', { suite: 'p256-ecdh', bytes: new Uint8Array(33) }],
  ['is of small order', { suite: 'x25519', bytes: new Uint8Array(32).with(0, 1) }],
  ['is not there', undefined],
])('group keys: a member whose key %s is left out and named, and the others get the key', async (_, key) => {
  const broken: Member = { id: members[0]!.id, key }
  const others = members.slice(1)
  const sealed = unwrap(await sealEpochKey(name, epochKey, [broken, ...others]))
  expect(sealed.leftOut).toEqual([{ member: broken.id, reason: expect.stringMatching(/^key: /) }])
  const boxes = memberBoxes(unwrap(parseEpochBoxes(sealed.boxes)))
  expect(boxes.map(({ member }) => member)).toEqual(others.map(({ id }) => id).toSorted())
  expect(await sealEpochKey(name, epochKey, [broken])).toMatchObject({ error: { code: 'key-not-usable' } })
})

test('group keys: boxes that repeat a member or are out of order are malformed', async () => {
  const twice = unwrap(await sealEpochKey(name, epochKey, [members[0]!, members[0]!])).boxes
  expect(parseEpochBoxes(twice)).toMatchObject({ ok: false, error: { code: 'malformed' } })
})

test('group keys: boxes of the largest group, each sealed to an RSA key of 3,072 bits, are within the limit', () => {
  const box = { keyId: 'ee'.repeat(32) as KeyId, enc: new Uint8Array(384), ciphertext: new Uint8Array(48) }
  const boxes = Array.from({ length: maxGroupMembers }, (_, i) => ({
    ...box,
    member: i.toString(16).padStart(64, '0') as DeviceId,
  }))
  const encoded = encodeEpochBoxes(name.group, 0xffff_ffff, boxes)
  const [first] = memberBoxes(unwrap(parseEpochBoxes(encoded)))
  expect(unwrap(parseMemberBox(first!.payload)).box.enc).toHaveLength(384)
})

test('group keys: hostile bytes are a typed refusal, never a throw (fuzz)', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 300 }), bytes => {
      expect(parseEpochBoxes(bytes).ok).toBe(false)
      expect(parseMemberBox(bytes).ok).toBe(false)
    }),
  )
})
