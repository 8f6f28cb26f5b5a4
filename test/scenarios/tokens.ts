/**
 * The words of one line of a scenario, read from left to right, and the error that says where and what was expected.
 *
 * Words are separated by spaces; "double quotes" hold a word with spaces; `#` begins a comment. No escapes.
 */

/** What is wrong with a scenario file. The message reads `file:line: expected X, got Y`. */
export class ScenarioError extends Error {
  override readonly name = 'ScenarioError'
}

export class Words {
  /** `file:line`, for messages. */
  readonly place: string
  readonly #words: readonly string[]
  #next = 0

  constructor(place: string, text: string) {
    this.place = place
    const words: string[] = []
    for (const [word] of text.matchAll(/"[^"]*"?|#.*|[^\s"#]+/g)) {
      if (word.startsWith('#')) break
      if (word.startsWith('"') && (word.length === 1 || !word.endsWith('"'))) {
        throw new ScenarioError(`${place}: expected a closing quote, got the end of the line`)
      }
      words.push(word)
    }
    this.#words = words
  }

  get isEmpty(): boolean {
    return this.#next >= this.#words.length
  }

  /** The next word without taking it; empty text at the end of the line. */
  get peek(): string {
    return this.#words[this.#next] ?? ''
  }

  /** Takes the next word, whatever it is; `expected` names it in the error at the end of the line. */
  take(expected: string): string {
    if (this.isEmpty) this.fail(expected)
    const word = this.peek
    this.#next += 1
    return word
  }

  /** Takes the next word if it is this one. */
  accept(word: string): boolean {
    if (this.peek !== word) return false
    this.#next += 1
    return true
  }

  expect(word: string): void {
    if (!this.accept(word)) this.fail(word)
  }

  oneOf<T extends string>(choices: readonly T[]): T {
    const choice = choices.find(candidate => candidate === this.peek)
    if (choice === undefined)
      this.fail(choices.length === 1 ? `${choices[0]}` : `one of ${choices.join(', ')}`)
    this.#next += 1
    return choice
  }

  isNumber(): boolean {
    return /^\d+$/.test(this.peek)
  }

  number(expected: string): number {
    if (!this.isNumber()) this.fail(expected)
    return Number(this.take(expected))
  }

  /** Takes numbers as long as they come. */
  numbers(): number[] {
    const numbers: number[] = []
    while (this.isNumber()) numbers.push(this.number('a number'))
    return numbers
  }

  quoted(expected: string): string {
    if (!this.peek.startsWith('"')) this.fail(expected)
    return this.take(expected).slice(1, -1)
  }

  end(): void {
    if (!this.isEmpty) this.fail('the end of the line')
  }

  fail(expected: string): never {
    const got = this.isEmpty ? 'the end of the line' : this.peek
    throw new ScenarioError(`${this.place}: expected ${expected}, got ${got}`)
  }
}
