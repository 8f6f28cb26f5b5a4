/**
 * `mote node rebuild`: puts a damaged database of a full node aside, and in its place one that keeps only what others count
 * on, so that the node is no other member than before (docs/OPERATIONS.md, "A damaged disk"). The next start fetches the
 * rest from peers.
 *
 * Kept are the term, every header that was signed, and how far the log was acknowledged. State, blocks and log are left
 * behind; peers have them. Until the node has applied everything that it may have acknowledged, it takes no part in
 * elections (replica.ts): a committed entry that it held can then not be voted away in the meantime.
 *
 * The term is raised by one. Nobody was promised anything in it, and a leader that remembers acknowledgements of the old
 * log stands down on hearing it; the next one begins to count anew.
 *
 * If one of the records that are kept is damaged, there is no such way: the node joins again as a new member.
 */

import { rename, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { readFullNodeConfig } from './config.ts'
import { openLevelByteStore } from './storage/level-storage.ts'
import { copyPromises, type RebuildReport } from './storage/promises.ts'

export interface RebuiltDirectory extends RebuildReport {
  /** Where the damaged database is now. */
  readonly setAside: string
}

/** Throws `config-invalid`, `in-use`, `storage-corrupt` or `storage-failed`; the damaged database is then where it was. */
export async function rebuildNode(configFile: string, now: number): Promise<RebuiltDirectory> {
  const { data } = await readFullNodeConfig(configFile)
  const damaged = join(data, 'chain')
  const rebuilt = join(data, 'chain.rebuilt')
  const setAside = join(data, `chain.damaged-${now}`)
  await rm(rebuilt, { recursive: true, force: true })
  const report = await copyInto(damaged, rebuilt)
  await rename(damaged, setAside)
  await rename(rebuilt, damaged)
  return { ...report, setAside }
}

async function copyInto(damaged: string, rebuilt: string): Promise<RebuildReport> {
  const from = await openLevelByteStore(damaged)
  try {
    const to = await openLevelByteStore(rebuilt)
    try {
      return await copyPromises(from, to)
    } finally {
      await to.close()
    }
  } finally {
    await from.close()
  }
}
