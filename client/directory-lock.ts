/**
 * One process per directory, for programs that keep no database of their own there. The lock is LevelDB's
 * (level-directory.ts), which ends with its holder; a file with a process id would not. Beside it the holder writes who it is, for
 * the message to whoever comes second.
 */
import { join } from 'node:path'
import { readFileIfThere, writeFileAtomic } from './atomic-file.ts'
import { openLevel } from './level-directory.ts'

/** Held until it is released or the process ends. */
export interface DirectoryLock {
  release(): Promise<void>
}

/** Locks a directory (created, 0700, if missing). Throws `in-use`, which names the holder, and `storage-failed`. */
export async function lockDirectory(directory: string): Promise<DirectoryLock> {
  const holder = join(directory, 'holder.json')
  const level = await openLevel(join(directory, 'lock'), {}, () => describe(holder))
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
