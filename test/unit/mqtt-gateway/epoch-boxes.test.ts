/** Epoch keys: each member opens its own box and no other (Hsu C4). */
import fc from 'fast-check'
import { expect, test } from 'vitest'
import type { ChainId, DeviceId, GroupId } from '../../../chain/brands.ts'
import { x25519PublicKey } from '../../../chain/noble-crypto.ts'
import { unwrap } from '../../../chain/result.ts'
import { type Member, openMemberBox, sealEpochKey } from '../../../mqtt-gateway/device/box-sealing.ts'
import {
  boxesHash,
  epochKeyHash,
  memberBoxes,
  parseEpochBoxes,
  parseMemberBox,
} from '../../../mqtt-gateway/protocol/epoch-boxes.ts'

const chainId = '11'.repeat(32) as ChainId
const name = { chainId, group: '22'.repeat(32) as GroupId, epoch: 3 }
const secrets = [5, 6, 7].map(n => new Uint8Array(32).fill(n))
const members: Member[] = secrets.map((secret, i) => ({
  id: `${9 - i}`.repeat(64) as DeviceId,
  key: { suite: 'x25519', bytes: x25519PublicKey(secret) },
}))
const epochKey = new Uint8Array(32).fill(42)
const secretOf = (member: DeviceId): Uint8Array => secrets[members.findIndex(({ id }) => id === member)]!

test('group keys: every member opens its box, and nobody another one', async () => {
  const boxes = memberBoxes(
    unwrap(parseEpochBoxes(unwrap(await sealEpochKey(name, epochKey, members)).boxes)),
  )
  expect(boxes.map(({ member }) => member)).toEqual(members.map(({ id }) => id).toSorted())
  for (const { member, payload } of boxes) {
    const box = unwrap(parseMemberBox(payload))
    for (const { id } of members) {
      const opened = await openMemberBox(chainId, box, secretOf(id))
      expect(opened.ok).toBe(id === member)
      if (opened.ok) expect(opened.value).toEqual(epochKey)
    }
  }
})

test('group keys: a box does not open for another epoch, group, member or chain', async () => {
  const boxes = unwrap(parseEpochBoxes(unwrap(await sealEpochKey(name, epochKey, members)).boxes))
  const box = unwrap(parseMemberBox(memberBoxes(boxes)[0]!.payload))
  const secret = secretOf(box.box.member)
  const opens = async (changed: typeof box, chain = chainId) =>
    (await openMemberBox(chain, changed, secret)).ok
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
  ['is of another suite', { suite: 'p256-ecdh', bytes: new Uint8Array(33) }],
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

test('group keys: hostile bytes are a typed refusal, never a throw (fuzz)', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 300 }), bytes => {
      expect(parseEpochBoxes(bytes).ok).toBe(false)
      expect(parseMemberBox(bytes).ok).toBe(false)
    }),
  )
})
