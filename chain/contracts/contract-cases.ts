/**
 * The cases of a contract's file: runs with what is expected of them. A case gives `inputs`, `readings` (`{"last": {"value": 21, "time": 0}}`),
 * `state` (initial unless given), `now` and says what comes of it: `decision` (`failed: rule step` among them), `values` and `next`
 * state. A value that is expected must be equal, bit for bit.
 */
import { ok, type Result, refuse } from '../result.ts'
import type { Scalar } from '../scalars.ts'
import type { Contract } from './contract.ts'
import { maxContractCases } from './contract-limits.ts'
import {
  DocumentFlaw,
  documentFieldsOf,
  documentFlaw,
  fieldsOf,
  listOf,
  scalarOf,
  textOf,
  valuesJson,
} from './document.ts'
import {
  type Circumstances,
  type ContractValue,
  decisionText,
  evaluateContract,
  initialStateOf,
  type StreamReading,
} from './evaluate.ts'

export interface ContractCase {
  readonly name: string
  readonly circumstances: Circumstances
  readonly decision: string
  readonly values: ReadonlyMap<string, Scalar>
  readonly next: ReadonlyMap<string, Scalar>
}

/** How a case went: its decision, and each difference from what it expects. */
export interface CaseReport {
  readonly name: string
  readonly decision: string
  readonly values: Readonly<Record<string, number | boolean | string>>
  readonly differences: readonly string[]
}

/** The cases of a file. Refuses `contract-invalid` with the place. */
export function casesOfDocument(document: unknown, contract: Contract): Result<readonly ContractCase[]> {
  try {
    const cases = listOf('cases', documentFieldsOf(document)['cases'], maxContractCases)
    return ok(cases.map((each, i) => caseOf(`cases[${i + 1}]`, each, contract)))
  } catch (error) {
    if (error instanceof DocumentFlaw) return refuse('contract-invalid', error.message)
    throw error
  }
}

const caseFields = ['name', 'inputs', 'readings', 'state', 'now', 'decision', 'values', 'next']

function caseOf(place: string, value: unknown, contract: Contract): ContractCase {
  const fields = fieldsOf(place, value, caseFields)
  const scalars = (field: string) =>
    scalarsOf(`${place}.${field}`, fields[field], (at, each) => scalarOf(at, each, contract.arithmetic))
  const state = scalars('state')
  const readings = readingsOf(`${place}.readings`, fields['readings'], contract)
  return {
    name: fields['name'] === undefined ? place : textOf(`${place}.name`, fields['name']),
    circumstances: {
      inputs: scalarsOf(`${place}.inputs`, fields['inputs'], recordedScalar),
      reading: ({ name }) => readings.get(name),
      state: initialStateOf(contract).map(
        (initial, i) => (state.get(contract.state[i]?.name ?? '') as ContractValue | undefined) ?? initial,
      ),
      now: timeOf(`${place}.now`, fields['now']),
    },
    decision: textOf(`${place}.decision`, fields['decision']),
    values: scalars('values'),
    next: scalars('next'),
  }
}

function scalarsOf(
  place: string,
  value: unknown,
  read: (place: string, value: unknown) => Scalar,
): ReadonlyMap<string, Scalar> {
  const entries = Object.entries(value === undefined ? {} : fieldsOf(place, value))
  return new Map(entries.map(([name, each]) => [name, read(`${place}.${name}`, each)]))
}

/** A value as a record has it: numbers are binary64 there, whatever the contract computes in. */
function recordedScalar(place: string, value: unknown): Scalar {
  if (typeof value === 'boolean' || typeof value === 'string') return value
  return typeof value === 'number' && Number.isFinite(value) ? value || 0 : documentFlaw(place, 'a value')
}

function timeOf(place: string, value: unknown): number {
  if (value === undefined) return 0
  return typeof value === 'number' && Number.isSafeInteger(value) && value >= 0
    ? value
    : documentFlaw(place, 'milliseconds')
}

function readingsOf(place: string, value: unknown, contract: Contract): ReadonlyMap<string, StreamReading> {
  const names = contract.streams.map(({ name }) => name)
  const entries = Object.entries(value === undefined ? {} : fieldsOf(place, value, names))
  return new Map(
    entries.map(([name, each]) => {
      const fields = fieldsOf(`${place}.${name}`, each, ['value', 'time'])
      const value = recordedScalar(`${place}.${name}.value`, fields['value'])
      return [name, { value, time: timeOf(`${place}.${name}.time`, fields['time']) }]
    }),
  )
}

/** Runs a case. */
export function runCase(contract: Contract, each: ContractCase): CaseReport {
  const outcome = evaluateContract(contract, each.circumstances)
  const decision = decisionText(outcome)
  const decided = outcome.type === 'decided' ? outcome : { values: [], state: each.circumstances.state }
  const values = new Map(decided.values.map(({ name, value }) => [name, value]))
  const next = new Map(contract.state.map(({ name }, i) => [name, decided.state[i] as ContractValue]))
  const decisionDifference =
    decision === each.decision ? [] : [`decision: expected ${each.decision}, got ${decision}`]
  return {
    name: each.name,
    decision,
    values: valuesJson(decided.values),
    differences: [
      ...decisionDifference,
      ...differencesOf('values', each.values, values),
      ...differencesOf('next', each.next, next),
    ],
  }
}

function differencesOf(
  place: string,
  expected: ReadonlyMap<string, Scalar>,
  got: ReadonlyMap<string, ContractValue>,
): readonly string[] {
  return [...expected]
    .filter(([name, value]) => got.get(name) !== value)
    .map(([name, value]) => `${place}.${name}: expected ${value}, got ${got.get(name) ?? 'none'}`)
}
