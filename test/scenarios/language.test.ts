import { describe, expect, test } from 'vitest'
import { parseScenario } from './language.ts'
import { runScenario } from './runner.ts'
import { ScenarioError } from './tokens.ts'

const opening = '# a title\n# Source: section 5\n'

const read = (...lines: string[]) => parseScenario('x.txt', `${opening}${lines.join('\n')}\n`)

const failure = (action: () => unknown): string => {
  try {
    action()
  } catch (error) {
    if (error instanceof ScenarioError) return error.message
    throw error
  }
  return 'no error'
}

describe('scenario language', () => {
  test('title and source come from the opening comment', () => {
    expect(read('cluster a b', 'expect no leader')).toMatchObject({ title: 'a title', source: 'section 5' })
    expect(failure(() => parseScenario('x.txt', 'cluster a\n'))).toBe(
      'x.txt:1: expected a comment with the title, got none',
    )
    expect(failure(() => parseScenario('x.txt', '# a title\ncluster a\n'))).toBe(
      'x.txt:1: expected a comment line "Source: …", got none',
    )
  })

  test.each([
    [['tick a'], 'x.txt:3: expected cluster, got tick'],
    [['cluster a', 'tick b'], 'x.txt:4: expected a node (a), got b'],
    [['cluster a a'], 'x.txt:3: expected a node once, got a'],
    [['cluster a', 'tick a', 'spare b'], 'x.txt:5: expected spare before the first step, got b'],
    [['cluster a b', 'cut a b'], 'x.txt:4: expected ->, got b'],
    [['cluster a b', 'deliver a -> b votes'], 'x.txt:4: expected one of request-vote, vote, append-entries'],
    [['cluster a b', 'drop'], 'x.txt:4: expected messages, got the end of the line'],
    [['cluster a b', 'drop vote colour=1'], 'x.txt:4: expected a field of a message (term, '],
    [['cluster a b', 'drop vote term=x'], 'x.txt:4: expected a number, true or false after =, got term=x'],
    [['cluster a b', 'partition a b'], 'x.txt:4: expected | and the other side, got the end of the line'],
    [['cluster a', 'expect a colour 3'], 'x.txt:4: expected one of leader, follower, '],
    [['cluster a', 'expect a term'], 'x.txt:4: expected a number, got the end of the line'],
    [['cluster a', 'expect refused never'], 'x.txt:4: expected one of not-leader, '],
    [['cluster a', 'expect read r1 waiting'], 'x.txt:4: expected the name of a read that was begun, got r1'],
    [['cluster a', 'read a r1', 'read a r1'], 'x.txt:5: expected a name that no other read has, got r1'],
    [
      ['cluster a', 'expect refused overloaded "x'],
      'x.txt:4: expected a closing quote, got the end of the line',
    ],
    [['cluster a', 'expect no leader at all'], 'x.txt:4: expected the end of the line, got at'],
    [['cluster a', 'violates "x" heal', 'heal'], 'x.txt:5: expected nothing after "violates", got heal'],
    [['cluster a', 'tick a'], 'x.txt:5: expected an expectation, got none'],
  ])('%j is refused with file and line', (lines, message) => {
    expect(failure(() => read(...lines)).slice(0, message.length)).toBe(message)
  })

  test.each([
    [['expect a leader'], 'x.txt:5: expect a leader\n  a role: expected leader, got follower\n'],
    [['deliver a -> b'], 'x.txt:5: deliver a -> b\n  expected such a message, got none\n'],
    [['restart a'], 'x.txt:5: restart a\n  a is running\n'],
    [['crash a', 'elect a'], 'x.txt:6: elect a\n  a is stopped\n'],
    [['persist a'], 'x.txt:5: persist a\n  expected writes under way, got none\n'],
    [['fetch a'], 'x.txt:5: fetch a\n  expected a snapshot to fetch, got none\n'],
    [
      ['elect a', 'expect refused overloaded'],
      'x.txt:6: expect refused overloaded\n  expected refused overloaded',
    ],
    [['elect a', 'expect all log 1 1'], 'x.txt:6: expect all log 1 1\n  a log: expected 1 1, got 1\n'],
    [
      ['violates "one vote per term" tick a 10'],
      'x.txt:5: violates "one vote per term" tick a 10\n  expected a violation of "one vote per term", got nothing\n',
    ],
  ])('%j fails where it is not so, and shows the servers', (lines, message) => {
    const scenario = read('cluster a b c', 'expect no leader', ...lines)
    const got = failure(() => runScenario(scenario))
    expect(got.slice(0, message.length)).toBe(message)
    expect(got).toContain('on the way: ')
  })
})
