/** A checkpoint store in one file, written atomically (client/atomic-file.ts). */
import { readFileIfThere, writeFileAtomic } from './atomic-file.ts'
import type { CheckpointStore } from './header-follower.ts'

export function checkpointFile(path: string): CheckpointStore {
  return {
    load: () => readFileIfThere(path),
    save: checkpoint => writeFileAtomic(path, checkpoint),
  }
}
