/** Which keys may stand on the chain: the vectors, and what the libraries that use them make of the same bytes. */
import { constants, createPrivateKey, createPublicKey, diffieHellman, publicEncrypt } from 'node:crypto'
import { readFileSync } from 'node:fs'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import type { EncryptionKey, PublicKey } from '../../../chain/keys.ts'
import { nobleVerifier } from '../../../chain/noble-crypto.ts'
import { keyFlaw } from '../../../chain/usable-keys.ts'
import { nativeVerifier } from '../../../client/native-crypto.ts'
import { sealToKey } from '../../../mqtt-gateway/device/key-sealing.ts'
import type { KeyVector } from '../../vectors/make-keys.ts'
import type { SignatureVector } from '../../vectors/make-signatures.ts'

function vectorsOf<T>(name: string): readonly T[] {
  const file = new URL(`../../vectors/${name}.json`, import.meta.url)
  return (JSON.parse(readFileSync(file, 'utf8')) as { vectors: readonly T[] }).vectors
}

const hex = (text: string) => Uint8Array.from(Buffer.from(text, 'hex'))
const keys = vectorsOf<KeyVector>('keys')
const of = (suite: KeyVector['suite']) => keys.filter(vector => vector.suite === suite)
const isUsable = (key: PublicKey | EncryptionKey) => keyFlaw(key) === undefined

describe('usable keys', () => {
  test.each(keys)('$suite: $name: $usable', ({ suite, key, usable }) => {
    expect(isUsable({ suite, bytes: hex(key) })).toBe(usable)
  })

  test('asked again, also after the same bytes as a key of another suite: the same answer', () => {
    for (const { suite, key, usable } of [...keys, ...keys.toReversed()]) {
      expect(isUsable({ suite, bytes: hex(key) })).toBe(usable)
      const other = suite === 'ed25519' ? 'p256' : 'ed25519'
      const isOther = isUsable({ suite: other, bytes: hex(key) })
      if (hex(key).length !== (other === 'p256' ? 33 : 32)) expect(isOther).toBe(false)
    }
  })

  test('of another length, and whatever else comes: no throw, and not usable', () => {
    fc.assert(
      fc.property(
        fc.constantFrom<KeyVector['suite']>('ed25519', 'p256', 'x25519', 'p256-ecdh', 'rsa-oaep'),
        fc.uint8Array({ maxLength: 600 }),
        (suite, bytes) => {
          const isLong = bytes.length !== (suite.startsWith('p256') ? 33 : 32)
          if (isLong || suite === 'rsa-oaep') expect(keyFlaw({ suite, bytes })).toEqual(expect.any(String))
          else keyFlaw({ suite, bytes })
        },
      ),
    )
  })
})

describe('usable keys: every library agrees', () => {
  const signatures = vectorsOf<SignatureVector>('signatures')

  test('no verifier accepts a signature under a key that is not usable', () => {
    for (const { suite, key, message, signature, valid } of signatures)
      if (valid) expect(isUsable({ suite, bytes: hex(key) })).toBe(true)
      else if (!isUsable({ suite, bytes: hex(key) }))
        for (const verifier of [nobleVerifier, nativeVerifier])
          expect(verifier.verify({ suite, bytes: hex(key) }, hex(message), hex(signature))).toBe(false)
  })

  test('X25519: HPKE seals to the usable ones and to no other; OpenSSL refuses those of small order', async () => {
    const privateKey = createPrivateKey({
      key: Buffer.concat([Buffer.from('302e020100300506032b656e04220420', 'hex'), Buffer.alloc(32, 0x48)]),
      format: 'der',
      type: 'pkcs8',
    })
    for (const { name, key, usable } of of('x25519')) {
      const bytes = hex(key)
      const context = { info: new Uint8Array(), aad: new Uint8Array() }
      expect((await sealToKey({ suite: 'x25519', bytes }, bytes, context)).ok, name).toBe(usable)
      const spki = Buffer.concat([Buffer.from('302a300506032b656e032100', 'hex'), bytes])
      const publicKey = createPublicKey({ key: spki, format: 'der', type: 'spki' })
      const agree = () => diffieHellman({ privateKey, publicKey })
      if (usable) expect(agree(), name).toHaveLength(32)
      if (name.startsWith('of small order')) expect(agree, name).toThrow()
    }
  })

  test('P-256: OpenSSL reads the usable ones and no other', () => {
    const prefix = Buffer.from('3039301306072a8648ce3d020106082a8648ce3d030107032200', 'hex')
    const reads = (bytes: Uint8Array) => {
      try {
        createPublicKey({ key: Buffer.concat([prefix, bytes]), format: 'der', type: 'spki' })
        return true
      } catch {
        return false
      }
    }
    for (const { name, key, usable } of of('p256-ecdh')) expect(reads(hex(key)), name).toBe(usable)
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 32, maxLength: 32 }), fc.constantFrom(2, 3), (x, first) => {
        const bytes = Uint8Array.of(first, ...x)
        expect(isUsable({ suite: 'p256', bytes })).toBe(reads(bytes))
      }),
      { numRuns: 50 },
    )
  })

  test('RSA: OpenSSL encrypts to the usable ones', () => {
    for (const { key } of of('rsa-oaep').filter(({ usable }) => usable)) {
      const publicKey = createPublicKey({ key: Buffer.from(hex(key)), format: 'der', type: 'pkcs1' })
      const sealed = publicEncrypt(
        { key: publicKey, padding: constants.RSA_PKCS1_OAEP_PADDING, oaepHash: 'sha256' },
        Buffer.from('motechain'),
      )
      expect(sealed.length).toBeGreaterThanOrEqual(256)
    }
  })
})
