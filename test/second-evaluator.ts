/**
 * `npm run test:evaluators -- [--cases N] [--seed N]`: contracts by chance, evaluated by the program and by the second evaluator
 * (test/python/contracts.py); 100,000 unless said otherwise. Ends with 1 where they differ.
 */
import { parseArgs } from 'node:util'
import { compareEvaluators, pythonCommand } from './support/second-evaluator.ts'

const { values } = parseArgs({
  options: { cases: { type: 'string', default: '100000' }, seed: { type: 'string', default: '1' } },
})
const python = pythonCommand()
if (!python) throw new Error('expected python3 (3.8 or newer) on the PATH')
const chunk = 5000
let refused = 0
for (let done = 0; done < Number(values.cases); done += chunk) {
  const cases = Math.min(chunk, Number(values.cases) - done)
  const seed = Number(values.seed) + done / chunk
  const agreement = await compareEvaluators({ python, cases, seed })
  refused += agreement.refused
  for (const difference of agreement.differences) console.log(`seed ${seed}: ${difference}`)
  if (agreement.differences.length > 0) process.exitCode = 1
}
console.log(
  `${values.cases} cases, ${refused} of them no contracts${process.exitCode ? '' : ': both evaluators agree'}`,
)
