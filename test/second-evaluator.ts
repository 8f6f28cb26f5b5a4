/**
 * `npm run test:evaluators -- [--cases N] [--seed N]`: contracts by chance, evaluated by the program and by the second evaluator
 * (test/python/contracts.py); 100,000 unless said otherwise. Ends with 1 where they differ.
 */
import { BenchUsageError, runWithOptions } from '../bench/arguments.ts'
import { compareEvaluators, pythonCommand } from './support/second-evaluator.ts'

const casesAtOnce = 5000

process.exitCode = await runWithOptions(process.argv.slice(2), {
  command: 'npm run test:evaluators --',
  meaning: 'contracts by chance, and two evaluators',
  options: {
    cases: { default: 100_000, meaning: 'how many contracts' },
    seed: { default: 1, meaning: 'of the first ones' },
  },
  run: async ({ cases, seed: first }) => {
    const python = pythonCommand()
    if (!python) throw new BenchUsageError('expected python3 (3.8 or newer) on the PATH')
    let refused = 0
    let differences = 0
    for (let done = 0; done < cases; done += casesAtOnce) {
      const seed = first + done / casesAtOnce
      const agreement = await compareEvaluators({ python, cases: Math.min(casesAtOnce, cases - done), seed })
      refused += agreement.refused
      differences += agreement.differences.length
      for (const difference of agreement.differences) console.log(`seed ${seed}: ${difference}`)
    }
    const outcome = differences === 0 ? ': both evaluators agree' : ''
    console.log(`${cases} cases, ${refused} of them no contracts${outcome}`)
    return differences === 0 ? 0 : 1
  },
})
