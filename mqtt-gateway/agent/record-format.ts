/**
 * Converts between what an application speaks on its local port and a record: a JSON object of declared fields, in declared
 * order, which is what travels in the envelope and what a contract is meant to read (Hsu C1, C6).
 *
 * Pure, and for hostile bytes: what is not declared is left out, what is declared and missing, of another kind or out of its
 * range is refused (`malformed`), and nothing is larger than `maxConvertedBytes`.
 */
import { decode as decodeCbor, encode as encodeCbor } from 'cborg'
import { ok, type Result, refuse } from '../../chain/result.ts'

/** Largest payload that is converted, in bytes. What has no format passes unconverted, up to 1 MiB. */
export const maxConvertedBytes = 64 * 1024

/** One field of a record. */
export interface FieldRule {
  /** Where the application has it: names joined by dots; by default as the record does. */
  readonly at?: string
  readonly kind: 'number' | 'integer' | 'text' | 'boolean'
  /** The record has the application's number times this: 100 for two decimals in an integer. */
  readonly scale?: number
  /** Least and greatest number, or length of a text, in the record. */
  readonly minimum?: number
  readonly maximum?: number
  /** It may be missing; then the record has none either. */
  readonly optional?: boolean
}

/** What the application speaks: an object with these fields, or one plain number in decimal text. */
export type RecordFormat =
  | { readonly type: 'json' | 'cbor'; readonly fields: Readonly<Record<string, FieldRule>> }
  | { readonly type: 'number'; readonly field: string; readonly rule: FieldRule }

type Scalar = number | string | boolean

/** The record in an application's payload, as the bytes that are sealed. Refuses `malformed`, `too-large`. */
export function toRecord(format: RecordFormat, payload: Uint8Array): Result<Uint8Array> {
  if (payload.length > maxConvertedBytes)
    return refuse('too-large', `payload: expected at most ${maxConvertedBytes} bytes, got ${payload.length}`)
  const source = format.type === 'number' ? readNumber(payload) : readObject(format.type, payload)
  if (!source.ok) return source
  const fields = new Map<string, Scalar>()
  for (const [name, rule] of rulesOf(format)) {
    const found = format.type === 'number' ? source.value : valueAt(source.value, rule.at ?? name)
    if (found === undefined && rule.optional) continue
    const value = judge(name, rule, typeof found === 'number' ? scaled(found, rule) : found)
    if (!value.ok) return value
    fields.set(name, value.value)
  }
  return ok(new TextEncoder().encode(JSON.stringify(Object.fromEntries(fields))))
}

/**
 * The member of a record that says by which rule it was found implausible and passed all the same (stream-rules.ts): a text. No format need
 * declare it.
 */
export const flagName = 'flagged'

/** A record with that mark, its other bytes as they were; one that has it already keeps it. Refuses `rule-violated` what cannot be marked. */
export function withFlag(record: Uint8Array, violation: string): Result<Uint8Array> {
  const object = objectOfRecord(record)
  if (!object) return refuse('rule-violated', `reading: no JSON object that could be marked: ${violation}`)
  if (flagOf(object) !== undefined) return ok(record)
  if (Object.hasOwn(object, flagName))
    return refuse('rule-violated', `reading: its own '${flagName}' is in the way of a mark: ${violation}`)
  const text = new TextDecoder().decode(record).trimEnd()
  const comma = Object.keys(object).length > 0 ? ',' : ''
  const mark = `${comma}${JSON.stringify(flagName)}:${JSON.stringify(violation)}`
  return ok(new TextEncoder().encode(`${text.slice(0, -1)}${mark}}`))
}

/** The JSON object in a record; undefined for anything else, and above 64 KiB. */
export function objectOfRecord(record: Uint8Array): object | undefined {
  const object = record.length <= maxConvertedBytes ? readObject('json', record) : undefined
  return object?.ok ? object.value : undefined
}

function flagOf(object: object): string | undefined {
  const flag = valueAt(object, flagName)
  return typeof flag === 'string' && flag !== '' ? flag : undefined
}

/** The application's payload for a record that came, marked if that is. Refuses `malformed`, `too-large`, and `rule-violated` a mark where a plain number has no room for one. */
export function fromRecord(format: RecordFormat, record: Uint8Array): Result<Uint8Array> {
  if (record.length > maxConvertedBytes)
    return refuse('too-large', `record: expected at most ${maxConvertedBytes} bytes, got ${record.length}`)
  const source = readObject('json', record)
  if (!source.ok) return source
  const root: Branch = new Map()
  const flag = flagOf(source.value)
  if (flag !== undefined && format.type === 'number')
    return refuse('rule-violated', `record: it is marked, which a plain number cannot be: ${flag}`)
  if (flag !== undefined) put(root, [flagName], flag)
  for (const [name, rule] of rulesOf(format)) {
    const found = valueAt(source.value, name, 1)
    if (found === undefined && rule.optional) continue
    const value = judge(name, rule, found)
    if (!value.ok) return value
    const plain = typeof value.value === 'number' ? value.value / (rule.scale ?? 1) : value.value
    if (format.type === 'number') return ok(new TextEncoder().encode(String(plain)))
    put(root, (rule.at ?? name).split('.'), plain)
  }
  const plain = objectOf(root)
  return ok(format.type === 'cbor' ? encodeCbor(plain) : new TextEncoder().encode(JSON.stringify(plain)))
}

function rulesOf(format: RecordFormat): readonly (readonly [string, FieldRule])[] {
  return format.type === 'number' ? [[format.field, format.rule]] : Object.entries(format.fields)
}

const decimal = /^[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d{1,3})?$/

function readNumber(payload: Uint8Array): Result<number> {
  const text = payload.length > 64 ? '' : Buffer.from(payload).toString('latin1').trim()
  const value = decimal.test(text) ? Number(text) : Number.NaN
  return Number.isFinite(value) ? ok(value) : refuse('malformed', 'payload: expected one decimal number')
}

function readObject(type: 'json' | 'cbor', payload: Uint8Array): Result<object> {
  let value: unknown
  try {
    value =
      type === 'json'
        ? JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(payload))
        : decodeCbor(payload, { ...strictCbor })
  } catch {
    // Also what is nested too deeply. The parsers' messages quote the payload, which goes into no log.
    return refuse('malformed', `payload: expected ${type === 'json' ? 'JSON in UTF-8' : 'CBOR (RFC 8949)'}`)
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value) || value instanceof Uint8Array)
    return refuse('malformed', 'payload: expected an object of named fields')
  return ok(value)
}

/** One meaning for each payload: no name twice, nothing after the value. */
const strictCbor = {
  allowIndefinite: false,
  allowUndefined: false,
  allowInfinity: false,
  allowNaN: false,
  allowBigInt: false,
  rejectDuplicateMapKeys: true,
} as const

/** Only own fields count: a name such as `constructor` finds nothing that nobody sent. */
function valueAt(source: unknown, path: string, levels?: number): unknown {
  const names = levels === 1 ? [path] : path.split('.')
  return names.reduce<unknown>(
    (at, name) =>
      typeof at === 'object' && at !== null && Object.hasOwn(at, name)
        ? (at as Record<string, unknown>)[name]
        : undefined,
    source,
  )
}

function scaled(value: number, { scale = 1, kind }: FieldRule): number {
  const product = value * scale
  // 21.57 * 100 is 2157.0000000000005 in binary: the integer that was meant is the nearest.
  return kind === 'integer' && scale !== 1 ? Math.round(product) : product
}

function judge(name: string, rule: FieldRule, value: unknown): Result<Scalar> {
  const wrong = (expected: string) =>
    refuse(
      'malformed',
      `${name}: expected ${expected}, got ${typeof value === 'number' ? value : kindOf(value)}`,
    )
  const { kind, minimum = Number.NEGATIVE_INFINITY, maximum = Number.POSITIVE_INFINITY } = rule
  switch (kind) {
    case 'boolean':
      return typeof value === 'boolean' ? ok(value) : wrong('true or false')
    case 'text':
      if (typeof value !== 'string') return wrong('text')
      return value.length >= minimum && value.length <= maximum
        ? ok(value)
        : wrong(`text of ${rule.minimum ?? 0} to ${rule.maximum ?? 'any'} characters`)
    case 'number':
    case 'integer':
      if (typeof value !== 'number' || !Number.isFinite(value)) return wrong(`a ${kind}`)
      if (kind === 'integer' && !Number.isSafeInteger(value)) return wrong('an integer')
      return value >= minimum && value <= maximum ? ok(value) : wrong(`${minimum} to ${maximum}`)
  }
}

function kindOf(value: unknown): string {
  return value === undefined ? 'nothing' : value === null ? 'null' : typeof value
}

type Branch = Map<string, Branch | Scalar>

function put(branch: Branch, [name = '', ...rest]: readonly string[], value: Scalar): void {
  if (rest.length === 0) {
    branch.set(name, value)
    return
  }
  const known = branch.get(name)
  const below: Branch = known instanceof Map ? known : new Map()
  branch.set(name, below)
  put(below, rest, value)
}

function objectOf(branch: Branch): object {
  return Object.fromEntries(
    [...branch].map(([name, value]) => [name, value instanceof Map ? objectOf(value) : value]),
  )
}
