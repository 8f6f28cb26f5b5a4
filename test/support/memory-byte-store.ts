/**
 * A byte store in memory. A `MemoryDisk` outlives the stores opened on it, so that a test can crash a node and
 * open its disk again: `crash` forgets what was not durable, `damage` and `remove` touch stored bytes behind the
 * store's back.
 */
import { bytesToHex, hexToBytes } from '@noble/hashes/utils.js'
import { MoteError } from '../../chain/result.ts'
import type { BatchOperation, ByteStore, KeyRange } from '../../node/storage/byte-store.ts'

export class MemoryDisk {
  /** What a crash keeps. */
  #durable = new Map<string, Uint8Array>()
  #written = new Map<string, Uint8Array>()
  #open: MemoryByteStore | undefined
  /** Durable batches so far. */
  syncs = 0
  /** Batches so far, durable or not. */
  writes = 0
  /** The process ends at the write with this number, before or after it has reached the disk. */
  endsAt: { readonly write: number; readonly when: 'before' | 'after'; readonly end: () => void } | undefined
  /** Writes wait for this, without an error. */
  hangsUntil: Promise<void> | undefined
  /** The next write fails with this error. */
  failNextWrite: Error | undefined

  open(): ByteStore {
    if (this.#open) throw new MoteError('in-use', 'memory disk: open already')
    this.#open = new MemoryByteStore(this)
    return this.#open
  }

  /** The process is gone without closing; writes that were not durable are lost. */
  crash(): void {
    this.#open?.forget()
    this.#open = undefined
    this.#written = new Map(this.#durable)
  }

  /** Another disk with everything that is durable here. */
  copy(): MemoryDisk {
    const copy = new MemoryDisk()
    copy.#durable = new Map(this.#durable)
    copy.#written = new Map(this.#durable)
    return copy
  }

  released(): void {
    this.#open = undefined
  }

  damage(key: Uint8Array, change: (value: Uint8Array) => Uint8Array | null): void {
    const name = bytesToHex(key)
    const value = this.#written.get(name)
    if (!value) throw new Error(`no record ${name}`)
    this.apply([{ key, value: change(Uint8Array.from(value)) }], true)
  }

  apply(operations: readonly BatchOperation[], durable: boolean): void {
    for (const { key, value } of operations)
      if (value === null) this.#written.delete(bytesToHex(key))
      else this.#written.set(bytesToHex(key), Uint8Array.from(value))
    if (!durable) return
    this.syncs++
    this.#durable = new Map(this.#written)
  }

  get(key: Uint8Array): Uint8Array | undefined {
    return this.#written.get(bytesToHex(key))
  }

  keys({ from, to, reverse = false, limit = Number.POSITIVE_INFINITY }: KeyRange): readonly string[] {
    const [first, end] = [bytesToHex(from), bytesToHex(to)]
    const keys = [...this.#written.keys()].filter(key => key >= first && key < end).sort()
    return (reverse ? keys.reverse() : keys).slice(0, limit)
  }
}

class MemoryByteStore implements ByteStore {
  readonly #disk: MemoryDisk
  #open = true

  constructor(disk: MemoryDisk) {
    this.#disk = disk
  }

  forget(): void {
    this.#open = false
  }

  #check(): void {
    if (!this.#open) throw new MoteError('not-ready', 'storage: closed')
  }

  async get(key: Uint8Array): Promise<Uint8Array | undefined> {
    this.#check()
    return this.#disk.get(key)
  }

  async *range(range: KeyRange): AsyncGenerator<readonly [Uint8Array, Uint8Array]> {
    this.#check()
    for (const name of this.#disk.keys(range)) {
      const key = hexToBytes(name)
      const value = this.#disk.get(key)
      if (value) yield [key, value]
    }
  }

  async write(operations: readonly BatchOperation[], durable: boolean): Promise<void> {
    this.#check()
    if (this.#disk.hangsUntil) await this.#disk.hangsUntil
    const failure = this.#disk.failNextWrite
    this.#disk.failNextWrite = undefined
    if (failure) throw failure
    const { endsAt } = this.#disk
    const ends = endsAt?.write === ++this.#disk.writes
    if (!ends || endsAt?.when === 'after') this.#disk.apply(operations, durable)
    if (!ends) return
    endsAt?.end()
    // Nobody is left to be told.
    await new Promise<never>(() => {})
  }

  async reclaim(): Promise<void> {}

  async close(): Promise<void> {
    if (!this.#open) return
    this.#open = false
    this.#disk.released()
  }
}
