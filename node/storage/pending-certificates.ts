/**
 * Certificates that go to disk with the next block: a write of their own would cost a lone block a third more. They can be
 * read at once. A crash loses them, which is nothing: they are fetched or collected again.
 *
 * Invariants: each is in here, or in a write that was built later than it was added; a height is taken from here only when
 * the next certificate comes, so that it can be read while its write is under way.
 */
import type { Height } from '../../chain/brands.ts'
import type { BatchOperation } from './byte-store.ts'
import { storeKey } from './store-keys.ts'
import { put } from './store-operations.ts'

export interface HeightAndCertificate {
  readonly height: Height
  readonly certificate: Uint8Array
}

/** Kept readable after their write was built: more than are certified while one write is under way. */
const maxReadable = 64

export class PendingCertificates {
  /** Ascending by height. */
  #readable: HeightAndCertificate[] = []
  #unwritten: HeightAndCertificate[] = []

  add(height: Height, certificate: Uint8Array): void {
    const entry = { height, certificate }
    this.#unwritten.push(entry)
    this.#readable = [...this.#readable, entry].sort((a, b) => a.height - b.height).slice(-maxReadable)
  }

  /** What the write that is built now carries. */
  take(): readonly BatchOperation[] {
    const taken = this.#unwritten
    this.#unwritten = []
    return taken.map(({ height, certificate }) => put(storeKey('certificate', height), certificate))
  }

  at(height: Height): Uint8Array | undefined {
    return this.#readable.find(entry => entry.height === height)?.certificate
  }

  latest(): HeightAndCertificate | undefined {
    return this.#readable.at(-1)
  }

  atOrAbove(height: Height): HeightAndCertificate | undefined {
    return this.#readable.find(entry => entry.height >= height)
  }
}
