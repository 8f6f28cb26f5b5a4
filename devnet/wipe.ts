/**
 * A node that loses its disk, and the way back for a test: its data directory is moved aside, never deleted.
 */
import { access, rename, rm } from 'node:fs/promises'
import { MoteError } from '../chain/result.ts'

const aside = (data: string): string => `${data}.wiped`

/** Whether data was moved aside and not put back. */
export function isWiped(data: string): Promise<boolean> {
  return exists(aside(data))
}

async function exists(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    () => false,
  )
}

/** Moves the data aside and says where to. What an earlier wipe has moved there stays: it is the older truth. */
export async function moveDataAway(data: string): Promise<string> {
  const kept = aside(data)
  if (await exists(kept)) await rm(data, { recursive: true, force: true })
  else if (await exists(data)) await rename(data, kept)
  return kept
}

/** Replaces the data by what was moved aside. Throws `not-found` if nothing was. */
export async function putDataBack(data: string): Promise<void> {
  const kept = aside(data)
  if (!(await exists(kept))) throw new MoteError('not-found', `${kept}: nothing was wiped here`)
  await rm(data, { recursive: true, force: true })
  await rename(kept, data)
}
