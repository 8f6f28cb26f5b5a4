/**
 * What is signed, on its way to the disk and on it: certificates, and what this node has promised with its own signatures
 * (`SignedRecords`).
 *
 * No certificate has a write of its own, which would cost a lone block a third more: it travels with the next one, and can be
 * read until then. A crash loses what waits; it is fetched or collected again.
 *
 * Invariant: a certificate is in memory or on disk. What waits is looked at first, because it may be on disk when that is read.
 */
import type { Height } from '../../chain/brands.ts'
import { RecentMap } from '../../chain/recent-map.ts'
import { MoteError } from '../../chain/result.ts'
import type { SignedHeader } from '../ports.ts'
import type { ByteStore, WriteQueue } from './byte-store.ts'
import { put } from './store-operations.ts'
import { numberInKey, open, openRecord, rangeOf, signedCodec, storeKey } from './store-records.ts'

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

/*
 * What this node has promised with its signatures: one header hash at each (incarnation, height), for ever.
 *
 * Headers are signed in order, so what comes after the newest record cannot contradict one and is not looked up: a search
 * for a key that is not there is the slowest kind. Recent records are kept in memory, because the writes of one batch
 * are checked before any of them is stored.
 */

type Place = Pick<SignedHeader, 'incarnation' | 'height'>

/** More records than one batch can hold. */
const maxRecent = 16_384

export class SignedRecords {
  readonly #store: ByteStore
  readonly #recent = new RecentMap<string, SignedHeader>(maxRecent)
  /** The newest record, stored or remembered; read once. */
  #newest: Promise<Place | undefined> | undefined

  constructor(store: ByteStore) {
    this.#store = store
  }

  /** As it is stored. */
  async at({ incarnation, height }: Place): Promise<SignedHeader | undefined> {
    const key = storeKey('signed', incarnation, height)
    const value = await this.#store.get(key)
    return value && { incarnation, height, ...openRecord(signedCodec, key, value) }
  }

  /** Throws `execution-diverged` if another hash is recorded at that place. */
  async check(signed: SignedHeader): Promise<void> {
    this.#newest ??= this.#newestStored()
    if (isAfter(signed, await this.#newest)) return
    const earlier = this.#recent.get(nameOf(signed)) ?? (await this.at(signed))
    if (!earlier || earlier.headerHash === signed.headerHash) return
    throw new MoteError(
      'execution-diverged',
      `height ${signed.height}: signed ${earlier.headerHash} before, refusing to sign ${signed.headerHash}`,
    )
  }

  /** The record is part of a batch that is being written. Follows `check`. */
  async remember(signed: SignedHeader): Promise<void> {
    if (isAfter(signed, await this.#newest)) this.#newest = Promise.resolve(signed)
    this.#recent.set(nameOf(signed), signed)
  }

  async #newestStored(): Promise<Place | undefined> {
    for await (const [key] of this.#store.range({ ...rangeOf('signed'), reverse: true, limit: 1 }))
      return { incarnation: numberInKey(key, 1), height: numberInKey(key, 9) as Height }
    return undefined
  }
}

function isAfter(place: Place, newest: Place | undefined): boolean {
  if (newest === undefined || place.incarnation !== newest.incarnation)
    return newest === undefined || place.incarnation > newest.incarnation
  return place.height > newest.height
}

function nameOf({ incarnation, height }: Place): string {
  return `${incarnation}/${height}`
}
