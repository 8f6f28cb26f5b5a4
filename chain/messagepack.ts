/**
 * Reader, for hostile bytes, and writer of the one MessagePack form that the chain uses (docs/FORMATS.md, "Encoding").
 *
 * Accepted: nil, booleans, unsigned integers up to 2^53-1, UTF-8 text, byte strings and arrays, each in its one shortest
 * form. Every value thus has one encoding: what the reader accepts, the writer writes again byte for byte. Libraries for all of
 * MessagePack read more than that, trust length prefixes, and write through a buffer of their own
 * (docs/decisions/0004-own-reader-of-messagepack.md).
 *
 * Bounds: a length never exceeds the bytes that are left, so memory stays within a small factor of the input; nesting and
 * the number of values are limited.
 */
import { utf8ToBytes } from '@noble/hashes/utils.js'

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
  readonly #memory: Memory
  #position = 0
  #itemsLeft: number

  constructor(source: Uint8Array, itemsMax: number, memory: Memory) {
    this.#source = source
    this.#itemsLeft = itemsMax
    this.#memory = memory
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

class Writer {
  readonly #usualRoom = new Uint8Array(64 * 1024)
  #room = this.#usualRoom
  #length = 0

  write(value: Wire): Uint8Array {
    // What a long value needed is not kept.
    this.#room = this.#usualRoom
    this.#length = 0
    this.#value(value)
    return this.#room.subarray(0, this.#length)
  }

  #value(value: Wire): void {
    if (typeof value === 'number') this.#uint32(value)
    else if (value instanceof Uint8Array) this.#bytes(value)
    else if (typeof value === 'string') this.#text(value)
    else if (typeof value === 'boolean') this.#byte(value ? yes : no)
    else if (typeof value === 'bigint') this.#long(value)
    else if (value === null) this.#byte(nil)
    else this.#array(value)
  }

  #reserve(more: number): void {
    const needed = this.#length + more
    if (needed <= this.#room.length) return
    const larger = new Uint8Array(Math.max(needed, 2 * this.#room.length))
    larger.set(this.#room.subarray(0, this.#length))
    this.#room = larger
  }

  #byte(byte: number): void {
    this.#reserve(1)
    this.#room[this.#length++] = byte
  }

  #typed(type: number, natural: number, size: 1 | 2 | 4): void {
    this.#reserve(1 + size)
    const room = this.#room
    let at = this.#length
    room[at++] = type
    for (let shift = 8 * (size - 1); shift >= 0; shift -= 8) room[at++] = natural >>> shift
    this.#length = at
  }

  #uint32(value: number): void {
    if (value < 0x80) this.#byte(value)
    else if (value <= 0xff) this.#typed(uint8, value, 1)
    else if (value <= 0xffff) this.#typed(uint16, value, 2)
    else this.#typed(uint32, value, 4)
  }

  #long(value: bigint): void {
    this.#typed(int64, Number(value >> 32n), 4)
    const low = Number(value & 0xffff_ffffn)
    this.#reserve(4)
    for (let shift = 24; shift >= 0; shift -= 8) this.#room[this.#length++] = low >>> shift
  }

  #bytes(value: Uint8Array): void {
    const { length } = value
    if (length <= 0xff) this.#typed(bin8, length, 1)
    else if (length <= 0xffff) this.#typed(bin16, length, 2)
    else this.#typed(bin32, length, 4)
    this.#append(value)
  }

  #append(bytes: Uint8Array): void {
    this.#reserve(bytes.length)
    this.#room.set(bytes, this.#length)
    this.#length += bytes.length
  }

  #text(value: string): void {
    // Names and ids are ASCII, one byte a character.
    const bytes = isAscii(value) ? undefined : utf8ToBytes(value)
    const { length } = bytes ?? value
    if (length < 0x20) this.#byte(0xa0 | length)
    else if (length <= 0xff) this.#typed(str8, length, 1)
    else if (length <= 0xffff) this.#typed(str16, length, 2)
    else this.#typed(str32, length, 4)
    if (bytes) this.#append(bytes)
    else {
      this.#reserve(length)
      for (let i = 0; i < length; i++) this.#room[this.#length++] = value.charCodeAt(i)
    }
  }

  #array(items: readonly Wire[]): void {
    const { length } = items
    if (length < 0x10) this.#byte(0x90 | length)
    else if (length <= 0xffff) this.#typed(array16, length, 2)
    else this.#typed(array32, length, 4)
    for (const item of items) this.#value(item)
  }
}

function isAscii(text: string): boolean {
  for (let i = 0; i < text.length; i++) if (text.charCodeAt(i) >= 0x80) return false
  return true
}

const writer = new Writer()

/**
 * The bytes of `value`: a view of memory that the next call writes to. Numbers are whole and from 0 to 2^32-1; a larger one,
 * up to 2^53-1, is a bigint. A lone surrogate in a text becomes U+FFFD.
 */
export function writeMessagePack(value: Wire): Uint8Array {
  return writer.write(value)
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
