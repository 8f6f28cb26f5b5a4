import { describe, expect, it } from 'vitest'
import { maxMembers } from '../../../consensus/configuration.ts'
import type { Effect, NodeId } from '../../../consensus/types.ts'
import { command, effectsOf, electionTimeoutTicks, Server, sendsOf, simple } from './server.ts'

type Options = ConstructorParameters<typeof Server>[0]

/** A leader with a committed no-op whose followers are all in step. */
function leaderOf(
  configuration = simple('a', 'b', 'c'),
  config: NonNullable<Options>['config'] = {},
): Server {
  const server = new Server({ configuration, config })
  server.becomeLeader()
  everybodyHolds(server)
  return server
}

/** All followers but the silent ones acknowledge the whole log, and the leader's write is done. */
function everybodyHolds(server: Server, ...silent: NodeId[]): Effect[] {
  const effects = server.durable()
  const matchIndex = server.status.lastLogIndex
  for (const id of server.status.followers.keys()) {
    if (!silent.includes(id)) effects.push(...server.answer(id, { matchIndex }))
  }
  return effects
}

function change(server: Server, voters: NodeId[], learners: NodeId[] = []): Effect[] {
  return server.step({ type: 'change-membership', voters, learners, context: 5 })
}

function reasons(effects: readonly Effect[]): string[] {
  return effectsOf(effects, 'refused').map(({ reason }) => reason)
}

const joint = { voters: ['a', 'b', 'd'], votersOutgoing: ['a', 'b', 'c'], learners: [] }

describe('joint consensus (§6)', () => {
  it('a configuration is in force as soon as it is in the log', () => {
    const server = leaderOf()
    const effects = change(server, ['a', 'b', 'd'])
    expect(effectsOf(effects, 'configuration')).toMatchObject([{ configuration: joint, index: 2 }])
    expect(effectsOf(effects, 'proposed')).toMatchObject([{ context: 5, firstIndex: 2, lastIndex: 2 }])
    expect(sendsOf(effects, 'append-entries').map(({ to }) => to)).toEqual(['b', 'c', 'd'])
    expect(server.status.configuration).toEqual(joint)
  })

  it('agreement needs a majority of both configurations', () => {
    const server = leaderOf(simple('a', 'b', 'c'))
    change(server, ['a', 'd', 'b'])
    server.durable()
    server.answer('c', { matchIndex: 2 })
    expect(server.status.commitIndex).toBe(1)
    server.answer('d', { matchIndex: 2 })
    expect(server.status.commitIndex).toBe(2)
  })

  it('an election in joint consensus needs both majorities', () => {
    const server = new Server({
      configuration: { voters: ['a', 'd', 'e'], votersOutgoing: ['a', 'b', 'c'], learners: [] },
      config: { preVote: false },
    })
    server.ticks(electionTimeoutTicks)
    server.durable()
    server.vote('b')
    server.vote('c')
    expect(server.status.role).toBe('candidate')
    server.vote('e')
    expect(server.status.role).toBe('leader')
  })

  it('leaving is a separate input, once the joint configuration is committed', () => {
    const server = leaderOf()
    change(server, ['a', 'b', 'd'])
    expect(reasons(server.step({ type: 'leave-joint', context: 6 }))).toEqual(['change-in-progress'])
    everybodyHolds(server)
    const effects = server.step({ type: 'leave-joint', context: 6 })
    expect(effectsOf(effects, 'configuration')).toMatchObject([{ configuration: simple('a', 'b', 'd') }])
    everybodyHolds(server)
    expect([...server.status.followers.keys()]).toEqual(['b', 'd'])
    expect(reasons(server.step({ type: 'leave-joint', context: 7 }))).toEqual(['not-joint'])
  })

  it('a change can be taken back: joint consensus is left for the outgoing voters', () => {
    const server = leaderOf()
    change(server, ['a', 'b', 'd'], ['e'])
    everybodyHolds(server)
    server.step({ type: 'leave-joint', abandon: true, context: 6 })
    expect(server.status.configuration).toEqual({
      voters: ['a', 'b', 'c'],
      votersOutgoing: [],
      learners: ['e', 'd'],
    })
    everybodyHolds(server)
    expect([...server.status.followers.keys()]).toEqual(['b', 'c', 'd', 'e'])
  })

  it('leaving happens by itself if so configured', () => {
    const server = leaderOf(simple('a', 'b', 'c'), { autoLeaveJoint: true })
    change(server, ['a', 'b', 'd'])
    everybodyHolds(server)
    expect(server.status.configuration).toEqual(simple('a', 'b', 'd'))
  })

  it('a new leader that finds joint consensus can leave it', () => {
    const entry = {
      index: 1,
      term: 1,
      type: 'configuration',
      data: new Uint8Array(),
      configuration: joint,
    } as const
    const server = new Server({ entries: [entry] })
    server.becomeLeader()
    expect(reasons(server.step({ type: 'leave-joint', context: 6 }))).toEqual(['change-in-progress'])
    everybodyHolds(server)
    server.step({ type: 'leave-joint', context: 6 })
    expect(server.status.configuration).toEqual(simple('a', 'b', 'd'))
  })

  it('a cut log takes its configuration back', () => {
    const configuration = simple('a', 'z')
    const entry = { index: 1, term: 1, type: 'configuration', data: new Uint8Array(), configuration } as const
    const server = new Server({ entries: [entry] })
    expect(server.status.configuration).toEqual(configuration)
    const effects = server.append('b', { term: 2, entries: [command(1, 2)] })
    expect(effectsOf(effects, 'configuration')).toMatchObject([
      { configuration: simple('a', 'b', 'c'), index: 0 },
    ])
  })
})

describe('which changes are taken (§6; thesis §4.1 and §4.3)', () => {
  it('a dead voter is replaced in one step', () => {
    const server = leaderOf()
    for (let round = 0; round < 30; round += 1) {
      server.ticks(1)
      server.answer('b', { matchIndex: 1 })
    }
    expect(reasons(change(server, ['a', 'b', 'd']))).toEqual([])
    everybodyHolds(server, 'c', 'd')
    expect(server.status.commitIndex).toBe(2)
  })

  it('a change that would lose the quorum is refused, with the count', () => {
    const server = leaderOf()
    const [refused] = effectsOf(change(server, ['a', 'd', 'e']), 'refused')
    expect(refused).toMatchObject({ context: 5, reason: 'would-lose-quorum' })
    expect(refused?.detail).toBe('voters: expected 2 of 3 in step, got 1 (not in step: d, e)')
    expect(server.status.lastLogIndex).toBe(1)
  })

  it('a voter that has fallen silent does not count towards the quorum of a change', () => {
    const server = leaderOf()
    for (let round = 0; round < 30; round += 1) {
      server.ticks(1)
      server.answer('b', { matchIndex: 1 })
    }
    expect(effectsOf(change(server, ['a', 'c']), 'refused')[0]?.detail).toContain('not in step: c')
  })

  it('a voter whose disk does not keep up is heard, and does not count towards the quorum of a change', () => {
    const server = leaderOf()
    for (let round = 0; round < 30; round += 1) {
      server.ticks(1)
      server.answer('b', { matchIndex: 1 })
      server.receive({ type: 'heard', from: 'c', term: 1, readContext: 0 })
    }
    expect(effectsOf(change(server, ['a', 'c']), 'refused')[0]?.detail).toContain('not in step: c')
    expect(server.status.followers.get('c')?.silentTicks).toBe(30)
  })

  it('a learner that is in step may become a voter', () => {
    const server = leaderOf()
    change(server, ['a', 'b', 'c'], ['d'])
    everybodyHolds(server)
    expect(server.status.configuration.learners).toEqual(['d'])
    expect(reasons(change(server, ['a', 'd']))).toEqual([])
  })

  it('one change at a time', () => {
    const server = leaderOf()
    change(server, ['a', 'b', 'c'], ['d'])
    expect(reasons(change(server, ['a', 'b', 'c'], ['e']))).toEqual(['change-in-progress'])
    everybodyHolds(server)
    change(server, ['a', 'b', 'd'])
    everybodyHolds(server)
    expect(reasons(change(server, ['a', 'b', 'c']))).toEqual(['change-in-progress'])
  })

  it('no change before an entry of the own term is committed', () => {
    const server = new Server()
    server.becomeLeader()
    expect(reasons(change(server, ['a', 'b', 'c'], ['d']))).toEqual(['change-in-progress'])
  })

  it('impossible members are refused', () => {
    expect(reasons(change(leaderOf(), []))).toEqual(['invalid-members'])
    expect(reasons(change(leaderOf(), ['a', 'b'], ['b']))).toEqual(['invalid-members'])
  })

  it('a change that could not be taken back is refused: old voters and new members have to fit together', () => {
    const learners = Array.from({ length: maxMembers - 3 }, (_, place) => `learner ${place}`)
    const effects = change(leaderOf(), ['a', 'b', 'd'], learners)
    expect(effectsOf(effects, 'refused')).toMatchObject([
      {
        reason: 'invalid-members',
        detail: `abandoned, members: expected at most ${maxMembers}, got ${maxMembers + 1}`,
      },
    ])
    expect(reasons(change(leaderOf(), ['a', 'b', 'd'], learners.slice(1)))).toEqual([])
  })

  it('only a leader changes members', () => {
    expect(reasons(change(new Server(), ['a']))).toEqual(['not-leader'])
  })
})

describe('learners and removed servers (§6; thesis §4.2)', () => {
  it('a learner gets the log and does not count', () => {
    const server = leaderOf({ voters: ['a', 'b', 'c'], votersOutgoing: [], learners: ['d'] })
    const effects = server.propose('x')
    expect(sendsOf(effects, 'append-entries').map(({ to }) => to)).toEqual(['b', 'c', 'd'])
    server.durable()
    server.answer('d', { matchIndex: 2 })
    expect(server.status.commitIndex).toBe(1)
  })

  it('a learner never stands for election, even when told to', () => {
    const server = new Server({ configuration: { ...simple('b', 'c'), learners: ['a'] } })
    expect(server.ticks(50)).toEqual([])
    server.append('b', { term: 1 })
    server.receive({ type: 'timeout-now', from: 'b', term: 1 })
    expect(server.status.role).toBe('follower')
  })

  it('a leader that is removed manages the cluster until that is committed, then steps down', () => {
    const server = leaderOf()
    change(server, ['b', 'c'])
    everybodyHolds(server)
    server.step({ type: 'leave-joint', context: 6 })
    server.durable()
    server.answer('b', { matchIndex: 3 })
    expect(server.status.role).toBe('leader')
    const effects = server.answer('c', { matchIndex: 3 })
    expect(server.status).toMatchObject({ role: 'follower', commitIndex: 3 })
    expect(sendsOf(effects, 'append-entries').map(({ message }) => message.leaderCommit)).toEqual([3, 3])
    expect(sendsOf(effects, 'timeout-now')).toHaveLength(1)
    expect(server.ticks(50)).toEqual([])
  })

  it('a server whose removal is not committed may still be needed, and stands for election (thesis §4.2.2)', () => {
    const entries = [
      { index: 1, term: 1, type: 'configuration', data: new Uint8Array(), configuration: simple('b') },
    ] as const
    const server = new Server({ entries })
    server.ticks(electionTimeoutTicks)
    server.vote('b', { preVote: true, term: 2 })
    server.durable()
    server.vote('b')
    expect(server.status.role).toBe('leader')
  })
})
