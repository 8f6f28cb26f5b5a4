import { describe, expect, it } from 'vitest'
import { maxTermLead } from '../../../consensus/message-check.ts'
import type { Effect } from '../../../consensus/types.ts'
import { effectsOf, electionTimeoutTicks, logOf, Server, sendsOf, simple } from './server.ts'

const noPreVote = { preVote: false }

function grants(effects: readonly Effect[]): boolean[] {
  return sendsOf(effects, 'vote').map(({ message }) => message.voteGranted)
}

describe('terms (§5.1)', () => {
  it('current terms are exchanged: a smaller one is raised to the larger value', () => {
    const server = new Server({ hardState: { currentTerm: 2, votedFor: 'a' } })
    const effects = server.append('b', { term: 5 })
    expect(server.status).toMatchObject({ currentTerm: 5, votedFor: null, leader: 'b' })
    expect(effectsOf(effects, 'persist')[0]?.hardState).toEqual({ currentTerm: 5, votedFor: null })
  })

  it.each(['candidate', 'leader'])('a %s that discovers a newer term reverts to follower state', role => {
    const server = new Server({ config: noPreVote })
    if (role === 'leader') server.becomeLeader()
    else server.ticks(electionTimeoutTicks)
    expect(server.status.role).toBe(role)
    server.append('b', { term: server.status.currentTerm + 1 })
    expect(server.status.role).toBe('follower')
  })

  it('a request with a stale term is rejected, and its sender learns the newer term', () => {
    const server = new Server({ hardState: { currentTerm: 4, votedFor: null } })
    const [refused] = sendsOf(server.append('b', { term: 3 }), 'append-response')
    expect(refused?.message).toMatchObject({ term: 4, success: false })
    const [vote] = sendsOf(server.requestVote('b', { term: 3, lastLogTerm: 2, lastLogIndex: 9 }), 'vote')
    expect(vote?.message).toMatchObject({ term: 4, voteGranted: false })
  })

  it('an answer from a stranger does not raise the term', () => {
    const server = new Server()
    server.becomeLeader()
    server.answer('z', { term: 99, success: false })
    expect(server.status).toMatchObject({ role: 'leader', currentTerm: 1 })
  })
})

describe('leader election (§5.2)', () => {
  it('servers start up as followers', () => {
    expect(new Server().status).toMatchObject({ role: 'follower', leader: null })
  })

  it('a follower that hears nothing over the election timeout begins an election', () => {
    const server = new Server({ config: noPreVote })
    expect(server.ticks(electionTimeoutTicks - 1)).toEqual([])
    const effects = server.ticks(1)
    expect(server.status).toMatchObject({ role: 'candidate', currentTerm: 1, votedFor: 'a' })
    expect(sendsOf(effects, 'request-vote').map(({ to }) => to)).toEqual(['b', 'c'])
  })

  it('heartbeats keep a follower from beginning an election', () => {
    const server = new Server()
    for (let round = 0; round < 5; round += 1) {
      server.ticks(electionTimeoutTicks - 1)
      server.append('b', { term: 1 })
    }
    expect(server.status).toMatchObject({ role: 'follower', leader: 'b' })
  })

  it('a candidate wins with the votes of a majority, and at once sends heartbeats', () => {
    const server = new Server({ configuration: simple('a', 'b', 'c', 'd', 'e'), config: noPreVote })
    server.ticks(electionTimeoutTicks)
    server.durable()
    server.vote('b')
    expect(server.status.role).toBe('candidate')
    const effects = server.vote('c')
    expect(server.status).toMatchObject({ role: 'leader', leader: 'a' })
    expect(sendsOf(effects, 'append-entries').map(({ to }) => to)).toEqual(['b', 'c', 'd', 'e'])
  })

  it("a candidate's own vote counts only once it is durable", () => {
    const server = new Server({ config: noPreVote })
    server.ticks(electionTimeoutTicks)
    server.vote('b')
    expect(server.status.role).toBe('candidate')
    server.durable()
    expect(server.status.role).toBe('leader')
  })

  it('an earlier write that completes does not make the own vote durable', () => {
    const server = new Server({ config: noPreVote })
    const [earlier] = effectsOf(server.append('b', { term: 1, entries: logOf(1) }), 'persist')
    server.ticks(electionTimeoutTicks)
    server.vote('c')
    server.step({ type: 'persisted', token: earlier!.token })
    expect(server.status.role).toBe('candidate')
    server.durable()
    expect(server.status.role).toBe('leader')
  })

  it('a vote of the same server counts once', () => {
    const server = new Server({ configuration: simple('a', 'b', 'c', 'd', 'e'), config: noPreVote })
    server.ticks(electionTimeoutTicks)
    server.durable()
    server.vote('b')
    server.vote('b')
    server.vote('z')
    expect(server.status.role).toBe('candidate')
  })

  it('each server votes for at most one candidate in a term, first come first served', () => {
    const server = new Server()
    expect(grants(server.requestVote('b', {}))).toEqual([true])
    expect(grants(server.requestVote('c', {}))).toEqual([false])
    expect(grants(server.requestVote('b', {}))).toEqual([true])
  })

  it('a vote survives a restart', () => {
    const server = new Server({ hardState: { currentTerm: 1, votedFor: 'b' } })
    expect(grants(server.requestVote('c', {}))).toEqual([false])
  })

  it('a candidate that hears a leader of its term returns to follower state, and keeps its vote', () => {
    const server = new Server({ config: noPreVote })
    server.ticks(electionTimeoutTicks)
    server.append('b', { term: 1 })
    expect(server.status).toMatchObject({ role: 'follower', leader: 'b', votedFor: 'a' })
    expect(grants(server.requestVote('c', { leadershipTransfer: true }))).toEqual([false])
  })

  it('a candidate that neither wins nor loses starts a new election with a higher term', () => {
    const server = new Server({ config: noPreVote })
    server.ticks(2 * electionTimeoutTicks)
    expect(server.status).toMatchObject({ role: 'candidate', currentTerm: 2 })
  })

  it('election timeouts are randomised between one and two times the configured one', () => {
    for (const [chance, ticks] of [
      [0, 10],
      [0.5, 15],
      [0.999, 19],
    ] as const) {
      const server = new Server({ random: () => chance })
      server.ticks(ticks - 1)
      expect(server.status.role).toBe('follower')
      server.ticks(1)
      expect(server.status.role).toBe('precandidate')
    }
  })

  it('a single server elects itself once its vote is durable', () => {
    const server = new Server({ configuration: simple('a') })
    server.ticks(electionTimeoutTicks)
    expect(server.status.role).toBe('candidate')
    server.durable()
    expect(server.status.role).toBe('leader')
    server.durable()
    expect(server.status.commitIndex).toBe(1)
  })

  it('a second leader of a term cannot be: its messages are ignored', () => {
    const server = new Server()
    server.append('b', { term: 1 })
    expect(server.append('c', { term: 1, entries: logOf(1) })).toEqual([])
    expect(server.status).toMatchObject({ leader: 'b', lastLogIndex: 0 })
  })
})

describe('election restriction (§5.4.1)', () => {
  const cases: [own: number[], lastLogIndex: number, lastLogTerm: number, granted: boolean][] = [
    [[], 0, 0, true],
    [[1], 0, 0, false],
    [[1], 1, 1, true],
    [[1], 2, 1, true],
    [[1, 1], 1, 1, false],
    [[1, 1], 1, 2, true],
    [[1, 2], 9, 1, false],
    [[1, 2], 2, 2, true],
  ]
  it.each(cases)(
    'log with terms %o, candidate ends at %i of term %i: granted is %s',
    (own, index, term, granted) => {
      for (const preVote of [false, true]) {
        const server = new Server({ entries: logOf(...own) })
        const effects = server.requestVote('b', { term: 3, lastLogIndex: index, lastLogTerm: term, preVote })
        expect(grants(effects)).toEqual([granted])
      }
    },
  )
})

describe('pre-vote (thesis §9.6)', () => {
  it('asking changes neither term nor vote, at either end', () => {
    const server = new Server({ hardState: { currentTerm: 3, votedFor: 'c' } })
    const effects = server.ticks(electionTimeoutTicks)
    expect(server.status).toMatchObject({ role: 'precandidate', currentTerm: 3, votedFor: 'c' })
    expect(sendsOf(effects, 'request-vote')[0]?.message).toMatchObject({ term: 4, preVote: true })
    expect(effectsOf(effects, 'persist')).toEqual([])

    const asked = new Server({ hardState: { currentTerm: 3, votedFor: 'c' } })
    expect(effectsOf(asked.requestVote('b', { term: 9, preVote: true }), 'persist')).toEqual([])
    expect(asked.status).toMatchObject({ currentTerm: 3, votedFor: 'c' })
  })

  it('a vote is never cleared within a term, whatever is asked and answered meanwhile', () => {
    const server = new Server({ hardState: { currentTerm: 3, votedFor: 'c' } })
    server.ticks(electionTimeoutTicks)
    server.vote('b', { preVote: true, voteGranted: false })
    server.vote('c', { preVote: true, voteGranted: false })
    expect(server.status).toMatchObject({ role: 'follower', currentTerm: 3, votedFor: 'c' })
    expect(grants(server.requestVote('b', { term: 3 }))).toEqual([false])
  })

  it('who would win raises its term; who would not stays', () => {
    const server = new Server()
    server.ticks(electionTimeoutTicks)
    server.vote('b', { preVote: true, term: 1 })
    expect(server.status).toMatchObject({ role: 'candidate', currentTerm: 1, votedFor: 'a' })

    const loser = new Server()
    loser.ticks(electionTimeoutTicks)
    loser.vote('b', { preVote: true, voteGranted: false })
    loser.vote('c', { preVote: true, voteGranted: false })
    expect(loser.status).toMatchObject({ role: 'follower', currentTerm: 0 })
  })

  it('a pre-vote does not count as a vote, nor a vote as a pre-vote', () => {
    const server = new Server({ config: noPreVote })
    server.ticks(electionTimeoutTicks)
    server.durable()
    server.vote('b', { preVote: true, term: 2 })
    expect(server.status).toMatchObject({ role: 'candidate', currentTerm: 1 })
    const asking = new Server()
    asking.ticks(electionTimeoutTicks)
    asking.vote('b', { term: 0 })
    expect(asking.status.role).toBe('precandidate')
  })

  it('a server with a longer log that has lost its leader too stands when it refuses, without waiting further', () => {
    const longer = new Server({ entries: logOf(1, 1), random: () => 0.99 })
    longer.ticks(electionTimeoutTicks)
    expect(longer.status.role).toBe('follower')
    const question = { term: 2, lastLogIndex: 1, lastLogTerm: 1, preVote: true }
    const effects = longer.requestVote('b', question)
    expect(grants(effects)).toEqual([false])
    expect(sendsOf(effects, 'request-vote')[0]?.message).toMatchObject({ term: 2, preVote: true })
    expect(longer.status).toMatchObject({ role: 'precandidate', currentTerm: 1 })
    // Its timer has begun anew: one question makes it stand once.
    expect(sendsOf(longer.requestVote('b', question), 'request-vote')).toEqual([])
  })

  it('it does not stand while it may still have a leader, nor for a question it may answer with yes', () => {
    const early = new Server({ entries: logOf(1, 1), random: () => 0.99 })
    early.ticks(electionTimeoutTicks - 1)
    early.requestVote('b', { term: 2, lastLogIndex: 1, lastLogTerm: 1, preVote: true })
    expect(early.status.role).toBe('follower')
    const equal = new Server({ entries: logOf(1, 1), random: () => 0.99 })
    equal.ticks(electionTimeoutTicks)
    equal.requestVote('b', { term: 2, lastLogIndex: 2, lastLogTerm: 1, preVote: true })
    expect(equal.status.role).toBe('follower')
    const five = new Server({
      entries: logOf(1, 1),
      random: () => 0.99,
      configuration: simple('a', 'b', 'c', 'd', 'e'),
    })
    five.ticks(electionTimeoutTicks)
    five.requestVote('b', { term: 2, lastLogIndex: 1, lastLogTerm: 1, preVote: true })
    expect(five.status.role).toBe('follower')
    const learner = new Server({
      entries: logOf(1, 1),
      random: () => 0.99,
      configuration: { voters: ['b', 'c'], votersOutgoing: [], learners: ['a'] },
    })
    learner.ticks(electionTimeoutTicks)
    learner.requestVote('b', { term: 2, lastLogIndex: 1, lastLogTerm: 1, preVote: true })
    expect(learner.status.role).toBe('follower')
  })

  it('a refusal with a newer term is learnt from', () => {
    const server = new Server()
    server.ticks(electionTimeoutTicks)
    server.vote('b', { preVote: true, voteGranted: false, term: 7 })
    expect(server.status).toMatchObject({ role: 'follower', currentTerm: 7, votedFor: null })
  })
})

describe('stickiness and check-quorum (§6; thesis §4.2.3 and §6.2)', () => {
  it('a server that hears a live leader ignores candidates', () => {
    const server = new Server()
    server.append('b', { term: 1 })
    server.ticks(electionTimeoutTicks - 1)
    expect(server.requestVote('c', { term: 9 })).toEqual([])
    expect(server.requestVote('c', { term: 9, preVote: true })).toEqual([])
    expect(server.status.currentTerm).toBe(1)
  })

  it('a leader that a quorum answers ignores candidates', () => {
    const server = new Server()
    server.becomeLeader()
    expect(server.requestVote('c', { term: 9, lastLogIndex: 9, lastLogTerm: 8 })).toEqual([])
    expect(server.status.role).toBe('leader')
  })

  it('a server whose connection to the leader broke has only the random part of its wait left', () => {
    const server = new Server({ random: () => 0.35 })
    server.append('b', { term: 1 })
    server.ticks(1)
    server.step({ type: 'unreachable', peer: 'c' })
    server.ticks(3)
    expect(server.status.role).toBe('follower')
    server.step({ type: 'unreachable', peer: 'b' })
    // The tenth tick counts as over; of ten random ones there are three.
    server.ticks(2)
    expect(server.status.role).toBe('follower')
    server.ticks(1)
    expect(server.status.role).toBe('precandidate')
  })

  it('a leader that is heard again after its connection broke is protected as before', () => {
    const server = new Server({ random: () => 0.35 })
    server.append('b', { term: 1 })
    server.step({ type: 'unreachable', peer: 'b' })
    expect(grants(server.requestVote('c', { term: 2, preVote: true }))).toEqual([true])
    server.append('b', { term: 1 })
    expect(server.requestVote('c', { term: 2, preVote: true })).toEqual([])
    server.ticks(electionTimeoutTicks)
    expect(server.status.role).toBe('follower')
  })

  it('a leader that no quorum answers for an election timeout steps down', () => {
    const server = new Server()
    server.becomeLeader()
    server.ticks(electionTimeoutTicks)
    expect(server.status.role).toBe('leader')
    server.ticks(1)
    expect(server.status).toMatchObject({ role: 'follower', leader: null, currentTerm: 1, votedFor: 'a' })
  })

  it('a leader that one of two followers answers stays', () => {
    const server = new Server()
    server.becomeLeader()
    for (let round = 0; round < 30; round += 1) {
      server.ticks(1)
      server.answer('b', { matchIndex: 1 })
    }
    expect(server.status.role).toBe('leader')
  })

  it('a leader that a quorum hears stays, whatever waits for their disks', () => {
    const server = new Server()
    server.becomeLeader()
    for (let round = 0; round < 30; round += 1) {
      server.ticks(1)
      server.receive({ type: 'heard', from: 'b', term: 1, readContext: 0 })
    }
    expect(server.status).toMatchObject({ role: 'leader', commitIndex: 0 })
  })

  it('a learner does not keep a leader in office', () => {
    const configuration = { voters: ['a', 'b', 'c'], votersOutgoing: [], learners: ['d'] }
    const server = new Server({ configuration })
    server.becomeLeader()
    for (let round = 0; round < 30; round += 1) {
      server.ticks(1)
      server.answer('d', { matchIndex: 1 })
    }
    expect(server.status.role).not.toBe('leader')
  })
})

describe('terms far ahead', () => {
  it('a term that nobody can have reached is not heard: it would use up all that there are', () => {
    const server = new Server()
    const far = maxTermLead + 1
    for (const term of [far, 2 ** 52]) {
      expect(server.append('b', { term })).toEqual([])
      expect(server.requestVote('b', { term })).toEqual([])
      expect(server.vote('b', { term, voteGranted: false })).toEqual([])
    }
    expect(server.status.currentTerm).toBe(0)
    server.append('b', { term: maxTermLead })
    expect(server.status.currentTerm).toBe(maxTermLead)
  })

  it('a certified header of a later term lets those be heard who are near it', () => {
    const server = new Server()
    const term = 5 * maxTermLead
    server.step({ type: 'certified', term })
    server.append('b', { term: term + maxTermLead + 1 })
    expect(server.status).toMatchObject({ currentTerm: 0, leader: null })
    server.append('b', { term: term + 1 })
    expect(server.status).toMatchObject({ currentTerm: term + 1, leader: 'b' })
  })
})
