/**
 * One process per data directory, for nodes that keep no database of their own. The lock is LevelDB's: a kernel
 * lock on a file, so it ends with its holder, however that ended; a file with a process id would not.
 */
import { join } from 'node:path'
import { openLevelByteStore } from './level-storage.ts'

/** Held until it is released or the process ends. */
export interface DirectoryLock {
  release(): Promise<void>
}

/** Locks a directory (created, 0700, if missing). Throws `in-use`. */
export async function lockDirectory(directory: string): Promise<DirectoryLock> {
  const store = await openLevelByteStore(join(directory, 'lock'))
  return { release: () => store.close() }
}
