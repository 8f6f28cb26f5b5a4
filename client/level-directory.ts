/**
 * A LevelDB directory, opened for one process. The lock on it is the kernel's, so it ends with the process that held it, however
 * that ended. What opening refuses, and in which words, is here and nowhere else.
 */
import { Level } from 'level'
import { MoteError } from '../chain/result.ts'
import { privateDirectory } from './atomic-file.ts'

/** How keys and values are given, and how much that is not written yet LevelDB keeps in memory. */
export interface LevelOptions {
  readonly keyEncoding?: 'utf8' | 'view'
  readonly valueEncoding?: 'utf8' | 'view'
  readonly writeBufferSize?: number
}

/**
 * Opens the directory (created, 0700, if missing).
 * Throws `in-use` if a process has it open, `storage-corrupt` if its files cannot be read, `storage-failed`.
 * @param holder who is known to have it open, for the message
 */
export async function openLevel<Key, Value>(
  directory: string,
  options: LevelOptions = {},
  holder: () => Promise<string> = async () => 'another process',
): Promise<Level<Key, Value>> {
  await privateDirectory(directory)
  const level = new Level<Key, Value>(directory, options)
  try {
    await level.open()
    return level
  } catch (error) {
    const { cause } = error as { readonly cause?: { readonly code?: string; readonly message?: string } }
    if (cause?.code === 'LEVEL_LOCKED')
      throw new MoteError('in-use', `${directory}: held by ${await holder()}`, { cause: error })
    const code = cause?.code === 'LEVEL_CORRUPTION' ? 'storage-corrupt' : 'storage-failed'
    throw new MoteError(code, `${directory}: ${cause?.message ?? String(error)}`, { cause: error })
  }
}
