/**
 * The newest sealed epoch boxes of each group, so that members that come later, and a gateway that restarts, find
 * them: one file per group with the encoded `EpochBoxes`.
 *
 * Bounded by the groups on the chain: only boxes whose hash the chain holds are stored.
 */
import { readdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { type GroupId, isDigest } from '../chain/brands.ts'
import { privateDirectory, readFileIfThere, writeFileAtomic } from '../client/atomic-file.ts'
import { type EpochBoxes, parseEpochBoxes } from './group-keys.ts'

export interface BoxStore {
  readonly all: () => readonly EpochBoxes[]
  readonly get: (group: GroupId) => EpochBoxes | undefined
  /** Durable when it resolves. */
  readonly put: (boxes: EpochBoxes, encoded: Uint8Array) => Promise<void>
}

/** For tests, and for a gateway without a data directory. */
export function memoryBoxStore(): BoxStore {
  const boxes = new Map<GroupId, EpochBoxes>()
  return {
    all: () => [...boxes.values()],
    get: group => boxes.get(group),
    put: async newest => {
      boxes.set(newest.group, newest)
    },
  }
}

export async function fileBoxStore(directory: string): Promise<BoxStore> {
  await privateDirectory(directory)
  const memory = memoryBoxStore()
  for (const name of await readdir(directory)) {
    const path = join(directory, name)
    const content = isDigest(name) ? await readFileIfThere(path) : undefined
    const boxes = content && parseEpochBoxes(content)
    // What does not parse is a torn leftover: members re-key when a box is missing.
    if (boxes?.ok) await memory.put(boxes.value, new Uint8Array(0))
    else await rm(path, { force: true })
  }
  return {
    ...memory,
    put: async (boxes, encoded) => {
      await writeFileAtomic(join(directory, boxes.group), encoded)
      await memory.put(boxes, encoded)
    },
  }
}
