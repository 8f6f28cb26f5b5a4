/**
 * Makes test/vectors/contracts.json: the contracts of examples/ with the runs that their files list, and changed ones that must be refused,
 * for implementations in other languages. `node test/vectors/make-contracts.ts` writes the file.
 */
import { readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { bytesToHex } from '@noble/hashes/utils.js'
import { DeviceId } from '../../chain/brands.ts'
import { encode } from '../../chain/codec.ts'
import { type Contract, contractCodec, encodedContract } from '../../chain/contracts/contract.ts'
import { type ContractCase, casesOfDocument } from '../../chain/contracts/contract-cases.ts'
import { contractOfDocument } from '../../chain/contracts/document.ts'
import { decisionText, evaluateContract, type StreamReading } from '../../chain/contracts/evaluate.ts'
import { unwrap } from '../../chain/result.ts'
import { outcomeBytes, runBytes } from '../support/second-evaluator.ts'
import { repositoryRoot } from '../support/source-files.ts'

const examples = join(repositoryRoot, 'examples')
/** Devices that examples name: 1111 is 11…11. */
const named = (name: string) => DeviceId(name.slice(0, 2).repeat(32))

/** The contracts among the examples. */
export function contractFiles(): readonly string[] {
  return readdirSync(examples)
    .filter(file => file.endsWith('.json'))
    .sort()
}

function vectorOf(file: string) {
  const document: unknown = JSON.parse(readFileSync(join(examples, file), 'utf8'))
  const contract = unwrap(contractOfDocument(document, named))
  const { bytes, address } = encodedContract(contract)
  const runs = unwrap(casesOfDocument(document, contract)).map(each => runOf(contract, each))
  return { name: contract.name, contract: bytesToHex(bytes), address, runs }
}

function runOf(contract: Contract, { circumstances }: ContractCase) {
  const outcome = evaluateContract(contract, circumstances)
  const readings = contract.streams.flatMap(stream => {
    const reading = circumstances.reading(stream)
    return reading ? [[stream.name, reading] as [string, StreamReading]] : []
  })
  return {
    run: bytesToHex(runBytes({ ...circumstances, readings: new Map(readings) })),
    outcome: bytesToHex(outcomeBytes(outcome)),
    text: decisionText(outcome),
  }
}

/** Contracts that are encoded as they should be, and make no sense. */
function refusedContracts() {
  const sound = unwrap(
    contractOfDocument({ name: 'sound', version: 1, state: { a: 1 }, decide: [{ say: 'x' }] }),
  )
  const one = { type: 'constant', value: 1 } as const
  const wrong: Readonly<Record<string, Contract>> = {
    'a name twice': { ...sound, inputs: [{ name: 'a', type: 'number' }] },
    'a name that is not given before': {
      ...sound,
      expressions: [{ name: 'b', expression: { type: 'name', name: 'b' } }],
    },
    'a rule that is a number': { ...sound, rules: [{ name: 'r', expression: one }] },
    'an integer in binary64': { ...sound, state: [{ name: 'a', initial: 1n }] },
    'a last case with a condition': {
      ...sound,
      cases: [{ when: { type: 'constant', value: true }, decision: 'x' }],
    },
    'a decision like a failure': { ...sound, cases: [{ when: undefined, decision: 'failed' }] },
    'the time of what is no stream': {
      ...sound,
      expressions: [{ name: 'b', expression: { type: 'time', stream: 'a' } }],
    },
    'a next value of another type': {
      ...sound,
      next: [{ name: 'a', expression: { type: 'constant', value: true } }],
    },
  }
  return Object.entries(wrong).map(([why, contract]) => ({
    why,
    contract: bytesToHex(encode(contractCodec, contract)),
  }))
}

export function contractVectors() {
  return {
    about:
      'Contracts with runs, in hexadecimal. A run is [values [[name, scalar] ...], readings [[stream, scalar or nil, time] ...], state [scalar ...], now]; an outcome [1, decision, values, state], [2, rule] or [3, reason, place].',
    contracts: contractFiles().map(vectorOf),
    refused: refusedContracts(),
  }
}

if (import.meta.main) {
  const file = new URL('contracts.json', import.meta.url)
  writeFileSync(file, `${JSON.stringify(contractVectors(), undefined, 2)}\n`)
}
