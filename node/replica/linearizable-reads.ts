/**
 * Linearizable reads of certified state (thesis section 6.4): what was committed anywhere before the read began is in the
 * answer. The leader confirms with a quorum that it still is one and names its commit index; this node waits until it has
 * executed that much and a certificate covers it.
 *
 * No leases: clocks are not trusted. Reads that come while one is on its way share the next one.
 */

import { MoteError } from '../../chain/result.ts'
import { Deadline } from '../../client/deadline.ts'
import type { LiveChain } from '../ledger/live-chain.ts'
import type { Leadership, NodeListener } from '../ledger/node-events.ts'
import { memberRequests } from '../network/request-table.ts'
import { ask } from '../network/requests.ts'
import type { Clock, Network } from '../ports.ts'

export interface LinearizableReadsParts {
  readonly clock: Clock
  readonly network: Pick<Network, 'request'>
  readonly chain: Pick<LiveChain, 'height' | 'certifiedHeight'>
  readonly replica: {
    readonly leadership: Leadership
    readonly appliedIndex: number
    readIndex(): Promise<number>
  }
}

/** A read that has not been confirmed by then is refused. */
const readTimeoutMs = 5_000
const askTimeoutMs = 2_000
const askAgainMs = 20

interface Waiter {
  readonly reached: () => boolean
  readonly resolve: () => void
}

export class LinearizableReads implements NodeListener {
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

  applied(): void {
    this.#progress()
  }

  certified(): void {
    this.#progress()
  }

  #progress(): void {
    const reached = this.#waiters.filter(waiter => waiter.reached())
    if (reached.length === 0) return
    this.#waiters = this.#waiters.filter(waiter => !reached.includes(waiter))
    for (const waiter of reached) waiter.resolve()
  }

  #tooLate(): MoteError {
    return this.#parts.replica.leadership.leader === undefined
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
    const { clock, chain, replica } = this.#parts
    const deadline = new Deadline(readTimeoutMs, { clock })
    const index = await this.#confirmedIndex(deadline)
    await this.#until(() => replica.appliedIndex >= index, deadline)
    const wanted = chain.height
    await this.#until(() => chain.certifiedHeight >= wanted, deadline)
  }

  async #confirmedIndex(deadline: Deadline): Promise<number> {
    const { network, replica } = this.#parts
    for (;;) {
      const { role, leader } = replica.leadership
      try {
        if (role === 'leader') return await replica.readIndex()
        if (leader) return (await ask(network, leader, memberRequests.read, {}, askTimeoutMs)).index
      } catch (error) {
        if (!(error instanceof MoteError)) throw error
      }
      // The leader may be changing.
      if (deadline.isOver) throw this.#tooLate()
      await deadline.pause(askAgainMs)
    }
  }

  async #until(reached: () => boolean, deadline: Deadline): Promise<void> {
    if (reached()) return
    const { promise, resolve } = Promise.withResolvers<void>()
    const waiter = { reached, resolve }
    this.#waiters.push(waiter)
    const late = () => {
      this.#waiters = this.#waiters.filter(other => other !== waiter)
      return this.#tooLate()
    }
    await deadline.within(promise, late)
  }
}

/* At the leader. */

interface WaitingRead {
  readonly resolve: (index: number) => void
  readonly reject: (error: MoteError) => void
}

/** Reads that wait for Raft to confirm the leadership, by the context that each was given. */
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
