/**
 * Reads that wait for Raft to confirm the leadership (thesis section 6.4), by the context each was given.
 */
import { MoteError } from '../chain/result.ts'

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

  /** Nobody will answer any more. */
  refuseAll(): void {
    for (const context of [...this.#waiting.keys()]) this.refused(context)
  }

  #take(context: number): WaitingRead | undefined {
    const waiting = this.#waiting.get(context)
    this.#waiting.delete(context)
    return waiting
  }
}
