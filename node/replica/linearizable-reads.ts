/**
 * Linearizable reads of certified state (thesis section 6.4): what was committed anywhere before the read began is in the
 * answer. The leader confirms with a quorum that it still is one and names its commit index; this node waits until it has
 * executed that much and a certificate covers it.
 *
 * No leases: clocks are not trusted. Reads that come while one is on its way share the next one.
 */
import type { DeviceId } from '../../chain/brands.ts'
import { MoteError } from '../../chain/result.ts'
import type { Clock } from '../ports.ts'
import type { Leadership } from './replica-parts.ts'

export interface LinearizableReadsParts {
  readonly clock: Clock
  readonly leadership: () => Leadership
  /** Read index of this node as leader. Rejects with `no-leader`. */
  readonly readIndex: () => Promise<number>
  /** The same, asked of the leader. */
  readonly askLeader: (leader: DeviceId) => Promise<number>
  readonly appliedIndex: () => number
  readonly height: () => number
  readonly certifiedHeight: () => number
}

/** A read that has not been confirmed by then is refused. */
const readTimeoutMs = 5_000
const askAgainMs = 20

interface Waiter {
  readonly reached: () => boolean
  readonly resolve: () => void
}

export class LinearizableReads {
  readonly #parts: LinearizableReadsParts
  #waiters: Waiter[] = []
  #current: Promise<void> | undefined
  #next: Promise<void> | undefined

  constructor(parts: LinearizableReadsParts) {
    this.#parts = parts
  }

  /** Resolves when the certified state here holds everything that was committed before the call. Throws `no-leader` or `timeout`. */
  barrier(): Promise<void> {
    // A round that is under way may have begun before what this reader must see.
    const { promise, resolve, reject } = Promise.withResolvers<void>()
    const cancel = this.#parts.clock.after(readTimeoutMs, () => reject(this.#tooLate()))
    this.#nextRound().then(resolve, reject)
    return promise.finally(cancel)
  }

  /** Something was executed or certified here. */
  progress(): void {
    const reached = this.#waiters.filter(waiter => waiter.reached())
    if (reached.length === 0) return
    this.#waiters = this.#waiters.filter(waiter => !reached.includes(waiter))
    for (const waiter of reached) waiter.resolve()
  }

  #tooLate(): MoteError {
    return this.#parts.leadership().leader === undefined
      ? new MoteError('no-leader', 'read: no leader is known')
      : new MoteError('timeout', `read: not confirmed within ${readTimeoutMs} ms`)
  }

  #nextRound(): Promise<void> {
    if (this.#next) return this.#next
    const round = (this.#current ?? Promise.resolve())
      .catch(() => {})
      .then(() => {
        this.#current = round
        this.#next = undefined
        return this.#round()
      })
    this.#next = round
    return round
  }

  async #round(): Promise<void> {
    const { clock, appliedIndex, height, certifiedHeight } = this.#parts
    const deadline = clock.steady() + readTimeoutMs
    const index = await this.#confirmedIndex(deadline)
    await this.#until(() => appliedIndex() >= index, deadline)
    const wanted = height()
    await this.#until(() => certifiedHeight() >= wanted, deadline)
  }

  async #confirmedIndex(deadline: number): Promise<number> {
    const { clock, leadership, readIndex, askLeader } = this.#parts
    for (;;) {
      const { role, leader } = leadership()
      try {
        if (role === 'leader') return await readIndex()
        if (leader) return await askLeader(leader)
      } catch (error) {
        if (!(error instanceof MoteError)) throw error
      }
      // The leader may be changing.
      if (clock.steady() >= deadline) throw this.#tooLate()
      await new Promise<void>(resolve => clock.after(askAgainMs, resolve))
    }
  }

  #until(reached: () => boolean, deadline: number): Promise<void> {
    if (reached()) return Promise.resolve()
    const { clock } = this.#parts
    const { promise, resolve, reject } = Promise.withResolvers<void>()
    const waiter = { reached, resolve }
    this.#waiters.push(waiter)
    const cancel = clock.after(Math.max(0, deadline - clock.steady()), () => {
      this.#waiters = this.#waiters.filter(other => other !== waiter)
      reject(this.#tooLate())
    })
    return promise.finally(cancel)
  }
}
