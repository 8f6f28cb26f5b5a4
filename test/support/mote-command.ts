/**
 * The `mote` command as a process, for tests: started through the launcher, with its output kept.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { join } from 'node:path'
import { isRunning } from '../../client/running-process.ts'
import { beginInProcess } from './command-in-process.ts'
import { repositoryRoot } from './source-files.ts'

export interface CommandResult {
  readonly code: number | null
  readonly stdout: string
  readonly stderr: string
}

export class MoteCommand {
  readonly process: ChildProcess
  readonly ended: Promise<CommandResult>
  #stdout = ''
  #stderr = ''

  constructor(args: readonly string[], environment: NodeJS.ProcessEnv = {}) {
    this.process = spawn(process.execPath, [join(repositoryRoot, 'bin/mote.js'), ...args], {
      stdio: ['ignore', 'pipe', 'pipe'],
      env: { ...process.env, NO_COLOR: '1', ...environment },
    })
    this.process.stdout?.setEncoding('utf8').on('data', (text: string) => {
      this.#stdout += text
    })
    this.process.stderr?.setEncoding('utf8').on('data', (text: string) => {
      this.#stderr += text
    })
    this.ended = new Promise((resolve, reject) => {
      this.process.once('error', reject)
      this.process.once('close', code => resolve({ code, stdout: this.#stdout, stderr: this.#stderr }))
    })
  }

  get stdout(): string {
    return this.#stdout
  }

  get stderr(): string {
    return this.#stderr
  }

  /** SIGTERM if it still runs, and waits for its end. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.process.kill('SIGTERM')
    await this.ended
  }

  /** Resolves when standard output has this, within a minute; otherwise as `untilSays`. */
  untilPrints(text: string): Promise<void> {
    return this.#until(() => this.#stdout.includes(text), text, 60_000)
  }

  /** Resolves when standard error has said this. Throws if the command ends first or the time is over. */
  untilSays(text: string, timeoutMs = 60_000): Promise<void> {
    return this.#until(() => this.#stderr.includes(text), text, timeoutMs)
  }

  async #until(isThere: () => boolean, text: string, timeoutMs: number): Promise<void> {
    let over = false
    void this.ended.then(() => {
      over = true
    })
    const deadline = performance.now() + timeoutMs
    while (!isThere()) {
      if (over || performance.now() > deadline)
        throw new Error(`mote did not say '${text}'; it said: ${this.#stderr}${this.#stdout}`)
      await new Promise(resolve => setTimeout(resolve, 20))
    }
  }
}

/** A line as it is pasted into a shell, here in the repository. A signal reaches all that it started. */
export class ShellCommand {
  readonly process: ChildProcess
  readonly ended: Promise<number | null>

  constructor(line: string) {
    this.process = spawn('sh', ['-c', line], { cwd: repositoryRoot, stdio: 'ignore', detached: true })
    this.ended = new Promise(resolve => this.process.once('close', resolve))
  }

  /** SIGTERM to the shell and what it started; gives the exit code. */
  async end(): Promise<number | null> {
    const { pid, exitCode, signalCode } = this.process
    if (pid !== undefined && exitCode === null && signalCode === null) process.kill(-pid, 'SIGTERM')
    return this.ended
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.end()
  }
}

/** What starts other programs from its own file, or is one: it needs a process of its own. */
function needsProcess(args: readonly string[]): boolean {
  const [family, action] = args
  if (args.includes('--run')) return !args.includes('--detach')
  return action === 'start' || (family === 'devnet' && action === 'up')
}

/**
 * Runs a command to its end: in this process where that makes no difference, since the start of one costs more than most
 * commands do.
 */
export async function runMote(
  args: readonly string[],
  environment: NodeJS.ProcessEnv = {},
): Promise<CommandResult> {
  if (needsProcess(args)) return new MoteCommand(args, environment).ended
  return beginInProcess(args, { ...process.env, NO_COLOR: '1', ...environment }).ended
}

/** The processes that run, of what `mote devnet status --json` prints. */
export function pidsOf(status: {
  readonly nodes: readonly { readonly pid?: unknown }[]
  readonly gateway: { readonly pid?: unknown }
}): number[] {
  return [...status.nodes, status.gateway].flatMap(({ pid }) => (typeof pid === 'number' ? [pid] : []))
}

/** Resolves when none of these processes is there; fails after a minute. */
export async function untilGone(pids: readonly number[]): Promise<void> {
  const deadline = performance.now() + 60_000
  while (pids.some(isRunning)) {
    if (performance.now() > deadline) throw new Error(`still running: ${pids.filter(isRunning)}`)
    await new Promise(resolve => setTimeout(resolve, 20))
  }
}
