/**
 * One program of a devnet as a child process of the supervisor.
 *
 * - The child's standard input is a pipe that only the supervisor holds: when the supervisor goes, however it goes,
 *   the pipe closes and the child ends (`MOTE_SUPERVISED=1` tells it to watch). Nothing is written to it but what shifts
 *   the child's clock (shifted-clock.ts).
 * - It has a process group of its own, so Ctrl-C reaches the supervisor alone and the supervisor drains in order.
 * - It says `{"ready":true}` as one line on standard output when its interface listens, and `{"failed":{"code":…,"detail":…}}`
 *   when it cannot go on. All that it prints is kept.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { type ErrorCode, errorTable } from '../chain/errors.ts'
import { MoteError } from '../chain/result.ts'
import { unlessAborted } from '../client/deadline.ts'
import { LogFile } from './log-file.ts'
import { clockLine } from './shifted-clock.ts'

/** How to run a program of ours: the Node binary that runs this one, and the command's own entry file. */
export interface Program {
  readonly executable: string
  readonly entry: string
}

export type ChildState =
  | { readonly type: 'stopped' }
  | { readonly type: 'running'; readonly pid: number; readonly ready: boolean }
  | { readonly type: 'ended'; readonly code: number | null; readonly signal: NodeJS.Signals | null }

export interface ChildOptions {
  readonly name: string
  readonly program: Program
  readonly arguments: readonly string[]
  readonly logPath: string
  /** Told when the process ends although nobody asked it to. */
  readonly onUnexpectedEnd: (child: Child) => void
}

/** Bounds what is kept of a line that never ends. */
const maxLineBytes = 64 * 1024

export class Child {
  readonly name: string
  readonly log: LogFile
  readonly #options: ChildOptions
  #process: ChildProcess | undefined
  #state: ChildState = { type: 'stopped' }
  #stopping = false
  #clockOffsetMs = 0
  #ended: Promise<void> = Promise.resolve()
  #ready = Promise.withResolvers<void>()
  /** Why it cannot go on, in its own words. */
  #said: MoteError | undefined

  constructor(options: ChildOptions) {
    this.name = options.name
    this.log = new LogFile(options.logPath)
    this.#options = options
  }

  get state(): ChildState {
    return this.#state
  }

  get pid(): number | undefined {
    return this.#state.type === 'running' ? this.#state.pid : undefined
  }

  /** How far the wall clock of the process is shifted; one that is started later has it too. */
  get clockOffsetMs(): number {
    return this.#clockOffsetMs
  }

  /** Shifts the wall clock of the process, now if it runs. 0: it goes by the machine's. */
  shiftClock(offsetMs: number): void {
    this.#clockOffsetMs = offsetMs
    if (this.#state.type === 'running') this.#process?.stdin?.write(clockLine(offsetMs))
  }

  /** Starts the process. Throws `in-use` if it runs already. */
  start(): void {
    if (this.#state.type === 'running') throw new MoteError('in-use', `${this.name}: runs already`)
    const { program } = this.#options
    this.#stopping = false
    this.#said = undefined
    this.#ready = Promise.withResolvers<void>()
    this.#ready.promise.catch(() => {})
    const child = spawn(program.executable, [program.entry, ...this.#options.arguments], {
      stdio: ['pipe', 'pipe', 'pipe'],
      detached: true,
      env: { ...process.env, MOTE_SUPERVISED: '1' },
    })
    this.#process = child
    this.#state = { type: 'running', pid: child.pid ?? -1, ready: false }
    this.#ended = new Promise(resolve => {
      const end = (code: number | null, signal: NodeJS.Signals | null): void => {
        if (this.#state.type === 'ended') return
        this.#state = { type: 'ended', code, signal }
        this.#ready.reject(this.failure('was not ready'))
        this.log.append(`supervisor: ${this.name} ended, ${describeEnd(code, signal)}\n`)
        resolve()
        if (!this.#stopping) this.#options.onUnexpectedEnd(this)
      }
      // By then all that it has printed has been read.
      child.once('close', end)
      child.once('error', error => {
        this.log.append(`supervisor: ${this.name}: ${error.message}\n`)
        if (child.pid === undefined) end(null, null)
      })
    })
    child.stdin?.on('error', () => {}) // The child may end first.
    // It lies in the pipe before the child runs its first line.
    if (this.#clockOffsetMs !== 0) child.stdin?.write(clockLine(this.#clockOffsetMs))
    child.stdout?.on('data', this.#readOutput())
    child.stderr?.on('data', (chunk: Buffer) => this.log.append(chunk))
  }

  /** For a program that says no ready line: somebody else has seen that it is. */
  markReady(): void {
    this.#take({ ready: true })
  }

  /** Resolves when the child has said that it is ready; throws `start-failed` with the tail of its log otherwise. */
  async waitUntilReady(signal: AbortSignal): Promise<void> {
    await unlessAborted(signal, this.#ready.promise, () => this.failure('did not become ready in time'))
  }

  /** Why it cannot go on, if it has said so. */
  get said(): MoteError | undefined {
    return this.#said
  }

  /** Resolves when the process is gone. */
  get ended(): Promise<void> {
    return this.#ended
  }

  /** Sends a signal; `expected` when the supervisor means it to end by it. Throws `not-running`. */
  signal(name: NodeJS.Signals, expected = true): void {
    if (this.#state.type !== 'running') throw new MoteError('not-running', `${this.name}: does not run`)
    if (expected) this.#stopping = true
    this.#process?.kill(name)
  }

  /** SIGTERM, and SIGKILL after the deadline; a paused process is woken first. Resolves when it is gone. */
  async stop(deadlineMs: number): Promise<void> {
    if (this.#state.type !== 'running') return
    this.signal('SIGCONT')
    this.signal('SIGTERM')
    const timer = setTimeout(() => this.kill(), deadlineMs)
    await this.#ended
    clearTimeout(timer)
  }

  kill(): void {
    if (this.#state.type === 'running') this.signal('SIGKILL')
  }

  /**
   * Why it does not serve: `device-revoked` in its own words, since nobody mends that; else `start-failed` with the end of its
   * log. @param reason what it did not do, while it runs
   */
  failure(reason: string, cause?: unknown): MoteError {
    if (this.#said?.code === 'device-revoked') return this.#said
    const tail = this.log.tail(20).map(line => `  ${line}`)
    const state = this.#state
    const what =
      state.type === 'ended' ? `ended before it was ready (${describeEnd(state.code, state.signal)})` : reason
    const head = `${this.name} ${what}; the end of ${this.log.path}:`
    return new MoteError('start-failed', [head, ...tail].join('\n'), { cause })
  }

  #readOutput(): (chunk: Buffer) => void {
    let line = ''
    return chunk => {
      this.log.append(chunk)
      line += chunk.toString('utf8')
      const lines = line.split('\n')
      line = (lines.pop() ?? '').slice(-maxLineBytes)
      for (const text of lines) this.#take(saidIn(text))
    }
  }

  #take({ ready, failed }: Said): void {
    if (failed) this.#said = failed
    if (!ready || this.#state.type !== 'running' || this.#state.ready) return
    this.#state = { ...this.#state, ready: true }
    this.#ready.resolve()
  }
}

/** What a line of a child's standard output says to its supervisor. */
interface Said {
  readonly ready?: boolean
  readonly failed?: MoteError
}

function saidIn(line: string): Said {
  if (!line.startsWith('{')) return {}
  try {
    const { ready, failed } = JSON.parse(line) as {
      ready?: unknown
      failed?: { code: string; detail: string }
    }
    if (!failed) return { ready: ready === true }
    const { code, detail } = failed
    return code in errorTable ? { failed: new MoteError(code as ErrorCode, detail) } : {}
  } catch {
    return {}
  }
}

function describeEnd(code: number | null, signal: NodeJS.Signals | null): string {
  return signal ? `signal ${signal}` : `exit code ${code}`
}
