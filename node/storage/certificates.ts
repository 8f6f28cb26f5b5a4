/**
 * Certificates on their way to the disk and on it. None has a write of its own, which would cost a lone block a third more:
 * it travels with the next one, and can be read until then. A crash loses what waits; it is fetched or collected again.
 *
 * Invariant: a certificate is in memory or on disk. What waits is looked at first, because it may be on disk when that is read.
 */
import type { Height } from '../../chain/brands.ts'
import type { ByteStore, WriteQueue } from './byte-store.ts'
import { put } from './store-operations.ts'
import { numberInKey, open, rangeOf, storeKey } from './store-records.ts'

export interface HeightAndCertificate {
  readonly height: Height
  readonly certificate: Uint8Array
}

export class Certificates {
  readonly #store: ByteStore
  readonly #queue: WriteQueue
  /** Few: each block is a write, and they go with it. */
  readonly #waiting = new Map<Height, Uint8Array>()

  constructor(store: ByteStore, queue: WriteQueue) {
    this.#store = store
    this.#queue = queue
  }

  put(height: Height, certificate: Uint8Array): void {
    this.#waiting.set(height, certificate)
    const written = () => {
      if (this.#waiting.get(height) === certificate) this.#waiting.delete(height)
    }
    // A disk that refuses says so to the write that this one travels with.
    this.#queue
      .write(() => [put(storeKey('certificate', height), certificate)], false, 'waits')
      .then(written, () => {})
  }

  async at(height: Height): Promise<Uint8Array | undefined> {
    const waiting = this.#waiting.get(height)
    if (waiting) return waiting
    const key = storeKey('certificate', height)
    const value = await this.#store.get(key)
    return value && open(key, value)
  }

  async highest(): Promise<HeightAndCertificate | undefined> {
    const found: HeightAndCertificate[] = []
    for (const [height, certificate] of this.#waiting) found.push({ height, certificate })
    for await (const [key, value] of this.#store.range({
      ...rangeOf('certificate'),
      reverse: true,
      limit: 1,
    }))
      found.push({ height: numberInKey(key, 1) as Height, certificate: open(key, value) })
    return found.sort((a, b) => a.height - b.height).at(-1)
  }
}
