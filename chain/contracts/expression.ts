/**
 * Expressions of the contract language: trees of constants, names and operators (docs/FORMATS.md, "Contracts").
 *
 * Each operator has a number on the wire that is never reused, the types of its operands and the type of its result. What it computes is in
 * arithmetic.ts and evaluate.ts; whether a tree makes sense, check.ts says. There is no loop, no call and no text here.
 */
import { type Codec, malformed, textThat, type Wire } from '../codec.ts'
import { type Scalar, scalarCodec } from '../scalars.ts'
import { maxExpressionDepth, maxNameCharacters } from './contract-limits.ts'

/** A number is a binary64 in one contract and an int64 in another; a contract has one kind. */
export type ValueType = 'number' | 'boolean'

export type Expression =
  | { readonly type: 'constant'; readonly value: Scalar }
  /** Input, stream, state variable, or an expression named before. */
  | { readonly type: 'name'; readonly name: string }
  /** Block time of a stream's last reading, in milliseconds. */
  | { readonly type: 'time'; readonly stream: string }
  /** Whether a stream has a reading. */
  | { readonly type: 'has'; readonly stream: string }
  /** Block time, in milliseconds. */
  | { readonly type: 'now' }
  | { readonly type: 'apply'; readonly operator: Operator; readonly operands: readonly Expression[] }

interface OperatorRow {
  readonly number: number
  /** As people write it: between its operands, or before them in parentheses. */
  readonly symbol: string
  readonly operands: readonly (ValueType | 'same')[]
  /** `same`: the type that the operands marked so share. */
  readonly result: ValueType | 'same'
}

function operator(
  number: number,
  symbol: string,
  operands: OperatorRow['operands'],
  result: OperatorRow['result'],
): OperatorRow {
  return { number, symbol, operands, result }
}

const two = ['number', 'number'] as const
const both = ['boolean', 'boolean'] as const

/** Numbers 1 to 5 are the other kinds of node. */
export const operatorTable = {
  add: operator(16, '+', two, 'number'),
  subtract: operator(17, '-', two, 'number'),
  multiply: operator(18, '*', two, 'number'),
  divide: operator(19, '/', two, 'number'),
  negate: operator(20, '-', ['number'], 'number'),
  absolute: operator(21, 'abs', ['number'], 'number'),
  minimum: operator(22, 'min', two, 'number'),
  maximum: operator(23, 'max', two, 'number'),
  root: operator(24, 'sqrt', ['number'], 'number'),
  less: operator(32, '<', two, 'boolean'),
  atMost: operator(33, '<=', two, 'boolean'),
  greater: operator(34, '>', two, 'boolean'),
  atLeast: operator(35, '>=', two, 'boolean'),
  equal: operator(36, '==', two, 'boolean'),
  unequal: operator(37, '!=', two, 'boolean'),
  and: operator(48, 'and', both, 'boolean'),
  or: operator(49, 'or', both, 'boolean'),
  not: operator(50, 'not', ['boolean'], 'boolean'),
  choose: operator(56, 'if', ['boolean', 'same', 'same'], 'same'),
} as const satisfies Record<string, OperatorRow>

export type Operator = keyof typeof operatorTable
export const allOperators = Object.keys(operatorTable) as Operator[]

const operatorOfNumber: ReadonlyMap<number, Operator> = new Map(
  allOperators.map(name => [operatorTable[name].number, name]),
)
const leafNumbers = { constant: 1, name: 2, time: 3, has: 4, now: 5 } as const

const namePattern = /^[A-Za-z][A-Za-z0-9_]*$/
/** Words of the language, which are no names. */
export const reservedWords: ReadonlySet<string> = new Set([
  'true',
  'false',
  'now',
  'has',
  'time',
  ...allOperators.map(name => operatorTable[name].symbol).filter(symbol => namePattern.test(symbol)),
])

/** True for a name that a value of a record may have. */
export function isValueName(name: string): boolean {
  return name.length <= maxNameCharacters && namePattern.test(name)
}

/** True for a name that a contract may give. */
export function isContractName(name: string): boolean {
  return isValueName(name) && !reservedWords.has(name)
}

/** Name of a value of a record: 1 to 32 letters, digits and underscores, a letter first. */
export const valueNameCodec: Codec<string> = textThat(isValueName, 'a name')
/** The same, and no word of the language. */
export const contractNameCodec: Codec<string> = textThat(isContractName, 'a name')

function toWire(expression: Expression): Wire {
  switch (expression.type) {
    case 'constant':
      return [leafNumbers.constant, scalarCodec.toWire(expression.value)]
    case 'name':
      return [leafNumbers.name, expression.name]
    case 'time':
    case 'has':
      return [leafNumbers[expression.type], expression.stream]
    case 'now':
      return [leafNumbers.now]
    default:
      return [operatorTable[expression.operator].number, ...expression.operands.map(toWire)]
  }
}

function fromWire(wire: unknown, path: string, depth = 1): Expression {
  if (depth > maxExpressionDepth) malformed(path, `at most ${maxExpressionDepth} nested operations`, wire)
  if (!Array.isArray(wire)) malformed(path, 'an expression', wire)
  const [number, ...rest]: unknown[] = wire
  const name = typeof number === 'number' ? operatorOfNumber.get(number) : undefined
  if (name === undefined) return leafFromWire(number, rest, path)
  if (rest.length !== operatorTable[name].operands.length)
    malformed(path, `${operatorTable[name].operands.length} operands`, wire)
  const operands = rest.map((operand, i) => fromWire(operand, `${path}.${name}[${i}]`, depth + 1))
  return { type: 'apply', operator: name, operands }
}

function leafFromWire(number: unknown, rest: readonly unknown[], path: string): Expression {
  if (rest.length === 0 && number === leafNumbers.now) return { type: 'now' }
  if (rest.length !== 1) malformed(path, 'an expression', rest)
  switch (number) {
    case leafNumbers.constant:
      return { type: 'constant', value: scalarCodec.fromWire(rest[0], path) }
    case leafNumbers.name:
      return { type: 'name', name: contractNameCodec.fromWire(rest[0], path) }
    case leafNumbers.time:
      return { type: 'time', stream: contractNameCodec.fromWire(rest[0], path) }
    case leafNumbers.has:
      return { type: 'has', stream: contractNameCodec.fromWire(rest[0], path) }
    default:
      return malformed(path, 'a constant, a name, now, time, has or an operator', number)
  }
}

/** `[number, operand …]`, at most 16 deep. */
export const expressionCodec: Codec<Expression> = {
  toWire,
  fromWire: (wire, path) => fromWire(wire, path),
}
