/**
 * What waits for the disk: messages that may leave only when a persist is durable (`HeldSends`), and the replica itself
 * (`WriteWatch`). A disk that hangs reports no error, and a leader behind it acknowledges nothing while its heartbeats keep
 * everybody else from leading.
 *
 * Time is counted in ticks that this process has seen, not by the clock: a process that was paused has not waited.
 */
import { MoteError } from '../../chain/result.ts'
import type { Message } from '../../consensus/types.ts'

interface HeldSend {
  readonly after: number
  readonly to: string
  readonly message: Message
}

/** In order of the persists that they wait for. */
export class HeldSends {
  #held: HeldSend[] = []

  get size(): number {
    return this.#held.length
  }

  hold(send: HeldSend): void {
    this.#held.push(send)
  }

  /** What waited for this persist or an earlier one; it is held no longer. */
  release(token: number): readonly HeldSend[] {
    const later = this.#held.findIndex(send => send.after > token)
    return later < 0 ? this.#held.splice(0) : this.#held.splice(0, later)
  }

  clear(): void {
    this.#held = []
  }
}

/** A leader whose write takes longer transfers leadership. In milliseconds. */
export const writeStallMs = 2_000
/** A node whose write takes longer stops: `storage-failed`. In milliseconds. */
export const writeDeadlineMs = 30_000

interface WriteOutcome {
  readonly written: () => void
  readonly failed: (error: MoteError) => void
}

export class WriteWatch {
  readonly #tickMs: number
  /** Writes under way, in the order in which they began and will end. */
  readonly #underWay: ('usual' | 'large')[] = []
  #ticks = 0
  /** The tick at which the disk last ended a write, or began to have one. */
  #progressAt = 0
  #idle: (() => void) | undefined

  constructor(tickMs: number) {
    this.#tickMs = tickMs
  }

  get inFlight(): number {
    return this.#underWay.length
  }

  tick(): void {
    this.#ticks++
  }

  /** @param size `large` for what may rightly take long: a snapshot, the deletion of a log */
  track(write: Promise<void>, size: 'usual' | 'large', outcome: WriteOutcome): void {
    if (this.#underWay.length === 0) this.#progressAt = this.#ticks
    this.#underWay.push(size)
    write
      .then(outcome.written, (error: unknown) => outcome.failed(storageFailure(error)))
      .finally(() => this.#ended())
  }

  #ended(): void {
    this.#underWay.shift()
    this.#progressAt = this.#ticks
    if (this.#underWay.length === 0) this.#idle?.()
  }

  /** For how many milliseconds the disk has ended no write; 0 if it has none to end, or a large one. */
  get waitingMs(): number {
    return this.#underWay[0] === 'usual' ? (this.#ticks - this.#progressAt) * this.#tickMs : 0
  }

  /** Resolves when no write is under way. */
  async idle(): Promise<void> {
    if (this.#underWay.length > 0) await new Promise<void>(resolve => (this.#idle = resolve))
  }
}

/** Why the disk refused, as the replica says it. */
export function storageFailure(error: unknown): MoteError {
  return error instanceof MoteError ? error : new MoteError('storage-failed', String(error), { cause: error })
}
