/**
 * Files that are whole or absent, for this user only: written beside their place, synced, renamed over it, and the
 * directory synced too. Directories are 0700, files 0600, whatever the umask says.
 *
 * A `DirectoryLock` keeps two processes from editing one directory at a time. It is a file that holds the owner's
 * process id; one whose owner is gone is taken over.
 */

import { randomBytes } from 'node:crypto'
import { chmod, mkdir, open, readFile, rename, rm } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { MoteError } from '../chain/result.ts'
import { Deadline } from './deadline.ts'
import { isRunning } from './running-process.ts'

/** Makes the directory and its parents, and closes it to other users. */
export async function privateDirectory(path: string): Promise<void> {
  await mkdir(path, { recursive: true, mode: 0o700 })
  await chmod(path, 0o700)
}

/**
 * Writes a file of mode 0600 so that a crash leaves the old content or the new, never a part.
 * Throws `storage-failed`.
 */
export async function writeFileAtomic(path: string, content: string | Uint8Array): Promise<void> {
  const beside = `${path}.${randomBytes(6).toString('hex')}.new`
  try {
    const file = await open(beside, 'wx', 0o600)
    try {
      await file.chmod(0o600)
      await file.writeFile(content)
      await file.sync()
    } finally {
      await file.close()
    }
    await rename(beside, path)
    await syncDirectory(dirname(path))
  } catch (cause) {
    await rm(beside, { force: true })
    throw new MoteError('storage-failed', `${path}: cannot be written`, { cause })
  }
}

async function syncDirectory(path: string): Promise<void> {
  const directory = await open(path, 'r')
  try {
    await directory.sync()
  } finally {
    await directory.close()
  }
}

/** The content, or undefined when there is no such file. Throws `storage-failed`. */
export async function readFileIfThere(path: string): Promise<Uint8Array | undefined> {
  try {
    return await readFile(path)
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === 'ENOENT') return undefined
    throw new MoteError('storage-failed', `${path}: cannot be read`, { cause })
  }
}

const lockPatienceMs = 5_000
const lockRetryMs = 20

/**
 * Runs `edit` while no other process (and no other call in this one) holds the lock of `directory`.
 * Throws `in-use` when the lock stays taken for five seconds.
 */
export async function withDirectoryLock<T>(directory: string, edit: () => Promise<T>): Promise<T> {
  const path = join(directory, '.lock')
  const isLocked = await new Deadline(lockPatienceMs).until(() => tryLock(path), lockRetryMs)
  if (!isLocked) throw new MoteError('in-use', `${path}: held by another process`)
  try {
    return await edit()
  } finally {
    await rm(path, { force: true })
  }
}

async function tryLock(path: string): Promise<boolean> {
  try {
    const file = await open(path, 'wx', 0o600)
    try {
      await file.writeFile(String(process.pid))
    } finally {
      await file.close()
    }
    return true
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code !== 'EEXIST')
      throw new MoteError('storage-failed', `${path}: cannot be locked`, { cause })
  }
  const owner = await readFileIfThere(path)
  if (owner !== undefined && owner.length > 0 && !isRunning(Number(Buffer.from(owner).toString('utf8'))))
    await breakLock(path)
  return false
}

/** Renaming is atomic: of several that find a dead owner, one moves the file away and the others find none. */
async function breakLock(path: string): Promise<void> {
  const aside = `${path}.${randomBytes(6).toString('hex')}.stale`
  try {
    await rename(path, aside)
    await rm(aside, { force: true })
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code !== 'ENOENT')
      throw new MoteError('storage-failed', `${path}: cannot be taken over`, { cause })
  }
}
