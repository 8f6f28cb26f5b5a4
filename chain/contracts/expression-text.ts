/**
 * Expressions as people write them: `0.15 * EH + 1774.94 / CS`, `not has(last) or abs(level - last) <= 2`. The text is a convenience of
 * files and commands; the chain holds the tree, and execution never parses.
 *
 *     or      = and { "or" and }                 names      letters, digits, _; a letter first
 *     and     = not { "and" not }                numbers    1, 1.5, 2e-3 (digits alone in int64)
 *     not     = "not" not | comparison           functions  abs min max sqrt if(condition, then, else)
 *     comparison = sum [ ("<" | "<=" | ">" | ">=" | "==" | "!=") sum ]
 *     sum     = product { ("+" | "-") product }  streams    has(stream), time(stream); now
 *     product = sign { ("*" | "/") sign }
 *     sign    = "-" sign | number | name | "true" | "false" | "now" | function | "(" or ")"
 *
 * What is printed parses to the same tree.
 */
import { ok, type Result, refuse } from '../result.ts'
import { isInt64, type Scalar } from '../scalars.ts'
import type { ArithmeticName } from './contract.ts'
import { maxExpressionCharacters, maxExpressionDepth } from './contract-limits.ts'
import { type Expression, isContractName, type Operator, operatorTable } from './expression.ts'

/** What is wrong with a text and where; never leaves this file. */
class Unreadable extends Error {}

/** Parentheses and signs within each other. */
const maxNesting = 64

type Functional = Extract<Operator, 'absolute' | 'minimum' | 'maximum' | 'root' | 'choose'>
const functionOf: ReadonlyMap<string, Functional> = new Map(
  (['absolute', 'minimum', 'maximum', 'root', 'choose'] as const).map(name => [
    operatorTable[name].symbol,
    name,
  ]),
)

/** Operators between their operands, from those that bind least; comparisons do not chain. */
const levels: readonly (readonly Operator[])[] = [
  ['or'],
  ['and'],
  ['less', 'atMost', 'greater', 'atLeast', 'equal', 'unequal'],
  ['add', 'subtract'],
  ['multiply', 'divide'],
]
const comparisonLevel = 2

const token = /\s*(?:(\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)|([A-Za-z][A-Za-z0-9_]*)|(<=|>=|==|!=|[-+*/<>(),])|$)/y

interface Token {
  readonly kind: 'number' | 'word' | 'sign' | 'end'
  readonly text: string
  /** Place of its first character, from 1. */
  readonly column: number
}

function tokensOf(source: string): readonly Token[] {
  if (source.length > maxExpressionCharacters)
    throw new Unreadable(`expected at most ${maxExpressionCharacters} characters, got ${source.length}`)
  const tokens: Token[] = []
  token.lastIndex = 0
  for (;;) {
    const from = token.lastIndex
    const match = token.exec(source)
    if (!match) throw new Unreadable(`column ${from + 1}: expected a number, a name or an operator`)
    const [whole, number, word, sign] = match
    const text = number ?? word ?? sign ?? ''
    const kind = number !== undefined ? 'number' : word !== undefined ? 'word' : sign ? 'sign' : 'end'
    tokens.push({ kind, text, column: from + whole.length - text.length + 1 })
    if (kind === 'end') return tokens
  }
}

class Parser {
  readonly #tokens: readonly Token[]
  readonly #arithmetic: ArithmeticName
  #at = 0
  #nesting = 0

  constructor(source: string, arithmetic: ArithmeticName) {
    this.#tokens = tokensOf(source)
    this.#arithmetic = arithmetic
  }

  whole(): Expression {
    const expression = this.#level(0)
    if (this.#next().kind !== 'end') this.#expected('the end')
    if (depthOf(expression) > maxExpressionDepth)
      throw new Unreadable(`expected at most ${maxExpressionDepth} nested operations; name a part of it`)
    return expression
  }

  #next(): Token {
    return this.#tokens[this.#at] as Token
  }

  #expected(what: string): never {
    const { text, column } = this.#next()
    throw new Unreadable(`column ${column}: expected ${what}, got ${text === '' ? 'the end' : text}`)
  }

  #take(text: string): void {
    if (this.#next().text !== text) this.#expected(text)
    this.#at++
  }

  #nested<T>(parse: () => T): T {
    if (++this.#nesting > maxNesting) this.#expected(`at most ${maxNesting} nested parentheses and signs`)
    const value = parse()
    this.#nesting--
    return value
  }

  #level(level: number): Expression {
    const symbols = levels[level]
    if (!symbols) return this.#sign()
    let left = this.#operand(level)
    for (;;) {
      const operator = symbols.find(name => operatorTable[name].symbol === this.#next().text)
      if (!operator) return left
      this.#at++
      left = { type: 'apply', operator, operands: [left, this.#operand(level)] }
      if (level === comparisonLevel) return left
    }
  }

  /** `not` binds less than a comparison and more than `and`. */
  #operand(level: number): Expression {
    if (level + 1 !== comparisonLevel || this.#next().text !== 'not') return this.#level(level + 1)
    this.#at++
    return this.#nested(() => ({ type: 'apply', operator: 'not', operands: [this.#operand(level)] }))
  }

  #sign(): Expression {
    if (this.#next().text !== '-') return this.#atom()
    this.#at++
    const { kind } = this.#next()
    if (kind === 'number') return { type: 'constant', value: this.#number(true) }
    return this.#nested(() => ({ type: 'apply', operator: 'negate', operands: [this.#sign()] }))
  }

  #atom(): Expression {
    const { kind, text } = this.#next()
    if (kind === 'number') return { type: 'constant', value: this.#number(false) }
    if (text === '(') return this.#parenthesised(() => this.#level(0))
    if (kind !== 'word') this.#expected('a number, a name or a parenthesis')
    if (text === 'true' || text === 'false') return this.#word({ type: 'constant', value: text === 'true' })
    if (text === 'now') return this.#word({ type: 'now' })
    if (text === 'has' || text === 'time') {
      this.#at++
      return { type: text, stream: this.#parenthesised(() => this.#name()) }
    }
    const operator = functionOf.get(text)
    if (!operator) return { type: 'name', name: this.#name() }
    this.#at++
    return { type: 'apply', operator, operands: this.#parenthesised(() => this.#arguments(operator)) }
  }

  #word(expression: Expression): Expression {
    this.#at++
    return expression
  }

  #name(): string {
    const { kind, text } = this.#next()
    if (kind !== 'word' || !isContractName(text)) this.#expected('a name')
    this.#at++
    return text
  }

  #parenthesised<T>(parse: () => T): T {
    this.#take('(')
    const value = this.#nested(parse)
    this.#take(')')
    return value
  }

  #arguments(operator: Functional): readonly Expression[] {
    return operatorTable[operator].operands.map((_, i) => {
      if (i > 0) this.#take(',')
      return this.#level(0)
    })
  }

  #number(negative: boolean): Scalar {
    const { text } = this.#next()
    const value = numberOf(negative ? `-${text}` : text, this.#arithmetic)
    if (value === undefined) this.#expected(`a number of ${this.#arithmetic}`)
    this.#at++
    return value
  }
}

/** A number as it is written, in an arithmetic; undefined if it is none of it. Zero has no sign. */
export function numberOf(text: string, arithmetic: ArithmeticName): number | bigint | undefined {
  if (arithmetic === 'int64') {
    if (!/^-?\d{1,20}$/.test(text)) return undefined
    const value = BigInt(text)
    return isInt64(value) ? value : undefined
  }
  if (!/^-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?$/.test(text)) return undefined
  const value = Number(text)
  return Number.isFinite(value) ? value || 0 : undefined
}

function depthOf(expression: Expression): number {
  return expression.type === 'apply' ? 1 + Math.max(...expression.operands.map(depthOf)) : 1
}

/** The tree of an expression that a person wrote. Refuses `contract-invalid` with the column. */
export function parseExpression(source: string, arithmetic: ArithmeticName): Result<Expression> {
  try {
    return ok(new Parser(source, arithmetic).whole())
  } catch (error) {
    if (error instanceof Unreadable) return refuse('contract-invalid', error.message)
    throw error
  }
}

/** How much an expression binds: its level, that of `not` between `and` and comparisons, or the most. */
function bindingOf(expression: Expression): number {
  if (expression.type !== 'apply') return levels.length
  if (expression.operator === 'not') return comparisonLevel - 0.5
  const level = levels.findIndex(each => each.includes(expression.operator))
  return level < 0 ? levels.length : level
}

/** The text of an expression: `parseExpression` of it gives the same tree. */
export function printExpression(expression: Expression): string {
  switch (expression.type) {
    case 'constant':
      return String(expression.value)
    case 'name':
      return expression.name
    case 'now':
      return 'now'
    case 'time':
    case 'has':
      return `${expression.type}(${expression.stream})`
    default:
      return printApplied(expression.operator, expression.operands)
  }
}

function printApplied(operator: Operator, operands: readonly Expression[]): string {
  const { symbol } = operatorTable[operator]
  const level = levels.findIndex(each => each.includes(operator))
  if (operator === 'not') return `not ${within(operands[0] as Expression, comparisonLevel - 0.5)}`
  if (operator === 'negate') {
    const [operand] = operands as [Expression]
    // A sign before a number would be the number's.
    return `-${operand.type === 'constant' ? `(${printExpression(operand)})` : within(operand, levels.length)}`
  }
  if (level < 0) return `${symbol}(${operands.map(printExpression).join(', ')})`
  const [left, right] = operands as [Expression, Expression]
  const chained = level === comparisonLevel ? level + 1 : level
  return `${within(left, chained)} ${symbol} ${within(right, level + 1)}`
}

function within(expression: Expression, least: number): string {
  const text = printExpression(expression)
  return bindingOf(expression) < least ? `(${text})` : text
}
