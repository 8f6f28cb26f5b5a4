/**
 * The values of a record out of its payload: the top-level scalars of a JSON object that have names which a contract can use. Texts that
 * are too long, lists, objects and nulls stay in the payload alone.
 */
import { isValueName } from '../chain/contracts/expression.ts'
import { maxRecordValues } from '../chain/limits.ts'
import type { RecordValue } from '../chain/record-bodies.ts'
import { MoteError } from '../chain/result.ts'
import { maxScalarTextBytes, type Scalar } from '../chain/scalars.ts'

/** A value of JSON as a scalar; undefined for what is none. */
export function scalarOfJson(value: unknown): Scalar | undefined {
  switch (typeof value) {
    case 'boolean':
      return value
    case 'number':
      return Number.isFinite(value) ? value || 0 : undefined
    case 'string':
      return Buffer.byteLength(value) <= maxScalarTextBytes && value.isWellFormed() ? value : undefined
    default:
      return undefined
  }
}

/** Ascending by name, at most `maxRecordValues` of them. Nothing for what is no object. */
export function valuesOfPayload(payload: unknown): readonly RecordValue[] {
  if (typeof payload !== 'object' || payload === null || Array.isArray(payload)) return []
  return Object.entries(payload)
    .map(([name, value]) => ({ name, value: scalarOfJson(value) }))
    .filter((entry): entry is RecordValue => entry.value !== undefined && isValueName(entry.name))
    .sort((a, b) => (a.name < b.name ? -1 : 1))
    .slice(0, maxRecordValues)
}

/** The values that a call gives a contract: every field has to be one. Throws `malformed`. */
export function valuesOfCall(values: unknown): readonly RecordValue[] {
  const read = valuesOfPayload(values)
  const given = typeof values === 'object' && values !== null ? Object.keys(values) : []
  const lost = given.find(name => !read.some(value => value.name === name))
  if (Array.isArray(values) || typeof values !== 'object' || values === null || lost !== undefined)
    throw new MoteError(
      'malformed',
      `values: expected an object of at most ${maxRecordValues} numbers, booleans and texts, got ${lost ?? typeof values}`,
    )
  return read
}
