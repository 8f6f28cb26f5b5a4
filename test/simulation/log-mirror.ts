/** The log that a process believes to have, writes on their way included, as the judge follows it. */
import type { Entry } from '../../consensus/types.ts'

export type LogEntry = Pick<Entry, 'index' | 'term' | 'type' | 'data'>

export class LogMirror {
  #before: { readonly index: number; readonly term: number }
  #entries: LogEntry[] = []

  constructor(before: { readonly index: number; readonly term: number }) {
    this.#before = before
  }

  /** The last place that is not in here. */
  get before(): { readonly index: number; readonly term: number } {
    return this.#before
  }

  get lastIndex(): number {
    return this.#before.index + this.#entries.length
  }

  append(entries: readonly LogEntry[]): void {
    for (const entry of entries) {
      if (entry.index !== this.lastIndex + 1)
        throw new Error(`log mirror: ${entry.index} after ${this.lastIndex}`)
      this.#entries.push(entry)
    }
  }

  truncateAfter(index: number): void {
    this.#entries.length = Math.max(0, Math.min(this.#entries.length, index - this.#before.index))
  }

  reset(before: { readonly index: number; readonly term: number }): void {
    this.#before = before
    this.#entries = []
  }

  entryAt(index: number): LogEntry | undefined {
    return this.#entries[index - this.#before.index - 1]
  }

  /** Undefined outside of what is in here. */
  termAt(index: number): number | undefined {
    return index === this.#before.index ? this.#before.term : this.entryAt(index)?.term
  }
}
