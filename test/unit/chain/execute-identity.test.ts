/** Grants, registration, suspension and revocation: each refusal of execute-identity.ts, and what they change. */
import { ed25519 } from '@noble/curves/ed25519.js'
import { describe, expect, test } from 'vitest'
import { Hash, Milliseconds } from '../../../chain/brands.ts'
import { decodeOwn } from '../../../chain/codec.ts'
import { keyIdOf } from '../../../chain/keys.ts'
import { grantCodec, identityCodec, stateKeyOf } from '../../../chain/records.ts'
import { get } from '../../../chain/state-tree.ts'
import { grantIdOf, grantTokenSigningBytes, type RegisterBody } from '../../../chain/transaction.ts'
import {
  actor,
  coordinator,
  devices,
  encryptionKey,
  fullNode,
  newcomer,
  operator,
  SampleLedger,
  second,
  secondOperator,
  token,
  withLeaf,
} from './sample-ledger.ts'

const [device, other] = devices as [(typeof devices)[number], (typeof devices)[number]]

function granted(parts: Parameters<SampleLedger['grantBody']>[0] = {}): SampleLedger {
  const chain = new SampleLedger()
  expect(chain.run(operator, chain.grantBody(parts))).toBe('ok')
  return chain
}

function grantOf(chain: SampleLedger) {
  return decodeOwn(grantCodec, get(chain.ledger.tree, stateKeyOf.grant(grantIdOf(token.signer.publicKey)))!)
}

describe('grant', () => {
  test('grant: an authority records it', () => {
    const chain = granted({ quota: 3 })
    expect(grantOf(chain)).toMatchObject({ quota: 3, used: 0, operator: operator.id, grantedAt: 1 })
  })

  test('grant: refuses a token key that was granted before', () => {
    const chain = granted()
    expect(chain.run(secondOperator, chain.grantBody())).toBe('already-exists')
  })

  test('grant: refuses a quota of nothing and one over the limit', () => {
    const chain = new SampleLedger({ limits: { grantQuota: 5 } })
    expect(chain.run(operator, chain.grantBody({ quota: 0 }))).toBe('limit-exceeded')
    expect(chain.run(operator, chain.grantBody({ quota: 6 }))).toBe('limit-exceeded')
    expect(chain.run(operator, chain.grantBody({ quota: 5 }))).toBe('ok')
  })

  test('grant: refuses one that is over already', () => {
    const chain = new SampleLedger()
    const expiry = Milliseconds(chain.time + second)
    expect(chain.run(operator, chain.grantBody({ expiry }))).toBe('grant-not-valid')
  })
})

describe('keys that nobody can use', () => {
  const flaw = (name: string, bytes: Uint8Array) => ({ name, bytes })
  const unusable = [
    flaw('of small order', new Uint8Array(32).with(0, 1)),
    flaw('off the curve', new Uint8Array(32).with(0, 2)),
    flaw('not in its one encoding', new Uint8Array(32).fill(0xff)),
  ]

  test.each(unusable)('grant: refuses a token key $name', ({ bytes }) => {
    const chain = new SampleLedger()
    const body = { ...chain.grantBody(), tokenKey: { suite: 'ed25519', bytes } as const }
    expect(chain.run(operator, body)).toBe('key-not-usable')
    expect(get(chain.ledger.tree, stateKeyOf.grant(grantIdOf(body.tokenKey)))).toBeUndefined()
  })

  test('grant: refuses a token key of the other suite off its curve', () => {
    const chain = new SampleLedger()
    const tokenKey = { suite: 'p256', bytes: new Uint8Array(33).with(0, 4) } as const
    expect(chain.run(operator, { ...chain.grantBody(), tokenKey })).toBe('key-not-usable')
  })

  test.each(unusable)('register: refuses a transport key $name', ({ bytes }) => {
    const chain = granted()
    expect(chain.run(newcomer, chain.registerBody(newcomer, { transportKey: bytes }))).toBe('key-not-usable')
    expect(grantOf(chain).used).toBe(0)
  })

  test('register: refuses an encryption key of small order, and the grant is still there', () => {
    const chain = granted()
    const key = { suite: 'x25519', bytes: new Uint8Array(32) } as const
    const zero = { purpose: 'encrypt', key, notAfter: undefined } as const
    expect(chain.run(newcomer, chain.registerBody(newcomer, { keys: [zero] }))).toBe('key-not-usable')
    expect(grantOf(chain).used).toBe(0)
    expect(chain.run(newcomer, chain.registerBody(newcomer))).toBe('ok')
  })

  test('register: refuses an encryption key that is the inception key in another form', () => {
    const chain = granted()
    const bytes = ed25519.utils.toMontgomery(newcomer.signer.publicKey.bytes)
    const same = { purpose: 'encrypt', key: { suite: 'x25519', bytes }, notAfter: undefined } as const
    expect(chain.run(newcomer, chain.registerBody(newcomer, { keys: [same] }))).toBe('key-not-usable')
    const byP256 = actor(21, 'p256')
    const point = { suite: 'p256-ecdh', bytes: byP256.signer.publicKey.bytes } as const
    const alike = { purpose: 'encrypt', key: point, notAfter: undefined } as const
    expect(chain.run(byP256, chain.registerBody(byP256, { keys: [alike] }))).toBe('key-not-usable')
  })
})

describe('register', () => {
  test('register: lets a newcomer in and uses the grant once (Qiu A3)', () => {
    const chain = granted({ quota: 2 })
    const block = chain.execute(
      chain.sign(newcomer, chain.registerBody(newcomer, { metadataHash: Hash('ab'.repeat(32)) })),
    )
    expect(block.receipts[0]).toMatchObject({
      code: 'ok',
      events: [{ type: 'identity.registered', subject: newcomer.id, status: 'active' }],
    })
    expect(grantOf(chain).used).toBe(1)
    const record = chain.identity(newcomer.id)
    expect(record).toMatchObject({
      version: 1,
      status: 'active',
      label: 'lightweight',
      trustLevel: 2,
      metadataHash: 'ab'.repeat(32),
      admittedBy: { operator: operator.id },
      registeredAt: 2,
    })
    expect(record.keys.map(entry => [entry.purpose, entry.notBefore])).toEqual([
      ['sign', chain.time],
      ['encrypt', chain.time],
    ])
  })

  test('register: the newcomer acts by its own keys afterwards', () => {
    const chain = granted()
    chain.run(newcomer, chain.registerBody(newcomer))
    expect(chain.run(newcomer, { type: 'group.create', name: 'mine', epochKeyHash: undefined })).toBe('ok')
  })

  test('register: a coordinator cannot spend the grant on another device', () => {
    const chain = granted()
    const accomplice = actor(21)
    const stolen = chain.registerBody(newcomer)
    const body = { ...chain.registerBody(accomplice), tokenSignature: stolen.tokenSignature }
    expect(chain.run(accomplice, body)).toBe('possession-not-proven')
    expect(grantOf(chain).used).toBe(0)
    expect(chain.run(newcomer, stolen)).toBe('ok')
  })

  test('register: a token signature for another chain is refused', () => {
    const chain = granted()
    const elsewhere = new SampleLedger({ threshold: 2 })
    const tokenSignature = token.signer.sign(grantTokenSigningBytes(elsewhere.chainId, newcomer.id))
    expect(chain.run(newcomer, chain.registerBody(newcomer, { tokenSignature }))).toBe(
      'possession-not-proven',
    )
  })

  test('register: refuses a grant that is unknown', () => {
    const chain = new SampleLedger()
    expect(chain.run(newcomer, chain.registerBody(newcomer))).toBe('grant-not-valid')
  })

  test('register: refuses a grant that is used up', () => {
    const chain = granted({ quota: 1 })
    expect(chain.run(newcomer, chain.registerBody(newcomer))).toBe('ok')
    const late = actor(21)
    expect(chain.run(late, chain.registerBody(late))).toBe('grant-not-valid')
  })

  test('register: refuses a grant from its expiry on', () => {
    const chain = new SampleLedger()
    chain.run(operator, chain.grantBody({ expiry: Milliseconds(chain.time + 2 * second) }))
    expect(chain.run(newcomer, chain.registerBody(newcomer))).toBe('grant-not-valid')
  })

  test('register: refuses the grant of an operator who is not active', () => {
    const chain = new SampleLedger()
    const grant = chain.grantBody()
    // Only governance ends an authority, so the state is made: the grant's operator is a device.
    chain.run(operator, grant)
    const key = stateKeyOf.grant(grantIdOf(token.signer.publicKey))
    const record = { ...grantOf(chain), operator: device.id }
    expect(withLeaf(chain, key, grantCodec, record).run(newcomer, chain.registerBody(newcomer))).toBe(
      'grant-not-valid',
    )
    const suspended = { ...chain.identity(operator.id), status: 'suspended' as const }
    const again = new SampleLedger()
    again.run(operator, grant)
    withLeaf(again, stateKeyOf.identity(operator.id), identityCodec, suspended)
    expect(again.run(newcomer, again.registerBody(newcomer))).toBe('grant-not-valid')
  })

  test('register: refuses a label above the grant', () => {
    const chain = granted({ highestLabel: 'coordination' })
    expect(chain.run(newcomer, chain.registerBody(newcomer, { label: 'full' }))).toBe('label-not-allowed')
    expect(chain.run(newcomer, chain.registerBody(newcomer, { label: 'coordination' }))).toBe('ok')
  })

  test('register: a full node waits for approval where one authority is not enough', () => {
    const chain = new SampleLedger({ threshold: 2 })
    chain.run(operator, chain.grantBody({ highestLabel: 'full', quota: 2 }))
    expect(chain.run(newcomer, chain.registerBody(newcomer, { label: 'full' }))).toBe('ok')
    expect(chain.identity(newcomer.id).status).toBe('pending')
    const group = { type: 'group.create', name: 'mine', epochKeyHash: undefined } as const
    expect(chain.run(newcomer, group)).toBe('signer-not-active')
    const light = actor(22)
    expect(chain.run(light, chain.registerBody(light))).toBe('ok')
    expect(chain.identity(light.id).status).toBe('active')
  })

  test('register: refuses an id whose owner is active (Qiu A6)', () => {
    const chain = granted()
    expect(chain.run(device, chain.registerBody(device))).toBe('id-active')
    expect(grantOf(chain).used).toBe(0)
  })

  test('register: refuses an id that was revoked or is suspended', () => {
    const chain = granted()
    chain.suspend(device)
    expect(chain.run(device, chain.registerBody(device))).toBe('invalid-state')
    chain.revoke(device)
    expect(chain.run(device, chain.registerBody(device))).toBe('invalid-state')
  })

  test('register: refuses a challenge of who is no coordination node', () => {
    const chain = granted()
    const challenge = (who: typeof device) => ({
      ...chain.registerBody(newcomer).challenge,
      coordinator: who.id,
    })
    const ask = (who: typeof device) =>
      chain.run(newcomer, chain.registerBody(newcomer, { challenge: challenge(who) }))
    expect(ask(actor(99))).toBe('challenge-expired')
    expect(ask(device)).toBe('challenge-expired')
    expect(ask(fullNode)).toBe('challenge-expired')
    chain.suspend(coordinator)
    expect(ask(coordinator)).toBe('challenge-expired')
  })

  test('register: refuses a challenge that is too old or from the future', () => {
    const chain = new SampleLedger({ parameters: { challengeAgeMs: 30 * second } })
    chain.run(operator, chain.grantBody())
    const at = (issuedAt: number): RegisterBody => {
      const body = chain.registerBody(newcomer)
      return { ...body, challenge: { ...body.challenge, issuedAt: Milliseconds(issuedAt) } }
    }
    expect(chain.run(newcomer, at(chain.time - 30 * second))).toBe('challenge-expired')
    expect(chain.run(newcomer, at(chain.time + 32 * second))).toBe('challenge-expired')
    expect(chain.run(newcomer, at(chain.time - 29 * second))).toBe('ok')
  })

  test('register: refuses a further signing key without proof of possession', () => {
    const chain = granted()
    const spare = chain.newSigningKey(newcomer, actor(40))
    const forAnother = chain.newSigningKey(device, actor(40))
    expect(chain.run(newcomer, chain.registerBody(newcomer, { keys: [forAnother] }))).toBe(
      'possession-not-proven',
    )
    expect(chain.run(newcomer, chain.registerBody(newcomer, { keys: [spare] }))).toBe('ok')
  })

  test('register: refuses the same key twice', () => {
    const chain = granted()
    const keys = [encryptionKey(5), encryptionKey(5)]
    expect(chain.run(newcomer, chain.registerBody(newcomer, { keys }))).toBe('already-exists')
    const inception = [chain.newSigningKey(newcomer, newcomer)]
    expect(chain.run(newcomer, chain.registerBody(newcomer, { keys: inception }))).toBe('already-exists')
  })

  test('register: refuses a key that ends before it begins', () => {
    const chain = granted()
    const keys = [encryptionKey(5, chain.time + second)]
    expect(chain.run(newcomer, chain.registerBody(newcomer, { keys }))).toBe('invalid-state')
  })

  test('register: refuses a signer that is not the inception key', () => {
    const chain = granted()
    const body = chain.registerBody(newcomer)
    expect(chain.run(device, body)).toBe('unknown-signer')
    const signer = { deviceId: newcomer.id, keyId: keyIdOf(device.signer.publicKey) }
    expect(chain.run(newcomer, body, { signer })).toBe('unknown-signer')
    expect(chain.run(newcomer, body, { signedBy: device.signer })).toBe('bad-signature')
  })
})

describe('suspend and revoke', () => {
  test('revoke: a revoked identity stays revoked and cannot act', () => {
    const chain = new SampleLedger()
    expect(chain.revoke(device)).toBe('ok')
    expect(chain.identity(device.id)).toMatchObject({ status: 'revoked', version: 2, updatedAt: 1 })
    expect(chain.revoke(device)).toBe('invalid-state')
    expect(chain.suspend(device)).toBe('invalid-state')
    const group = { type: 'group.create', name: 'mine', epochKeyHash: undefined } as const
    expect(chain.run(device, group)).toBe('signer-not-active')
  })

  test('suspend: a suspended identity cannot act, and can be revoked', () => {
    const chain = new SampleLedger()
    expect(chain.suspend(device)).toBe('ok')
    expect(chain.suspend(device)).toBe('invalid-state')
    const group = { type: 'group.create', name: 'mine', epochKeyHash: undefined } as const
    expect(chain.run(device, group)).toBe('signer-not-active')
    expect(chain.revoke(device)).toBe('ok')
  })

  test.each(['identity.suspend', 'identity.revoke'] as const)(
    '%s: what the subject does to its own record meanwhile does not stand in the way',
    type => {
      const chain = new SampleLedger()
      const decided = chain.sign(operator, { type, subject: device.id, reason: '' })
      for (let n = 0; n < 3; n++) {
        const expectedVersion = chain.identity(device.id).version
        const key = encryptionKey(n + 1)
        expect(chain.run(device, { type: 'key.add', subject: device.id, expectedVersion, key })).toBe('ok')
      }
      expect(chain.execute(decided)).toMatchObject({ receipts: [{ code: 'ok' }] })
    },
  )

  test('revoke: refuses an unknown subject', () => {
    const chain = new SampleLedger()
    const body = { type: 'identity.revoke', subject: newcomer.id, reason: '' } as const
    expect(chain.run(operator, body)).toBe('unknown-subject')
  })

  test('revoke: one operator cannot remove another', () => {
    const chain = new SampleLedger()
    expect(chain.revoke(secondOperator)).toBe('not-authorised')
    expect(chain.suspend(secondOperator)).toBe('not-authorised')
    expect(chain.identity(secondOperator.id).status).toBe('active')
  })

  test('revoke: a device cannot revoke another', () => {
    const chain = new SampleLedger()
    const body = { type: 'identity.revoke', subject: other.id, reason: '' } as const
    expect(chain.run(device, body)).toBe('not-authorised')
  })
})
