/**
 * Single values as contracts and records know them: a binary64 number, a 64-bit integer, a boolean, a text (docs/FORMATS.md,
 * "Scalars"). In memory a number is a JavaScript number and an integer a bigint, so that neither passes for the other.
 *
 * The encoding of the chain has no floating point of its own: both kinds of number stand as eight bytes. A number is finite, and zero
 * has no sign: NaN, ∞ and −0 are refused, so that each value has one encoding and equality means equality.
 */
import { boolean, bytes, type Codec, malformed, text, type Wire } from './codec.ts'
import { assert } from './result.ts'

export type Scalar = number | bigint | boolean | string

export const int64Min = -(2n ** 63n)
export const int64Max = 2n ** 63n - 1n
/** Bytes of a text among the values of a record. */
export const maxScalarTextBytes = 128

const eightBytes = bytes(8)
const scalarText = text(maxScalarTextBytes)
const scalarNumbers = { number: 1, bigint: 2, boolean: 3, string: 4 } as const

function binary64Bytes(value: number): Uint8Array {
  assert(isBinary64(value), `expected a finite number other than -0, got ${value}`)
  const encoded = new Uint8Array(8)
  new DataView(encoded.buffer).setFloat64(0, value)
  return encoded
}

function int64Bytes(value: bigint): Uint8Array {
  assert(isInt64(value), `expected a 64-bit integer, got ${value}`)
  const encoded = new Uint8Array(8)
  new DataView(encoded.buffer).setBigInt64(0, value)
  return encoded
}

/** True for a number that the chain may hold: finite, and not −0. */
export function isBinary64(value: number): boolean {
  return Number.isFinite(value) && !Object.is(value, -0)
}

/** True for an integer from −2^63 to 2^63 − 1. */
export function isInt64(value: bigint): boolean {
  return value >= int64Min && value <= int64Max
}

function scalarToWire(value: Scalar): Wire {
  switch (typeof value) {
    case 'number':
      return [scalarNumbers.number, binary64Bytes(value)]
    case 'bigint':
      return [scalarNumbers.bigint, int64Bytes(value)]
    case 'boolean':
      return [scalarNumbers.boolean, value]
    default:
      return [scalarNumbers.string, scalarText.toWire(value)]
  }
}

function scalarFromWire(wire: unknown, path: string): Scalar {
  if (!Array.isArray(wire) || wire.length !== 2) malformed(path, 'a kind and a value', wire)
  const [kind, value]: unknown[] = wire
  if (kind === scalarNumbers.boolean) return boolean.fromWire(value, path)
  if (kind === scalarNumbers.string) return scalarText.fromWire(value, path)
  if (kind !== scalarNumbers.number && kind !== scalarNumbers.bigint)
    malformed(path, 'a scalar of kind 1 to 4', kind)
  const encoded = eightBytes.fromWire(value, path)
  const view = new DataView(encoded.buffer, encoded.byteOffset, 8)
  if (kind === scalarNumbers.bigint) return view.getBigInt64(0)
  const number = view.getFloat64(0)
  return isBinary64(number) ? number : malformed(path, 'a finite number other than -0', number)
}

/** `[kind, value]`: 1 binary64 and 2 int64, eight bytes each, most significant first; 3 boolean; 4 text of at most 128 bytes. */
export const scalarCodec: Codec<Scalar> = { toWire: scalarToWire, fromWire: scalarFromWire }
