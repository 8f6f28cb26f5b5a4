/**
 * The decision table: one row per refusal. Every row starts from a message that passes and breaks one thing, so it
 * goes red when the one check behind it is taken out (Hsu-Lu B2, B4, B5).
 */
import { beforeEach, describe, expect, test } from 'vitest'
import type { DeviceId, GroupId, Hash, Height, KeyId, Milliseconds } from '../../../chain/brands.ts'
import { builtSuites, type EnvelopeSuite, envelopeSuites } from '../../../chain/envelope-suites.ts'
import { type EncryptionKey, encryptionSuites, keyIdOf } from '../../../chain/keys.ts'
import { nobleVerifier } from '../../../chain/noble-crypto.ts'
import type { IdentityRecord, KeyEntry } from '../../../chain/records.ts'
import { unwrap } from '../../../chain/result.ts'
import { makeKeys, signerOf } from '../../../client/key-directory.ts'
import { type SealRequest, sealEnvelope } from '../../../mqtt-gateway/device/envelope-sealing.ts'
import {
  type Envelope,
  maxEnvelopeLifetimeMs,
  maxKeepMs,
  parseEnvelope,
  signEnvelope,
} from '../../../mqtt-gateway/protocol/envelope.ts'
import { epochKeyHash } from '../../../mqtt-gateway/protocol/epoch-boxes.ts'
import { ReplayWindow } from '../../../mqtt-gateway/protocol/replay-window.ts'
import type { TrustedGroup } from '../../../mqtt-gateway/protocol/trust.ts'
import {
  type Decision,
  type DecisionInput,
  decide,
  decideDelivery,
} from '../../../mqtt-gateway/server/verification.ts'
import { decryptionKey } from '../../support/device-keys.ts'
import { MemoryTrust } from '../../support/memory-trust.ts'

const seeded = (name: string, byte: number) =>
  makeKeys(name, { seedOf: purpose => new Uint8Array(32).fill(byte + purpose.length) })
const alice = seeded('alice', 1)
const bob = seeded('bob', 50)
const mallory = seeded('mallory', 100)
const now = 1_700_000_000_000 as Milliseconds
const trust = new MemoryTrust()
for (const keys of [alice, bob, mallory]) trust.register(keys)
const aliceRecord = trust.record(alice.id)
const bobRecord = trust.record(bob.id)
const epochKey = new Uint8Array(32).fill(9)

const request: SealRequest = {
  chainId: trust.chainId,
  sender: alice.id,
  signer: signerOf(alice),
  target: { type: 'device', id: bob.id, key: bob.encryption.publicKey },
  counter: 5,
  seenHeight: 3 as Height,
  expiry: (now + 60_000) as Milliseconds,
  channel: '',
  content: new Uint8Array([1]),
}

async function sealed(changes: Partial<SealRequest> = {}): Promise<Envelope> {
  return unwrap(parseEnvelope(trust.chainId, unwrap(await sealEnvelope({ ...request, ...changes })).bytes))
}

function withKeys(record: IdentityRecord, change: (entry: KeyEntry) => KeyEntry): IdentityRecord {
  return { ...record, keys: record.keys.map(change) }
}

const codeOf = (decision: Decision): string => (decision.verdict === 'Check' ? 'Check' : decision.code)

let input: DecisionInput
beforeEach(async () => {
  input = {
    envelope: await sealed(),
    session: alice.id,
    facts: {
      sender: aliceRecord,
      target: { type: 'device', record: bobRecord },
      allowedSuites: builtSuites,
      height: 3 as Height,
      ageMs: 100,
    },
    times: { head: now, now },
    trustTtlMs: 1000,
    replayWindow: new ReplayWindow(10),
    wasRelayed: false,
    verifier: nobleVerifier,
  }
})
const decideWith = (changes: Partial<DecisionInput>): Decision => decide({ ...input, ...changes })
const withFacts = (facts: Partial<DecisionInput['facts']>): Decision =>
  decideWith({ facts: { ...input.facts, ...facts } })

describe('verification of a message for one recipient', () => {
  test('verification: a sound message is a Check, at the last millisecond of freshness too', () => {
    expect(codeOf(decide(input))).toBe('Check')
    expect(codeOf(withFacts({ ageMs: 1000 }))).toBe('Check')
  })

  test('verification: trust data older than trustTtl refuses, whatever it says', () => {
    expect(codeOf(withFacts({ ageMs: 1001 }))).toBe('stale')
  })

  test('verification: an unknown sender', () => {
    expect(codeOf(withFacts({ sender: undefined }))).toBe('unknown-signer')
  })

  test('verification: the time to keep a message is judged from its sender on, and again when it is given out', async () => {
    const until = (now + maxKeepMs) as Milliseconds
    const envelope = await sealed({ keepUntil: until })
    expect(codeOf(decideWith({ envelope }))).toBe('Check')
    const give = (at: number, changes: Partial<DecisionInput> = {}) => {
      const head = at as Milliseconds
      return codeOf(
        decideDelivery({ ...input, envelope, recipient: bob.id, times: { head, now: head }, ...changes }),
      )
    }
    expect(give(until), 'long after its expiry').toBe('Check')
    expect(give(until + 1)).toBe('envelope-expired')
    const revoked = { ...input.facts, sender: { ...aliceRecord, status: 'revoked' } as const }
    expect(give(now, { facts: revoked })).toBe('signer-not-active')
    const withKey = (lifetime: Partial<KeyEntry>) => {
      const record = withKeys(bobRecord, entry => ({ ...entry, ...lifetime }) as KeyEntry)
      return give(now, { facts: { ...input.facts, target: { type: 'device', record } as const } })
    }
    expect(withKey({ notAfter: (now - 1) as Milliseconds }), 'sealed before the rotation').toBe('Check')
    expect(withKey({ revokedAt: (now - 1) as Milliseconds })).toBe('recipient-key-mismatch')
    expect(give(now, { facts: { ...input.facts, ageMs: 1001 } })).toBe('stale')
  })

  test("verification: an active device's envelope on another device's connection", () => {
    expect(codeOf(decideWith({ session: mallory.id }))).toBe('topic-not-allowed')
  })

  test.each(['pending', 'suspended', 'revoked'] as const)('verification: a %s sender', status => {
    expect(codeOf(withFacts({ sender: { ...aliceRecord, status } }))).toBe('signer-not-active')
  })

  test('verification: a sender key that is revoked, over, or not yet begun', () => {
    const sender = (lifetime: Partial<KeyEntry>): string =>
      codeOf(withFacts({ sender: withKeys(aliceRecord, entry => ({ ...entry, ...lifetime }) as KeyEntry) }))
    expect(sender({ revokedAt: now })).toBe('key-not-valid')
    expect(sender({ notAfter: now })).toBe('key-not-valid')
    expect(sender({ notBefore: (now + 1) as Milliseconds })).toBe('key-not-valid')
  })

  test('verification: a key that is on the chain, but of another device', () => {
    expect(codeOf(withFacts({ sender: { ...trust.record(mallory.id), id: alice.id } }))).toBe('key-not-valid')
  })

  test("verification: a signature by another key than the header's", async () => {
    const envelope = await sealed({ signer: signerOf(mallory) })
    const header = { ...envelope.header, senderKeyId: keyIdOf(alice.signing.publicKey) }
    expect(codeOf(decideWith({ envelope: { ...envelope, header } }))).toBe('bad-signature')
  })

  test.each([undefined, 'suspended', 'revoked'] as const)('verification: a recipient that is %s', status => {
    const record = status && { ...bobRecord, status }
    expect(codeOf(withFacts({ target: { type: 'device', record } }))).toBe('recipient-not-active')
  })

  test('verification: an altered recipient key is an Error that names both key ids (Hsu-Lu B5)', async () => {
    const target = { type: 'device', id: bob.id, key: mallory.encryption.publicKey } as const
    expect(decideWith({ envelope: await sealed({ target }) })).toMatchObject({
      verdict: 'Error',
      code: 'recipient-key-mismatch',
      mismatch: {
        inEnvelope: keyIdOf(mallory.encryption.publicKey),
        onChain: keyIdOf(bob.encryption.publicKey),
      },
    })
  })

  test('verification: a recipient key that the chain holds no longer valid, or for signing', async () => {
    const record = withKeys(bobRecord, entry => ({ ...entry, revokedAt: now }) as KeyEntry)
    expect(codeOf(withFacts({ target: { type: 'device', record } }))).toBe('recipient-key-mismatch')
    const header = {
      ...input.envelope.header,
      target: { type: 'device' as const, id: bob.id, keyId: keyIdOf(bob.signing.publicKey) },
    }
    const forged = { ...input.envelope, header }
    expect(codeOf(decideWith({ envelope: forged }))).toBe('recipient-key-mismatch')
  })

  test('verification: a key of the recipient that nothing can be sealed to, newer than the one that senders use', () => {
    const key = { suite: 'p256-ecdh', bytes: new Uint8Array(33) } as const
    const lifetime = { notBefore: 0 as Milliseconds, notAfter: undefined, revokedAt: undefined }
    const record = {
      ...bobRecord,
      keys: [...bobRecord.keys, { purpose: 'encrypt', key, ...lifetime } as const],
    }
    const target = { type: 'device', record } as const
    expect(codeOf(withFacts({ target }))).toBe('Check')
    const header = {
      ...input.envelope.header,
      target: { type: 'device' as const, id: bob.id, keyId: keyIdOf(key) },
    }
    const envelope = { ...input.envelope, header }
    expect(decideWith({ envelope, facts: { ...input.facts, target } })).toMatchObject({
      code: 'recipient-key-mismatch',
      mismatch: { inEnvelope: keyIdOf(key), onChain: keyIdOf(bob.encryption.publicKey) },
    })
  })

  test("verification: a suite that is not for the key that the chain has, whatever the sender's copy says", async () => {
    for (const suite of encryptionSuites) {
      const { publicKey } = decryptionKey(suite, 60)
      const record = withKeys(bobRecord, entry =>
        entry.purpose === 'encrypt' ? { ...entry, key: publicKey } : entry,
      )
      const target = { type: 'device', id: bob.id, key: publicKey } as const
      const envelope = await sealed({ target })
      const facts = { ...input.facts, target: { type: 'device', record } } as const
      expect(codeOf(decideWith({ envelope, facts })), suite).toBe('Check')
      for (const [other, row] of Object.entries(envelopeSuites)) {
        if (row.key === undefined || row.key === suite) continue
        const header = { ...envelope.header, suite: other as EnvelopeSuite }
        const body = { ...envelope.sealed, enc: new Uint8Array(row.encBytes[0]) }
        const { bytes } = signEnvelope(trust.chainId, { header, channel: '' }, body, signerOf(alice))
        const forged = unwrap(parseEnvelope(trust.chainId, bytes))
        expect(codeOf(decideWith({ envelope: forged, facts })), other).toBe('suite-mismatch')
      }
    }
  })

  test('verification: a suite that the chain does not allow, for a device and for a group', async () => {
    const without = (suite: EnvelopeSuite) => builtSuites.filter(each => each !== suite)
    expect(codeOf(withFacts({ allowedSuites: without('hpke-p256-aes128gcm') }))).toBe('Check')
    expect(codeOf(withFacts({ allowedSuites: without('hpke-x25519-aes128gcm') }))).toBe('suite-not-allowed')
    expect(codeOf(withFacts({ allowedSuites: [] }))).toBe('suite-not-allowed')
  })

  test('verification: an expired message, and one that outlives the replay window', async () => {
    const expiring = async (ahead: number): Promise<string> =>
      codeOf(decideWith({ envelope: await sealed({ expiry: (now + ahead) as Milliseconds }) }))
    expect(await expiring(0)).toBe('Check')
    expect(await expiring(-1)).toBe('envelope-expired')
    expect(await expiring(maxEnvelopeLifetimeMs)).toBe('Check')
    expect(await expiring(maxEnvelopeLifetimeMs + 1)).toBe('expiry-too-far')
  })

  test('verification: a sender that has just started sets the expiry from the newest header, however old that is', async () => {
    const head = (now - 170_000) as Milliseconds
    const decided = async (ahead: number) => {
      const envelope = await sealed({ expiry: (head + ahead) as Milliseconds })
      return codeOf(decideWith({ envelope, times: { head, now } }))
    }
    expect(await decided(60_000)).toBe('Check')
    expect(await decided(-1)).toBe('envelope-expired')
    // Who has carried the time on is no further ahead than it is.
    expect(await decided(170_000 + maxEnvelopeLifetimeMs)).toBe('Check')
    expect(await decided(170_000 + maxEnvelopeLifetimeMs + 1)).toBe('expiry-too-far')
  })

  test('verification: a counter that was used; deciding alone does not use it', () => {
    expect(codeOf(decide(input))).toBe('Check')
    expect(codeOf(decide(input))).toBe('Check')
    const { senderKeyId: keyId, counter, expiry } = input.envelope.header
    unwrap(input.replayWindow.accept({ keyId, counter, expiry }, now))
    expect(codeOf(decide(input))).toBe('replayed')
  })

  test('verification: an exact repeat is a Check that relays nothing, but of a sender that may still send', () => {
    const record = { ...bobRecord, status: 'revoked' } as const
    const facts = { ...input.facts, target: { type: 'device', record } } as const
    const repeat = { verdict: 'Check', isRepeat: true }
    expect(decideWith({ wasRelayed: true, facts })).toEqual(repeat)
    expect(decide(input)).toEqual({ verdict: 'Check' })
    const sender = { ...aliceRecord, status: 'revoked' } as const
    expect(codeOf(decideWith({ wasRelayed: true, facts: { ...facts, sender } }))).toBe('signer-not-active')
  })

  test('verification: no room to remember the counter', () => {
    const replayWindow = new ReplayWindow(1)
    const other = { keyId: 'ee'.repeat(32) as KeyId, counter: 1, expiry: (now + 1) as Milliseconds }
    unwrap(replayWindow.accept(other, now))
    expect(codeOf(decideWith({ replayWindow }))).toBe('overloaded')
  })
})

describe('verification of a message for a group', () => {
  const group = trust.createGroup(alice.id, 'valves')
  trust.changeMembers(group, { add: [bob.id] })
  const name = { chainId: trust.chainId, group, epoch: 1 }
  const hash = epochKeyHash(name, epochKey)
  let current: TrustedGroup

  async function toGroup(changes: { epoch?: number; epochKeyHash?: Hash } = {}): Promise<Envelope> {
    const target = { type: 'group', id: group, epoch: 1, epochKeyHash: hash, epochKey, ...changes } as const
    return sealed({ target })
  }
  async function decideFor(changed: TrustedGroup | undefined, envelope?: Envelope): Promise<Decision> {
    return decideWith({
      envelope: envelope ?? (await toGroup()),
      facts: { ...input.facts, target: { type: 'group', group: changed } },
    })
  }
  const withRecord = (record: Partial<TrustedGroup['record']>): TrustedGroup => ({
    ...current,
    record: { ...current.record, ...record },
  })

  beforeEach(async () => {
    const { value } = await trust.group(group)
    const record = { ...value!.record, epoch: 1, epochKeyHash: hash, epochGraceUntil: undefined }
    current = { members: value!.members, record }
  })

  test('verification: a sound group message is a Check', async () => {
    expect(codeOf(await decideFor(current))).toBe('Check')
  })

  test('verification: an unknown group', async () => {
    expect(codeOf(await decideFor(undefined))).toBe('unknown-subject')
  })

  test('verification: a sender that is no member', async () => {
    expect(codeOf(await decideFor({ ...current, members: [bob.id] as DeviceId[] }))).toBe('not-member')
  })

  test('verification: another epoch than the current one', async () => {
    expect(codeOf(await decideFor(withRecord({ epoch: 2 })))).toBe('epoch-mismatch')
    expect(codeOf(await decideFor(current, await toGroup({ epoch: 0 })))).toBe('epoch-mismatch')
    expect(codeOf(await decideFor(current, await toGroup({ epoch: 2 })))).toBe('epoch-mismatch')
  })

  test('verification: a message to keep is taken under the newest epoch only, of which the gateway has the boxes', async () => {
    const later = withRecord({ epoch: 2, previousEpochGraceUntil: (now + 1) as Milliseconds })
    expect(codeOf(await decideFor(later, await toGroup()))).toBe('Check')
    const target = { type: 'group', id: group, epoch: 1, epochKeyHash: hash, epochKey } as const
    const kept = await sealed({ target, keepUntil: (now + 3_600_000) as Milliseconds })
    expect(codeOf(await decideFor(later, kept))).toBe('epoch-mismatch')
    expect(codeOf(await decideFor(current, kept))).toBe('Check')
  })

  test('verification: after a removal the old epoch is refused at once, after a join it has a grace', async () => {
    const until = (epochGraceUntil: number): TrustedGroup =>
      withRecord({ epochGraceUntil: epochGraceUntil as Milliseconds })
    expect(codeOf(await decideFor(until(0)))).toBe('epoch-mismatch')
    expect(codeOf(await decideFor(until(now + 1)))).toBe('Check')
    expect(codeOf(await decideFor(until(now)))).toBe('epoch-mismatch')
  })

  test('verification: an epoch key that is not the one of the chain is an Error with both hashes (Hsu-Lu B4)', async () => {
    const wrong = 'ab'.repeat(32) as Hash
    expect(await decideFor(current, await toGroup({ epochKeyHash: wrong }))).toMatchObject({
      code: 'epoch-mismatch',
      mismatch: { inEnvelope: wrong, onChain: hash },
    })
  })

  test('verification: facts about another kind of target are never a Check', async () => {
    expect(codeOf(decideWith({ envelope: await toGroup() }))).toBe('internal')
    expect(codeOf(await decideFor(current, input.envelope))).toBe('internal')
    expect(group as GroupId).toHaveLength(64)
  })
})

describe('verification of a message for an open topic', () => {
  const topicKey = makeKeys('topic').encryption.publicKey
  const other = makeKeys('another-topic').encryption.publicKey
  const id = trust.createGroup(bob.id, 'reports', { publishers: undefined })
  let topic: TrustedGroup

  beforeEach(async () => {
    const { value } = await trust.group(id)
    const record = {
      ...value!.record,
      epoch: 2,
      epochGraceUntil: undefined,
      previousEpochGraceUntil: (now + 60_000) as Milliseconds,
      topic: { publishers: undefined, key: topicKey.bytes },
    }
    topic = { members: value!.members, record }
  })

  const toTopic = (changes: { epoch?: number; key?: EncryptionKey } = {}): Promise<Envelope> =>
    sealed({ target: { type: 'topic', id, epoch: 2, key: topicKey, ...changes } })
  async function decideFor(
    changed: TrustedGroup | undefined,
    envelope?: Envelope,
    publishers?: readonly DeviceId[],
  ): Promise<Decision> {
    const target = { type: 'topic', topic: changed, publishers } as const
    return decideWith({ envelope: envelope ?? (await toTopic()), facts: { ...input.facts, target } })
  }

  test('verification: any active device publishes, a member or not (Hsu-Lu B4)', async () => {
    expect(topic.members).not.toContain(alice.id)
    expect(codeOf(await decideFor(topic))).toBe('Check')
  })

  test('verification: what waited behind older mail goes to members of the topic, from whoever may publish now', async () => {
    const envelope = await toTopic()
    const give = (recipient: DeviceId, publishers?: readonly DeviceId[]) => {
      const target = { type: 'topic', topic, publishers } as const
      return codeOf(decideDelivery({ ...input, envelope, recipient, facts: { ...input.facts, target } }))
    }
    expect(give(bob.id)).toBe('Check')
    expect(give(bob.id, [alice.id])).toBe('Check')
    expect(give(bob.id, [bob.id])).toBe('not-member')
    expect(give(mallory.id)).toBe('not-member')
  })

  test('verification: a group is no open topic, and an open topic no group', async () => {
    const record = { ...topic.record, topic: undefined }
    expect(codeOf(await decideFor({ ...topic, record }))).toBe('unknown-subject')
    expect(codeOf(await decideFor(undefined))).toBe('unknown-subject')
    const epochKeyHash = 'ab'.repeat(32) as Hash
    const envelope = await sealed({ target: { type: 'group', id, epoch: 2, epochKeyHash, epochKey } })
    const group = { ...topic, members: [alice.id, bob.id] }
    const facts = { ...input.facts, target: { type: 'group', group } } as const
    expect(codeOf(decideWith({ envelope, facts }))).toBe('suite-mismatch')
  })

  test('verification: of a topic for the members of a group, another device', async () => {
    expect(codeOf(await decideFor(topic, undefined, [bob.id]))).toBe('not-member')
    expect(codeOf(await decideFor(topic, undefined, [alice.id]))).toBe('Check')
  })

  test("verification: a key that is not the chain's is an Error with both (Hsu-Lu B5)", async () => {
    expect(await decideFor(topic, await toTopic({ key: other }))).toMatchObject({
      code: 'recipient-key-mismatch',
      mismatch: { inEnvelope: keyIdOf(other), onChain: keyIdOf(topicKey) },
    })
  })

  test('verification: an old key is over at once, whatever the grace, and after a removal so is the current one', async () => {
    expect(await decideFor(topic, await toTopic({ epoch: 1, key: other }))).toMatchObject({
      code: 'epoch-mismatch',
      mismatch: { inEnvelope: keyIdOf(other), onChain: keyIdOf(topicKey) },
    })
    const record = { ...topic.record, epochGraceUntil: 0 as Milliseconds }
    expect(codeOf(await decideFor({ ...topic, record }))).toBe('epoch-mismatch')
  })

  test('verification: facts about something else are never a Check', async () => {
    expect(codeOf(decideWith({ envelope: await toTopic() }))).toBe('internal')
    expect(codeOf(await decideFor(topic, input.envelope))).toBe('internal')
  })
})
