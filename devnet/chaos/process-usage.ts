/** What a process holds of the machine: memory and sockets, where the system tells (Linux, /proc). */
import { readdir, readFile, readlink } from 'node:fs/promises'

export interface ProcessUsage {
  /** Resident. */
  readonly memoryBytes: number
  readonly sockets: number
}

/** Undefined for a process that is gone, or where the system does not tell. */
export async function usageOf(pid: number): Promise<ProcessUsage | undefined> {
  try {
    const status = await readFile(`/proc/${pid}/status`, 'utf8')
    const [, kibibytes] = /^VmRSS:\s+(\d+) kB$/m.exec(status) ?? []
    const links = (await readdir(`/proc/${pid}/fd`)).map(fd =>
      readlink(`/proc/${pid}/fd/${fd}`).catch(() => ''),
    )
    const sockets = (await Promise.all(links)).filter(target => target.startsWith('socket:')).length
    return kibibytes === undefined ? undefined : { memoryBytes: Number(kibibytes) * 1024, sockets }
  } catch {
    return undefined
  }
}
