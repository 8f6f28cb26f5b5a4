/**
 * The evaluator in Python (test/python/contracts.py) beside ours: the same contracts and runs to both, and where they differ. Both are
 * given contracts with a bit turned over as well, so that they must also agree on what is no contract.
 */
import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { bytesToHex } from '@noble/hashes/utils.js'
import { type Codec, decode, encode, list, optional, struct, text, uint } from '../../chain/codec.ts'
import { failureNumbers } from '../../chain/contracts/arithmetic.ts'
import { checkContract } from '../../chain/contracts/check.ts'
import { type Contract, contractAddressOf, contractCodec } from '../../chain/contracts/contract.ts'
import { maxContractBytes } from '../../chain/contracts/contract-limits.ts'
import { type Circumstances, evaluateContract, type RunOutcome } from '../../chain/contracts/evaluate.ts'
import { type Scalar, scalarCodec } from '../../chain/scalars.ts'
import { SeededRandom } from '../simulation/random.ts'
import { RandomContracts } from './random-contracts.ts'
import { repositoryRoot } from './source-files.ts'

interface RunBytes {
  readonly values: readonly { readonly name: string; readonly value: Scalar }[]
  readonly readings: readonly {
    readonly name: string
    readonly value: Scalar | undefined
    readonly time: number
  }[]
  readonly state: readonly Scalar[]
  readonly now: number
}

const named = struct<{ readonly name: string; readonly value: Scalar }>({
  name: text(64),
  value: scalarCodec,
})
const runCodec: Codec<RunBytes> = struct<RunBytes>({
  values: list(named, 64),
  readings: list(
    struct<RunBytes['readings'][number]>({ name: text(64), value: optional(scalarCodec), time: uint() }),
    64,
  ),
  state: list(scalarCodec, 64),
  now: uint(),
})

/** A run as vectors and the second evaluator have it. */
export function runBytes(
  circumstances: Pick<Circumstances, 'inputs' | 'state' | 'now'> & {
    readonly readings: ReadonlyMap<string, { readonly value: Scalar | undefined; readonly time: number }>
  },
): Uint8Array {
  const { inputs, readings, state, now } = circumstances
  return encode(runCodec, {
    values: [...inputs].map(([name, value]) => ({ name, value })),
    readings: [...readings].map(([name, reading]) => ({ name, ...reading })),
    state,
    now,
  })
}

const reasons = Object.keys(failureNumbers)
const outcomeCodec: Codec<RunOutcome> = {
  toWire: outcome => {
    if (outcome.type === 'violated') return [2, outcome.rule]
    if (outcome.type === 'failed') return [3, reasons.indexOf(outcome.reason) + 1, outcome.place]
    const state = list(scalarCodec, 64).toWire(outcome.state)
    return [1, outcome.decision, list(named, 64).toWire(outcome.values), state]
  },
  fromWire: () => {
    throw new Error('outcomes are only written')
  },
}

/** An outcome as vectors and the second evaluator have it. */
export function outcomeBytes(outcome: RunOutcome): Uint8Array {
  return encode(outcomeCodec, outcome)
}

/** What both evaluators are asked, and our answer. */
interface Question {
  readonly line: string
  readonly answer: string
}

function question(random: SeededRandom, contracts: RandomContracts): Question {
  const contract = contracts.contract()
  const circumstances = contracts.circumstances(contract)
  const bytes = encode(contractCodec, contract)
  if (random.chance(0.1)) bytes[random.below(bytes.length)]! ^= 1 << random.below(8)
  return {
    line: `${bytesToHex(bytes)} ${bytesToHex(runBytes(circumstances))}`,
    answer: `${contractAddressOf(bytes)} ${answerTo(bytes, circumstances)}`,
  }
}

function answerTo(bytes: Uint8Array, circumstances: Circumstances): string {
  const read = decode(contractCodec, bytes, maxContractBytes)
  if (!read.ok || !checkContract(read.value).ok) return 'refused'
  // A bit may have made another state of it; then neither evaluator has a state that fits.
  return bytesToHex(outcomeBytes(evaluateContract(fitting(read.value, circumstances), circumstances)))
}

function fitting(contract: Contract, { state }: Circumstances): Contract {
  if (contract.state.length !== state.length) throw new Error('one bit changes no number of variables')
  return contract
}

/** The command of Python 3, or undefined where there is none. */
export function pythonCommand(): string | undefined {
  const found = spawnSync('python3', ['-c', 'import sys; sys.exit(sys.version_info < (3, 8))'])
  return found.status === 0 ? 'python3' : undefined
}

export interface Agreement {
  readonly cases: number
  readonly refused: number
  readonly differences: readonly string[]
}

/** Asks both evaluators `cases` questions out of `seed`. Throws if Python fails. */
export async function compareEvaluators(options: {
  readonly python: string
  readonly cases: number
  readonly seed: number
}): Promise<Agreement> {
  const random = new SeededRandom(options.seed, 'changed contracts')
  const contracts = new RandomContracts(new SeededRandom(options.seed, 'contracts'))
  const questions = Array.from({ length: options.cases }, () => question(random, contracts))
  const child = spawn(options.python, [join(repositoryRoot, 'test/python/contracts.py')], {
    stdio: ['pipe', 'pipe', 'inherit'],
  })
  const closed = once(child, 'close') as Promise<[number | null]>
  child.stdin.end(questions.map(({ line }) => `${line}\n`).join(''))
  let printed = ''
  for await (const chunk of child.stdout.setEncoding('utf8')) printed += String(chunk)
  const [status] = await closed
  const answers = printed.trimEnd().split('\n')
  if (status !== 0 || answers.length !== questions.length)
    throw new Error(`python: expected ${questions.length} answers and 0, got ${answers.length} and ${status}`)
  return {
    cases: questions.length,
    refused: questions.filter(({ answer }) => answer.endsWith(' refused')).length,
    differences: questions
      .map(({ line, answer }, i) => ({ line, answer, other: answers[i] }))
      .filter(({ answer, other }) => answer !== other)
      .map(({ line, answer, other }) => `${line}: ours ${answer}, Python's ${other}`),
  }
}
