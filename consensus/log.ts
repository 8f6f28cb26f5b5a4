/**
 * The part of the log that is in memory: a window of consecutive entries, and the index and term right before it
 * (section 5.3, "log matching").
 *
 * Invariants: 1. Indexes are consecutive and terms never decrease. 2. Everything before the window is committed and
 * applied, so it can be read from storage and is never truncated. 3. Appending and dropping cost the entries
 * concerned, never the length of the log.
 */
import { assert } from './assert.ts'
import type { Entry } from './types.ts'

/** The place of an entry, without the entry. Index 0, term 0 is the place before the first one. */
export interface Position {
  readonly index: number
  readonly term: number
}

/** Consecutive entries of one term, from `firstIndex` to the next run. */
interface Run {
  readonly term: number
  readonly firstIndex: number
}

const entryOverheadBytes = 64
const memberOverheadBytes = 64

/** What an entry counts against limits: its data and a flat amount for its place. */
export function entryBytes(entry: Entry): number {
  if (entry.configuration === undefined) return entry.data.length + entryOverheadBytes
  const { voters, votersOutgoing, learners } = entry.configuration
  const members = voters.length + votersOutgoing.length + learners.length
  return entry.data.length + entryOverheadBytes + members * memberOverheadBytes
}

export class LogWindow {
  #before: Position
  /** Entries from `#head` on are live; those before it are dropped and wait for the next compaction of the array. */
  #entries: Entry[] = []
  #head = 0
  #bytes = 0
  #runs: Run[] = []

  constructor(before: Position, entries: readonly Entry[] = []) {
    this.#before = before
    this.append(entries)
  }

  /** The last position that is not in memory; its term is known. */
  get before(): Position {
    return this.#before
  }

  get lastIndex(): number {
    return this.#before.index + this.#entries.length - this.#head
  }

  get lastTerm(): number {
    return this.#runs.at(-1)?.term ?? this.#before.term
  }

  /** Sum of `entryBytes` of what is in memory. */
  get bytes(): number {
    return this.#bytes
  }

  /** The term at `index`; undefined before the window's edge and past the end. */
  termAt(index: number): number | undefined {
    if (index === this.#before.index) return this.#before.term
    return this.entryAt(index)?.term
  }

  entryAt(index: number): Entry | undefined {
    if (index <= this.#before.index) return undefined
    return this.#entries[this.#head + index - this.#before.index - 1]
  }

  append(entries: readonly Entry[]): void {
    for (const entry of entries) {
      assert(
        entry.index === this.lastIndex + 1,
        `log: expected index ${this.lastIndex + 1}, got ${entry.index}`,
      )
      assert(entry.term >= this.lastTerm, `log: expected term ${this.lastTerm} or later, got ${entry.term}`)
      if (this.#runs.length === 0 || entry.term !== this.lastTerm) {
        this.#runs.push({ term: entry.term, firstIndex: entry.index })
      }
      this.#entries.push(entry)
      this.#bytes += entryBytes(entry)
    }
  }

  /** Removes everything after `index`. */
  truncateAfter(index: number): void {
    assert(index >= this.#before.index, `log: truncating ${index}, before the window`)
    while (this.lastIndex > index) {
      const removed = this.#entries.pop()
      if (removed !== undefined) this.#bytes -= entryBytes(removed)
    }
    while ((this.#runs.at(-1)?.firstIndex ?? 0) > index) this.#runs.pop()
  }

  /** Forgets entries from the front while memory holds more than `maxBytes` and they are at or before `index`. */
  shrink(index: number, maxBytes: number): void {
    while (this.#bytes > maxBytes && this.#before.index < index) {
      const first = this.#entries[this.#head]
      if (first === undefined) break
      this.#head += 1
      this.#bytes -= entryBytes(first)
      this.#before = { index: first.index, term: first.term }
    }
    while ((this.#runs[1]?.firstIndex ?? Infinity) <= this.#before.index + 1) this.#runs.shift()
    if (this.lastIndex === this.#before.index) this.#runs = []
    // Amortised: each entry is moved at most once for every entry dropped.
    if (this.#head > 1024 && this.#head * 2 > this.#entries.length) {
      this.#entries = this.#entries.slice(this.#head)
      this.#head = 0
    }
  }

  /** Starts anew behind `before`, empty. */
  reset(before: Position): void {
    this.#before = before
    this.#entries = []
    this.#head = 0
    this.#bytes = 0
    this.#runs = []
  }

  /** Entries from `from` on, up to either limit; at least one if there is any. `from` is in the window. */
  slice(from: number, limit: { readonly entries: number; readonly bytes: number }): Entry[] {
    const start = this.#head + from - this.#before.index - 1
    let end = start
    let bytes = 0
    while (end < this.#entries.length && end - start < limit.entries) {
      const entry = this.#entries[end]
      if (entry === undefined) break
      bytes += entryBytes(entry)
      if (end > start && bytes > limit.bytes) break
      end += 1
    }
    return this.#entries.slice(start, end)
  }

  /** Entries `from` to `to`, both in the window. */
  range(from: number, to: number): Entry[] {
    const offset = this.#head - this.#before.index - 1
    return this.#entries.slice(offset + from, offset + to + 1)
  }

  /**
   * The last place at or before `index` whose term is not above `term`; the window's edge if the window has none. Costs
   * the number of terms in the window.
   */
  lastPlaceNotAbove({ index, term }: Position): Position {
    let end = Math.min(index, this.lastIndex)
    for (const run of this.#runs.toReversed()) {
      if (run.firstIndex > end) continue
      if (run.term <= term && end > this.#before.index) return { index: end, term: run.term }
      end = run.firstIndex - 1
    }
    return this.#before
  }
}
