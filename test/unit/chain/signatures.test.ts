import { createPublicKey, verify } from 'node:crypto'
import { ed25519 } from '@noble/curves/ed25519.js'
import { describe, expect, test } from 'vitest'
import type { SignatureVerifier } from '../../../chain/keys.ts'
import { nobleVerifier, signerFromSeed, x25519PublicKey } from '../../../chain/noble-crypto.ts'
import { nativeSignerFromSeed, nativeVerifier, nativeX25519PublicKey } from '../../../client/native-crypto.ts'
import { signatureVerifierContract } from '../../contract/signature-verifier.ts'

/** A third opinion on Ed25519: OpenSSL compares R byte for byte but takes points of small order and other encodings. */
const openSslVerifier: SignatureVerifier = {
  verify({ bytes }, message, signature) {
    if (bytes.length !== 32 || signature.length !== 64) return false
    try {
      const points = [bytes, signature.subarray(0, 32)].map(point => ed25519.Point.fromBytes(point, false))
      if (points.some(point => point.isSmallOrder())) return false
      const der = Buffer.concat([Buffer.from('302a300506032b6570032100', 'hex'), bytes])
      return verify(null, message, createPublicKey({ key: der, format: 'der', type: 'spki' }), signature)
    } catch {
      return false
    }
  },
}

signatureVerifierContract('noble', nobleVerifier)
signatureVerifierContract('native', nativeVerifier)
signatureVerifierContract('OpenSSL with checks', openSslVerifier, ['ed25519'])

describe('signers', () => {
  const message = new TextEncoder().encode('motechain')

  test.each(['ed25519', 'p256'] as const)(
    'signers: noble and native make the same %s key, and accept each other',
    suite => {
      for (let i = 1; i <= 6; i++) {
        const seed = new Uint8Array(32).fill(i)
        const noble = signerFromSeed(suite, seed)
        const native = nativeSignerFromSeed(suite, seed)
        expect(native.publicKey).toEqual(noble.publicKey)
        expect(nativeVerifier.verify(noble.publicKey, message, noble.sign(message))).toBe(true)
        expect(nobleVerifier.verify(noble.publicKey, message, native.sign(message))).toBe(true)
      }
    },
  )

  test('signers: noble and native make the same x25519 key', () => {
    for (let i = 0; i <= 6; i++) {
      const seed = new Uint8Array(32).fill(i)
      expect(nativeX25519PublicKey(seed)).toEqual(x25519PublicKey(seed))
    }
  })

  test('signers: ed25519 signatures of noble and native are equal (RFC 8032 is deterministic)', () => {
    const seed = new Uint8Array(32).fill(3)
    expect(nativeSignerFromSeed('ed25519', seed).sign(message)).toEqual(
      signerFromSeed('ed25519', seed).sign(message),
    )
  })

  test('signers: a seed that is no P-256 scalar is a mistake of the caller', () => {
    for (const seed of [new Uint8Array(32), new Uint8Array(32).fill(0xff)]) {
      expect(() => signerFromSeed('p256', seed)).toThrow()
      expect(() => nativeSignerFromSeed('p256', seed)).toThrow()
    }
  })

  test('native verifier: stays right when more keys are in use than it caches', () => {
    const signers = Array.from({ length: 3 }, (_, i) =>
      signerFromSeed('p256', new Uint8Array(32).fill(i + 1)),
    )
    const signatures = signers.map(signer => signer.sign(message))
    for (let i = 0; i < 5000; i++) {
      const bytes = Uint8Array.from(Buffer.from(`02${i.toString(16).padStart(64, '0')}`, 'hex'))
      nativeVerifier.verify({ suite: 'p256', bytes }, message, signatures[0]!)
    }
    signers.forEach((signer, i) => {
      expect(nativeVerifier.verify(signer.publicKey, message, signatures[i]!)).toBe(true)
      expect(nativeVerifier.verify(signer.publicKey, message, signatures[(i + 1) % 3]!)).toBe(false)
    })
  })
})
