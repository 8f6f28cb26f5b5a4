/**
 * The ordered map of bytes that the chain's storage is built on: LevelDB in production (level-storage.ts), an
 * in-memory map with simulated crashes in tests. Keys sort bytewise.
 */

/** Put when `value` is given, delete when it is null. */
export interface Operation {
  readonly key: Uint8Array
  readonly value: Uint8Array | null
}

/** Keys from `from` (inclusive) to `to` (exclusive). */
export interface KeyRange {
  readonly from: Uint8Array
  readonly to: Uint8Array
  readonly reverse?: boolean
  readonly limit?: number
}

export interface ByteStore {
  get(key: Uint8Array): Promise<Uint8Array | undefined>
  range(range: KeyRange): AsyncIterable<readonly [key: Uint8Array, value: Uint8Array]>
  /** Atomic. When `durable`, this write and every earlier one survive a crash once the promise resolves. */
  write(operations: readonly Operation[], durable: boolean): Promise<void>
  close(): Promise<void>
}
