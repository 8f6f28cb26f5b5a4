import { describe, expect, it } from 'vitest'
import {
  ConfigurationHistory,
  isVoter,
  leaveJoint,
  maxMembers,
  membersOf,
  membersProblem,
  quorumShortfall,
  towards,
} from '../../../consensus/configuration.ts'
import { simple } from './server.ts'

describe('configuration changes (§6)', () => {
  it('changed voters: passes through joint consensus', () => {
    expect(towards(simple('a', 'b', 'c'), { voters: ['a', 'b', 'd'], learners: ['e'] })).toEqual({
      voters: ['a', 'b', 'd'],
      votersOutgoing: ['a', 'b', 'c'],
      learners: ['e'],
    })
  })

  it('changed learners alone: one step', () => {
    expect(towards(simple('a', 'b'), { voters: ['b', 'a'], learners: ['e'] })).toEqual({
      voters: ['b', 'a'],
      votersOutgoing: [],
      learners: ['e'],
    })
  })

  it('leaving: the incoming half alone', () => {
    const joint = towards(simple('a', 'b', 'c'), { voters: ['a', 'b', 'd'], learners: ['c'] })
    expect(leaveJoint(joint)).toEqual({ voters: ['a', 'b', 'd'], votersOutgoing: [], learners: ['c'] })
  })

  it('members: both halves and learners, each once; voters of either half vote', () => {
    const joint = towards(simple('a', 'b', 'c'), { voters: ['a', 'd'], learners: ['c', 'e'] })
    expect([...membersOf(joint)].sort()).toEqual(['a', 'b', 'c', 'd', 'e'])
    expect(['a', 'b', 'c', 'd', 'e'].filter(id => isVoter(joint, id))).toEqual(['a', 'b', 'c', 'd'])
  })

  it.each([
    [[], ['b'], 'voters: expected at least 1, got 0'],
    [['a', 'a'], [], 'members: expected each once, got a twice'],
    [['a'], ['a'], 'members: expected each once, got a twice'],
    [['a', ''], [], 'members: expected node ids, got empty text'],
  ])('members %o with learners %o: %s', (voters, learners, problem) => {
    expect(membersProblem(voters, learners)).toBe(problem)
  })

  it('members: bounded in number', () => {
    const ids = Array.from({ length: maxMembers }, (_, position) => `n${position}`)
    expect(membersProblem(ids, [])).toBeUndefined()
    expect(membersProblem(ids, ['one-more'])).toContain(`at most ${maxMembers}`)
  })

  it('shortfall: names each half, its count, and who is missing', () => {
    const joint = towards(simple('a', 'b', 'c'), { voters: ['a', 'd'], learners: [] })
    expect(quorumShortfall(joint, id => id === 'a' || id === 'd' || id === 'b')).toBeUndefined()
    expect(quorumShortfall(joint, id => id === 'a' || id === 'b')).toBe(
      'voters: expected 2 of 2 in step, got 1 (not in step: d)',
    )
    expect(quorumShortfall(joint, id => id === 'a')).toBe(
      'voters: expected 2 of 2 in step, got 1 (not in step: d); ' +
        'outgoing voters: expected 2 of 3 in step, got 1 (not in step: b, c)',
    )
  })

  it('history: a cut log takes configurations back with it, but never the base', () => {
    const history = new ConfigurationHistory({ index: 4, configuration: simple('a') })
    history.append({ index: 6, configuration: simple('a', 'b') })
    history.append({ index: 9, configuration: simple('b') })
    history.truncateAfter(8)
    expect(history.latest).toEqual({ index: 6, configuration: simple('a', 'b') })
    history.truncateAfter(0)
    expect(history.latest.index).toBe(4)
  })

  it('history: forgets what is below the committed configuration', () => {
    const history = new ConfigurationHistory({ index: 0, configuration: simple('a') })
    history.append({ index: 3, configuration: simple('b') })
    history.append({ index: 5, configuration: simple('c') })
    history.forgetBefore(4)
    history.truncateAfter(4)
    expect(history.latest.index).toBe(3)
    history.truncateAfter(0)
    expect(history.latest.index).toBe(3)
  })
})
