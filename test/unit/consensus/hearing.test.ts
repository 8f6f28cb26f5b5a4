/** Who is heard: voters may ask, answers come from whom one asks, and a learner deposes nobody twice. */
import { describe, expect, it } from 'vitest'
import { maxTermLead } from '../../../consensus/message-check.ts'
import type { Configuration, Entry, Message } from '../../../consensus/types.ts'
import { command, electionTimeoutTicks, logOf, Server } from './server.ts'

const withLearner: Configuration = { voters: ['a', 'b', 'c'], votersOutgoing: [], learners: ['d'] }
const snapshot = { lastIncludedIndex: 9, lastIncludedTerm: 1, configuration: withLearner }
const onlyEvil: Entry = {
  index: 2,
  term: 1,
  type: 'configuration',
  data: new Uint8Array(),
  configuration: { voters: ['d'], votersOutgoing: [], learners: [] },
}

function follower(): Server {
  const server = new Server({ configuration: withLearner, entries: logOf(1) })
  server.step({ type: 'known-voters', ids: ['a', 'b', 'c'] })
  return server
}

/** What only a voter may say, from `from`, in a newer term. */
function questions(from: string, term: number): Message[] {
  const place = { from, term, prevLogIndex: 1, prevLogTerm: 1, leaderCommit: 2, readContext: 0 }
  const vote = { type: 'request-vote' as const, from, lastLogIndex: 9, lastLogTerm: 1 }
  return [
    { type: 'append-entries', ...place, entries: [onlyEvil] },
    { type: 'append-entries', ...place, entries: [command(2, 1)] },
    { ...vote, term, preVote: false, leadershipTransfer: true },
    { ...vote, term, preVote: true, leadershipTransfer: false },
    { type: 'install-snapshot', from, term, snapshot },
    { type: 'timeout-now', from, term },
  ]
}

describe('who asks', () => {
  it.each(['d', 'stranger'])('%s is no voter: nothing happens, and nothing is answered', from => {
    const server = follower()
    const before = server.status
    for (const term of [2, maxTermLead])
      for (const message of questions(from, term)) expect(server.receive(message)).toEqual([])
    expect(server.status).toEqual(before)
  })

  it('a voter of either half of a joint configuration is heard', () => {
    for (const from of ['b', 'e']) {
      const configuration = { voters: ['a', 'e'], votersOutgoing: ['a', 'b'], learners: [] }
      const server = new Server({ configuration })
      server.step({ type: 'known-voters', ids: [] })
      server.append(from, { term: 2 })
      expect(server.status.leader).toBe(from)
    }
  })

  it('a voter that the driver knows is heard, and no longer once it is not known any more', () => {
    const server = follower()
    server.step({ type: 'known-voters', ids: ['e'] })
    server.append('e', { term: 2 })
    expect(server.status).toMatchObject({ leader: 'e', currentTerm: 2 })
    server.step({ type: 'known-voters', ids: ['a', 'b', 'c'] })
    server.append('e', { term: 3 })
    expect(server.status.currentTerm).toBe(2)
  })
})

describe('who answers', () => {
  const response = (from: string, term: number): Message => ({
    type: 'append-response',
    from,
    term,
    success: false,
    prevLogIndex: 0,
    matchIndex: 0,
    conflictIndex: 0,
    conflictTerm: 0,
    readContext: 0,
    full: false,
  })

  function leader(): Server {
    const server = follower()
    server.ticks(electionTimeoutTicks)
    server.vote('b', { term: 2, preVote: true })
    server.durable()
    server.vote('b')
    expect(server.status.role).toBe('leader')
    return server
  }

  it('a follower asks nobody: newer terms in answers change nothing', () => {
    const server = follower()
    for (const from of ['b', 'd', 'stranger']) {
      server.receive(response(from, 7))
      server.vote(from, { term: 7, voteGranted: false })
    }
    expect(server.status.currentTerm).toBe(1)
  })

  it('a voter with a newer term deposes a leader', () => {
    const server = leader()
    server.receive(response('b', 7))
    expect(server.status).toMatchObject({ role: 'follower', currentTerm: 7 })
  })

  it('a learner with a newer term is followed, but not again within 120 election timeouts', () => {
    const server = leader()
    server.receive(response('d', 7))
    expect(server.status).toMatchObject({ role: 'follower', currentTerm: 7 })
    server.ticks(electionTimeoutTicks)
    server.vote('b', { term: 8, preVote: true })
    server.durable()
    server.vote('b')
    expect(server.status).toMatchObject({ role: 'leader', currentTerm: 8 })
    server.receive(response('d', 20))
    expect(server.status).toMatchObject({ role: 'leader', currentTerm: 8 })
    for (let tick = 0; tick < 120 * electionTimeoutTicks; tick++) {
      server.ticks(1)
      server.answer('b', { matchIndex: 0 })
    }
    server.receive(response('d', 20))
    expect(server.status).toMatchObject({ role: 'follower', currentTerm: 20 })
  })
})
