/**
 * How many transactions of each signer were executed and have not expired. The chain remembers their ids, and when it remembers
 * `unexpiredTransactions`, execution refuses everybody, an operator too. A leader therefore takes a share from one signer, and
 * keeps places for what only operators may ask for.
 *
 * The counts begin with this process: a signer may have used its share before. The operators' places hold nevertheless, since
 * they are judged by the chain's own number.
 */
import type { Milliseconds } from '../../chain/brands.ts'
import { slotOf } from '../../chain/replay.ts'
import { ok, type Result, refuse } from '../../chain/result.ts'
import type { Lane, QuotaHolder } from './mempool.ts'

/** How much of a chain's `unexpiredTransactions` one signer's may be, in percent, rounded up. */
const maxSignerSharePercent = 5
/** How much of them is for what only operators may ask for, in percent, rounded down. */
const operatorReservePercent = 10

export class UnexpiredCounts {
  readonly #slots = new Map<number, Map<QuotaHolder, number>>()
  readonly #counts = new Map<QuotaHolder, number>()

  /** A transaction was executed. */
  add(signer: QuotaHolder, expiry: Milliseconds): void {
    const number = slotOf(expiry)
    const slot = this.#slots.get(number) ?? new Map<QuotaHolder, number>()
    this.#slots.set(number, slot)
    slot.set(signer, (slot.get(signer) ?? 0) + 1)
    this.#counts.set(signer, (this.#counts.get(signer) ?? 0) + 1)
  }

  /** Block time is `time`: the chain has forgotten the slots before. */
  forgetBefore(time: Milliseconds): void {
    for (const [number, slot] of this.#slots) {
      if (number >= slotOf(time)) continue
      this.#slots.delete(number)
      for (const [signer, count] of slot) {
        const left = (this.#counts.get(signer) ?? 0) - count
        if (left > 0) this.#counts.set(signer, left)
        else this.#counts.delete(signer)
      }
    }
  }

  /**
   * Whether one more may wait. `all`: the chain's number, those that wait included. Refuses `rate-limited` over the share of the
   * signer, `overloaded` if only operators' places are left.
   */
  room(
    { signer, lane }: { readonly signer: QuotaHolder; readonly lane: Lane },
    { all, most }: { readonly all: number; readonly most: number },
  ): Result<void> {
    const share = Math.ceil((most * maxSignerSharePercent) / 100)
    if ((this.#counts.get(signer) ?? 0) >= share)
      return refuse('rate-limited', `signer: expected at most ${share} transactions that have not expired`)
    const places = most - Math.floor((most * operatorReservePercent) / 100)
    if (lane !== 'operator' && all >= places)
      return refuse(
        'overloaded',
        `${places} transactions wait for their expiry; what is left is for operators`,
      )
    return ok(undefined)
  }
}
