/**
 * Strict, canonical binary encoding: MessagePack restricted to arrays, byte strings, text, booleans, nil and
 * unsigned integers in their shortest form (docs/FORMATS.md, "Encoding").
 *
 * A `Codec<T>` names the shape of one value. What is hashed or signed is always an array in fixed field order;
 * maps do not occur. Integers up to 2^32-1 take MessagePack's shortest unsigned form; larger ones, up to 2^53-1, take
 * its signed 64-bit form (0xd3), which is what msgpackr writes for a positive bigint.
 *
 * `encode` is msgpackr's `pack`. `decode` is for hostile bytes and never throws: chain/messagepack.ts reads them and
 * refuses every form but the canonical one, then the codec refuses wrong arity, types and ranges. A codec's `fromWire`
 * must be injective (two wire values never give one value); so bytes that decode are the bytes that encode.
 */
import { concatBytes } from '@noble/hashes/utils.js'
import { Packr } from 'msgpackr/pack'
import { bytesToHex, hexToBytes } from './hex.ts'
import { Malformed, type Memory, maxItems, readMessagePack, utf8Length, type Wire } from './messagepack.ts'
import { assert, ok, type Refusal, type Result, refuse } from './result.ts'

export type { Wire }

export interface Codec<T> {
  readonly toWire: (value: T) => Wire
  /** Throws `Malformed`; only `decode` calls it. */
  readonly fromWire: (wire: unknown, path: string) => T
}

/** Largest encoded value that `decode` looks at unless told otherwise: 4 MiB. */
export const maxEncodedBytes = 4 * 1024 * 1024
const uint32Max = 0xffff_ffff

const packr = new Packr({
  useRecords: false,
  variableMapSize: true,
  useBigIntExtension: false,
  mapsAsObjects: false,
  int64AsType: 'bigint',
})

/** Canonical bytes of `value`. Throws only if the value does not fit its codec (a programmer's mistake). */
export function encode<T>(codec: Codec<T>, value: T): Uint8Array {
  // A copy: who keeps a view keeps all of msgpackr's memory around it.
  return new Uint8Array(packr.pack(codec.toWire(value)))
}

/**
 * `encode` for bytes that are hashed, copied or stored at once, and then gone: memory of its own costs more than all the
 * rest of a short encoding. A view of the memory that msgpackr writes into, 8 KiB that it fills once and then leaves, or as
 * much as the longest encoding took.
 */
export function encodePassing<T>(codec: Codec<T>, value: T): Uint8Array {
  const { buffer, byteOffset, length } = packr.pack(codec.toWire(value))
  return new Uint8Array(buffer, byteOffset, length)
}

/** The encoding of a list whose items are encoded already. */
export function encodedList(items: readonly Uint8Array[]): Uint8Array {
  const { length } = items
  assert(length <= 0xffff, 'list: expected at most 65,535 items')
  const head = length < 16 ? Uint8Array.of(0x90 | length) : Uint8Array.of(0xdc, length >> 8, length & 0xff)
  return concatBytes(head, ...items)
}

/**
 * The value that `bytes` encode, or `malformed` with the path of the field that is wrong. Shares no memory with `bytes`.
 * @param maxBytes refuse larger input before looking at it; whoever takes more than `maxEncodedBytes` takes more values too
 */
export function decode<T>(codec: Codec<T>, bytes: Uint8Array, maxBytes: number = maxEncodedBytes): Result<T> {
  return decodeUpTo(codec, bytes, maxBytes, 'own')
}

/**
 * `decode`, but longer byte strings in the value are views of `bytes`, which nobody may change from then on, and which stay
 * as long as the value does.
 */
export function decodeSharing<T>(
  codec: Codec<T>,
  bytes: Uint8Array,
  maxBytes: number = maxEncodedBytes,
): Result<T> {
  return decodeUpTo(codec, bytes, maxBytes, 'shared')
}

function decodeUpTo<T>(codec: Codec<T>, bytes: Uint8Array, maxBytes: number, memory: Memory): Result<T> {
  if (bytes.length > maxBytes)
    return refuse('too-large', `bytes: expected at most ${maxBytes}, got ${bytes.length}`)
  return decodeWithin(codec, bytes, maxItems * Math.max(1, maxBytes / maxEncodedBytes), memory)
}

function decodeWithin<T>(
  codec: Codec<T>,
  bytes: Uint8Array,
  itemsMax: number,
  memory: Memory = 'own',
): Result<T> {
  try {
    return ok(codec.fromWire(readMessagePack(bytes, itemsMax, memory), 'value'))
  } catch (error) {
    return refuse('malformed', error instanceof Malformed ? error.message : 'value: expected another form')
  }
}

/** Like `decode`, for bytes this process wrote itself: a failure is corruption, and throws. */
export function decodeOwn<T>(codec: Codec<T>, bytes: Uint8Array): T {
  const result = decodeWithin(codec, bytes, Number.MAX_SAFE_INTEGER)
  assert(result.ok, `own bytes do not decode: ${(result as { error?: Refusal }).error?.detail}`)
  return result.value
}

/** Compares public bytes; not constant-time. */
export function equalBytes(a: Uint8Array, b: Uint8Array): boolean {
  if (a.length !== b.length) return false
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return false
  return true
}

/** Refuses a wire value; only a codec's `fromWire` calls it. */
export function malformed(path: string, expected: string, got: unknown): never {
  throw new Malformed(`${path}: expected ${expected}, got ${describe(got)}`)
}

function describe(value: unknown): string {
  if (value instanceof Uint8Array) return `${value.length} bytes`
  if (Array.isArray(value)) return `an array of ${value.length}`
  if (typeof value === 'string') return `text of ${value.length}`
  if (typeof value === 'number' || typeof value === 'bigint' || typeof value === 'boolean')
    return String(value)
  return value === null ? 'nil' : typeof value
}

/** An unsigned integer from 0 to `max` (at most 2^53-1), with a brand if the field has one. */
export function uint<T extends number = number>(max: number = Number.MAX_SAFE_INTEGER): Codec<T> {
  return {
    toWire: value => {
      assert(
        Number.isSafeInteger(value) && value >= 0 && value <= max,
        `expected an integer from 0 to ${max}, got ${value}`,
      )
      return value <= uint32Max ? value : BigInt(value)
    },
    fromWire: (wire, path) => {
      const value = typeof wire === 'bigint' && wire <= BigInt(Number.MAX_SAFE_INTEGER) ? Number(wire) : wire
      if (typeof value !== 'number' || !Number.isSafeInteger(value) || value < 0 || value > max)
        malformed(path, `an integer from 0 to ${max}`, wire)
      return value as T
    },
  }
}

export const boolean: Codec<boolean> = {
  toWire: value => value,
  fromWire: (wire, path) => (typeof wire === 'boolean' ? wire : malformed(path, 'a boolean', wire)),
}

/** A byte string of `min` to `max` bytes. */
export function bytes(min: number, max: number = min): Codec<Uint8Array> {
  const expected = min === max ? `${min} bytes` : `${min} to ${max} bytes`
  return {
    toWire: value => {
      assert(value.length >= min && value.length <= max, `expected ${expected}, got ${value.length}`)
      return value
    },
    fromWire: (wire, path) => {
      if (!(wire instanceof Uint8Array) || wire.length < min || wire.length > max)
        malformed(path, expected, wire)
      return wire
    },
  }
}

/** A 32-byte digest or id: hexadecimal in memory, bytes on the wire. */
export function digest<T extends string>(): Codec<T> {
  return {
    toWire: value => hexToBytes(value),
    fromWire: (wire, path) =>
      wire instanceof Uint8Array && wire.length === 32
        ? (bytesToHex(wire) as T)
        : malformed(path, '32 bytes', wire),
  }
}

/** Text of at most `maxBytes` UTF-8 bytes that matches `pattern`. */
export function text(maxBytes: number, pattern: RegExp = /^[\s\S]*$/): Codec<string> {
  return {
    toWire: value => {
      assert(
        (utf8Length(value) ?? Infinity) <= maxBytes && pattern.test(value),
        `expected text of at most ${maxBytes} bytes that matches ${pattern}`,
      )
      return value
    },
    fromWire: (wire, path) =>
      typeof wire === 'string' && (utf8Length(wire) ?? Infinity) <= maxBytes && pattern.test(wire)
        ? wire
        : malformed(path, `text of at most ${maxBytes} bytes that matches ${pattern}`, wire),
  }
}

/** Text of which `holds` is true. Writing checks nothing. */
export function textThat(holds: (text: string) => boolean, expected: string): Codec<string> {
  return {
    toWire: value => value,
    fromWire: (wire, path) =>
      typeof wire === 'string' && holds(wire) ? wire : malformed(path, expected, wire),
  }
}

/** One of a fixed set of names, as its number on the wire. Numbers are never reused. */
export function oneOf<T extends string>(numbers: Readonly<Record<T, number>>): Codec<T> {
  const names = new Map(Object.entries(numbers).map(([name, number]) => [number as number, name as T]))
  return {
    toWire: value => numbers[value],
    fromWire: (wire, path) =>
      (typeof wire === 'number' ? names.get(wire) : undefined) ??
      malformed(path, `one of ${[...names.keys()].join(', ')}`, wire),
  }
}

/** The one value `expected`; a version number, say. */
export function constant<T extends number | string>(expected: T): Codec<T> {
  return {
    toWire: () => expected,
    fromWire: (wire, path) => (wire === expected ? expected : malformed(path, String(expected), wire)),
  }
}

/** A list of `min` to `max` values. */
export function list<T>(item: Codec<T>, max: number, min = 0): Codec<readonly T[]> {
  return {
    toWire: value => {
      assert(
        value.length >= min && value.length <= max,
        `expected ${min} to ${max} items, got ${value.length}`,
      )
      return value.map(item.toWire)
    },
    fromWire: (wire, path) => {
      if (!Array.isArray(wire) || wire.length < min || wire.length > max)
        malformed(path, `a list of ${min} to ${max}`, wire)
      return wire.map((value, i) => item.fromWire(value, `${path}[${i}]`))
    },
  }
}

/**
 * Items in ascending order of what `keyOf` takes from them, each once, so that a set has one encoding.
 * @param expected names the order in a refusal
 */
export function ascending<T>(
  items: Codec<readonly T[]>,
  keyOf: (item: T) => string,
  expected = 'ascending order, each once',
): Codec<readonly T[]> {
  return {
    toWire: items.toWire,
    fromWire: (wire, path) => {
      const values = items.fromWire(wire, path)
      return values.every((value, i) => i === 0 || keyOf(values[i - 1] as T) < keyOf(value))
        ? values
        : malformed(path, expected, wire)
    },
  }
}

/** A value, or nil for `undefined`. */
export function optional<T>(item: Codec<T>): Codec<T | undefined> {
  return {
    toWire: value => (value === undefined ? null : item.toWire(value)),
    fromWire: (wire, path) => (wire === null ? undefined : item.fromWire(wire, path)),
  }
}

/** A record as an array in the order its fields are written here. */
export function struct<T extends object>(fields: { readonly [K in keyof T]-?: Codec<T[K]> }): Codec<T> {
  const entries = Object.entries(fields) as [keyof T & string, Codec<T[keyof T & string]>][]
  return {
    toWire: value => entries.map(([name, codec]) => codec.toWire(value[name])),
    fromWire: (wire, path) => {
      if (!Array.isArray(wire) || wire.length !== entries.length)
        malformed(path, `an array of ${entries.length}`, wire)
      const value = {} as T
      let i = 0
      for (const [name, codec] of entries) value[name] = codec.fromWire(wire[i++], `${path}.${name}`)
      return value
    },
  }
}

/** A discriminated union: `[number of the variant, its fields]`. Every variant carries its name in `type`. */
export function union<T extends { readonly type: string }>(
  variants: {
    readonly [K in T['type']]: readonly [number: number, codec: Codec<Omit<Extract<T, { type: K }>, 'type'>>]
  },
): Codec<T> {
  const byNumber = new Map(
    (Object.entries(variants) as [string, readonly [number, Codec<never>]][]).map(
      ([type, [number, codec]]) => [number, { type, codec }],
    ),
  )
  return {
    toWire: value => {
      const [number, codec] = variants[value.type as T['type']] as unknown as readonly [number, Codec<T>]
      return [number, codec.toWire(value)]
    },
    fromWire: (wire, path) => {
      const number: unknown = Array.isArray(wire) && wire.length === 2 ? wire[0] : undefined
      const variant = typeof number === 'number' ? byNumber.get(number) : undefined
      if (!variant) malformed(path, `a variant of ${[...byNumber.keys()].join(', ')}`, wire)
      return {
        type: variant.type,
        ...(variant.codec.fromWire((wire as unknown[])[1], `${path}.${variant.type}`) as object),
      } as unknown as T
    },
  }
}
