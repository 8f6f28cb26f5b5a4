/**
 * Contracts and circumstances by chance, out of a seed: all of them pass the check, and most of the ways in which a run can end come up.
 */

import type { ArithmeticName, Contract, NamedExpression } from '../../chain/contracts/contract.ts'
import type { Circumstances, ContractValue, StreamReading } from '../../chain/contracts/evaluate.ts'
import {
  allOperators,
  type Expression,
  type Operator,
  operatorTable,
  type ValueType,
} from '../../chain/contracts/expression.ts'
import type { Scalar } from '../../chain/scalars.ts'
import { int64Max, int64Min } from '../../chain/scalars.ts'
import type { SeededRandom } from '../simulation/random.ts'

const interestingNumbers = [
  0,
  1,
  -1,
  2,
  3,
  0.1,
  0.7,
  1e-300,
  5e-324,
  2.2250738585072014e-308,
  1e300,
  1.7976931348623157e308,
  -1.7976931348623157e308,
  1 / 3,
  4503599627370497,
  9007199254740994,
]
const interestingIntegers = [0n, 1n, -1n, 2n, 7n, -7n, 100n, 3037000500n, int64Max, int64Min, int64Min + 1n]

/** What names stand for while a contract is made. */
interface Scope {
  readonly names: { readonly name: string; readonly type: ValueType }[]
  readonly streams: readonly string[]
}

export class RandomContracts {
  readonly #random: SeededRandom

  constructor(random: SeededRandom) {
    this.#random = random
  }

  number(arithmetic: ArithmeticName): number | bigint {
    const random = this.#random
    if (arithmetic === 'int64')
      return random.chance(0.4) ? random.pick(interestingIntegers) : BigInt(random.below(2001) - 1000)
    if (random.chance(0.3)) return random.pick(interestingNumbers)
    if (random.chance(0.2)) return this.#anyNumber()
    return random.chance(0.5) ? random.below(201) - 100 : random.between(-1000, 1000) || 1
  }

  /** Any bits that are a finite number. */
  #anyNumber(): number {
    const view = new DataView(new ArrayBuffer(8))
    view.setUint32(0, this.#random.next())
    view.setUint32(4, this.#random.next())
    const value = view.getFloat64(0)
    return Number.isFinite(value) ? value || 0 : 1
  }

  #value(arithmetic: ArithmeticName, type: ValueType): ContractValue {
    return type === 'boolean' ? this.#random.chance(0.5) : this.number(arithmetic)
  }

  expression(arithmetic: ArithmeticName, type: ValueType, scope: Scope, depth: number): Expression {
    const random = this.#random
    if (depth <= 1 || random.chance(0.2)) return this.#leaf(arithmetic, type, scope)
    const fitting = allOperators.filter(name => [type, 'same'].includes(operatorTable[name].result))
    const operator: Operator = random.pick(fitting)
    return {
      type: 'apply',
      operator,
      operands: operatorTable[operator].operands.map(operand =>
        this.expression(arithmetic, operand === 'same' ? type : operand, scope, depth - 1),
      ),
    }
  }

  #leaf(arithmetic: ArithmeticName, type: ValueType, { names, streams }: Scope): Expression {
    const random = this.#random
    const named = names.filter(name => name.type === type)
    if (named.length > 0 && random.chance(0.6)) return { type: 'name', name: random.pick(named).name }
    if (streams.length > 0 && random.chance(0.2))
      return { type: type === 'boolean' ? 'has' : 'time', stream: random.pick(streams) }
    if (type === 'number' && random.chance(0.05)) return { type: 'now' }
    return { type: 'constant', value: this.#value(arithmetic, type) }
  }

  contract(): Contract {
    const random = this.#random
    const arithmetic: ArithmeticName = random.chance(0.5) ? 'binary64' : 'int64'
    const types: readonly ValueType[] = ['number', 'number', 'number', 'boolean']
    const inputs = Array.from({ length: random.below(5) }, (_, i) => ({
      name: `i${i}`,
      type: random.pick(types),
    }))
    const streams = Array.from({ length: random.below(3) }, (_, i) => ({
      name: `s${i}`,
      device: undefined,
      topic: 'a/b',
      field: `f${i}`,
      attested: random.chance(0.5),
    }))
    const state = Array.from({ length: random.below(3) }, (_, i) => ({
      name: `v${i}`,
      initial: this.#value(arithmetic, random.pick(types)),
    }))
    const scope: Scope = {
      names: [
        ...inputs,
        ...streams.map(({ name }) => ({ name, type: 'number' as const })),
        ...state.map(({ name, initial }) => ({ name, type: typeOf(initial) })),
      ],
      streams: streams.map(({ name }) => name),
    }
    const made = (type: ValueType): Expression =>
      this.expression(arithmetic, type, scope, 1 + random.below(5))
    const expressions: NamedExpression[] = []
    for (let i = random.below(5); i > 0; i--) {
      const type = random.pick(types)
      expressions.push({ name: `e${i}`, expression: made(type) })
      scope.names.push({ name: `e${i}`, type })
    }
    const conditions = Array.from({ length: random.below(3) }, () => made('boolean'))
    return {
      format: 1,
      name: 'random',
      version: 1,
      about: '',
      arithmetic,
      callers: undefined,
      attested: false,
      publish: [],
      inputs,
      streams,
      state,
      expressions,
      rules: Array.from({ length: random.below(2) }, (_, i) => ({
        name: `r${i}`,
        expression: made('boolean'),
      })),
      cases: [
        ...conditions.map((when, i) => ({ when, decision: `case ${i}` })),
        { when: undefined, decision: 'otherwise' },
      ],
      values: scope.names.filter(() => random.chance(0.5)).map(({ name }) => name),
      next: state
        .filter(() => random.chance(0.7))
        .map(({ name, initial }) => ({ name, expression: made(typeOf(initial)) })),
    }
  }

  /** Mostly what the contract wants; sometimes a value is missing, or of another type. */
  circumstances(
    contract: Contract,
  ): Circumstances & { readonly readings: ReadonlyMap<string, StreamReading> } {
    const random = this.#random
    const inputs = contract.inputs
      .filter(() => !random.chance(0.03))
      .map(({ name, type }) => [name, this.#given(contract.arithmetic, type)] as const)
    const readings = new Map(
      contract.streams
        .filter(() => random.chance(0.8))
        .map(({ name }): [string, StreamReading] => [
          name,
          {
            value: random.chance(0.05) ? undefined : this.#given(contract.arithmetic, 'number'),
            time: random.below(2 ** 31),
          },
        ]),
    )
    return {
      inputs: new Map(inputs),
      readings,
      reading: ({ name }) => readings.get(name),
      state: contract.state.map(({ initial }) => this.#value(contract.arithmetic, typeOf(initial))),
      now: 1_790_000_000_000 + random.below(2 ** 31),
    }
  }

  /** What comes from outside: numbers are binary64 there, also for int64 contracts. */
  #given(arithmetic: ArithmeticName, type: ValueType): Scalar {
    const random = this.#random
    if (random.chance(0.02)) return random.pick<Scalar>([true, 'text', 0.5, 1e30, 3])
    if (type === 'boolean') return random.chance(0.5)
    if (arithmetic === 'binary64') return this.number(arithmetic)
    return random.chance(0.2) ? random.pick([2 ** 53 - 1, 1 - 2 ** 53]) : random.below(2001) - 1000
  }
}

function typeOf(value: Scalar): ValueType {
  return typeof value === 'boolean' ? 'boolean' : 'number'
}
