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

/** Of one process over a run. */
export interface UsageRow {
  readonly name: string
  readonly before: ProcessUsage
  /** The most of each, at any of the looks. */
  readonly peak: ProcessUsage
  readonly after: ProcessUsage
}

const lookEveryMs = 1_000

/** Looks at processes every second, until it is stopped. */
export class UsageWatch {
  readonly #pids: ReadonlyMap<string, number>
  readonly #seen = new Map<string, ProcessUsage[]>()
  readonly #timer: NodeJS.Timeout

  constructor(pids: ReadonlyMap<string, number>) {
    this.#pids = pids
    this.#timer = setInterval(() => void this.look(), lookEveryMs)
  }

  async look(): Promise<void> {
    for (const [name, pid] of this.#pids) {
      const usage = await usageOf(pid)
      const seen = this.#seen.get(name)
      if (usage && seen) seen.push(usage)
      else if (usage) this.#seen.set(name, [usage])
    }
  }

  /** Looks once more. Processes of which the system tells nothing are left out. */
  async stop(): Promise<readonly UsageRow[]> {
    clearInterval(this.#timer)
    await this.look()
    return [...this.#seen].map(([name, seen]) => ({
      name,
      before: seen[0] as ProcessUsage,
      peak: {
        memoryBytes: Math.max(...seen.map(({ memoryBytes }) => memoryBytes)),
        sockets: Math.max(...seen.map(({ sockets }) => sockets)),
      },
      after: seen.at(-1) as ProcessUsage,
    }))
  }
}
