/**
 * A bounded memory: entries that were set or read lately. Two generations; the older one is dropped when the younger is
 * full, so it holds the last `perGeneration` entries at least and twice as many at most.
 *
 * One Map that drops its oldest entry for each new one would be simpler, but deleting from the front of a Map leaves gaps
 * that every look at its first key walks over.
 */
export class RecentMap<K, V> {
  readonly #perGeneration: number
  #young = new Map<K, V>()
  #old = new Map<K, V>()

  constructor(perGeneration: number) {
    this.#perGeneration = perGeneration
  }

  get(key: K): V | undefined {
    const value = this.#young.get(key)
    if (value !== undefined) return value
    const older = this.#old.get(key)
    if (older !== undefined) this.set(key, older)
    return older
  }

  set(key: K, value: V): void {
    if (this.#young.size >= this.#perGeneration && !this.#young.has(key)) {
      this.#old = this.#young
      this.#young = new Map()
    }
    this.#young.set(key, value)
  }

  delete(key: K): void {
    this.#young.delete(key)
    this.#old.delete(key)
  }

  clear(): void {
    this.#young.clear()
    this.#old.clear()
  }
}
