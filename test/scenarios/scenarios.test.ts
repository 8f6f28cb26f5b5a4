import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { parseScenario } from './language.ts'
import { runScenario } from './runner.ts'

const folder = import.meta.dirname

const scenarios = readdirSync(folder)
  .filter(file => file.endsWith('.txt'))
  .toSorted()
  .map(file => parseScenario(`test/scenarios/${file}`, readFileSync(join(folder, file), 'utf8')))

describe('scenario', () => {
  for (const scenario of scenarios)
    test(`${scenario.title} (${scenario.source})`, () => runScenario(scenario))

  test('scenarios: enough of them were seen, each with a title of its own', () => {
    expect(scenarios.length).toBeGreaterThanOrEqual(40)
    expect(new Set(scenarios.map(({ title }) => title)).size).toBe(scenarios.length)
  })
})
