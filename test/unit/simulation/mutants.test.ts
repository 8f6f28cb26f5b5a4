import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { mutants } from '../../simulation/mutants.ts'
import { changesOf, mutated } from '../../simulation/mutation.ts'
import { repositoryRoot } from '../../support/source-files.ts'

describe('mutants', () => {
  test('mutants: there are enough of them, each with a name of its own', () => {
    expect(mutants.length).toBeGreaterThanOrEqual(40)
    expect(new Set(mutants.map(({ name }) => name)).size).toBe(mutants.length)
  })

  test.each(mutants.map(mutant => [mutant.name, mutant] as const))(
    'mutants: %s still fits the sources',
    (_name, mutant) => {
      expect(changesOf(mutant).size).toBeGreaterThan(0)
    },
  )

  test('mutants: the table in docs/CONSENSUS.md has all of them, and no others', () => {
    const text = readFileSync(join(repositoryRoot, 'docs/CONSENSUS.md'), 'utf8')
    const [, table = ''] = text.split('### Known bugs, put back in')
    const listed = [...table.split('###')[0]!.matchAll(/^\| `([a-z-]+)` \|/gm)].map(([, name]) => name)
    expect(listed).toEqual(mutants.map(({ name }) => name))
  })

  test('mutants: one whose text is gone is an error that names it', () => {
    const gone = {
      name: 'gone',
      source: 'nowhere',
      file: 'consensus/quorum.ts',
      find: 'no such text',
      replace: '',
    }
    expect(() => changesOf(gone)).toThrow('mutant gone, consensus/quorum.ts: expected once, found 0 times')
  })

  test('mutants: a text that is there twice, and a change that changes nothing, are errors', () => {
    expect(() => mutated('a a', { find: 'a', replace: 'b' })).toThrow('found 2 times')
    expect(() => mutated('a', { find: 'a', replace: 'a' })).toThrow('changes nothing')
    expect(mutated('price: x', { find: 'x', replace: '$&1' })).toBe('price: $&1')
  })
})
