/** The evaluator in Python, written from docs/FORMATS.md alone, agrees with ours bit for bit (`npm run test:evaluators` asks it more). */
import { expect, test } from 'vitest'
import { compareEvaluators, pythonCommand } from '../../support/second-evaluator.ts'

const python = pythonCommand()

test.skipIf(python === undefined)(
  'contracts: a second evaluator gives the same decisions, values, states and failures (skipped without python3)',
  async () => {
    const { differences, refused } = await compareEvaluators({ python: python!, cases: 800, seed: 7 })
    expect(differences).toEqual([])
    expect(refused).toBeGreaterThan(20)
  },
)
