/** What a figure was measured on. */
import { availableParallelism, cpus, loadavg } from 'node:os'

/** One line: processor, cores, load before the run, Node. */
export function machineLine(): string {
  const [first] = cpus()
  const load = (loadavg()[0] ?? 0).toFixed(1)
  return `${first?.model.trim() ?? 'unknown processor'}, ${availableParallelism()} cores, load ${load} before, Node ${process.version}, ${process.platform}`
}
