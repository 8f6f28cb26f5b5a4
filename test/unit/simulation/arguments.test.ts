import { expect, test } from 'vitest'
import { failureText, replayCommand, simArguments, UsageError } from '../../simulation/arguments.ts'

test('arguments: seeds run from 1, and mutants have more of them to be caught by', () => {
  expect(simArguments([])).toMatchObject({ seeds: 200, from: 1, jobs: 2, mutants: false, events: undefined })
  expect(simArguments(['--mutants'])).toMatchObject({ seeds: 1_500, mutants: true, chosen: [] })
  expect(simArguments(['--mutant', 'a,b', '--seeds', '7'])).toMatchObject({
    seeds: 7,
    mutants: true,
    chosen: ['a', 'b'],
  })
  const wanted = ['--seeds', '9', '--from', '0', '--events', '50', '--jobs', '1']
  expect(simArguments(wanted)).toMatchObject({ seeds: 9, from: 0, events: 50, jobs: 1 })
})

test.each([
  [['--seeds', 'many'], '--seeds: expected a whole number'],
  [['--seeds', '0'], '--seeds: expected a whole number from 1'],
  [['--seeds', '-3'], 'ambiguous'],
  [['--seeds', '1.5'], 'got 1.5'],
  [['--jobs', '0'], '--jobs'],
  [['--from', '99999999999999'], '--from'],
  [['--trace'], '--trace: expected --seed with it'],
  [['--seed', '3', '--seeds', '4'], '--seed: runs alone, got --seeds as well'],
  [['--seed', '3', '--mutants'], 'got --mutants as well'],
  [['--sede', '3'], 'sede'],
  [['3'], "'3'"],
])('arguments: %j is refused', (argv, says) => {
  expect(() => simArguments(argv)).toThrow(UsageError)
  expect(() => simArguments(argv)).toThrow(says)
})

test('arguments: what a failed run says is what a person types to see it again', () => {
  const run = { seed: 12, events: 300, mutant: 'vote-before-durable' }
  const text = failureText('0123456789ab', 'election safety: term 3', run)
  expect(text).toContain('seed 12 at 0123456789ab: election safety: term 3')
  expect(text).toContain('npm run sim -- --seed 12 --events 300 --mutant vote-before-durable --trace')
  const [, again = ''] = replayCommand(run).split(' -- ')
  expect(simArguments(again.split(' '))).toMatchObject({ seed: 12, events: 300, trace: true })
  expect(replayCommand({ seed: 1 })).toBe('npm run sim -- --seed 1 --trace')
})
