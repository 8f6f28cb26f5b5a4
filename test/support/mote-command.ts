/**
 * The `mote` command as a process, for tests: started through the launcher, with its output kept.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { join } from 'node:path'
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

  /** Resolves when standard error has said this. Throws if the command ends first or the time is over. */
  async untilSays(text: string, timeoutMs = 30_000): Promise<void> {
    let over = false
    void this.ended.then(() => {
      over = true
    })
    const deadline = performance.now() + timeoutMs
    while (!this.#stderr.includes(text)) {
      if (over || performance.now() > deadline)
        throw new Error(`mote did not say '${text}'; it said: ${this.#stderr}${this.#stdout}`)
      await new Promise(resolve => setTimeout(resolve, 20))
    }
  }
}

/** Runs a command to its end. */
export function runMote(args: readonly string[], environment?: NodeJS.ProcessEnv): Promise<CommandResult> {
  return new MoteCommand(args, environment).ended
}
