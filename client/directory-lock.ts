/**
 * One process per directory, for programs that keep no database of their own there. The lock is LevelDB's: a kernel
 * lock on a file, so it ends with its holder, however that ended; a file with a process id would not. Beside it the
 * holder writes who it is, for the message to whoever comes second.
 */
import { join } from 'node:path'
import { Level } from 'level'
import { MoteError } from '../chain/result.ts'
import { privateDirectory, readFileIfThere, writeFileAtomic } from './atomic-file.ts'

/** Held until it is released or the process ends. */
export interface DirectoryLock {
  release(): Promise<void>
}

/** Locks a directory (created, 0700, if missing). Throws `in-use`, which names the holder, and `storage-failed`. */
export async function lockDirectory(directory: string): Promise<DirectoryLock> {
  const path = join(directory, 'lock')
  const holder = join(directory, 'holder.json')
  await privateDirectory(path)
  const level = new Level(path)
  try {
    await level.open()
  } catch (error) {
    const { cause } = error as { readonly cause?: { readonly code?: string; readonly message?: string } }
    if (cause?.code === 'LEVEL_LOCKED')
      throw new MoteError('in-use', `${directory}: held by ${await describe(holder)}`, { cause: error })
    throw new MoteError('storage-failed', `${path}: ${cause?.message ?? String(error)}`, { cause: error })
  }
  await writeFileAtomic(holder, `${JSON.stringify({ pid: process.pid, since: new Date().toISOString() })}\n`)
  return { release: () => level.close() }
}

/** Who holds the lock, as far as it said: it may have come this very moment. */
async function describe(path: string): Promise<string> {
  try {
    const content = await readFileIfThere(path)
    const { pid, since } = JSON.parse(Buffer.from(content ?? '{}').toString('utf8')) as Record<
      string,
      unknown
    >
    if (Number.isSafeInteger(pid)) return `process ${pid} since ${String(since)}`
  } catch {
    // Advice only: the lock itself is what counts.
  }
  return 'another process'
}
