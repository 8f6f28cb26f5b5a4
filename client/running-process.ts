/** Whether a process runs, by its id. */
import { readFileSync } from 'node:fs'

/** True while the process runs, whoever owns it. */
export function isRunning(pid: number): boolean {
  if (!Number.isInteger(pid) || pid <= 0) return false
  try {
    process.kill(pid, 0)
  } catch (cause) {
    return (cause as NodeJS.ErrnoException).code === 'EPERM'
  }
  return !hasEnded(pid)
}

/**
 * It has ended, and its id is kept until its parent asks how. The first process of a container, which inherits what was
 * left running, may ask late or never. Known where there is `/proc`.
 */
function hasEnded(pid: number): boolean {
  try {
    return /\) [ZX] [^)]*$/.test(readFileSync(`/proc/${pid}/stat`, 'latin1'))
  } catch {
    return false
  }
}
