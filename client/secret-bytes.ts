/** Secret bytes that no log line can carry: they print and serialise as `[secret]`. */
const inspect = Symbol.for('nodejs.util.inspect.custom')

/** Shows itself only to who asks by `expose`. */
export class SecretBytes {
  readonly #bytes: Uint8Array

  constructor(bytes: Uint8Array) {
    this.#bytes = Uint8Array.from(bytes)
  }

  /** A copy. */
  expose(): Uint8Array {
    return Uint8Array.from(this.#bytes)
  }

  toString(): string {
    return '[secret]'
  }

  toJSON(): string {
    return '[secret]'
  }

  [inspect](): string {
    return '[secret]'
  }
}
