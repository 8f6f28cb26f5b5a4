/** Who gives a group a new epoch when its membership has changed: the members that are online, one after another. */
import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import type { DeviceId, GroupId, Hash } from '../../../chain/brands.ts'
import { MoteError } from '../../../chain/result.ts'
import { makeKeys } from '../../../client/key-directory.ts'
import { needsEpoch } from '../../../mqtt-gateway/device/agent-epochs.ts'
import { EpochKeeper } from '../../../mqtt-gateway/device/epoch-keeper.ts'
import type { TrustedGroup } from '../../../mqtt-gateway/protocol/trust.ts'
import { MemoryTrust } from '../../support/memory-trust.ts'

const topicKey = makeKeys('topic').encryption.publicKey.bytes
const hash = 'ee'.repeat(32) as Hash
const members = ['a', 'b', 'c', 'd'].map(name => makeKeys(name)).toSorted((a, b) => (a.id < b.id ? -1 : 1))
const ids = members.map(({ id }) => id) as [DeviceId, DeviceId, DeviceId, DeviceId]

let trust: MemoryTrust
let group: GroupId
let made: DeviceId[]
let failures: string[]
/** Who has the key of the epoch. */
let known: Map<DeviceId, Uint8Array>
/** Whose box is sealed to a key that it has no more. */
let sealedToAnother: Set<DeviceId>
let tellSealed: Map<DeviceId, (id: GroupId) => void>
const keepers: EpochKeeper[] = []

beforeEach(() => {
  vi.useFakeTimers()
  trust = new MemoryTrust()
  for (const keys of members) trust.register(keys)
  group = trust.createGroup(ids[0], 'fleet')
  trust.changeMembers(group, { add: ids.slice(1) })
  made = []
  failures = []
  known = new Map()
  sealedToAnother = new Set()
  tellSealed = new Map()
})
afterEach(() => {
  for (const keeper of keepers.splice(0)) keeper.stop()
  vi.useRealTimers()
})

/** A member that is online. */
async function online(
  device: DeviceId,
  rekey = (value: TrustedGroup) => epochBy(device, value),
): Promise<EpochKeeper> {
  const epochs = {
    ensureEpoch: async (value: TrustedGroup) => (needsEpoch(value) ? rekey(value) : value),
    key: async () => known.get(device),
    rekey: async (id: GroupId) => rekey((await trust.group(id)).value!),
    isSealedToAnother: () => sealedToAnother.has(device),
    onSealedToAnother: (listener: (id: GroupId) => void) => void tellSealed.set(device, listener),
  }
  const onFailure = (_: GroupId, { code }: { readonly code: string }) => void failures.push(code)
  const keeper = new EpochKeeper({ device, chain: trust, epochs, onFailure })
  keepers.push(keeper)
  await keeper.start()
  return keeper
}

async function epochBy(device: DeviceId, value: TrustedGroup): Promise<TrustedGroup> {
  made.push(device)
  return trust.rekey({ group: value, epochKeyHash: hash, boxesHash: hash, topicKey })
}

const pass = (ms: number) => vi.advanceTimersByTimeAsync(ms)

test('epoch keeper: the first member makes the epoch a second after the change, and the others leave it', async () => {
  for (const id of ids) await online(id)
  await pass(999)
  expect(made).toEqual([])
  await pass(1)
  expect(made).toEqual([ids[0]])
  await pass(10_000)
  expect(made).toEqual([ids[0]])
  trust.changeMembers(group, { remove: [ids[0]] })
  await pass(10_000)
  expect(made, 'the first of those that stay').toEqual([ids[0], ids[1]])
})

test('epoch keeper: where earlier ones are away, the next one that is online makes it in its own second', async () => {
  await online(ids[2])
  await online(ids[3])
  await pass(2_999)
  expect(made).toEqual([])
  await pass(1)
  expect(made).toEqual([ids[2]])
})

test('epoch keeper: nothing is made where somebody else was faster, or for a group it has left', async () => {
  await online(ids[0])
  await online(ids[3])
  await trust.rekey({ group: (await trust.group(group)).value!, epochKeyHash: hash, boxesHash: hash })
  trust.changeMembers(group, { remove: [ids[0]] })
  await trust.rekey({ group: (await trust.group(group)).value!, epochKeyHash: hash, boxesHash: hash })
  await pass(10_000)
  expect(made).toEqual([])
})

test('epoch keeper: a member that is added takes its turns too', async () => {
  const late = trust.createGroup(ids[3], 'late')
  await trust.rekey({ group: (await trust.group(late)).value!, epochKeyHash: hash, boxesHash: hash })
  await trust.rekey({ group: (await trust.group(group)).value!, epochKeyHash: hash, boxesHash: hash })
  await online(ids[0])
  trust.changeMembers(late, { add: [ids[0]] })
  await pass(1_000)
  expect(made).toEqual([ids[0]])
})

test('epoch keeper: another change moves the turn, and one that fails says why', async () => {
  await online(ids[0], async () => {
    throw new MoteError('unreachable', 'no full node')
  })
  await pass(900)
  trust.changeMembers(group, { remove: [ids[3]] })
  await pass(900)
  expect(failures).toEqual([])
  await pass(100)
  expect(failures).toEqual(['unreachable'])
})

test('epoch keeper: out of reach of the chain when it starts, it looks with the next block', async () => {
  trust.reachable = false
  await online(ids[0])
  trust.reachable = true
  trust.heartbeat()
  await pass(1_000)
  expect(made).toEqual([ids[0]])
})

test('epoch keeper: one that has stopped takes no turn', async () => {
  const keeper = await online(ids[0])
  keeper.stop()
  trust.changeMembers(group, { remove: [ids[3]] })
  await pass(10_000)
  expect(made).toEqual([])
})

/** An open topic, or a group, whose epoch some member has made and whose boxes have not come. */
async function withoutBoxes(topic?: { readonly publishers: undefined }): Promise<GroupId> {
  await trust.rekey({ group: (await trust.group(group)).value!, epochKeyHash: hash, boxesHash: hash })
  const other = trust.createGroup(ids[3], 'reports', topic)
  trust.changeMembers(other, { add: ids.slice(0, 2) })
  await trust.rekey({
    group: (await trust.group(other)).value!,
    epochKeyHash: hash,
    boxesHash: hash,
    topicKey,
  })
  return other
}

test('epoch keeper: the key of an open topic that does not come, or does not fit, is replaced: five seconds, then by turns, once for a membership', async () => {
  const topic = await withoutBoxes({ publishers: undefined })
  for (const id of ids) await online(id)
  await pass(5_999)
  expect(made).toEqual([])
  await pass(1)
  expect(made, 'the first one of those that lack it').toEqual([ids[0]])
  await pass(60_000)
  const once = [ids[0], ids[1], ids[3]]
  expect(made.toSorted(), 'and who never gets one does not go on').toEqual(once.toSorted())
  trust.changeMembers(topic, { remove: [ids[1]] })
  await pass(1_000)
  expect(made.length, 'a change is answered at once').toBe(4)
})

test('epoch keeper: an open topic whose key this member has stays as it is', async () => {
  await withoutBoxes({ publishers: undefined })
  for (const id of ids) known.set(id, topicKey)
  for (const id of ids) await online(id)
  await pass(60_000)
  expect(made).toEqual([])
})

test('epoch keeper: a group whose key does not come waits for who sends next', async () => {
  await withoutBoxes()
  for (const id of ids) await online(id)
  await pass(60_000)
  expect(made).toEqual([])
})

test('epoch keeper: a member whose box is sealed to a key that it has no more makes another epoch, once for a membership', async () => {
  const other = await withoutBoxes()
  for (const id of ids) await online(id)
  sealedToAnother.add(ids[1])
  tellSealed.get(ids[1])!(other)
  // The first and the second member of this group come before the third.
  await pass(5_000 + 2_000)
  expect(made).toEqual([ids[1]])
  tellSealed.get(ids[1])!(other)
  await pass(60_000)
  expect(made).toEqual([ids[1]])
})
