/**
 * LevelDB as the byte store of a node (`level` over classic-level): one directory, one process
 * (client/level-directory.ts).
 *
 * LevelDB checks its files by CRC when it reads them and drops a torn end of its write-ahead log at opening;
 * chain-storage.ts adds a checksum per record and notices what is missing.
 */

import type { Level } from 'level'
import { MoteError } from '../../chain/result.ts'
import { openLevel } from '../../client/level-directory.ts'
import type { Storage } from '../ports.ts'
import type { BatchOperation, ByteStore, KeyRange } from './byte-store.ts'
import { openStorage } from './chain-storage.ts'
import type { StorageOwner } from './store-records.ts'

/** Unwritten data LevelDB keeps in memory before it starts a new file; two of these at most. */
const writeBufferBytes = 16 * 1024 * 1024

/**
 * The storage in directory `path` (created, 0700, if missing).
 * Throws `in-use` if a process has it open, `wrong-chain` if it belongs to another chain or device,
 * `storage-corrupt` or `storage-failed` if it cannot be read.
 */
export async function openLevelStorage(path: string, owner: StorageOwner): Promise<Storage> {
  return openStorage(await openLevelByteStore(path), owner)
}

/** The byte store in directory `path`; throws as `openLevelStorage` does. */
export async function openLevelByteStore(path: string): Promise<ByteStore> {
  return new LevelByteStore(
    await openLevel<Uint8Array, Uint8Array>(path, {
      keyEncoding: 'view',
      valueEncoding: 'view',
      writeBufferSize: writeBufferBytes,
    }),
  )
}

class LevelByteStore implements ByteStore {
  readonly #level: Level<Uint8Array, Uint8Array>

  constructor(level: Level<Uint8Array, Uint8Array>) {
    this.#level = level
  }

  async get(key: Uint8Array): Promise<Uint8Array | undefined> {
    try {
      return await this.#level.get(key)
    } catch (error) {
      throw readingFailure(error)
    }
  }

  async *range(range: KeyRange): AsyncGenerator<readonly [Uint8Array, Uint8Array]> {
    const { from, to, reverse = false, limit = -1 } = range
    try {
      yield* this.#level.iterator({ gte: from, lt: to, reverse, limit })
    } catch (error) {
      throw readingFailure(error)
    }
  }

  async write(operations: readonly BatchOperation[], durable: boolean): Promise<void> {
    const batch = operations.map(({ key, value }) =>
      value === null ? ({ type: 'del', key } as const) : ({ type: 'put', key, value } as const),
    )
    try {
      await this.#level.batch(batch, { sync: durable })
    } catch (error) {
      throw new MoteError('storage-failed', `write: ${(error as Error).message}`, { cause: error })
    }
  }

  async reclaim({ from, to }: Pick<KeyRange, 'from' | 'to'>): Promise<void> {
    // LevelDB has it, and the type that `level` shares with browsers has not.
    const { compactRange } = this.#level as unknown as {
      compactRange(this: Level<Uint8Array, Uint8Array>, from: Uint8Array, to: Uint8Array): Promise<void>
    }
    try {
      await compactRange.call(this.#level, from, to)
    } catch (error) {
      throw readingFailure(error)
    }
  }

  close(): Promise<void> {
    return this.#level.close()
  }
}

function readingFailure(error: unknown): unknown {
  if (error instanceof MoteError) return error
  const { code, message } = error as { code?: string; message?: string }
  if (code === 'LEVEL_CORRUPTION')
    return new MoteError('storage-corrupt', `read: ${message}`, { cause: error })
  if (code === 'LEVEL_DATABASE_NOT_OPEN')
    return new MoteError('not-ready', 'storage: closed', { cause: error })
  return new MoteError('storage-failed', `read: ${message}`, { cause: error })
}
