/** What a hostile peer did and met, by name: an attack that did nothing shows nothing. */
export class Counts {
  readonly #counts = new Map<string, number>()

  add(what: string, count = 1): void {
    this.#counts.set(what, (this.#counts.get(what) ?? 0) + count)
  }

  of(what: string): number {
    return this.#counts.get(what) ?? 0
  }

  get isEmpty(): boolean {
    return this.#counts.size === 0
  }

  get all(): Readonly<Record<string, number>> {
    return Object.fromEntries(this.#counts)
  }
}
