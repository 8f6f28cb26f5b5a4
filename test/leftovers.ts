/**
 * A test run leaves no process and no file behind; this is the check (a global set-up and tear-down of vitest).
 *
 * The run gets a temporary directory of its own, which must be empty at the end, and a marker in its environment,
 * which every process that it starts inherits: whoever still carries it after the last test was left behind. That
 * needs `/proc`; on other systems only the files are checked.
 */
import { randomUUID } from 'node:crypto'
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

/** Processes get this long to end after the last test. */
const deadlineMs = 5_000

export interface LeftProcess {
  readonly pid: number
  readonly command: string
}

/** Processes whose environment holds `MOTE_TEST_RUN=<marker>`, without this one and without vitest's own workers. */
export function processesMarked(marker: string): LeftProcess[] {
  if (!existsSync('/proc/self/environ')) return []
  const found: LeftProcess[] = []
  for (const entry of readdirSync('/proc')) {
    const pid = Number(entry)
    if (!Number.isInteger(pid) || pid === process.pid || pid === process.ppid) continue
    try {
      const environment = readFileSync(`/proc/${pid}/environ`, 'latin1').split('\0')
      if (!environment.includes(`MOTE_TEST_RUN=${marker}`)) continue
      const command = readFileSync(`/proc/${pid}/cmdline`, 'latin1').split('\0').join(' ').trim()
      if (command !== '' && !command.includes('vitest')) found.push({ pid, command })
    } catch {
      // It ended while we looked, or belongs to another user.
    }
  }
  return found
}

async function waitForNoProcess(marker: string): Promise<LeftProcess[]> {
  const end = Date.now() + deadlineMs
  for (;;) {
    const left = processesMarked(marker)
    if (left.length === 0 || Date.now() > end) return left
    await new Promise(resolve => setTimeout(resolve, 50))
  }
}

export default function setup(): () => Promise<void> {
  const marker = randomUUID()
  const directory = mkdtempSync(join(tmpdir(), 'mote-test-'))
  process.env['MOTE_TEST_RUN'] = marker
  process.env['TMPDIR'] = directory
  return async () => {
    const processes = await waitForNoProcess(marker)
    for (const { pid } of processes) process.kill(pid, 'SIGKILL')
    // Node's and npm's compile caches are theirs, not ours.
    const files = readdirSync(directory).filter(name => name !== 'node-compile-cache')
    rmSync(directory, { recursive: true, force: true })
    if (processes.length === 0 && files.length === 0) return
    const list = [...processes.map(p => `process ${p.pid}: ${p.command}`), ...files.map(f => `file ${f}`)]
    process.stderr.write(`\nThe test run left behind:\n  ${list.join('\n  ')}\n1 failed (leftovers)\n`)
    process.exitCode = 1
  }
}
