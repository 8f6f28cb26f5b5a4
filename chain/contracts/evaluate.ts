/**
 * A run of a contract: what it was given and what it remembers give a decision and what it remembers next (docs/FORMATS.md,
 * "Contracts").
 *
 * Invariants
 * 1. A pure function of contract and circumstances, the same bits on every machine: order of evaluation, results and the reason of a
 *    failure are all laid down.
 * 2. Total for a contract that check.ts passed: it ends after at most as many steps as the contract has nodes, whatever it is given.
 * 3. Without a decision there is no next state: a run that fails or violates a rule leaves nothing.
 */
import { assert } from '../result.ts'
import type { Scalar } from '../scalars.ts'
import { type Arithmetic, arithmetics, EvaluationFailure, type FailureReason } from './arithmetic.ts'
import type { Contract, InputDeclaration, StreamDeclaration } from './contract.ts'
import type { Expression, Operator, ValueType } from './expression.ts'

/** What an expression computes; a number is of the contract's arithmetic. */
export type ContractValue = number | bigint | boolean

/** The last record of a stream. */
export interface StreamReading {
  /** Value of the declared field; undefined if the record has none. */
  readonly value: Scalar | undefined
  /** Block time of the record, in milliseconds. */
  readonly time: number
}

/** What a run depends on beside the contract. */
export interface Circumstances {
  /** Values of the record or the call. */
  readonly inputs: ReadonlyMap<string, Scalar>
  readonly reading: (stream: StreamDeclaration) => StreamReading | undefined
  /** One for each state variable, in their order. */
  readonly state: readonly ContractValue[]
  /** Block time, in milliseconds. */
  readonly now: number
}

/** A reading that a contract can use. */
interface Reading {
  readonly value: ContractValue
  readonly time: number
}

export interface NamedValue {
  readonly name: string
  readonly value: ContractValue
}

export type RunOutcome =
  | {
      readonly type: 'decided'
      readonly decision: string
      readonly values: readonly NamedValue[]
      /** State after the run, in the order of the declarations. */
      readonly state: readonly ContractValue[]
    }
  | { readonly type: 'violated'; readonly rule: string }
  | {
      readonly type: 'failed'
      readonly reason: FailureReason
      /** Where it happened: an input, an expression, `rule step`, `decision 2`, a value, `set count`. */
      readonly place: string
    }

/** What was decided, as a person reads it: `low`, `failed: rule step`, `failed: division-by-zero in DI`. */
export function decisionText(outcome: RunOutcome): string {
  if (outcome.type === 'decided') return outcome.decision
  return outcome.type === 'violated'
    ? `failed: rule ${outcome.rule}`
    : `failed: ${outcome.reason} in ${outcome.place}`
}

/** Initial state, in the order of the declarations. */
export function initialStateOf(contract: Contract): readonly ContractValue[] {
  return contract.state.map(({ initial }) => initial as ContractValue)
}

/** Runs a contract that `checkContract` has passed. */
export function evaluateContract(contract: Contract, circumstances: Circumstances): RunOutcome {
  return contract.arithmetic === 'binary64'
    ? new Run(contract, circumstances, arithmetics.binary64).outcome()
    : new Run(contract, circumstances, arithmetics.int64).outcome()
}

class Run<N extends number | bigint> {
  readonly #contract: Contract
  readonly #circumstances: Circumstances
  readonly #arithmetic: Arithmetic<N>
  readonly #values = new Map<string, ContractValue>()
  readonly #streams: ReadonlyMap<string, StreamDeclaration>
  /** Of the streams that were looked at: a look costs more than a step. */
  readonly #readings = new Map<string, Reading | undefined>()
  #place = ''

  constructor(contract: Contract, circumstances: Circumstances, arithmetic: Arithmetic<N>) {
    this.#contract = contract
    this.#circumstances = circumstances
    this.#arithmetic = arithmetic
    this.#streams = new Map(contract.streams.map(stream => [stream.name, stream]))
  }

  outcome(): RunOutcome {
    try {
      return this.#run()
    } catch (error) {
      if (error instanceof EvaluationFailure)
        return { type: 'failed', reason: error.reason, place: this.#place }
      throw error
    }
  }

  #run(): RunOutcome {
    const { inputs, state, expressions, rules, cases, values, next } = this.#contract
    for (const [i, { name }] of state.entries())
      this.#values.set(name, this.#circumstances.state[i] as ContractValue)
    for (const input of inputs)
      this.#values.set(
        input.name,
        this.#at(input.name, () => this.#input(input)),
      )
    for (const { name, expression } of expressions) this.#values.set(name, this.#computed(name, expression))
    for (const { name, expression } of rules)
      if (!this.#computed(`rule ${name}`, expression)) return { type: 'violated', rule: name }
    const taken = cases.find(({ when }, i) => when === undefined || this.#computed(`decision ${i + 1}`, when))
    assert(taken, 'the last case has no condition')
    const shown = values.map(name => ({ name, value: this.#at(name, () => this.#named(name)) }))
    const nextValues = new Map(
      next.map(({ name, expression }) => [name, this.#computed(`set ${name}`, expression)]),
    )
    return {
      type: 'decided',
      decision: taken.decision,
      values: shown,
      state: state.map(({ name }) => nextValues.get(name) ?? (this.#values.get(name) as ContractValue)),
    }
  }

  #at<T>(place: string, compute: () => T): T {
    this.#place = place
    return compute()
  }

  #computed(place: string, expression: Expression): ContractValue {
    return this.#at(place, () => this.#value(expression))
  }

  #input({ name, type }: InputDeclaration): ContractValue {
    const given = this.#circumstances.inputs.get(name)
    if (given === undefined) throw new EvaluationFailure('missing-input')
    const value = this.#admitted(given, type)
    if (value === undefined) throw new EvaluationFailure('wrong-input')
    return value
  }

  /** A value from outside as one of this contract; undefined for one of another type. */
  #admitted(given: Scalar, type: ValueType): ContractValue | undefined {
    if (type === 'boolean') return typeof given === 'boolean' ? given : undefined
    if (this.#arithmetic.is(given)) return given
    return typeof given === 'number' ? this.#arithmetic.ofNumber(given) : undefined
  }

  #reading(name: string): Reading | undefined {
    if (!this.#readings.has(name)) this.#readings.set(name, this.#lookUp(name))
    return this.#readings.get(name)
  }

  #lookUp(name: string): Reading | undefined {
    const reading = this.#circumstances.reading(this.#streams.get(name) as StreamDeclaration)
    const value = reading?.value === undefined ? undefined : this.#admitted(reading.value, 'number')
    return reading && value !== undefined ? { value, time: reading.time } : undefined
  }

  #presentReading(name: string): Reading {
    const reading = this.#reading(name)
    if (!reading) throw new EvaluationFailure('no-reading')
    return reading
  }

  #named(name: string): ContractValue {
    return this.#values.get(name) ?? this.#presentReading(name).value
  }

  #value(expression: Expression): ContractValue {
    switch (expression.type) {
      case 'constant':
        return expression.value as ContractValue
      case 'name':
        return this.#named(expression.name)
      case 'time':
        return this.#arithmetic.ofMilliseconds(this.#presentReading(expression.stream).time)
      case 'has':
        return this.#reading(expression.stream) !== undefined
      case 'now':
        return this.#arithmetic.ofMilliseconds(this.#circumstances.now)
      default:
        return this.#applied(expression.operator, expression.operands)
    }
  }

  /** `and`, `or` and `if` look at no operand that does not matter; all others look at theirs from left to right. */
  #applied(operator: Operator, operands: readonly Expression[]): ContractValue {
    const [first, second, third] = operands as [Expression, Expression, Expression]
    switch (operator) {
      case 'and':
        return this.#value(first) && this.#value(second)
      case 'or':
        return this.#value(first) || this.#value(second)
      case 'not':
        return !this.#value(first)
      case 'choose':
        return this.#value(first) ? this.#value(second) : this.#value(third)
      case 'negate':
        return this.#arithmetic.subtract(this.#arithmetic.zero, this.#value(first) as N)
      case 'root':
        return this.#arithmetic.root(this.#value(first) as N)
      case 'absolute': {
        const value = this.#value(first) as N
        return value < this.#arithmetic.zero ? this.#arithmetic.subtract(this.#arithmetic.zero, value) : value
      }
      default:
        return this.#joined(operator, this.#value(first) as N, this.#value(second) as N)
    }
  }

  #joined(
    operator: Exclude<Operator, 'and' | 'or' | 'not' | 'choose' | 'negate' | 'root' | 'absolute'>,
    a: N,
    b: N,
  ): ContractValue {
    switch (operator) {
      case 'add':
      case 'subtract':
      case 'multiply':
      case 'divide':
        return this.#arithmetic[operator](a, b)
      case 'minimum':
        return a <= b ? a : b
      case 'maximum':
        return a >= b ? a : b
      case 'less':
        return a < b
      case 'atMost':
        return a <= b
      case 'greater':
        return a > b
      case 'atLeast':
        return a >= b
      case 'equal':
        return a === b
      default:
        return a !== b
    }
  }
}
