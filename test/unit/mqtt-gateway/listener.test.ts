/** The recipient trusts no gateway: each check of its own, one row each, on bytes a gateway could deliver. */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import type { GroupId, Milliseconds } from '../../../chain/brands.ts'
import { builtSuites } from '../../../chain/envelope-suites.ts'
import { nobleVerifier } from '../../../chain/noble-crypto.ts'
import { unwrap } from '../../../chain/result.ts'
import { makeKeys, signerOf } from '../../../client/key-directory.ts'
import type { EpochKeys } from '../../../mqtt-gateway/device/agent-epochs.ts'
import { DecryptionKeys } from '../../../mqtt-gateway/device/decryption-key.ts'
import type { SealRequest } from '../../../mqtt-gateway/device/envelope-sealing.ts'
import { KeptTransfers } from '../../../mqtt-gateway/device/kept-transfers.ts'
import { Lanes, Listener } from '../../../mqtt-gateway/device/listener.ts'
import { ListeningPlace } from '../../../mqtt-gateway/device/listening-place.ts'
import { topicPairOf } from '../../../mqtt-gateway/device/topic-keys.ts'
import { parseEnvelope } from '../../../mqtt-gateway/protocol/envelope.ts'
import { epochKeyHash } from '../../../mqtt-gateway/protocol/epoch-boxes.ts'
import { MemoryTrust } from '../../support/memory-trust.ts'
import { sealedMessage } from '../../support/sealed-message.ts'

const alice = makeKeys('alice')
const bob = makeKeys('bob')
const carol = makeKeys('carol')
const epochKey = new Uint8Array(32).fill(9)

let trust: MemoryTrust
let directory: string
let listener: Listener
beforeEach(async () => {
  trust = new MemoryTrust()
  for (const keys of [alice, bob, carol]) trust.register(keys)
  directory = await mkdtemp(join(tmpdir(), 'mote-listener-'))
  listener = new Listener({
    device: bob.id,
    decryptionKeys: new DecryptionKeys(bob),
    chain: trust,
    place: await ListeningPlace.take(directory, 0 as Milliseconds),
    kept: await KeptTransfers.open(join(directory, 'chunks')),
    // Only these are asked of it.
    epochs: {
      key: async () => epochKey,
      topicPair: (group: GroupId, epoch: number) =>
        topicPairOf({ chainId: trust.chainId, group, epoch }, epochKey),
    } as unknown as EpochKeys,
    verifier: nobleVerifier,
    trustTtlMs: 60_000,
  })
})
afterEach(() => rm(directory, { recursive: true }))

const wire = (changes: Partial<SealRequest> = {}): Promise<Uint8Array> =>
  sealedMessage(
    trust.chainId,
    { from: alice, to: bob },
    { content: new TextEncoder().encode('hello'), ...changes },
  )

async function outcome(bytes: Uint8Array): Promise<string> {
  const received = await listener.receive(unwrap(parseEnvelope(trust.chainId, bytes)), () => {})
  if (!received.ok) return received.error.code
  return received.value ? new TextDecoder().decode(received.value.content) : 'not mine'
}

test('listener: refuses a message that is sealed as the chain does not allow', async () => {
  const bytes = await wire()
  trust.suites = ['hpke-p256-aes128gcm', 'group-hkdf-sha256-aes256gcm']
  expect(await outcome(bytes)).toBe('suite-not-allowed')
  trust.suites = builtSuites
  expect(await outcome(bytes)).toBe('hello')
})

test('listener: gives out a sound message once, and refuses it the second time', async () => {
  const bytes = await wire()
  expect(await outcome(bytes)).toBe('hello')
  expect(await outcome(bytes)).toBe('replayed')
})

test('listener: a sender that is unknown, suspended or revoked', async () => {
  const stranger = makeKeys('stranger')
  expect(await outcome(await wire({ sender: stranger.id, signer: signerOf(stranger) }))).toBe(
    'unknown-signer',
  )
  for (const status of ['suspended', 'revoked'] as const) {
    trust.setStatus(alice.id, status)
    expect(await outcome(await wire())).toBe('signer-not-active')
  }
})

test("listener: a signature under somebody else's key, or one that does not verify", async () => {
  expect(await outcome(await wire({ signer: signerOf(carol) }))).toBe('key-not-valid')
  const bytes = await wire()
  bytes[bytes.length - 1] = (bytes.at(-1) as number) ^ 1
  expect(await outcome(bytes)).toBe('bad-signature')
})

test('listener: an expired message', async () => {
  expect(await outcome(await wire({ expiry: (trust.head().time - 1) as Milliseconds }))).toBe(
    'envelope-expired',
  )
})

test('listener: its own view of the chain is too old', async () => {
  const bytes = await wire()
  trust.age(60_001)
  expect(await outcome(bytes)).toBe('stale')
})

test('listener: a body that is sealed to another key', async () => {
  const target = { type: 'device', id: bob.id, key: carol.encryption.publicKey } as const
  expect(await outcome(await wire({ target }))).toBe('cannot-open')
})

test("listener: what is another device's, or another group's, is passed over", async () => {
  const target = { type: 'device', id: carol.id, key: carol.encryption.publicKey } as const
  expect(await outcome(await wire({ target }))).toBe('not mine')
  const group = trust.createGroup(carol.id, 'others')
  const name = { chainId: trust.chainId, group, epoch: 1 }
  const toGroup = {
    type: 'group',
    id: group,
    epoch: 1,
    epochKeyHash: epochKeyHash(name, epochKey),
    epochKey,
  } as const
  expect(await outcome(await wire({ target: toGroup }))).toBe('not mine')
})

test('listener: a group message of who is no member', async () => {
  const group = trust.createGroup(bob.id, 'mine')
  const name = { chainId: trust.chainId, group, epoch: 1 }
  const target = {
    type: 'group',
    id: group,
    epoch: 1,
    epochKeyHash: epochKeyHash(name, epochKey),
    epochKey,
  } as const
  expect(await outcome(await wire({ target }))).toBe('not-member')
  trust.changeMembers(group, { add: [alice.id] })
  expect(await outcome(await wire({ target }))).toBe('hello')
})

test('listener: a message to an open topic of whoever may publish there, and none under another kind of key', async () => {
  const commit = async (publishers: GroupId | undefined, name: string) => {
    const id = trust.createGroup(bob.id, name, { publishers })
    const epochName = { chainId: trust.chainId, group: id, epoch: 1 }
    const { publicKey: key } = topicPairOf(epochName, epochKey)
    const hash = epochKeyHash(epochName, epochKey)
    const value = (await trust.group(id)).value!
    await trust.rekey({ group: value, epochKeyHash: hash, boxesHash: hash, topicKey: key.bytes })
    return { toTopic: { type: 'topic', id, epoch: 1, key } as const, epochKeyHash: hash }
  }
  const { toTopic, epochKeyHash: hash } = await commit(undefined, 'reports')
  expect(await outcome(await wire({ target: toTopic }))).toBe('hello')
  const toGroup = { type: 'group', id: toTopic.id, epoch: 1, epochKeyHash: hash, epochKey } as const
  expect(await outcome(await wire({ target: toGroup }))).toBe('suite-mismatch')
  const closed = trust.createGroup(bob.id, 'closed')
  expect(await outcome(await wire({ target: { ...toTopic, id: closed } }))).toBe('suite-mismatch')
  expect(await outcome(await wire({ target: { ...toTopic, key: carol.encryption.publicKey } }))).toBe(
    'cannot-open',
  )
  const limited = await commit(closed, 'limited')
  expect(await outcome(await wire({ target: limited.toTopic }))).toBe('not-member')
  trust.changeMembers(closed, { add: [alice.id] })
  expect(await outcome(await wire({ target: limited.toTopic, counter: 2 }))).toBe('hello')
  const others = trust.createGroup(carol.id, 'others', { publishers: undefined })
  expect(await outcome(await wire({ target: { ...toTopic, id: others } }))).toBe('not mine')
})

test('lanes: one lane is in order, and a lane that waits holds up no other; too many waiting are refused', async () => {
  const lanes = new Lanes()
  const order: string[] = []
  const gate = Promise.withResolvers<void>()
  lanes.add('a', async () => {
    await gate.promise
    order.push('a1')
  })
  lanes.add('a', async () => {
    order.push('a2')
  })
  const b = Promise.withResolvers<void>()
  lanes.add('b', async () => {
    order.push('b1')
    b.resolve()
  })
  await b.promise
  expect(order).toEqual(['b1'])
  let accepted = 2
  const last = Promise.withResolvers<void>()
  while (lanes.add('a', async () => last.resolve())) accepted += 1
  expect(accepted).toBe(256)
  gate.resolve()
  await last.promise
  expect(order).toEqual(['b1', 'a1', 'a2'])
})

test('lanes: the bytes of all that wait are bounded, and are free again when they are done', async () => {
  const lanes = new Lanes()
  const gate = Promise.withResolvers<void>()
  const half = 64 * 1024 * 1024
  expect(lanes.add('a', () => gate.promise, half)).toBe(true)
  expect(lanes.add('b', () => gate.promise, half)).toBe(true)
  expect(lanes.add('c', async () => {}, 1)).toBe(false)
  gate.resolve()
  await new Promise(resolve => setImmediate(resolve))
  expect(lanes.add('c', async () => {}, 1)).toBe(true)
})
