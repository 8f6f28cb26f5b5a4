/**
 * Worker processes of `npm run sim`. A worker that ends, or says nothing for too long, has failed the seed it was at; the
 * seeds after it go to a new one. One that ends before it was ready could not load the code, and no seed is to blame.
 */
import { type ChildProcess, fork } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { mutantVariable, type SeedReport, type WorkerMessage, type WorkOrder } from './worker-messages.ts'

export interface WorkerOptions {
  readonly mutant?: string | undefined
  readonly file?: string
  /** A run of one seed takes much less. */
  readonly silenceMsMax?: number
}

const workerFile = fileURLToPath(new URL('worker.ts', import.meta.url))

type Ending = 'done' | { readonly cause: string; readonly wasReady: boolean }

export class Worker {
  readonly #options: WorkerOptions
  #child: ChildProcess | undefined
  #ready = false
  #stopped = false

  constructor(options: WorkerOptions = {}) {
    this.#options = options
  }

  /** Runs seeds one after another. Rejects if the code does not load. */
  async run(order: WorkOrder, onReport: (report: SeedReport) => void): Promise<void> {
    let left = order.seeds
    let isOver = false
    const report = (result: SeedReport) => {
      left = left.slice(1)
      isOver = result.violation !== undefined && order.untilFailure === true
      onReport(result)
    }
    while (left.length > 0 && !isOver && !this.#stopped) {
      const ending = await this.#attempt({ ...order, seeds: left }, report)
      if (ending === 'done' || this.#stopped) return
      if (!ending.wasReady) throw new Error(`a worker could not start: ${ending.cause}`)
      const [seed] = left
      if (seed !== undefined) report(failureOf(seed, ending.cause))
    }
  }

  /** No further seed is begun, and what runs is given up. */
  stop(): void {
    this.#stopped = true
    this.#child?.kill('SIGKILL')
  }

  /** The worker has nothing more to do. */
  end(): void {
    this.#child?.disconnect()
    this.#child = undefined
  }

  async #attempt(order: WorkOrder, report: (report: SeedReport) => void): Promise<Ending> {
    const child = this.#start()
    const { promise, resolve } = Promise.withResolvers<Ending>()
    const { silenceMsMax = 120_000 } = this.#options
    let cause: string | undefined
    const silence = setTimeout(() => {
      cause = `no answer for ${silenceMsMax / 1000} s`
      child.kill('SIGKILL')
    }, silenceMsMax)
    const heard = (message: WorkerMessage) => {
      silence.refresh()
      if (message === 'ready') {
        this.#ready = true
        child.send(order)
      } else if (message === 'done') resolve('done')
      else report(message)
    }
    const ended = (code: number | null, signal: string | null) => {
      this.#child = undefined
      resolve({ cause: cause ?? `it ended with ${signal ?? code}`, wasReady: this.#ready })
    }
    child.on('message', heard)
    child.once('exit', ended)
    if (this.#ready) child.send(order)
    const ending = await promise
    clearTimeout(silence)
    child.off('message', heard)
    child.off('exit', ended)
    return ending
  }

  #start(): ChildProcess {
    if (this.#child) return this.#child
    const { mutant, file = workerFile } = this.#options
    this.#ready = false
    this.#child = fork(file, [], {
      env: { ...process.env, ...(mutant !== undefined && { [mutantVariable]: mutant }) },
      execArgv: ['--disable-warning=ExperimentalWarning'],
    })
    return this.#child
  }
}

function failureOf(seed: number, cause: string): SeedReport {
  return {
    seed,
    violation: { property: 'a run comes to its end', message: `a run comes to its end: ${cause}` },
    events: 0,
    simulatedMs: 0,
    elections: 0,
    blocks: 0,
    acknowledged: 0,
    faults: 0,
    fullAnswers: 0,
    disjointHandovers: 0,
    messages: 0,
    traceHash: '',
  }
}
