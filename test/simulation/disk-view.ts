/** What is durable on a simulated disk, read past the storage logic: by key, checksum and form. */
import type { Hash } from '../../chain/brands.ts'
import type { HardState } from '../../consensus/types.ts'
import { snapshotCodec } from '../../node/ports.ts'
import {
  hardStateCodec,
  logTailCodec,
  openEntry,
  openRecord,
  signedCodec,
  storeKey,
} from '../../node/storage/store-records.ts'
import type { SimulatedDisk } from './disk.ts'

export class DiskView {
  /** A value is never changed, so what it says stays. */
  readonly #read = new WeakMap<Uint8Array, unknown>()

  hardState(disk: SimulatedDisk): HardState {
    const key = storeKey('hardState')
    const found = this.#once(disk.durable(key), value => openRecord(hardStateCodec, key, value))
    return found ?? { currentTerm: 0, votedFor: null }
  }

  /** Up to where the log counts. */
  logEnd(disk: SimulatedDisk): number {
    const key = storeKey('logTail')
    const tail = this.#once(disk.durable(key), value => openRecord(logTailCodec, key, value))
    return tail?.lastIndex ?? 0
  }

  holds(disk: SimulatedDisk, index: number, term: number): boolean {
    const snapshotKey = storeKey('snapshot')
    const snapshot = this.#once(disk.durable(snapshotKey), value =>
      openRecord(snapshotCodec, snapshotKey, value),
    )
    if (snapshot && index <= snapshot.lastIncludedIndex) return true
    if (index > this.logEnd(disk)) return false
    const key = storeKey('entry', index)
    return this.#once(disk.durable(key), value => openEntry(index, key, value))?.term === term
  }

  signedHash(disk: SimulatedDisk, height: number): Hash | undefined {
    const key = storeKey('signed', 0, height)
    return this.#once(disk.durable(key), value => openRecord(signedCodec, key, value))?.headerHash
  }

  hasHeader(disk: SimulatedDisk, height: number): boolean {
    return disk.durable(storeKey('header', height)) !== undefined
  }

  #once<T>(value: Uint8Array | undefined, open: (value: Uint8Array) => T): T | undefined {
    if (!value) return undefined
    const known = this.#read.get(value)
    if (known !== undefined) return known as T
    const opened = open(value)
    this.#read.set(value, opened)
    return opened
  }
}
