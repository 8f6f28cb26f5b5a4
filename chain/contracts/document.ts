/**
 * A contract as a file that people write and read (JSON, already parsed), to the contract that the chain holds and back. The file may
 * hold cases beside it: runs with what is expected of them, which `mote contract test` makes and the chain never sees.
 *
 * Each field is optional but `name`, `version`, `decide`; a field that is not known is refused, for a word misspelt would change what a
 * contract does. Devices stand as ids, or as names that the caller of `contractOfDocument` resolves.
 */

import { type DeviceId, isDigest } from '../brands.ts'
import { decode } from '../codec.ts'
import type { ContractRecord, ContractStateRecord } from '../contract-records.ts'
import { type Result, refuse } from '../result.ts'
import type { Scalar } from '../scalars.ts'
import { checkContract } from './check.ts'
import {
  type ArithmeticName,
  type Contract,
  contractCodec,
  type DecisionCase,
  encodedContract,
  type InputDeclaration,
  type NamedExpression,
  type StateDeclaration,
  type StreamDeclaration,
} from './contract.ts'
import {
  maxContractBytes,
  maxContractCallers,
  maxDecisionCases,
  maxDecisionValues,
  maxInputs,
  maxNamedExpressions,
  maxPublishFilters,
  maxRules,
  maxStateVariables,
  maxStreams,
} from './contract-limits.ts'
import type { Expression } from './expression.ts'
import { numberOf, parseExpression, printExpression } from './expression-text.ts'

/** Where a file is wrong; never leaves this folder. */
export class DocumentFlaw extends Error {}

/** Refuses a place of the file. */
export function documentFlaw(place: string, expected: string): never {
  throw new DocumentFlaw(`${place}: expected ${expected}`)
}

type Fields = Readonly<Record<string, unknown>>

/** An object with no other fields than these. */
export function fieldsOf(place: string, value: unknown, known?: readonly string[]): Fields {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) documentFlaw(place, 'an object')
  const unknown = known && Object.keys(value).find(name => !known.includes(name))
  if (unknown !== undefined) documentFlaw(`${place}.${unknown}`, `one of ${known?.join(', ')}`)
  return value as Fields
}

/** A list of at most `max` items; none if it is not there. */
export function listOf(place: string, value: unknown, max: number): readonly unknown[] {
  if (value === undefined) return []
  return Array.isArray(value) && value.length <= max ? value : documentFlaw(place, `a list of at most ${max}`)
}

export function textOf(place: string, value: unknown): string {
  return typeof value === 'string' ? value : documentFlaw(place, 'a text')
}

/** A number or boolean of a file: an int64 that JSON cannot hold exactly stands as text. */
export function scalarOf(place: string, value: unknown, arithmetic: ArithmeticName): Scalar {
  if (typeof value === 'boolean') return value
  const written = typeof value === 'number' || typeof value === 'string' ? String(value) : ''
  return numberOf(written, arithmetic) ?? documentFlaw(place, `a boolean or a number of ${arithmetic}`)
}

/** A name of a device as an id, or undefined if there is none of that name. */
export type DeviceNames = (name: string) => DeviceId | undefined

const documentFields = [
  'name',
  'version',
  'about',
  'arithmetic',
  'callers',
  'attested',
  'publish',
  'inputs',
  'streams',
  'state',
  'let',
  'rules',
  'decide',
  'values',
  'set',
  'cases',
]

/** The fields of a contract's file. Throws a `DocumentFlaw`. */
export function documentFieldsOf(document: unknown): Fields {
  return fieldsOf('contract', document, documentFields)
}

/**
 * The contract of a file, checked. Refuses `contract-invalid` with the place in the file, and `too-large` for one that is over
 * `maxContractBytes`.
 */
export function contractOfDocument(
  document: unknown,
  names: DeviceNames = () => undefined,
): Result<Contract> {
  try {
    return checked(readContract(documentFieldsOf(document), names))
  } catch (error) {
    if (error instanceof DocumentFlaw) return refuse('contract-invalid', error.message)
    throw error
  }
}

/** By the chain's own reader and check, which judge again what every node will. */
function checked(contract: Contract): Result<Contract> {
  const { bytes } = encodedContract(contract)
  const read = decode(contractCodec, bytes, maxContractBytes)
  if (!read.ok) return read.error.code === 'too-large' ? read : refuse('contract-invalid', read.error.detail)
  const sound = checkContract(read.value)
  return sound.ok ? read : sound
}

function readContract(fields: Fields, names: DeviceNames): Contract {
  const arithmetic = arithmeticOf(fields['arithmetic'])
  const read: ReadExpression = (place, value) => expressionOf(place, value, arithmetic)
  const linesOf = (place: string, value: unknown, max: number) =>
    listOf(place, value, max).map((line, i) => lineOf(place, i + 1, line, read))
  return {
    format: 1,
    name: textOf('name', fields['name']),
    version: naturalOf('version', fields['version']),
    about: fields['about'] === undefined ? '' : textOf('about', fields['about']),
    arithmetic,
    callers: callersOf(fields['callers'], names),
    attested: flagOf('attested', fields['attested']),
    publish: listOf('publish', fields['publish'], maxPublishFilters)
      .map((filter, i) => textOf(`publish[${i + 1}]`, filter))
      .sort(),
    inputs: entriesOf('inputs', fields['inputs'], maxInputs).map(([name, type]) => inputOf(name, type)),
    streams: entriesOf('streams', fields['streams'], maxStreams).map(([name, stream]) =>
      streamOf(name, stream, names),
    ),
    state: entriesOf('state', fields['state'], maxStateVariables).map(
      ([name, initial]): StateDeclaration => ({
        name,
        initial: scalarOf(`state.${name}`, initial, arithmetic),
      }),
    ),
    expressions: linesOf('let', fields['let'], maxNamedExpressions),
    rules: linesOf('rules', fields['rules'], maxRules),
    cases: casesOf(fields['decide'], read),
    values: listOf('values', fields['values'], maxDecisionValues).map((name, i) =>
      textOf(`values[${i + 1}]`, name),
    ),
    next: linesOf('set', fields['set'], maxStateVariables),
  }
}

function arithmeticOf(value: unknown): ArithmeticName {
  if (value === undefined || value === 'binary64') return 'binary64'
  return value === 'int64' ? value : documentFlaw('arithmetic', 'binary64 or int64')
}

function naturalOf(place: string, value: unknown): number {
  return typeof value === 'number' && Number.isSafeInteger(value) && value >= 0 && value <= 0xffff_ffff
    ? value
    : documentFlaw(place, 'a natural number below 2^32')
}

function flagOf(place: string, value: unknown): boolean {
  if (value === undefined) return false
  return typeof value === 'boolean' ? value : documentFlaw(place, 'true or false')
}

function entriesOf(place: string, value: unknown, max: number): readonly (readonly [string, unknown])[] {
  const entries = value === undefined ? [] : Object.entries(fieldsOf(place, value))
  return entries.length <= max ? entries : documentFlaw(place, `at most ${max} fields`)
}

function deviceOf(place: string, value: unknown, names: DeviceNames): DeviceId {
  const name = textOf(place, value)
  if (isDigest(name)) return name as DeviceId
  return names(name) ?? documentFlaw(place, `the id of a device, got ${JSON.stringify(name)}`)
}

function callersOf(value: unknown, names: DeviceNames): Contract['callers'] {
  if (value === undefined || value === 'anyone') return undefined
  return listOf('callers', value, maxContractCallers)
    .map((name, i) => deviceOf(`callers[${i + 1}]`, name, names))
    .sort()
}

function inputOf(name: string, type: unknown): InputDeclaration {
  if (type !== 'number' && type !== 'boolean') documentFlaw(`inputs.${name}`, 'number or boolean')
  return { name, type }
}

function streamOf(name: string, value: unknown, names: DeviceNames): StreamDeclaration {
  const place = `streams.${name}`
  const { device, topic, field, attested } = fieldsOf(place, value, ['device', 'topic', 'field', 'attested'])
  return {
    name,
    device:
      device === undefined || device === 'sender' ? undefined : deviceOf(`${place}.device`, device, names),
    topic: textOf(`${place}.topic`, topic),
    field: textOf(`${place}.field`, field),
    attested: flagOf(`${place}.attested`, attested),
  }
}

type ReadExpression = (place: string, value: unknown) => Expression

function expressionOf(place: string, value: unknown, arithmetic: ArithmeticName): Expression {
  const parsed = parseExpression(textOf(place, value), arithmetic)
  if (!parsed.ok) throw new DocumentFlaw(`${place}: ${parsed.error.detail}`)
  return parsed.value
}

/** `"EH = (1 - r) * H0"`: a name and an expression. */
function lineOf(place: string, number: number, line: unknown, read: ReadExpression): NamedExpression {
  const written = textOf(`${place}[${number}]`, line)
  const [, name, source] = /^\s*(\w+)\s*=(?!=)(.*)$/s.exec(written) ?? []
  if (name === undefined) documentFlaw(`${place}[${number}]`, 'a name, =, and an expression')
  return { name, expression: read(`${place}.${name}`, source) }
}

function casesOf(value: unknown, read: ReadExpression): readonly DecisionCase[] {
  const cases = listOf('decide', value, maxDecisionCases)
  if (cases.length === 0) documentFlaw('decide', 'at least one case')
  return cases.map((each, i) => caseOf(`decide[${i + 1}]`, each, read))
}

function caseOf(place: string, value: unknown, read: ReadExpression): DecisionCase {
  const { when, say } = fieldsOf(place, value, ['when', 'say'])
  return {
    when: when === undefined ? undefined : read(`${place}.when`, when),
    decision: textOf(`${place}.say`, say),
  }
}

/** A value as JSON has it: an int64 that JSON cannot hold exactly is a text. */
export function scalarJson(value: Scalar): number | boolean | string {
  if (typeof value !== 'bigint') return value
  const number = Number(value)
  return Number.isSafeInteger(number) ? number : String(value)
}

/** Named values as JSON has them. */
export function valuesJson(
  values: Iterable<{ readonly name: string; readonly value: Scalar }>,
): Record<string, number | boolean | string> {
  return Object.fromEntries([...values].map(({ name, value }) => [name, scalarJson(value)]))
}

/** How a contract stands, as JSON has it: what it remembers, and after how many decisions. */
export function contractStanding(
  { contract, retiredAt }: Pick<ContractRecord, 'contract' | 'retiredAt'>,
  state: ContractStateRecord | undefined,
) {
  return {
    status: retiredAt === undefined ? 'active' : 'retired',
    decisions: state?.version ?? 0,
    state: valuesJson(contract.state.map(({ name }, i) => ({ name, value: state?.values[i] ?? false }))),
  } as const
}

/** A contract as a file would have it; `contractOfDocument` of it gives the same contract. */
export function documentOfContract(contract: Contract): Fields {
  const line = ({ name, expression }: NamedExpression) => `${name} = ${printExpression(expression)}`
  const { name, version, about, arithmetic, callers, attested, publish, inputs, streams, state } = contract
  return {
    name,
    version,
    about,
    arithmetic,
    callers: callers ?? 'anyone',
    attested,
    publish,
    inputs: Object.fromEntries(inputs.map(({ name, type }) => [name, type])),
    streams: Object.fromEntries(
      streams.map(({ name, device, ...rest }) => [name, { device: device ?? 'sender', ...rest }]),
    ),
    state: valuesJson(state.map(({ name, initial }) => ({ name, value: initial }))),
    let: contract.expressions.map(line),
    rules: contract.rules.map(line),
    decide: contract.cases.map(({ when, decision }) =>
      when ? { when: printExpression(when), say: decision } : { say: decision },
    ),
    values: contract.values,
    set: contract.next.map(line),
  }
}
