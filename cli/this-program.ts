/**
 * How to run this very command again as another process: the same Node, the same entry file.
 */
import { fileURLToPath } from 'node:url'
import type { Program } from '../devnet/child.ts'

export function thisProgram(): Program {
  return {
    executable: process.execPath,
    entry: fileURLToPath(new URL('main.ts', import.meta.url)),
  }
}
