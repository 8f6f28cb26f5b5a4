/**
 * Whether a contract makes sense, and what a run of it costs at most. Execution asks this of every contract that is to be deployed,
 * `mote contract test` of every file; what has passed runs without a surprise.
 *
 * Checked: each name is given once and before it is used; each expression has the types that its operators want and the type of its
 * place; numbers are of the contract's own arithmetic; the last case, and no other, is without a condition; steps are bounded.
 */
import { ok, type Result, refuse } from '../result.ts'
import type { Scalar } from '../scalars.ts'
import { arithmetics } from './arithmetic.ts'
import type { Contract } from './contract.ts'
import { maxContractSteps, maxExpressionDepth, runSteps, streamSteps } from './contract-limits.ts'
import { type Expression, operatorTable, type ValueType } from './expression.ts'

export interface ContractFacts {
  /** A run takes no more. */
  readonly steps: number
}

/** The place that is wrong and what is expected there; never leaves this file. */
class Flaw extends Error {}

function flaw(place: string, problem: string): never {
  throw new Flaw(`${place}: ${problem}`)
}

/** Refuses `contract-invalid` with the place in the contract. */
export function checkContract(contract: Contract): Result<ContractFacts> {
  try {
    return ok({ steps: new Check(contract).steps() })
  } catch (error) {
    if (error instanceof Flaw) return refuse('contract-invalid', error.message)
    throw error
  }
}

class Check {
  readonly #contract: Contract
  readonly #types = new Map<string, ValueType>()
  readonly #streams = new Set<string>()
  #steps = runSteps

  constructor(contract: Contract) {
    this.#contract = contract
  }

  steps(): number {
    const { inputs, streams, state, expressions, rules, cases, values, next } = this.#contract
    for (const { name, type } of inputs) this.#declare(`inputs.${name}`, name, type)
    for (const { name } of streams) {
      this.#declare(`streams.${name}`, name, 'number', streamSteps)
      this.#streams.add(name)
    }
    for (const { name, initial } of state)
      this.#declare(`state.${name}`, name, this.#typeOfScalar(`state.${name}`, initial))
    for (const { name, expression } of expressions)
      this.#declare(`let.${name}`, name, this.#typeOf(`let.${name}`, expression))
    this.#checkRules(rules.map(({ name }) => name))
    for (const { name, expression } of rules) this.#expect(`rules.${name}`, expression, 'boolean')
    for (const [i, { when, decision }] of cases.entries()) {
      const place = `decide[${i + 1}]`
      if ((when === undefined) !== (i === cases.length - 1))
        flaw(place, 'expected a condition in each case but the last')
      if (decision.startsWith('failed')) flaw(place, 'expected a decision that does not begin with "failed"')
      if (when) this.#expect(place, when, 'boolean')
    }
    this.#checkValues(values)
    this.#checkNext(next.map(({ name }) => name))
    for (const { name, expression } of next)
      this.#expect(`set.${name}`, expression, this.#types.get(name) as ValueType)
    return this.#steps
  }

  #declare(place: string, name: string, type: ValueType, steps = 1): void {
    if (this.#types.has(name)) flaw(place, `expected a name that is not given yet, got ${name}`)
    this.#types.set(name, type)
    this.#count(place, steps)
  }

  #count(place: string, steps = 1): void {
    this.#steps += steps
    if (this.#steps > maxContractSteps) flaw(place, `expected at most ${maxContractSteps} steps in all`)
  }

  #checkRules(names: readonly string[]): void {
    for (const [i, name] of names.entries())
      if (names.indexOf(name) !== i) flaw(`rules.${name}`, 'expected each rule once')
  }

  #checkValues(names: readonly string[]): void {
    for (const [i, name] of names.entries()) {
      if (!this.#types.has(name)) flaw(`values.${name}`, 'expected a name of the contract')
      if (names.indexOf(name) !== i) flaw(`values.${name}`, 'expected each name once')
      this.#count(`values.${name}`)
    }
  }

  #checkNext(names: readonly string[]): void {
    for (const [i, name] of names.entries()) {
      if (!this.#contract.state.some(variable => variable.name === name))
        flaw(`set.${name}`, 'expected a state variable')
      if (names.indexOf(name) !== i) flaw(`set.${name}`, 'expected each variable once')
    }
  }

  #expect(place: string, expression: Expression, expected: ValueType, depth = 1): void {
    const got = this.#typeOf(place, expression, depth)
    if (got !== expected) flaw(place, `expected a ${expected}, got a ${got}`)
  }

  #typeOfScalar(place: string, value: Scalar): ValueType {
    if (typeof value === 'boolean') return 'boolean'
    const { arithmetic } = this.#contract
    if (!arithmetics[arithmetic].is(value)) flaw(place, `expected a number of ${arithmetic}`)
    return 'number'
  }

  #typeOf(place: string, expression: Expression, depth = 1): ValueType {
    if (depth > maxExpressionDepth) flaw(place, `expected at most ${maxExpressionDepth} nested operations`)
    this.#count(place)
    switch (expression.type) {
      case 'constant':
        return this.#typeOfScalar(place, expression.value)
      case 'name':
        return (
          this.#types.get(expression.name) ??
          flaw(place, `expected a name given before, got ${expression.name}`)
        )
      case 'time':
      case 'has':
        if (!this.#streams.has(expression.stream))
          flaw(place, `${expression.type}: expected a stream, got ${expression.stream}`)
        return expression.type === 'has' ? 'boolean' : 'number'
      case 'now':
        return 'number'
      default:
        return this.#typeOfApplied(place, expression, depth)
    }
  }

  #typeOfApplied(
    place: string,
    { operator, operands }: Extract<Expression, { type: 'apply' }>,
    depth: number,
  ): ValueType {
    const row = operatorTable[operator]
    let same: ValueType | undefined
    for (const [i, expected] of row.operands.entries()) {
      const got = this.#typeOf(place, operands[i] as Expression, depth + 1)
      if (expected === 'same') same ??= got
      const wanted = expected === 'same' ? same : expected
      if (got !== wanted) flaw(place, `${row.symbol}: expected a ${wanted}, got a ${got}`)
    }
    return row.result === 'same' ? (same as ValueType) : row.result
  }
}
