/**
 * What happened in a run, line by line, as a hash and, if wanted, as text: two runs of one seed have the same trace, and a
 * failing run can be read.
 */

export class Trace {
  readonly #lines: string[] | undefined
  #low = 0x811c9dc5
  #high = 0x01000193
  #count = 0

  constructor(keepLines: boolean) {
    this.#lines = keepLines ? [] : undefined
  }

  line(atMs: number, text: string): void {
    const line = `${atMs.toFixed(3)} ${text}`
    this.#count++
    for (let i = 0; i < line.length; i++) {
      const code = line.charCodeAt(i)
      this.#low = Math.imul(this.#low ^ code, 0x01000193)
      this.#high = Math.imul(this.#high ^ code, 0x85ebca6b) ^ (this.#low >>> 15)
    }
    this.#lines?.push(line)
  }

  get count(): number {
    return this.#count
  }

  /** Of every line so far. 16 hexadecimal characters. */
  get hash(): string {
    return [this.#low, this.#high].map(half => (half >>> 0).toString(16).padStart(8, '0')).join('')
  }

  get text(): string {
    return this.#lines?.join('\n') ?? ''
  }
}
