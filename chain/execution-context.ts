/** What the execution of one transaction sees besides the transaction. */
import type { Surroundings } from './admission.ts'
import type { Height } from './brands.ts'

export interface ExecutionContext extends Surroundings {
  /** Height of the block that is executed. */
  readonly height: Height
  /** What contracts have cost so far in the block. */
  readonly steps: { used: number }
}
