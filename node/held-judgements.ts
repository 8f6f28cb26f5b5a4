/**
 * Transactions on which a leader cannot pass judgement yet: they speak of something (a new device, a group) that its log may
 * hold and that it has not executed. A leader executes an entry when its own disk has it; two followers with faster disks can
 * have it certified before, and a client that has heard of it may ask for the next thing at once.
 */
interface Held {
  /** Everything that the log held at the time is executed once this index is applied. */
  readonly until: number
  readonly decide: () => void
}

export class HeldJudgements {
  readonly #most: number
  #held: Held[] = []

  constructor(most: number) {
    this.#most = most
  }

  /** False if there is no room: then the judgement is passed now. */
  hold(held: Held): boolean {
    if (this.#held.length >= this.#most) return false
    this.#held.push(held)
    return true
  }

  /** The log is applied up to `index`. */
  applied(index: number): void {
    if (this.#held.length === 0) return
    const due = this.#held.filter(({ until }) => until <= index)
    this.#held = this.#held.filter(({ until }) => until > index)
    for (const { decide } of due) decide()
  }
}
