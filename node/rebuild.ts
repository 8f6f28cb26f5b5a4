/**
 * `mote node rebuild`: sets the damaged database of a full node aside and puts one in its place that keeps only what
 * others count on (store-rebuild.ts). The next start fetches the rest from peers.
 */
import { rename, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { MoteError } from '../chain/result.ts'
import { readNodeConfig } from './config.ts'
import { openLevelByteStore } from './storage/level-storage.ts'
import { copyPromises, type RebuildReport } from './storage/store-rebuild.ts'

export interface RebuiltDirectory extends RebuildReport {
  /** Where the damaged database is now. */
  readonly setAside: string
}

/** Throws `config-invalid`, `in-use`, `storage-corrupt` or `storage-failed`; the damaged database is then where it was. */
export async function rebuildNode(configFile: string, now: number): Promise<RebuiltDirectory> {
  const { label, data } = await readNodeConfig(configFile)
  if (label !== 'full')
    throw new MoteError('config-invalid', `${configFile}: label: expected full, got ${label}`)
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
