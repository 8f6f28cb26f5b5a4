/** Waiting, and until when: the one way to bound a time, by the steady clock. */
import { type Clock, waitingClock } from './clock.ts'

/** Resolves after this time, or as soon as the signal fires. */
export function pause(delayMs: number, signal?: AbortSignal, clock: Clock = waitingClock): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>()
  if (signal?.aborted) resolve()
  const cancel = clock.after(Math.max(0, delayMs), resolve)
  const stop = () => resolve()
  signal?.addEventListener('abort', stop, { once: true })
  return promise.finally(() => {
    cancel()
    signal?.removeEventListener('abort', stop)
  })
}

/** What `step` gives. Throws `why` as soon as the signal fires, or at once if it has; the step goes on by itself. */
export async function unlessAborted<T>(signal: AbortSignal, step: Promise<T>, why: () => Error): Promise<T> {
  const { promise, reject } = Promise.withResolvers<never>()
  const stop = (): void => reject(why())
  if (signal.aborted) stop()
  signal.addEventListener('abort', stop, { once: true })
  try {
    return await Promise.race([step, promise])
  } finally {
    signal.removeEventListener('abort', stop)
  }
}

export interface DeadlineOptions {
  /** What fires ends the time early. */
  readonly signal?: AbortSignal | undefined
  /** The machine's unless given. */
  readonly clock?: Clock | undefined
}

/** A time from now on. Its end cancels nothing by itself: it is asked, or waited with. */
export class Deadline {
  readonly timeoutMs: number
  readonly #clock: Clock
  readonly #isMachines: boolean
  readonly #end: number
  readonly #given: AbortSignal | undefined
  #signal: AbortSignal | undefined

  constructor(timeoutMs: number, { signal, clock }: DeadlineOptions = {}) {
    this.timeoutMs = timeoutMs
    this.#clock = clock ?? waitingClock
    this.#isMachines = clock === undefined
    this.#end = this.#clock.steady() + timeoutMs
    this.#given = signal
  }

  /** Whole milliseconds; 0 when the time is over. */
  get remainingMs(): number {
    return this.isOver ? 0 : Math.ceil(this.#end - this.#clock.steady())
  }

  get isOver(): boolean {
    // A timer may fire a little before the clock says so.
    return (this.#signal ?? this.#given)?.aborted === true || this.#clock.steady() >= this.#end
  }

  /** Fires when the time is over: for what takes a signal. */
  get signal(): AbortSignal {
    if (this.#signal) return this.#signal
    const end = this.#isMachines ? AbortSignal.timeout(this.remainingMs) : this.#signalByClock()
    this.#signal = this.#given ? AbortSignal.any([end, this.#given]) : end
    return this.#signal
  }

  /** Unlike the machine's, its timer is kept when nobody listens any more. */
  #signalByClock(): AbortSignal {
    const end = new AbortController()
    this.#clock.after(this.remainingMs, () => end.abort())
    return end.signal
  }

  pause(delayMs: number): Promise<void> {
    return pause(Math.min(delayMs, this.remainingMs), this.#given, this.#clock)
  }

  /** What `step` gives, or undefined when the time is over first. */
  async race<T>(step: Promise<T>): Promise<T | undefined> {
    const over = new AbortController()
    const given = this.#given ? [this.#given] : []
    const end = pause(this.remainingMs, AbortSignal.any([over.signal, ...given]), this.#clock)
    try {
      return await Promise.race([step, end.then(() => undefined)])
    } finally {
      over.abort()
    }
  }

  /** What `step` gives. Throws `late` when the time is over first. */
  async within<T>(step: Promise<T>, late: () => Error): Promise<T> {
    const ended = await this.race(step.then(value => ({ value })))
    if (!ended) throw late()
    return ended.value
  }

  /** Asks every so often; the first answer that is not undefined or false, or undefined when the time is over. Asks once at least. */
  async until<T>(ask: () => T | Promise<T>, everyMs: number): Promise<Exclude<T, false> | undefined> {
    for (;;) {
      const answer = await ask()
      if (answer !== undefined && answer !== false) return answer as Exclude<T, false>
      if (this.isOver) return undefined
      await this.pause(everyMs)
    }
  }
}
