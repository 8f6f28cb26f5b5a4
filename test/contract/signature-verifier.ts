/**
 * The contract of every `SignatureVerifier`: the strict set of chain/keys.ts, no more and no less. Run it on each adapter.
 */
import { readFileSync } from 'node:fs'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import type { SignatureVerifier } from '../../chain/keys.ts'
import { nobleVerifier, signerFromSeed } from '../../chain/noble-crypto.ts'
import type { SignatureVector } from '../vectors/make-signatures.ts'

const { vectors } = JSON.parse(
  readFileSync(new URL('../vectors/signatures.json', import.meta.url), 'utf8'),
) as { vectors: readonly SignatureVector[] }

/** One of the eight points of small order, or an encoding next to a border. */
const strangePoint = fc.constantFrom(
  ...vectors.filter(vector => vector.suite === 'ed25519').map(vector => Buffer.from(vector.key, 'hex')),
)

export function signatureVerifierContract(
  name: string,
  verifier: SignatureVerifier,
  suites: readonly SignatureVector['suite'][] = ['ed25519', 'p256'],
): void {
  describe(`signature verifier ${name}`, () => {
    test.each(vectors.filter(vector => suites.includes(vector.suite)))('$suite: $name: $valid', vector => {
      const [key, message, signature] = [vector.key, vector.message, vector.signature].map(text =>
        Uint8Array.from(Buffer.from(text, 'hex')),
      )
      expect(verifier.verify({ suite: vector.suite, bytes: key! }, message!, signature!)).toBe(vector.valid)
    })

    test.each(suites)('%s: verifies what is signed, and no signature with a changed bit', suite => {
      fc.assert(
        fc.property(
          fc
            .uint8Array({ minLength: 32, maxLength: 32 })
            .map(seed => seed.with(0, seed[0]! & 0x7f).with(31, 1)),
          fc.uint8Array({ maxLength: 200 }),
          fc.nat(511),
          (seed, message, bit) => {
            const signer = signerFromSeed(suite, seed)
            const signature = signer.sign(message)
            expect(verifier.verify(signer.publicKey, message, signature)).toBe(true)
            const padded = Buffer.concat([signature, message, signature])
            const [text, tail] = [padded.subarray(64, -64), padded.subarray(-64)]
            expect(verifier.verify(signer.publicKey, text, tail)).toBe(true)
            const changed = signature.with(bit >> 3, signature[bit >> 3]! ^ (1 << (bit & 7)))
            expect(verifier.verify(signer.publicKey, message, changed)).toBe(false)
          },
        ),
        { numRuns: 12 },
      )
    })

    test.each(suites)('%s: agrees with noble on random keys and signatures, and never throws', suite => {
      fc.assert(
        fc.property(
          fc.oneof(fc.uint8Array({ maxLength: 66 }), strangePoint),
          fc.uint8Array({ maxLength: 40 }),
          fc.oneof(
            fc.uint8Array({ minLength: 60, maxLength: 66 }),
            fc.tuple(strangePoint, strangePoint).map(halves => Uint8Array.from(Buffer.concat(halves))),
          ),
          (bytes, message, signature) => {
            const key = { suite, bytes: Uint8Array.from(bytes) }
            expect(verifier.verify(key, message, signature)).toBe(
              nobleVerifier.verify(key, message, signature),
            )
          },
        ),
        { numRuns: 300 },
      )
    })
  })
}
