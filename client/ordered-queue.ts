/** Steps that run one after another, in the order in which they were asked for. One that fails holds up nobody. */
export class OrderedQueue {
  #last: Promise<unknown> = Promise.resolve()
  #length = 0

  /** Steps that run or wait. */
  get length(): number {
    return this.#length
  }

  /** What `step` gives, when its turn has come. */
  run<T>(step: () => Promise<T>): Promise<T> {
    this.#length++
    const turn = this.#last.then(step).finally(() => {
      this.#length--
    })
    this.#last = turn.catch(() => {})
    return turn
  }

  /** Resolves when every step that was asked for until now has ended. */
  async idle(): Promise<void> {
    await this.#last
  }
}
