/** What is refused of contracts: by their check, and by a run. */
import { type RefusalCheck, takenOut } from './refusal-check.ts'

const language = 'test/unit/chain/contract-language.test.ts'

export const contracts: readonly RefusalCheck[] = [
  ...takenOut('chain/contracts/check.ts', language, {
    'a contract that gives a name twice': 'if (this.#types.has(name))',
    'a contract of more steps than a run may cost': 'if (++this.#steps > maxContractSteps)',
    'a contract whose last case has a condition': 'if ((when === undefined) !== (i === cases.length - 1))',
    'a decision that looks like a failure': "if (decision.startsWith('failed'))",
    'an operand of another type': 'if (got !== wanted)',
    'a number of the other arithmetic': 'if (!arithmetics[arithmetic].is(value))',
    'the time of what is no stream': 'if (!this.#streams.has(expression.stream))',
  }),
  {
    refusal: 'a name that is not given before',
    file: 'chain/contracts/check.ts',
    find: 'this.#types.get(expression.name) ??',
    replace: "this.#types.get(expression.name) ?? (place ? 'number' : undefined) ??",
    test: language,
  },
  ...takenOut('chain/contracts/arithmetic.ts', language, {
    'a result that is NaN or infinite': 'if (!Number.isFinite(value))',
  }),
  {
    refusal: 'an integer that does not fit 64 bits',
    file: 'chain/contracts/arithmetic.ts',
    find: "return isInt64(value) ? value : fail('overflow')",
    replace: 'return value',
    test: language,
  },
  {
    refusal: 'a zero with a sign',
    file: 'chain/contracts/arithmetic.ts',
    find: 'return value === 0 ? 0 : value',
    replace: 'return value',
    test: language,
  },
  {
    refusal: 'a number from outside that is no integer',
    file: 'chain/contracts/arithmetic.ts',
    find: 'ofNumber: value => (Number.isSafeInteger(value) ? BigInt(value) : undefined)',
    replace: 'ofNumber: value => BigInt(Math.trunc(value))',
    test: language,
  },
  {
    refusal: 'a state after a rule that does not hold',
    file: 'chain/contracts/evaluate.ts',
    find: "return { type: 'violated', rule: name }",
    replace: 'continue',
    test: language,
  },
]
