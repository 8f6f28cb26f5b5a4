/** What a replica has written for an executed block, and what it makes of a write that fails. */
import { MoteError } from '../chain/result.ts'
import type { BlockWrite } from './ports.ts'
import type { ReplicaSnapshots } from './replica-parts.ts'
import type { Execution } from './replicated-chain.ts'

/**
 * With what the block took the place of, and the record of what this node signs if it is, or becomes, a consenter: who is one
 * may change before the header is signed.
 */
export function storedBlock(
  { block, write, replaced }: Execution,
  { snapshots, incarnation }: { snapshots: ReplicaSnapshots | undefined; incarnation: number },
): BlockWrite {
  const configuration = snapshots?.configurationAt(block.height)
  const configurationBelow = snapshots?.configurationAt(block.height - 1)
  return {
    ...write,
    ...(replaced &&
      configuration &&
      configurationBelow && { undo: { ...replaced, configuration, configurationBelow } }),
    signed: { ...block, incarnation },
  }
}

export function storageFailure(error: unknown): MoteError {
  return error instanceof MoteError ? error : new MoteError('storage-failed', String(error), { cause: error })
}
