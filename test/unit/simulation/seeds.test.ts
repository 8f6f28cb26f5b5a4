import { expect, test } from 'vitest'
import { commitName, failureText } from '../../simulation/arguments.ts'
import { runBoth } from '../../simulation/both.ts'

/** Shorter runs than those of `npm run sim`, so that more of them fit into a test run. */
const events = 600
const perTest = 8

test.each([1, 41, 81, 121, 161])(
  'simulator: 8 seeds from %i on, the whole and the core alone',
  async from => {
    const failures: string[] = []
    let blocks = 0
    for (let seed = from; seed < from + perTest; seed++) {
      const report = await runBoth({ seed, events })
      blocks += report.blocks
      if (report.violation)
        failures.push(failureText(commitName(), report.violation.message, { seed, events }))
    }
    expect(failures.join('\n')).toBe('')
    expect(blocks, 'work is done').toBeGreaterThan(5 * perTest)
  },
)

test('simulator: two runs of one seed are the same to the byte', async () => {
  const traces = new Set<string>()
  const messages: number[] = []
  // The second one has gateways.
  for (const seed of [5, 1]) {
    const first = await runBoth({ seed, events, trace: true })
    const second = await runBoth({ seed, events, trace: true })
    expect(second.trace === first.trace, `traces of seed ${seed}`).toBe(true)
    expect(second).toEqual(first)
    expect(first.trace.split('\n').length).toBeGreaterThan(events)
    traces.add(first.trace)
    messages.push(first.messages)
  }
  expect(messages.map(count => count > 0)).toEqual([false, true])
  expect(traces.size, 'another seed is another run').toBe(2)
})
