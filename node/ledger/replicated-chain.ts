/** The chain as the replica that drives it sees it: committed data in, an executed block out. */
import type { ReceiptCode } from '../../chain/block.ts'
import type { Height, LogIndex, Milliseconds, Term, TransactionId } from '../../chain/brands.ts'
import type { BlockUndo, BlockWrite } from '../ports.ts'
import type { ExecutedBlock } from './signature-tally.ts'

/** What execution did with one transaction of a block. */
export interface Outcome {
  readonly id: TransactionId
  readonly index: number
  readonly code: ReceiptCode
  /** False for a duplicate and for bytes whose id is not used up: the id's own outcome is another one. */
  readonly final: boolean
}

/** An executed block and what it leaves behind. */
export interface Execution {
  readonly block: ExecutedBlock
  readonly time: Milliseconds
  readonly outcomes: readonly Outcome[]
  readonly write: BlockWrite
  /** What the block took the place of. */
  readonly replaced?: Omit<BlockUndo, 'configuration' | 'configurationBelow'>
}

/** Where in the Raft log an entry stands. */
export interface LogPlace {
  readonly term: Term
  readonly index: LogIndex
}

/** The chain as the replica sees it. */
export interface ReplicatedChain {
  readonly height: Height
  /** Time of the newest block. */
  readonly time: Milliseconds
  /** Executes the data of a committed entry on top of everything before. Undefined: the entry makes no block. */
  execute(data: Uint8Array, place: LogPlace): Execution | undefined
}
