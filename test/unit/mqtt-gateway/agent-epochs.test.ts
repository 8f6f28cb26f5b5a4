/** A box whose key is not taken is never passed over in silence: one refusal each, without any secret in it. */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import type { Milliseconds } from '../../../chain/brands.ts'
import type { EncryptionKey } from '../../../chain/keys.ts'
import { keyIdOf } from '../../../chain/keys.ts'
import { type MoteError, type Refusal, unwrap } from '../../../chain/result.ts'
import { makeKeys } from '../../../client/key-directory.ts'
import { EpochKeys } from '../../../mqtt-gateway/device/agent-epochs.ts'
import { sealEpochKey } from '../../../mqtt-gateway/device/box-sealing.ts'
import { DecryptionKeys } from '../../../mqtt-gateway/device/decryption-key.ts'
import { DeviceState } from '../../../mqtt-gateway/device/device-state.ts'
import type { MqttConnection, ReceivedMessage } from '../../../mqtt-gateway/device/mqtt-connection.ts'
import { topicPairOf } from '../../../mqtt-gateway/device/topic-keys.ts'
import type { VerdictInbox } from '../../../mqtt-gateway/device/verdict-inbox.ts'
import {
  boxesHash,
  epochKeyHash,
  memberBoxes,
  parseEpochBoxes,
} from '../../../mqtt-gateway/protocol/epoch-boxes.ts'
import { topics } from '../../../mqtt-gateway/protocol/topics.ts'
import { MemoryTrust } from '../../support/memory-trust.ts'

const [alice, bob] = [makeKeys('alice'), makeKeys('bob')]
const epochKey = new Uint8Array(32).fill(0xa7)

let trust: MemoryTrust
let directory: string
let epochs: EpochKeys
let refusals: Refusal[]
let leftOut: unknown[][]
let published: ReceivedMessage[]
let deliver: (message: ReceivedMessage) => void

beforeEach(async () => {
  trust = new MemoryTrust()
  for (const keys of [alice, bob]) trust.register(keys)
  directory = await mkdtemp(join(tmpdir(), 'mote-epochs-'))
  refusals = []
  leftOut = []
  published = []
  const connection = {
    publishUntil: (_: unknown, topicName: string, payload: Uint8Array) =>
      published.push({ topicName, payload }),
    onMessage: (take: typeof deliver) => {
      deliver = take
    },
    subscribe: async () => {},
  }
  epochs = new EpochKeys({
    device: bob.id,
    decryptionKeys: new DecryptionKeys(bob),
    chain: trust,
    state: await DeviceState.open(directory),
    connection: connection as unknown as MqttConnection,
    verdicts: { expect: async () => ({ verdict: 'Check' }) } as unknown as VerdictInbox,
    onBoxRefused: refusal => refusals.push(refusal),
    onLeftOut: (...what) => leftOut.push(what),
  })
})
afterEach(() => rm(directory, { recursive: true }))

/** The group at epoch 1 on the chain, and boxes with `sealed` as its key. */
async function boxesOf(sealed: Uint8Array, epoch = 1) {
  const group = trust.createGroup(alice.id, 'fleet')
  trust.changeMembers(group, { add: [bob.id] })
  const name = { chainId: trust.chainId, group, epoch }
  const members = [alice, bob].map(({ id, encryption }) => ({ id, key: encryption.publicKey }))
  const bytes = unwrap(await sealEpochKey(name, sealed, members)).boxes
  const { value } = await trust.group(group)
  const hashes = { epochKeyHash: epochKeyHash({ ...name, epoch: 1 }, epochKey), boxesHash: boxesHash(bytes) }
  await trust.rekey({ group: value!, ...hashes })
  const boxOf = (member: string) =>
    memberBoxes(unwrap(parseEpochBoxes(bytes))).find(box => box.member === member)!.payload
  return { group, boxOf, topicName: topics.box(group, bob.id) }
}

async function refusedWith(message: ReceivedMessage): Promise<Refusal> {
  deliver(message)
  while (refusals.length === 0) await new Promise<void>(resolve => setImmediate(resolve))
  expect(refusals).toHaveLength(1)
  expect(JSON.stringify(refusals)).not.toContain('a7a7')
  return refusals[0]!
}

test('epoch boxes: the key in a sound box is taken, and nothing is said', async () => {
  const { group, boxOf, topicName } = await boxesOf(epochKey)
  const key = epochs.key(group, 1, 5_000)
  deliver({ topicName, payload: boxOf(bob.id) })
  expect(await key).toEqual(epochKey)
  deliver({ topicName, payload: new Uint8Array(0) })
  expect(refusals).toEqual([])
})

test('epoch boxes: one that does not open, or holds another key, is refused with the reason', async () => {
  const { boxOf, topicName } = await boxesOf(epochKey)
  const payload = Uint8Array.from(boxOf(bob.id))
  payload[payload.length - 1]! ^= 1
  expect(await refusedWith({ topicName, payload })).toMatchObject({
    code: 'cannot-open',
    detail: expect.stringMatching(/^box of group [0-9a-f]{64}, epoch 1: /),
  })
})

test('epoch boxes: one with a key that the chain does not confirm', async () => {
  const { boxOf, topicName } = await boxesOf(new Uint8Array(32).fill(1))
  const refusal = await refusedWith({ topicName, payload: boxOf(bob.id) })
  expect(refusal).toMatchObject({ code: 'cannot-open', detail: expect.stringContaining('hash') })
})

test('epoch boxes: one of an epoch that the chain does not have', async () => {
  const { boxOf, topicName } = await boxesOf(epochKey, 2)
  expect(await refusedWith({ topicName, payload: boxOf(bob.id) })).toMatchObject({ code: 'epoch-mismatch' })
})

test('epoch boxes: one for another member, and bytes that are none', async () => {
  const { boxOf, topicName } = await boxesOf(epochKey)
  expect(await refusedWith({ topicName, payload: boxOf(alice.id) })).toMatchObject({ code: 'malformed' })
  refusals = []
  expect(await refusedWith({ topicName, payload: Uint8Array.of(1, 2) })).toMatchObject({ code: 'malformed' })
})

test('epoch boxes: one that is sealed as the chain does not allow', async () => {
  const { boxOf, topicName } = await boxesOf(epochKey)
  trust.suites = ['rsa-oaep-sha256-aes256gcm']
  expect(await refusedWith({ topicName, payload: boxOf(bob.id) })).toMatchObject({
    code: 'suite-not-allowed',
  })
})

test('epoch boxes: while the chain is out of reach', async () => {
  const { boxOf, topicName } = await boxesOf(epochKey)
  trust.reachable = false
  const refusal = await refusedWith({ topicName, payload: boxOf(bob.id) })
  expect(refusal.code).toBe(await trust.group('00' as never).catch((error: MoteError) => error.code))
})

test('re-key: a member without a key that can be sealed to is left out, and that is said', async () => {
  const group = trust.createGroup(alice.id, 'fleet')
  const [broken, without, elsewhere] = [makeKeys('broken'), makeKeys('without'), makeKeys('elsewhere')]
  for (const keys of [broken, without, elsewhere]) trust.register(keys)
  trust.changeMembers(group, { add: [bob.id, broken.id, without.id, elsewhere.id] })
  const lifetime = { notBefore: 0 as Milliseconds, notAfter: undefined, revokedAt: undefined }
  const encrypt = (key: EncryptionKey) => ({ purpose: 'encrypt', key, ...lifetime }) as const
  const [brokenRecord, withoutRecord, other] = [broken, without, elsewhere].map(({ id }) => trust.record(id))
  const smallOrder = { suite: 'x25519', bytes: new Uint8Array(32) } as const
  trust.put({ ...brokenRecord!, keys: [brokenRecord!.keys[0]!, encrypt(smallOrder)] })
  trust.put({ ...withoutRecord!, keys: withoutRecord!.keys.slice(0, 1) })
  // Its newest key is no point; the one before is as good as ever.
  const p256Key = { suite: 'p256-ecdh', bytes: new Uint8Array(33) } as const
  trust.put({ ...other!, keys: [...other!.keys, encrypt(p256Key)] })

  // One whose only key is of a suite that the chain does not allow.
  const p256 = makeKeys('p256', { encryption: 'p256' })
  trust.register(p256)
  trust.changeMembers(group, { add: [p256.id] })
  trust.suites = ['hpke-x25519-aes128gcm', 'group-hkdf-sha256-aes256gcm']

  const { record } = await epochs.rekey(group)
  expect(record.epoch).toBe(1)
  const named = [broken.id, without.id, p256.id].toSorted()
  expect(leftOut).toEqual(named.map(member => [group, { member, reason: expect.stringMatching(/^key: /) }]))
  const { boxes } = unwrap(parseEpochBoxes(published[0]!.payload))
  expect(boxes.map(({ member }) => member)).toEqual([alice.id, bob.id, elsewhere.id].toSorted())
})

test('epoch boxes: of an open topic a key whose public half is another than the one on the chain, which its member checks (Hsu-Lu B4)', async () => {
  for (const fits of [false, true]) {
    const group = trust.createGroup(alice.id, fits ? 'fits' : 'does-not', { publishers: undefined })
    trust.changeMembers(group, { add: [bob.id] })
    const name = { chainId: trust.chainId, group, epoch: 1 }
    const members = [alice, bob].map(({ id, encryption }) => ({ id, key: encryption.publicKey }))
    const bytes = unwrap(await sealEpochKey(name, epochKey, members)).boxes
    const hashes = { epochKeyHash: epochKeyHash(name, epochKey), boxesHash: boxesHash(bytes) }
    const { publicKey } = fits ? topicPairOf(name, epochKey) : alice.encryption
    await trust.rekey({ group: (await trust.group(group)).value!, ...hashes, topicKey: publicKey.bytes })
    const box = memberBoxes(unwrap(parseEpochBoxes(bytes))).find(({ member }) => member === bob.id)!
    const message = { topicName: topics.box(group, bob.id), payload: box.payload }
    if (fits) {
      deliver(message)
      expect(await epochs.key(group, 1, 5_000)).toEqual(epochKey)
      expect((await epochs.topicPair(group, 1, 0, keyIdOf(publicKey)))?.publicKey).toEqual(publicKey)
    } else {
      deliver(message)
      expect(await epochs.key(group, 1, 0), 'once the box has been looked at').toBeUndefined()
      expect(refusals).toMatchObject([{ code: 'cannot-open', detail: expect.stringContaining('topic key') }])
    }
  }
})

test('epoch keys: who waits for a key while this member makes it goes on with it, and makes no other', async () => {
  const group = trust.createGroup(alice.id, 'fleet')
  trust.changeMembers(group, { add: [bob.id] })
  // Well within the time: nothing comes from outside.
  const waiting = epochs.key(group, 1, 60_000)
  await epochs.rekey(group)
  expect(await waiting).toHaveLength(32)
})
