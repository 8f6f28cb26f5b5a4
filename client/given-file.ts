/** Files that a command is given. */
import type { Stats } from 'node:fs'
import { stat } from 'node:fs/promises'
import { MoteError } from '../chain/result.ts'

/** That a file is there, and how it is; a pipe has no size. Throws `not-found`, `too-large`. */
export async function statFile(file: string, maxBytes: number): Promise<Stats> {
  const found = await stat(file).catch((cause: unknown) => {
    throw new MoteError('not-found', `${file}: no such file`, { cause })
  })
  if (found.size > maxBytes)
    throw new MoteError('too-large', `${file}: expected at most ${maxBytes} bytes, got ${found.size}`)
  return found
}
