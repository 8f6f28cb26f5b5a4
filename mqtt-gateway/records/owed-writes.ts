/**
 * Writes of who changes its memory first: when one fails, the disk is behind, and what it lacks is owed. The next write brings it along, in
 * one step, so that no later one can take away what stands for something that an earlier one has left out.
 *
 * Invariants
 * 1. Of each key the disk has, after a write that did not fail, what was asked for last.
 * 2. Nothing new begins while something is owed (`mustOweNothing`): so it is bounded by what was under way when the disk failed, and nobody is
 *    told that something is on the disk which is not.
 */
import { MoteError } from '../../chain/result.ts'
import type { MessageStore, StoreChange } from '../../client/message-store.ts'

export class OwedWrites {
  readonly #store: Pick<MessageStore, 'write'>
  readonly #owed = new Map<string, StoreChange>()
  /** The newest write of each key that is being written. */
  readonly #underWay = new Map<string, number>()
  #writes = 0
  /** Writes under way that bring along what was owed. */
  #mending = 0

  constructor(store: Pick<MessageStore, 'write'>) {
    this.#store = store
  }

  /** On the disk when it resolves, with what was owed before. Throws `storage-failed`; then it is owed. */
  async write(changes: readonly StoreChange[]): Promise<void> {
    const mends = this.#owed.size > 0 ? 1 : 0
    const all = new Map([...this.#owed.values(), ...changes].map(change => [change.key, change]))
    if (all.size === 0) return
    this.#owed.clear()
    this.#writes += 1
    const own = this.#writes
    for (const key of all.keys()) this.#underWay.set(key, own)
    const isNewest = (key: string) => this.#underWay.get(key) === own
    this.#mending += mends
    try {
      await this.#store.write([...all.values()])
    } catch (error) {
      for (const [key, change] of all) if (isNewest(key)) this.#owed.set(key, change)
      throw error
    } finally {
      this.#mending -= mends
      for (const key of all.keys()) if (isNewest(key)) this.#underWay.delete(key)
    }
  }

  /** Throws `storage-failed` while something is owed, and has it written. */
  mustOweNothing(): void {
    if (this.#owed.size === 0 && this.#mending === 0) return
    if (this.#mending === 0) this.write([]).catch(() => {})
    throw new MoteError('storage-failed', 'records: what a failed write left out is written first')
  }
}
