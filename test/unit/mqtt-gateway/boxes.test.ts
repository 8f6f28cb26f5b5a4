/** Which epoch boxes the gateway retains: those that the chain names, from a member (Hsu C3, C5). */
import { beforeEach, expect, test } from 'vitest'
import type { DeviceId, GroupId } from '../../../chain/brands.ts'
import { unwrap } from '../../../chain/result.ts'
import { makeKeys } from '../../../client/key-directory.ts'
import { sealEpochKey } from '../../../mqtt-gateway/device/box-sealing.ts'
import { boxesHash, epochKeyHash, parseEpochBoxes } from '../../../mqtt-gateway/protocol/epoch-boxes.ts'
import { topics } from '../../../mqtt-gateway/protocol/topics.ts'
import { acceptBoxes, memberBoxMessages, memoryBoxStore } from '../../../mqtt-gateway/server/boxes.ts'
import type { OutgoingMessage } from '../../../mqtt-gateway/server/broker.ts'
import { RetainedBoxes } from '../../../mqtt-gateway/server/retained-boxes.ts'
import { MemoryTrust } from '../../support/memory-trust.ts'

const [owner, member, stranger] = ['owner', 'member', 'stranger'].map(name => makeKeys(name)) as [
  ReturnType<typeof makeKeys>,
  ReturnType<typeof makeKeys>,
  ReturnType<typeof makeKeys>,
]
const epochKey = new Uint8Array(32).fill(5)

let trust: MemoryTrust
let group: GroupId
beforeEach(() => {
  trust = new MemoryTrust()
  for (const keys of [owner, member, stranger]) trust.register(keys)
  group = trust.createGroup(owner.id, 'valves')
  trust.changeMembers(group, { add: [member.id] })
})

async function seal(epoch: number, key = epochKey): Promise<Uint8Array> {
  const members = [owner, member].map(({ id, encryption }) => ({ id, key: encryption.publicKey }))
  return unwrap(await sealEpochKey({ chainId: trust.chainId, group, epoch }, key, members)).boxes
}

async function record(boxes: Uint8Array): Promise<void> {
  const current = (await trust.group(group)).value!
  const name = { chainId: trust.chainId, group, epoch: current.record.epoch + 1 }
  const hashes = { epochKeyHash: epochKeyHash(name, epochKey), boxesHash: boxesHash(boxes) }
  await trust.rekey({ group: current, ...hashes })
}

async function outcome(payload: Uint8Array, publisher: DeviceId = owner.id, into = group): Promise<string> {
  const accepted = await acceptBoxes({ trust, publisher, group: into, payload, catchUpMs: 50 })
  return accepted.ok ? 'accepted' : accepted.error.code
}

test('boxes: those that the chain names are accepted from any member', async () => {
  const boxes = await seal(1)
  await record(boxes)
  expect(await outcome(boxes)).toBe('accepted')
  expect(await outcome(boxes, member.id)).toBe('accepted')
})

test('boxes: refused from who is no member, though the chain names them', async () => {
  const boxes = await seal(1)
  await record(boxes)
  expect(await outcome(boxes, stranger.id)).toBe('not-member')
})

test('boxes: refused if the chain names others, of this epoch or of a later one', async () => {
  const boxes = await seal(1)
  const others = await seal(1)
  await record(others)
  expect(await outcome(boxes)).toBe('epoch-conflict')
  expect(await outcome(others)).toBe('accepted')
  await record(await seal(2))
  expect(await outcome(others)).toBe('epoch-conflict')
})

test('boxes: wait for the header that names them, and no longer than they may', async () => {
  const boxes = await seal(1)
  const waiting = acceptBoxes({ trust, publisher: owner.id, group, payload: boxes, catchUpMs: 5_000 })
  trust.heartbeat()
  await record(boxes)
  expect((await waiting).ok).toBe(true)
  expect(await outcome(await seal(2))).toBe('epoch-conflict')
})

test('boxes: refused under the topic of another group, and for an unknown one', async () => {
  const boxes = await seal(1)
  await record(boxes)
  const other = trust.createGroup(owner.id, 'other')
  expect(await outcome(boxes, owner.id, other)).toBe('malformed')
  const unknown = 'ee'.repeat(32) as GroupId
  const members = [{ id: owner.id, key: owner.encryption.publicKey }]
  const name = { chainId: trust.chainId, group: unknown, epoch: 1 }
  const foreign = unwrap(await sealEpochKey(name, epochKey, members)).boxes
  expect(await outcome(foreign, owner.id, unknown)).toBe('unknown-subject')
})

test('boxes: who was removed while the gateway was away finds its box gone at a broker that has kept it', async () => {
  const wire = await seal(1)
  await record(wire)
  const store = memoryBoxStore()
  await store.put(unwrap(parseEpochBoxes(wire)), wire)
  trust.changeMembers(group, { remove: [member.id] })
  const sizes = new Map<string, number>()
  const broker = {
    publish: async ({ topicName, payload }: OutgoingMessage) => void sizes.set(topicName, payload.length),
  }
  expect(await new RetainedBoxes(trust, store, broker).settled()).toBe(true)
  expect(sizes.get(topics.box(group, member.id))).toBe(0)
  expect(sizes.get(topics.box(group, owner.id))).toBeGreaterThan(0)
})

test('boxes: who has left the group finds its box gone', async () => {
  const before = unwrap(parseEpochBoxes(await seal(1)))
  const alone = [{ id: owner.id, key: owner.encryption.publicKey }]
  const name = { chainId: trust.chainId, group, epoch: 2 }
  const now = unwrap(parseEpochBoxes(unwrap(await sealEpochKey(name, epochKey, alone)).boxes))
  const messages = memberBoxMessages(now, before)
  const sizeOf = (id: DeviceId) =>
    messages.find(({ topicName }) => topicName === topics.box(group, id))?.payload.length
  expect(messages).toHaveLength(2)
  expect(sizeOf(member.id)).toBe(0)
  expect(sizeOf(owner.id)).toBeGreaterThan(0)
})
