/**
 * A verifier that remembers what it has found valid: a transaction is verified when it is admitted and met again when
 * its block is executed; a header signature comes once live and once in a certificate.
 *
 * Only positive findings are kept, under a SHA-256 of the whole of (key, message, signature), so a memory can never turn
 * a bad signature into a good one.
 */
import { hash } from 'node:crypto'
import type { PublicKey, SignatureVerifier } from '../../chain/keys.ts'
import { RecentMap } from '../../chain/recent-map.ts'

export class RememberingVerifier implements SignatureVerifier {
  readonly #verifier: SignatureVerifier
  readonly #valid: RecentMap<string, true>

  /** @param perGeneration findings kept; at most twice as many are held */
  constructor(verifier: SignatureVerifier, perGeneration = 32_768) {
    this.#verifier = verifier
    this.#valid = new RecentMap(perGeneration)
  }

  verify(key: PublicKey, message: Uint8Array, signature: Uint8Array): boolean {
    const name = nameOf(key, message, signature)
    if (this.#valid.get(name)) return true
    if (!this.#verifier.verify(key, message, signature)) return false
    this.#valid.set(name, true)
    return true
  }
}

/** Lengths go first, so that no two triples have the same bytes. */
function nameOf({ suite, bytes }: PublicKey, message: Uint8Array, signature: Uint8Array): string {
  const lengths = Uint8Array.of(suite.length, bytes.length, signature.length)
  return hash('sha256', Buffer.concat([lengths, bytes, signature, message]), 'binary')
}
