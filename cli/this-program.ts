/**
 * How to run this very command again as another process: the same Node, the same launcher. The launcher looks again for
 * what to run, so a process that is started later runs the program as it is then.
 */
import type { Program } from '../devnet/child.ts'

/** Throws nothing; `process.argv[1]` is the file that Node was started with. */
export function thisProgram(): Program {
  return { executable: process.execPath, entry: process.argv[1] ?? '' }
}
