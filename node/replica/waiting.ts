/**
 * How long the disk has kept the replica waiting. A disk that hangs reports no error, and a leader behind it acknowledges
 * nothing while its heartbeats keep everybody else from leading.
 *
 * Time is counted in ticks that this process has seen, not by the clock: a process that was paused has not waited.
 */
import type { DeviceId } from '../../chain/brands.ts'
import { MoteError } from '../../chain/result.ts'
import type { RaftStatus } from '../../consensus/status.ts'
import type { Message } from '../../consensus/types.ts'

/** A leader whose write takes longer transfers leadership. In milliseconds. */
export const writeStallMs = 2_000
/** A node whose write takes longer stops: `storage-failed`. In milliseconds. */
export const writeDeadlineMs = 30_000

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
  began(size: 'usual' | 'large'): void {
    if (this.#underWay.length === 0) this.#progressAt = this.#ticks
    this.#underWay.push(size)
  }

  ended(): void {
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

/** The voter that has room and whose log is furthest, for a leader that has to go. */
export function bestSuccessor({ id, followers, configuration }: RaftStatus): DeviceId | undefined {
  const matchIndexOf = (voter: string) => followers.get(voter)?.matchIndex ?? 0
  const [best] = configuration.voters
    .filter(voter => voter !== id && followers.get(voter)?.state !== 'full')
    .sort((a, b) => matchIndexOf(b) - matchIndexOf(a))
  return best as DeviceId | undefined
}

/* Messages that may leave only when a persist is durable, in order of the persists they wait for. */

interface HeldSend {
  readonly after: number
  readonly to: string
  readonly message: Message
}

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

/*
 * Reads that wait for Raft to confirm the leadership (thesis section 6.4), by the context each was given.
 */

interface WaitingRead {
  readonly resolve: (index: number) => void
  readonly reject: (error: MoteError) => void
}

export class ReadRounds {
  readonly #waiting = new Map<number, WaitingRead>()
  #nextContext = 1

  /** `begin` hands the read to Raft. Resolves with the index that the state must have reached; rejects with `no-leader`. */
  read(begin: (context: number) => void): Promise<number> {
    const context = this.#nextContext++
    return new Promise((resolve, reject) => {
      this.#waiting.set(context, { resolve, reject })
      begin(context)
    })
  }

  ready(context: number, index: number): void {
    this.#take(context)?.resolve(index)
  }

  refused(context: number): void {
    this.#take(context)?.reject(new MoteError('no-leader', 'read: this node is not the leader (any more)'))
  }

  /** Rejects all that wait: no answer will come. */
  refuseAll(): void {
    for (const context of [...this.#waiting.keys()]) this.refused(context)
  }

  #take(context: number): WaitingRead | undefined {
    const waiting = this.#waiting.get(context)
    this.#waiting.delete(context)
    return waiting
  }
}
