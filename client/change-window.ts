/**
 * Which state keys changed lately, and when: what decides whether a value that was proven at one height still stands
 * at a later one (docs/ARCHITECTURE.md, "Keeping trust data fresh").
 *
 * Knows every change in (base, head]; below `base` nothing. Bounded: when it holds too many keys the oldest blocks go
 * and `base` rises, so the answer becomes "too old to say", never a wrong one.
 */
import type { Height, StateKey } from '../chain/brands.ts'
import { assert } from '../chain/result.ts'

/** Whether a value proven earlier stands at the head. */
export type ProvenValueStatus =
  | { readonly type: 'holds' }
  /** Below the window or above the head: cannot be judged. */
  | { readonly type: 'unknown' }
  /** Height of the last change after the proof. */
  | { readonly type: 'changed'; readonly at: Height }

/** Keys remembered, counting a key once per block that wrote it. */
const defaultCapacity = 262_144

export class ChangeWindow {
  #base: Height
  #head: Height
  readonly #capacity: number
  /** Oldest first. Blocks that wrote nothing are not kept. */
  #blocks: { readonly height: Height; readonly keys: readonly StateKey[] }[] = []
  #size = 0
  readonly #lastChange = new Map<StateKey, Height>()

  constructor(start: Height, capacity = defaultCapacity) {
    this.#base = start
    this.#head = start
    this.#capacity = capacity
  }

  get base(): Height {
    return this.#base
  }

  get head(): Height {
    return this.#head
  }

  /** The next block's keys. Heights come without gaps. */
  add(height: Height, keys: readonly StateKey[]): void {
    assert(height === this.#head + 1, `height: expected ${this.#head + 1}, got ${height}`)
    this.#head = height
    if (keys.length === 0) return
    this.#blocks.push({ height, keys })
    this.#size += keys.length
    for (const key of keys) this.#lastChange.set(key, height)
    while (this.#size > this.#capacity) this.#dropOldest()
  }

  /** Starts over at a height that was reached by a skip: changes in between are not known. */
  restart(height: Height): void {
    this.#base = height
    this.#head = height
    this.#blocks = []
    this.#size = 0
    this.#lastChange.clear()
  }

  /** Whether a value proven at `height` stands at the head. */
  judge(key: StateKey, height: Height): ProvenValueStatus {
    if (height < this.#base || height > this.#head) return { type: 'unknown' }
    const at = this.#lastChange.get(key)
    return at !== undefined && at > height ? { type: 'changed', at } : { type: 'holds' }
  }

  /** Height of the newest block in the window that wrote the key. */
  lastChange(key: StateKey): Height | undefined {
    return this.#lastChange.get(key)
  }

  #dropOldest(): void {
    const oldest = this.#blocks.shift()
    assert(oldest, 'a window over capacity has blocks')
    this.#size -= oldest.keys.length
    this.#base = oldest.height
    for (const key of oldest.keys)
      if (this.#lastChange.get(key) === oldest.height) this.#lastChange.delete(key)
  }
}
