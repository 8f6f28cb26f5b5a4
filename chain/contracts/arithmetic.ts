/**
 * The two arithmetics of contracts. Both are closed: an operation gives a value that the chain may hold, or fails with a reason.
 *
 * - binary64 (IEEE 754): + − × ÷ √ are the five operations that the standard rounds correctly, so that every machine gets the same bits.
 *   NaN and ∞ fail, −0 becomes 0.
 * - int64: two's complement of 64 bits, checked: what does not fit fails. ÷ truncates towards zero. √ is the floor of the root.
 */
import { isInt64 } from '../scalars.ts'
import type { ArithmeticName } from './contract.ts'

/** Why a run ends without a decision. Numbers are FORMATS' and are never reused. */
export const failureNumbers = {
  'missing-input': 1,
  'wrong-input': 2,
  'no-reading': 3,
  'division-by-zero': 4,
  'not-finite': 5,
  overflow: 6,
  'negative-root': 7,
} as const
export type FailureReason = keyof typeof failureNumbers

/** Ends a run; never leaves evaluate.ts. */
export class EvaluationFailure extends Error {
  readonly reason: FailureReason

  constructor(reason: FailureReason) {
    super(reason)
    this.reason = reason
  }
}

function fail(reason: FailureReason): never {
  throw new EvaluationFailure(reason)
}

export interface Arithmetic<N extends number | bigint> {
  readonly zero: N
  add(a: N, b: N): N
  subtract(a: N, b: N): N
  multiply(a: N, b: N): N
  divide(a: N, b: N): N
  root(a: N): N
  /** A time in milliseconds. */
  ofMilliseconds(time: number): N
  /** A binary64 from outside as a number of this arithmetic; undefined for one that is none. */
  ofNumber(value: number): N | undefined
  /** True for a number of this arithmetic. */
  is(value: unknown): value is N
}

/** A result that is a number and within bounds, without the sign of a zero. */
function finite(value: number): number {
  if (!Number.isFinite(value)) fail('not-finite')
  return value === 0 ? 0 : value
}

const binary64: Arithmetic<number> = {
  zero: 0,
  add: (a, b) => finite(a + b),
  subtract: (a, b) => finite(a - b),
  multiply: (a, b) => finite(a * b),
  divide: (a, b) => (b === 0 ? fail('division-by-zero') : finite(a / b)),
  root: a => (a < 0 ? fail('negative-root') : Math.sqrt(a)),
  ofMilliseconds: time => time,
  ofNumber: value => value,
  is: value => typeof value === 'number',
}

function fitting(value: bigint): bigint {
  return isInt64(value) ? value : fail('overflow')
}

/** The greatest integer whose square is at most `a`: that of binary64, whose rounding below 2^63 is one too much at most. */
function floorRoot(a: bigint): bigint {
  if (a < 0n) fail('negative-root')
  const root = BigInt(Math.trunc(Math.sqrt(Number(a))))
  return root * root > a ? root - 1n : root
}

const int64: Arithmetic<bigint> = {
  zero: 0n,
  add: (a, b) => fitting(a + b),
  subtract: (a, b) => fitting(a - b),
  multiply: (a, b) => fitting(a * b),
  // Only the least integer divided by −1 does not fit.
  divide: (a, b) => (b === 0n ? fail('division-by-zero') : fitting(a / b)),
  root: floorRoot,
  ofMilliseconds: time => BigInt(time),
  ofNumber: value => (Number.isSafeInteger(value) ? BigInt(value) : undefined),
  is: value => typeof value === 'bigint',
}

export const arithmetics: {
  readonly [K in ArithmeticName]: Arithmetic<K extends 'int64' ? bigint : number>
} = {
  binary64,
  int64,
}
