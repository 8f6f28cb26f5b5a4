/** Formats of an application, both ways: what is declared comes through, everything else is refused or left out. */
import { encode as encodeCbor } from 'cborg'
import { expect, test } from 'vitest'
import {
  fromRecord,
  maxConvertedBytes,
  type RecordFormat,
  toRecord,
} from '../../../mqtt-gateway/agent/record-format.ts'

const bytes = (text: string) => new TextEncoder().encode(text)
const text = (value: Uint8Array) => new TextDecoder().decode(value)
const recordOf = (format: RecordFormat, payload: Uint8Array) => {
  const result = toRecord(format, payload)
  return result.ok ? text(result.value) : result.error.code
}

const celsius: RecordFormat = {
  type: 'number',
  field: 'celsius',
  rule: { kind: 'integer', scale: 100, minimum: -4000, maximum: 8500 },
}
const fields = {
  celsius: { kind: 'integer', scale: 100, at: 'sensor.temperature' },
  open: { kind: 'boolean' },
  note: { kind: 'text', maximum: 8, optional: true },
} as const
const json: RecordFormat = { type: 'json', fields }
const cbor: RecordFormat = { type: 'cbor', fields }

test('record format: a plain number becomes a record, and a record a plain number', () => {
  expect(recordOf(celsius, bytes(' 21.57\n'))).toBe('{"celsius":2157}')
  const back = fromRecord(celsius, bytes('{"celsius":2157}'))
  expect(back.ok && text(back.value)).toBe('21.57')
})

test.each(['', 'abc', '1 2', '0x10', 'NaN', 'Infinity', '1e999', '85.01', '-40.01', '٣', '9'.repeat(65)])(
  'record format: %s is no number that this field takes',
  payload => {
    expect(recordOf(celsius, bytes(payload))).toBe('malformed')
  },
)

test('record format: JSON and CBOR of an application become the same record, in declared order, without what is not declared', () => {
  const spoken = { open: true, secret: 'x', sensor: { temperature: 21.57, unit: 'C' } }
  expect(recordOf(json, bytes(JSON.stringify(spoken)))).toBe('{"celsius":2157,"open":true}')
  expect(recordOf(cbor, encodeCbor(spoken))).toBe('{"celsius":2157,"open":true}')
})

test('record format: a record becomes what the application speaks', () => {
  const record = bytes('{"celsius":2157,"open":false,"note":"dry","more":1}')
  const spoken = { sensor: { temperature: 21.57 }, open: false, note: 'dry' }
  const asJson = fromRecord(json, record)
  expect(asJson.ok && JSON.parse(text(asJson.value))).toEqual(spoken)
  const asCbor = fromRecord(cbor, record)
  expect(asCbor.ok && Buffer.from(asCbor.value).equals(Buffer.from(encodeCbor(spoken)))).toBe(true)
})

test.each([
  ['a field that is missing', '{"open":true}'],
  ['another kind', '{"open":1,"sensor":{"temperature":1}}'],
  ['no integer', '{"open":true,"sensor":{"temperature":"1"}}'],
  ['a text that is too long', '{"open":true,"sensor":{"temperature":1},"note":"123456789"}'],
  ['a list', '[1]'],
  ['null', 'null'],
  ['no JSON', '{'],
  ['a number over 2^53', '{"open":true,"sensor":{"temperature":1e300}}'],
  ['deep nesting', '['.repeat(30_000)],
])('record format: refuses %s', (_what, payload) => {
  expect(recordOf(json, bytes(payload))).toBe('malformed')
})

test('record format: names of an object that nobody sent are no fields', () => {
  const rule = { kind: 'text', at: '__proto__.name' } as const
  const inherited: RecordFormat = { type: 'json', fields: { toString: rule } as Record<string, typeof rule> }
  expect(recordOf(inherited, bytes('{}'))).toBe('malformed')
})

test.each([
  ['a name twice', 'a261610161610 2'.replaceAll(' ', '')],
  ['indefinite length', 'bf616101ff'],
  ['something after the value', 'a1616101a0'],
  ['deep nesting', '81'.repeat(30_000)],
  ['bytes', '43010203'],
])('record format: refuses CBOR with %s', (_what, hex) => {
  expect(recordOf({ type: 'cbor', fields: { a: { kind: 'number' } } }, Buffer.from(hex, 'hex'))).toBe(
    'malformed',
  )
})

test('record format: refuses what is too large to be converted, both ways', () => {
  const large = new Uint8Array(maxConvertedBytes + 1)
  expect(recordOf(json, large)).toBe('too-large')
  expect(fromRecord(json, large)).toMatchObject({ error: { code: 'too-large' } })
})
