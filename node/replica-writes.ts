/** What a replica has written for an executed block, and what it makes of a write that fails. */
import { MoteError } from '../chain/result.ts'
import type { BlockWrite } from './ports.ts'
import type { ReplicaSnapshots } from './replica-parts.ts'
import type { Execution } from './replicated-chain.ts'

/** With what the block took the place of; and if this node will sign in `signedIn`, an incarnation, the record of it. */
export function storedBlock(
  { block, write, replaced }: Execution,
  { snapshots, signedIn }: { snapshots: ReplicaSnapshots | undefined; signedIn: number | undefined },
): BlockWrite {
  const place = snapshots?.placeOf(block.height)
  const placeBelow = snapshots?.placeOf(block.height - 1)
  return {
    ...write,
    ...(replaced && place && placeBelow && { undo: { ...replaced, place, placeBelow } }),
    ...(signedIn !== undefined && { signed: { ...block, incarnation: signedIn } }),
  }
}

export function storageFailure(error: unknown): MoteError {
  return error instanceof MoteError ? error : new MoteError('storage-failed', String(error), { cause: error })
}
