/** Key changes: each refusal of execute-key.ts, and when keys are valid. */
import { ed25519 } from '@noble/curves/ed25519.js'
import { describe, expect, test } from 'vitest'
import { Milliseconds } from '../../../chain/brands.ts'
import { type EncryptionKey, keyIdOf } from '../../../chain/keys.ts'
import { maxKeysPerIdentity, maxRotationOverlapMs } from '../../../chain/limits.ts'
import {
  currentEncryptionKey,
  findKey,
  identityCodec,
  isKeyValidAt,
  stateKeyOf,
} from '../../../chain/records.ts'
import type { KeyRotateBody, NewKey } from '../../../chain/transaction.ts'
import {
  type Actor,
  actor,
  devices,
  encryptionKey,
  operator,
  SampleLedger,
  second,
  withLeaf,
} from './sample-ledger.ts'

const [device, other] = devices as [Actor, Actor]
const spare = actor(50, 'p256')
const spareKeyId = keyIdOf(spare.signer.publicKey)
const deviceKeyId = keyIdOf(device.signer.publicKey)
const group = { type: 'group.create', name: 'mine', epochKeyHash: undefined } as const

function add(chain: SampleLedger, key: NewKey, expectedVersion = chain.identity(device.id).version) {
  return chain.run(device, { type: 'key.add', subject: device.id, expectedVersion, key })
}

function rotate(chain: SampleLedger, parts: Partial<KeyRotateBody> = {}) {
  return chain.run(device, {
    type: 'key.rotate',
    subject: device.id,
    expectedVersion: chain.identity(device.id).version,
    oldKey: deviceKeyId,
    key: chain.newSigningKey(device, spare),
    overlap: Milliseconds(10 * second),
    ...parts,
  })
}

function revokeKey(chain: SampleLedger, key = deviceKeyId, expectedVersion?: number) {
  return chain.run(device, {
    type: 'key.revoke',
    subject: device.id,
    expectedVersion: expectedVersion ?? chain.identity(device.id).version,
    key,
  })
}

/** The device, signing with another of its keys. */
function withKey(key: Actor): Actor {
  return { ...key, id: device.id }
}

describe('key.add', () => {
  test('key.add: refuses the device at the last version, and an operator still can suspend it', () => {
    const chain = new SampleLedger()
    const most = 0xffff_ffff - 2 ** 20
    const record = { ...chain.identity(device.id), version: most - 1 }
    withLeaf(chain, stateKeyOf.identity(device.id), identityCodec, record)
    expect(add(chain, encryptionKey(1))).toBe('ok')
    expect(add(chain, encryptionKey(2))).toBe('limit-exceeded')
    expect(rotate(chain)).toBe('limit-exceeded')
    expect(chain.run(operator, { type: 'identity.suspend', subject: device.id, reason: '' })).toBe('ok')
  })

  test.each([
    ['an X25519 key of small order', 'x25519', new Uint8Array(32)],
    ['a P-256 point off the curve', 'p256-ecdh', new Uint8Array(33).fill(1)],
    ['bytes that are no RSA key', 'rsa-oaep', new Uint8Array(270).fill(48)],
  ] as const)('key.add: refuses %s, and so does key.rotate', (_, suite, bytes) => {
    const chain = new SampleLedger()
    const key: NewKey = { purpose: 'encrypt', key: { suite, bytes }, notAfter: undefined }
    expect(add(chain, key)).toBe('key-not-usable')
    expect(chain.identity(device.id).version).toBe(1)
    expect(add(chain, encryptionKey(1))).toBe('ok')
    const oldKey = keyIdOf(encryptionKey(1).key)
    expect(rotate(chain, { oldKey, key })).toBe('key-not-usable')
  })

  test('key.add: refuses a key that signs in this record already to encrypt to, and the other way round', () => {
    const chain = new SampleLedger()
    const toEncrypt = (key: EncryptionKey): NewKey => ({ purpose: 'encrypt', key, notAfter: undefined })
    const montgomery = ed25519.utils.toMontgomery(device.signer.publicKey.bytes)
    expect(add(chain, toEncrypt({ suite: 'x25519', bytes: montgomery }))).toBe('key-not-usable')
    // A point and its negative have one secret, but for its sign.
    const { bytes } = spare.signer.publicKey
    for (const first of [2, 3]) {
      const chain = new SampleLedger()
      const point: EncryptionKey = { suite: 'p256-ecdh', bytes: bytes.with(0, first) }
      expect(add(chain, chain.newSigningKey(device, spare))).toBe('ok')
      expect(add(chain, toEncrypt(point))).toBe('key-not-usable')
      expect(revokeKey(chain, spareKeyId)).toBe('ok')
      expect(add(chain, toEncrypt(point)), 'an ended one too').toBe('key-not-usable')
      const turned = new SampleLedger()
      expect(add(turned, toEncrypt(point))).toBe('ok')
      expect(add(turned, turned.newSigningKey(device, spare))).toBe('key-not-usable')
      expect(rotate(turned)).toBe('key-not-usable')
    }
  })

  test('key.add: the new key is valid from block time on', () => {
    const chain = new SampleLedger()
    expect(add(chain, encryptionKey(1))).toBe('ok')
    const record = chain.identity(device.id)
    expect(record).toMatchObject({ version: 2, updatedAt: 1 })
    expect(record.keys[1]).toMatchObject({ purpose: 'encrypt', notBefore: chain.time, revokedAt: undefined })
    expect(currentEncryptionKey(record, Milliseconds(chain.time - 1), () => true)).toBeUndefined()
    expect(currentEncryptionKey(record, Milliseconds(chain.time), () => true)).toBe(record.keys[1])
  })

  test('key.add: the device signs with its new signing key', () => {
    const chain = new SampleLedger()
    expect(add(chain, chain.newSigningKey(device, spare))).toBe('ok')
    expect(chain.run(withKey(spare), group)).toBe('ok')
  })

  test('key.add: refuses a signing key whose possession is not proven for this device', () => {
    const chain = new SampleLedger()
    expect(add(chain, chain.newSigningKey(other, spare))).toBe('possession-not-proven')
  })

  test('key.add: refuses a key that the record has, ended or not', () => {
    const chain = new SampleLedger()
    expect(add(chain, chain.newSigningKey(device, device))).toBe('already-exists')
    add(chain, encryptionKey(1))
    revokeKey(chain, keyIdOf(encryptionKey(1).key))
    expect(add(chain, encryptionKey(1))).toBe('already-exists')
  })

  test('key.add: refuses another version than the current one', () => {
    const chain = new SampleLedger()
    expect(add(chain, encryptionKey(1), 2)).toBe('version-conflict')
  })

  test('key.add: refuses a key that ends before it begins', () => {
    const chain = new SampleLedger()
    expect(add(chain, encryptionKey(1, chain.time + second))).toBe('invalid-state')
  })

  test('key.add: a full record gives the place of the key that ended first, if one has ended', () => {
    const chain = new SampleLedger()
    for (let n = 1; n < maxKeysPerIdentity; n++) expect(add(chain, encryptionKey(n))).toBe('ok')
    expect(add(chain, encryptionKey(100))).toBe('limit-exceeded')
    revokeKey(chain, keyIdOf(encryptionKey(4).key))
    revokeKey(chain, keyIdOf(encryptionKey(2).key))
    expect(add(chain, encryptionKey(100))).toBe('ok')
    const record = chain.identity(device.id)
    expect(record.keys).toHaveLength(maxKeysPerIdentity)
    expect(findKey(record, keyIdOf(encryptionKey(4).key))).toBeUndefined()
    expect(findKey(record, keyIdOf(encryptionKey(2).key))).toBeDefined()
  })

  test('key.add: a device cannot change the keys of another', () => {
    const chain = new SampleLedger()
    const body = { type: 'key.add', subject: other.id, expectedVersion: 1, key: encryptionKey(1) } as const
    expect(chain.run(device, body)).toBe('not-authorised')
  })
})

describe('key.rotate', () => {
  test('key.rotate: the old key is valid until the overlap is over', () => {
    const chain = new SampleLedger()
    expect(rotate(chain)).toBe('ok')
    const ends = chain.time + 10 * second
    const old = findKey(chain.identity(device.id), deviceKeyId)!
    expect(isKeyValidAt(old, Milliseconds(ends - 1))).toBe(true)
    expect(isKeyValidAt(old, Milliseconds(ends))).toBe(false)
    chain.time = ends - 2 * second
    expect(chain.run(device, { ...group, name: 'old' })).toBe('ok')
    expect(chain.run(device, { ...group, name: 'late' })).toBe('key-not-valid')
    expect(chain.run(withKey(spare), { ...group, name: 'new' })).toBe('ok')
  })

  test('key.rotate: does not prolong a key that ends earlier', () => {
    const chain = new SampleLedger()
    add(chain, encryptionKey(1, chain.time + 5 * second))
    const ends = chain.time + 4 * second
    expect(rotate(chain, { oldKey: keyIdOf(encryptionKey(1).key), key: encryptionKey(2) })).toBe('ok')
    expect(chain.identity(device.id).keys[1]?.notAfter).toBe(ends)
  })

  test('key.rotate: refuses an old key that is unknown or has ended', () => {
    const chain = new SampleLedger()
    expect(rotate(chain, { oldKey: spareKeyId })).toBe('unknown-subject')
    add(chain, encryptionKey(1))
    const oldKey = keyIdOf(encryptionKey(1).key)
    revokeKey(chain, oldKey)
    expect(rotate(chain, { oldKey, key: encryptionKey(2) })).toBe('invalid-state')
  })

  test('key.rotate: refuses a new key for another purpose', () => {
    const chain = new SampleLedger()
    expect(rotate(chain, { key: encryptionKey(2) })).toBe('invalid-state')
  })

  test('key.rotate: refuses an overlap over the limit', () => {
    const chain = new SampleLedger()
    expect(rotate(chain, { overlap: Milliseconds(maxRotationOverlapMs + 1) })).toBe('limit-exceeded')
    expect(rotate(chain, { overlap: Milliseconds(maxRotationOverlapMs) })).toBe('ok')
  })

  test('key.rotate: refuses another version, a key that is there, an unproven key', () => {
    const chain = new SampleLedger()
    expect(rotate(chain, { expectedVersion: 7 })).toBe('version-conflict')
    expect(rotate(chain, { key: chain.newSigningKey(device, device) })).toBe('already-exists')
    expect(rotate(chain, { key: chain.newSigningKey(other, spare) })).toBe('possession-not-proven')
  })
})

describe('key.revoke', () => {
  test('key.revoke: a revoked key signs nothing more', () => {
    const chain = new SampleLedger()
    add(chain, chain.newSigningKey(device, spare))
    expect(revokeKey(chain)).toBe('ok')
    expect(findKey(chain.identity(device.id), deviceKeyId)?.revokedAt).toBe(chain.time)
    expect(chain.run(device, group)).toBe('key-not-valid')
    expect(chain.run(withKey(spare), group)).toBe('ok')
  })

  test('key.revoke: refuses to take the last signing key', () => {
    const chain = new SampleLedger()
    add(chain, encryptionKey(1))
    expect(revokeKey(chain)).toBe('invalid-state')
  })

  test('key.revoke: refuses an unknown key, a revoked one, another version', () => {
    const chain = new SampleLedger()
    add(chain, encryptionKey(1))
    const key = keyIdOf(encryptionKey(1).key)
    expect(revokeKey(chain, spareKeyId)).toBe('unknown-subject')
    expect(revokeKey(chain, key, 1)).toBe('version-conflict')
    expect(revokeKey(chain, key)).toBe('ok')
    expect(revokeKey(chain, key)).toBe('invalid-state')
  })
})
