/**
 * Chance in a simulation: xoshiro128** (Blackman and Vigna), seeded by splitmix32 from a seed and a label. Each part of a
 * run draws from a stream of its own, so that one part asking for one number more does not change all others.
 */

function splitmix32(state: number): () => number {
  let next = state >>> 0
  return () => {
    next = (next + 0x9e3779b9) >>> 0
    let mixed = next
    mixed = Math.imul(mixed ^ (mixed >>> 16), 0x21f0aaad)
    mixed = Math.imul(mixed ^ (mixed >>> 15), 0x735a2d97)
    return (mixed ^ (mixed >>> 15)) >>> 0
  }
}

function rotateLeft(value: number, by: number): number {
  return ((value << by) | (value >>> (32 - by))) >>> 0
}

/** FNV-1a of a text: which stream a label means. */
function hashOfLabel(label: string): number {
  let hash = 0x811c9dc5
  for (let i = 0; i < label.length; i++) hash = Math.imul(hash ^ label.charCodeAt(i), 0x01000193)
  return hash >>> 0
}

export class SeededRandom {
  #a: number
  #b: number
  #c: number
  #d: number

  constructor(seed: number, label: string) {
    const next = splitmix32((seed ^ hashOfLabel(label)) >>> 0)
    this.#a = next()
    this.#b = next()
    this.#c = next()
    this.#d = next() | 1
  }

  /** A natural number below 2^32. */
  next(): number {
    const result = Math.imul(rotateLeft(Math.imul(this.#b, 5), 7), 9) >>> 0
    const shifted = this.#b << 9
    this.#c ^= this.#a
    this.#d ^= this.#b
    this.#b ^= this.#c
    this.#a ^= this.#d
    this.#c ^= shifted
    this.#d = rotateLeft(this.#d, 11)
    return result
  }

  /** From 0 (inclusive) to 1 (exclusive). */
  readonly fraction = (): number => this.next() / 2 ** 32

  /** A natural number from 0 (inclusive) to `bound` (exclusive). */
  below(bound: number): number {
    return Math.floor(this.fraction() * bound)
  }

  between(low: number, high: number): number {
    return low + this.fraction() * (high - low)
  }

  chance(probability: number): boolean {
    return this.fraction() < probability
  }

  pick<T>(items: readonly T[]): T {
    const item = items[this.below(items.length)]
    if (item === undefined) throw new Error('pick: nothing to pick from')
    return item
  }

  /** Waiting times with this mean, without memory of how long one has waited. */
  exponential(mean: number): number {
    return -mean * Math.log(1 - this.fraction())
  }

  shuffled<T>(items: readonly T[]): T[] {
    const rest = [...items]
    const result: T[] = []
    while (rest.length > 0) result.push(...rest.splice(this.below(rest.length), 1))
    return result
  }

  bytes(length: number): Uint8Array {
    return Uint8Array.from({ length }, () => this.next() & 0xff)
  }
}
