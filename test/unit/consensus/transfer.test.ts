import { describe, expect, it } from 'vitest'
import { successorsOf } from '../../../consensus/status.ts'
import { effectsOf, electionTimeoutTicks, Server, sendsOf } from './server.ts'

function leader(): Server {
  const server = new Server()
  server.becomeLeader()
  server.answer('b', { matchIndex: 1 })
  server.answer('c', { matchIndex: 1 })
  return server
}

describe('leadership transfer (thesis §3.10)', () => {
  it('a target that holds the whole log is told to campaign at once', () => {
    const sends = sendsOf(leader().step({ type: 'transfer', to: 'b' }), 'timeout-now')
    expect(sends).toMatchObject([{ to: 'b', message: { from: 'a', term: 1 } }])
  })

  it('a target that lags is brought level first', () => {
    const server = leader()
    server.propose('x')
    expect(sendsOf(server.step({ type: 'transfer', to: 'b' }), 'timeout-now')).toEqual([])
    expect(sendsOf(server.answer('c', { matchIndex: 2 }), 'timeout-now')).toEqual([])
    expect(sendsOf(server.answer('b', { matchIndex: 2 }), 'timeout-now').map(({ to }) => to)).toEqual(['b'])
  })

  it('of the other voters the one with the longest log comes first, and one that is full last', () => {
    const server = leader()
    server.propose('x')
    server.answer('c', { matchIndex: 2 })
    expect(successorsOf(server.status).map(({ id }) => id)).toEqual(['c', 'b'])
    server.answer('c', { matchIndex: 2, full: true })
    expect(successorsOf(server.status)).toMatchObject([
      { id: 'b', isFull: false },
      { id: 'c', isFull: true },
    ])
  })

  it('meanwhile no proposal and no change is taken', () => {
    const server = leader()
    server.step({ type: 'transfer', to: 'b' })
    expect(effectsOf(server.propose('x'), 'refused')).toMatchObject([{ reason: 'transferring' }])
    const change = server.step({ type: 'change-membership', voters: ['a'], learners: [], context: 1 })
    expect(effectsOf(change, 'refused')).toMatchObject([{ reason: 'transferring' }])
  })

  it('is given up after an election timeout', () => {
    const server = leader()
    server.step({ type: 'transfer', to: 'b' })
    for (let round = 0; round < electionTimeoutTicks; round += 1) {
      server.ticks(1)
      server.answer('c', { matchIndex: 1 })
    }
    expect(server.status).toMatchObject({ role: 'leader', transferTo: null })
    expect(effectsOf(server.propose('x'), 'proposed')).toHaveLength(1)
  })

  it('goes to another voter only', () => {
    const server = leader()
    for (const to of ['a', 'z']) server.step({ type: 'transfer', to })
    expect(server.status.transferTo).toBeNull()
    expect(new Server().step({ type: 'transfer', to: 'b' })).toEqual([])
  })

  it('the target campaigns without asking first, and voters listen though their leader lives', () => {
    const target = new Server()
    target.append('b', { term: 1 })
    const effects = target.receive({ type: 'timeout-now', from: 'b', term: 1 })
    expect(target.status).toMatchObject({ role: 'candidate', currentTerm: 2 })
    expect(sendsOf(effects, 'request-vote')[0]?.message).toMatchObject({
      leadershipTransfer: true,
      preVote: false,
    })

    const voter = new Server()
    voter.append('b', { term: 1 })
    const [vote] = sendsOf(voter.requestVote('c', { term: 2, leadershipTransfer: true }), 'vote')
    expect(vote?.message.voteGranted).toBe(true)
  })

  it('only the leader of the term can send anybody into an election', () => {
    const server = new Server()
    server.append('b', { term: 1 })
    server.receive({ type: 'timeout-now', from: 'c', term: 1 })
    server.receive({ type: 'timeout-now', from: 'b', term: 9 })
    expect(server.status.role).toBe('follower')
  })
})
