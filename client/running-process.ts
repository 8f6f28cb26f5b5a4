/** Whether a process runs, by its id, and what tells it from a later one of the same id. */
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

/** When a process began, in clock ticks since the machine did. Undefined where there is no `/proc`, or no such process. */
export function startOfProcess(pid: number): string | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'latin1')
    // Field 22 of proc_pid_stat(5); the second is a name that may hold anything, and ends at the last bracket.
    return stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19]
  } catch {
    return undefined
  }
}
