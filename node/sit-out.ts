/**
 * When a leader gives way whose own log holds what no follower takes.
 *
 * A proposal can turn out to be too late after it was made: the clocks that a majority seemed to have reached were wrong one
 * after another, or a majority was wrong and was set right. It is in this leader's log, followers cut it off, and nothing
 * behind it commits until its time has come, which may take an hour. A leader cannot take an entry back; another leader,
 * which lacks it, overwrites it. So this one keeps silent (no ticks, no proposals) until another is elected. If a majority
 * holds the entry, nobody else can be; then this one leads on after `sitOutTimeouts`, and the entry commits, since followers
 * that have it do not take it again.
 *
 * Time is counted in ticks and in election timeouts.
 */

/** How long a leader waits for a late proposal's time to come: delays of clocks pass by themselves. */
const patienceTimeouts = 3
/** How long it keeps silent: others hold an election twice in this time. */
const sitOutTimeouts = 6

export class SitOut {
  readonly #electionTimeoutTicks: number
  #lateTicks = 0
  #left = 0

  constructor(electionTimeoutTicks: number) {
    this.#electionTimeoutTicks = electionTimeoutTicks
  }

  get sits(): boolean {
    return this.#left > 0
  }

  /** One tick. `isLate`: this node leads and has such a proposal. `follows`: another leads. True if it falls silent now. */
  tick({ isLate, follows }: { readonly isLate: boolean; readonly follows: boolean }): boolean {
    this.#left = follows ? 0 : Math.max(0, this.#left - 1)
    this.#lateTicks = isLate && this.#left === 0 ? this.#lateTicks + 1 : 0
    if (this.#lateTicks <= patienceTimeouts * this.#electionTimeoutTicks) return false
    this.#lateTicks = 0
    this.#left = sitOutTimeouts * this.#electionTimeoutTicks
    return true
  }
}
