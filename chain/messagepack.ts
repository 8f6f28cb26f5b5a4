/**
 * Reader of the one MessagePack form that the chain uses (docs/FORMATS.md, "Encoding"), for hostile bytes.
 *
 * Accepted: nil, booleans, unsigned integers up to 2^53-1, UTF-8 text, byte strings and arrays, each in its one shortest
 * form. Every value thus has one encoding, and what this reader accepts, msgpackr reads alike and writes again byte for
 * byte. msgpackr itself is not given foreign bytes: it allocates arrays as long as a length prefix claims, knows extension
 * types, accepts every number in several forms, and leaves a property on the array it was given. A scan before it would
 * have to visit each value anyway; reading them in the same pass is shorter and costs less than both.
 *
 * Bounds: a length never exceeds the bytes that are left, so memory stays within a small factor of the input; nesting and
 * the number of values are limited.
 */

/** What MessagePack sees: the wire form of a value. */
export type Wire = null | boolean | number | bigint | string | Uint8Array | readonly Wire[]

/** Thrown on bytes or values that do not have the expected form; never leaves chain/codec.ts. */
export class Malformed extends Error {}

/** Arrays within arrays. */
export const maxDepth = 32
/** Values in one message, arrays and their items all counted. */
export const maxItems = 262_144

const nil = 0xc0
const no = 0xc2
const yes = 0xc3
const bin8 = 0xc4
const bin16 = 0xc5
const bin32 = 0xc6
const uint8 = 0xcc
const uint16 = 0xcd
const uint32 = 0xce
const int64 = 0xd3
const str8 = 0xd9
const str16 = 0xda
const str32 = 0xdb
const array16 = 0xdc
const array32 = 0xdd

/** A byte string that is read has memory of its own, or, if it is longer than `cheapBytes`, is a view of the source. */
export type Memory = 'own' | 'shared'
/** An array of up to so many bytes is as cheap as a view; a longer one costs twenty times as much as reading its bytes. */
const cheapBytes = 64

class Reader {
  readonly #source: Uint8Array
  #position = 0
  #itemsLeft: number

  readonly #memory: Memory

  constructor(source: Uint8Array, itemsMax: number, memory: Memory) {
    this.#memory = memory
    this.#source = source
    this.#itemsLeft = itemsMax
  }

  atEnd(): boolean {
    return this.#position === this.#source.length
  }

  refuse(problem: string): never {
    throw new Malformed(`byte ${this.#position}: ${problem}`)
  }

  #natural(size: 1 | 2 | 4): number {
    const source = this.#source
    const start = this.#position
    if (start + size > source.length) this.refuse('expected more bytes')
    this.#position = start + size
    let value = 0
    for (let i = start; i < start + size; i++) value = value * 256 + (source[i] as number)
    return value
  }

  /** A number that must not fit the next shorter form, whose largest value is `below`. */
  #shortest(size: 1 | 2 | 4, below: number): number {
    const value = this.#natural(size)
    if (value <= below) this.refuse('expected the shortest form')
    return value
  }

  #long(): bigint {
    const high = this.#natural(4)
    const low = this.#natural(4)
    if (high === 0) this.refuse('expected the shortest form')
    if (high > 0x1f_ffff) this.refuse('expected an integer of at most 53 bits')
    return BigInt(high * 2 ** 32 + low)
  }

  #bytes(length: number): Uint8Array {
    const start = this.#position
    if (length > this.#source.length - start) this.refuse(`expected ${length} bytes more`)
    this.#position = start + length
    return this.#memory === 'own' || length <= cheapBytes
      ? this.#source.slice(start, start + length)
      : this.#source.subarray(start, start + length)
  }

  #text(length: number): string {
    const start = this.#position
    if (length > this.#source.length - start) this.refuse(`expected ${length} bytes of text more`)
    const end = start + length
    let text = ''
    while (this.#position < end) text += String.fromCodePoint(this.#codePoint(end))
    return text
  }

  /** One code point of well-formed UTF-8 (RFC 3629, section 4): no surrogates, no longer form than needed. */
  #codePoint(end: number): number {
    const source = this.#source
    const lead = source[this.#position++] as number
    if (lead < 0x80) return lead
    const more = lead >= 0xf0 ? 3 : lead >= 0xe0 ? 2 : 1
    if (lead < 0xc2 || lead > 0xf4 || this.#position + more > end) this.refuse('expected UTF-8')
    let point = lead & (0x3f >> more)
    for (let i = 0; i < more; i++) {
      const next = source[this.#position++] as number
      if ((next & 0xc0) !== 0x80) this.refuse('expected UTF-8')
      point = point * 64 + (next & 0x3f)
    }
    const least = more === 1 ? 0x80 : more === 2 ? 0x800 : 0x1_0000
    if (point < least || point > 0x10_ffff || (point >= 0xd800 && point <= 0xdfff))
      this.refuse('expected UTF-8')
    return point
  }

  #array(length: number, depth: number): Wire[] {
    if (depth >= maxDepth) this.refuse(`expected at most ${maxDepth} nested arrays`)
    if (length > this.#source.length - this.#position) this.refuse(`expected ${length} items more`)
    const items: Wire[] = []
    for (let i = 0; i < length; i++) items.push(this.read(depth + 1))
    return items
  }

  read(depth: number): Wire {
    if (this.#itemsLeft-- <= 0) this.refuse('expected fewer values')
    const type = this.#natural(1)
    if (type < 0x80) return type
    if (type >= 0xa0 && type < 0xc0) return this.#text(type - 0xa0)
    if (type >= 0x90 && type < 0xa0) return this.#array(type - 0x90, depth)
    switch (type) {
      case nil:
        return null
      case no:
        return false
      case yes:
        return true
      case bin8:
        return this.#bytes(this.#natural(1))
      case bin16:
        return this.#bytes(this.#shortest(2, 0xff))
      case bin32:
        return this.#bytes(this.#shortest(4, 0xffff))
      case uint8:
        return this.#shortest(1, 0x7f)
      case uint16:
        return this.#shortest(2, 0xff)
      case uint32:
        return this.#shortest(4, 0xffff)
      case int64:
        return this.#long()
      case str8:
        return this.#text(this.#shortest(1, 0x1f))
      case str16:
        return this.#text(this.#shortest(2, 0xff))
      case str32:
        return this.#text(this.#shortest(4, 0xffff))
      case array16:
        return this.#array(this.#shortest(2, 0xf), depth)
      case array32:
        return this.#array(this.#shortest(4, 0xffff), depth)
      default:
        return this.refuse(`expected a type of the restricted subset, got 0x${type.toString(16)}`)
    }
  }
}

/** The one value that `source` encodes; throws `Malformed`. Shares no memory with `source` unless `memory` says so. */
export function readMessagePack(
  source: Uint8Array,
  itemsMax: number = maxItems,
  memory: Memory = 'own',
): Wire {
  // A plain view: subarray and slice of a Buffer mean something else, and cost more.
  const reader = new Reader(new Uint8Array(source.buffer, source.byteOffset, source.length), itemsMax, memory)
  const value = reader.read(0)
  if (!reader.atEnd()) reader.refuse('expected the end')
  return value
}

/** Bytes of `text` in UTF-8, or undefined if it has a lone surrogate and so no UTF-8 form. */
export function utf8Length(text: string): number | undefined {
  let length = 0
  for (const character of text) {
    const point = character.codePointAt(0) as number
    if (point >= 0xd800 && point <= 0xdfff) return undefined
    length += point < 0x80 ? 1 : point < 0x800 ? 2 : point < 0x1_0000 ? 3 : 4
  }
  return length
}
