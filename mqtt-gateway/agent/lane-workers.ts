/**
 * One worker for each lane that has something to do, so that a lane that is slow holds up no other. Whoever adds to a lane begins it;
 * its work ends when the lane is empty, or rejects.
 */
import { Deadline } from '../../client/deadline.ts'

export interface LaneWork {
  /** Does what waits in a lane, until `isIdle` has been called or the signal fires. */
  readonly work: (lane: string) => Promise<void>
  readonly onFailure: (lane: string, error: unknown) => void
}

export class LaneWorkers {
  readonly #options: LaneWork
  readonly #working = new Map<string, Promise<void>>()
  readonly #closing = new AbortController()

  constructor(options: LaneWork) {
    this.#options = options
  }

  /** Fires when nothing further is to be done. */
  get signal(): AbortSignal {
    return this.#closing.signal
  }

  /** Nothing happens for a lane that is being worked on. */
  begin(lane: string): void {
    if (this.#working.has(lane) || this.#closing.signal.aborted) return
    const work = this.#options
      .work(lane)
      .catch((error: unknown) => this.#options.onFailure(lane, error))
      .finally(() => {
        if (this.#working.get(lane) === work) this.#working.delete(lane)
      })
    this.#working.set(lane, work)
  }

  /** Called by the work of a lane in the very turn in which it saw that the lane is empty: who adds to it after that begins it anew. */
  isIdle(lane: string): void {
    this.#working.delete(lane)
  }

  /** Resolves when nothing is done any more, or `patienceMs` later. */
  async close(patienceMs: number): Promise<void> {
    this.#closing.abort()
    await new Deadline(patienceMs).race(Promise.all(this.#working.values()))
  }
}
