import { describe, expect, it } from 'vitest'
import { isQuorum, majority, quorumValue, type VoteResult, voteResult } from '../../../consensus/quorum.ts'
import type { Configuration } from '../../../consensus/types.ts'

/** `abc` is a simple configuration, `abd/abc` a joint one: incoming before outgoing voters. */
function configurationOf(text: string): Configuration {
  const [voters = '', votersOutgoing = ''] = text.split('/')
  return { voters: [...voters], votersOutgoing: [...votersOutgoing], learners: ['x'] }
}

/** `a+ b-` : a granted, b refused. */
function votesOf(text: string): Map<string, boolean> {
  const words = text.split(' ').filter(word => word !== '')
  return new Map(words.map(word => [word.slice(0, 1), word.endsWith('+')]))
}

describe('quorum arithmetic (§5.2, §6)', () => {
  it.each([
    [1, 1],
    [2, 2],
    [3, 2],
    [4, 3],
    [5, 3],
    [6, 4],
    [7, 4],
  ])('majority of %i: %i', (count, expected) => {
    expect(majority(count)).toBe(expected)
  })

  const decisions: [configuration: string, votes: string, result: VoteResult][] = [
    ['a', '', 'pending'],
    ['a', 'a+', 'won'],
    ['a', 'a-', 'lost'],
    ['ab', 'a+', 'pending'],
    ['ab', 'a+ b-', 'lost'],
    ['ab', 'a+ b+', 'won'],
    ['abc', 'a+', 'pending'],
    ['abc', 'a+ b-', 'pending'],
    ['abc', 'a+ b+', 'won'],
    ['abc', 'b- c-', 'lost'],
    ['abcd', 'a+ b+', 'pending'],
    ['abcd', 'a+ b+ c-', 'pending'],
    ['abcd', 'c- d-', 'lost'],
    ['abcd', 'a+ b+ d+', 'won'],
    ['abcde', 'a+ b+ c+', 'won'],
    ['abcde', 'c- d- e-', 'lost'],
    // Nobody but voters counts: x is a learner, z is a stranger.
    ['abc', 'a+ x+ z+', 'pending'],
    ['abc', 'x- z-', 'pending'],
    // Joint: both majorities, each on its own.
    ['abd/abc', 'a+ b+', 'won'],
    ['abd/abc', 'a+ d+', 'pending'],
    ['abd/abc', 'a+ d+ c+', 'won'],
    ['abd/abc', 'a+ d+ b- c-', 'lost'],
    ['def/abc', 'a+ b+ c+', 'pending'],
    ['def/abc', 'a+ b+ d+ e+', 'won'],
    ['def/abc', 'a+ b+ c+ d- e-', 'lost'],
    ['d/abc', 'a+ b+', 'pending'],
    ['d/abc', 'd-', 'lost'],
    ['d/abc', 'd+ a+ c+', 'won'],
    // No voters decide nothing.
    ['', '', 'lost'],
  ]
  it.each(decisions)('votes: %s with [%s] is %s', (configuration, votes, result) => {
    expect(voteResult(configurationOf(configuration), votesOf(votes))).toBe(result)
  })

  const values: [configuration: string, held: Record<string, number>, value: number][] = [
    ['a', { a: 7 }, 7],
    ['ab', { a: 7, b: 3 }, 3],
    ['abc', { a: 7, b: 3, c: 5 }, 5],
    ['abc', { a: 7 }, 0],
    ['abcd', { a: 9, b: 8, c: 7, d: 6 }, 7],
    ['abcde', { a: 1, b: 2, c: 3, d: 4, e: 5 }, 3],
    ['abc', { a: 1, x: 9, z: 9 }, 0],
    ['abd/abc', { a: 9, b: 9, c: 0, d: 0 }, 9],
    ['abd/abc', { a: 9, b: 4, c: 0, d: 8 }, 4],
    ['def/abc', { a: 9, b: 9, c: 9, d: 2, e: 1, f: 0 }, 1],
    ['', { a: 9 }, 0],
  ]
  it.each(values)('value: %s holding %o has reached %i', (configuration, held, value) => {
    expect(quorumValue(configurationOf(configuration), id => held[id] ?? 0)).toBe(value)
  })

  it('agrees with itself: a quorum holds a value exactly if it is at or below the quorum value', () => {
    for (const text of ['a', 'abc', 'abcd', 'abd/abc', 'def/abc', 'd/abcde']) {
      const configuration = configurationOf(text)
      const members = [...new Set(text.replace('/', ''))]
      for (let assignment = 0; assignment < 3 ** members.length; assignment += 1) {
        const heldBy = (id: string) => Math.floor(assignment / 3 ** members.indexOf(id)) % 3
        const value = quorumValue(configuration, heldBy)
        for (const asked of [0, 1, 2]) {
          expect(isQuorum(configuration, id => heldBy(id) >= asked)).toBe(asked <= value)
        }
      }
    }
  })
})
