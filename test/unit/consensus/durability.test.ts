import { describe, expect, it } from 'vitest'
import { maxBytesPerMessage, maxEntriesPerMessage } from '../../../consensus/message-check.ts'
import { command, effectsOf, electionTimeoutTicks, logOf, Server, sendsOf, simple } from './server.ts'

/** The token of the last persist among effects. */
function tokenOf(effects: Parameters<typeof effectsOf>[0]): number | undefined {
  return effectsOf(effects, 'persist').at(-1)?.token
}

describe('what must be durable before what (Figure 2, "before responding to RPCs")', () => {
  it('a vote waits for its own write', () => {
    const effects = new Server().requestVote('b', {})
    expect(effectsOf(effects, 'persist')).toMatchObject([{ hardState: { currentTerm: 1, votedFor: 'b' } }])
    expect(sendsOf(effects, 'vote')[0]?.after).toBe(tokenOf(effects))
  })

  it('a vote that is given again waits as long as the first one does', () => {
    const server = new Server()
    const token = tokenOf(server.requestVote('b', {}))
    expect(sendsOf(server.requestVote('b', {}), 'vote')[0]?.after).toBe(token)
    server.durable()
    expect(sendsOf(server.requestVote('b', {}), 'vote')[0]?.after).toBeUndefined()
  })

  it('a request for votes waits for the vote for oneself; a pre-vote waits for nothing', () => {
    const server = new Server()
    for (const { after } of sendsOf(server.ticks(electionTimeoutTicks), 'request-vote')) {
      expect(after).toBeUndefined()
    }
    const effects = server.vote('b', { preVote: true, term: 1 })
    expect(sendsOf(effects, 'request-vote').map(({ after }) => after)).toEqual([
      tokenOf(effects),
      tokenOf(effects),
    ])
  })

  it('an acknowledgement waits for the entries it covers', () => {
    const server = new Server()
    const effects = server.append('b', { term: 1, entries: logOf(1, 1) })
    expect(effectsOf(effects, 'persist')).toHaveLength(1)
    expect(sendsOf(effects, 'append-response')[0]?.after).toBe(tokenOf(effects))
  })

  it('a repeated append is acknowledged no sooner than the first', () => {
    const server = new Server()
    const token = tokenOf(server.append('b', { term: 1, entries: logOf(1, 1) }))
    const again = sendsOf(server.append('b', { term: 1, entries: logOf(1, 1) }), 'append-response')
    expect(again[0]?.after).toBe(token)
  })

  it('an acknowledgement of what is durable waits for nothing, though later entries are being written', () => {
    const server = new Server()
    server.append('b', { term: 1, entries: logOf(1) })
    server.durable()
    server.append('b', { term: 1, prevLogIndex: 1, prevLogTerm: 1, entries: [command(2, 1)] })
    const heartbeat = server.append('b', { term: 1, prevLogIndex: 1, prevLogTerm: 1 })
    expect(sendsOf(heartbeat, 'append-response')[0]?.after).toBeUndefined()
  })

  it('entries in place of others are not durable because those were', () => {
    const server = new Server({ entries: logOf(1, 1, 1) })
    const effects = server.append('b', { term: 2, entries: [command(1, 2)] })
    expect(sendsOf(effects, 'append-response')[0]?.after).toBe(tokenOf(effects))
    expect(server.status.persistedIndex).toBe(0)
    server.durable()
    expect(server.status.persistedIndex).toBe(1)
  })

  it('a write that was overtaken by a cut does not make the new entries durable', () => {
    const server = new Server()
    const first = tokenOf(server.append('b', { term: 1, entries: logOf(1, 1, 1) }))
    server.append('c', { term: 2, entries: [command(1, 2), command(2, 2)] })
    server.step({ type: 'persisted', token: first ?? 0 })
    expect(server.status.persistedIndex).toBe(0)
    server.durable()
    expect(server.status.persistedIndex).toBe(2)
  })

  it('committed entries are handed out only when they are durable here, each once', () => {
    const server = new Server()
    const arrived = server.append('b', { term: 1, entries: logOf(1, 1), leaderCommit: 2 })
    expect(effectsOf(arrived, 'commit')).toEqual([])
    const [commit] = effectsOf(server.durable(), 'commit')
    expect(commit?.entries.map(({ index }) => index)).toEqual([1, 2])
    expect(
      effectsOf(server.append('b', { term: 1, entries: logOf(1, 1), leaderCommit: 2 }), 'commit'),
    ).toEqual([])
  })

  it('a persist comes before the effects that speak of it', () => {
    const effects = new Server().append('b', { term: 1, entries: logOf(1) })
    expect(effects[0]?.type).toBe('persist')
  })
})

describe('a disk that is slow', () => {
  /** A follower whose write of entry 1 is under way, in a term that is durable. */
  function slow(): Server {
    const server = new Server()
    server.append('b', { term: 1 })
    server.durable()
    server.append('b', { entries: [command(1, 1)] })
    return server
  }

  it('a follower says at once that it hears its leader, and which round; its answer waits', () => {
    const effects = slow().append('b', { prevLogIndex: 1, prevLogTerm: 1, readContext: 3 })
    expect(sendsOf(effects, 'heard')).toEqual([
      { type: 'send', to: 'b', message: { type: 'heard', from: 'a', term: 1, readContext: 3 } },
    ])
    expect(sendsOf(effects, 'append-response')).toMatchObject([{ after: 2, message: { matchIndex: 1 } }])
  })

  it('who meets an idle disk, or has the entries already, answers and says nothing besides', () => {
    const server = new Server()
    server.append('b', { term: 1 })
    server.durable()
    expect(sendsOf(server.append('b', { entries: [command(1, 1)] }), 'heard')).toEqual([])
    const older = server.append('b', { readContext: 1 })
    expect(sendsOf(older, 'heard')).toEqual([])
    expect(sendsOf(older, 'append-response').map(({ after }) => after)).toEqual([undefined])
  })

  it('nothing is said in a term that is not durable yet: whoever restarts may never have been in it', () => {
    const server = slow()
    const behind = { prevLogIndex: 1, prevLogTerm: 1 }
    expect(sendsOf(server.append('c', { ...behind, term: 2 }), 'heard')).toEqual([])
    expect(sendsOf(server.append('c', behind), 'heard')).toEqual([])
    server.durable()
    server.append('c', { ...behind, entries: [command(2, 2)] })
    expect(sendsOf(server.append('c', { prevLogIndex: 2, prevLogTerm: 2 }), 'heard')).toHaveLength(1)
  })
})

describe('a disk that refuses', () => {
  it('a leader steps down, names a successor, and takes part in nothing more', () => {
    const server = new Server()
    server.becomeLeader()
    server.answer('b', { matchIndex: 1 })
    server.propose('x')
    const effects = server.step({ type: 'persist-failed' })
    expect(server.status).toMatchObject({ role: 'follower', failed: true })
    expect(sendsOf(effects, 'timeout-now').map(({ to }) => to)).toEqual(['b'])
    expect(effectsOf(server.propose('y'), 'refused')).toMatchObject([{ reason: 'not-leader' }])
    expect(effectsOf(server.step({ type: 'read', context: 1 }), 'read-refused')).toHaveLength(1)
    expect(server.requestVote('c', { term: 9, lastLogIndex: 9, lastLogTerm: 8 })).toEqual([])
    expect(server.append('c', { term: 9 })).toEqual([])
    expect(server.ticks(100)).toEqual([])
  })
})

describe('restart (Figure 2, persistent state)', () => {
  const recovered = {
    hardState: { currentTerm: 4, votedFor: 'b' },
    before: { index: 2, term: 1 },
    entries: [command(3, 2), command(4, 4)],
    applied: 3,
  }

  it('goes on with term, vote and log; what was applied is not handed out again', () => {
    const server = new Server({ recovered })
    expect(server.status).toMatchObject({ currentTerm: 4, votedFor: 'b', lastLogIndex: 4, commitIndex: 3 })
    const effects = server.append('c', { term: 5, prevLogIndex: 4, prevLogTerm: 4, leaderCommit: 4 })
    server.durable()
    expect(effectsOf(effects, 'commit').map(({ entries }) => entries.map(({ index }) => index))).toEqual([
      [4],
    ])
  })

  it('the configuration in force is the last one in the log', () => {
    const configuration = { ...simple('a', 'b'), learners: ['c'] }
    const entry = { index: 5, term: 4, type: 'configuration', data: new Uint8Array(), configuration } as const
    const server = new Server({ recovered: { ...recovered, entries: [...recovered.entries, entry] } })
    expect(server.status).toMatchObject({ configuration, configurationIndex: 5 })
  })

  it.each([
    ['entries with a gap', { entries: [command(4, 4)] }],
    ['a term that decreases', { entries: [command(3, 4), command(4, 2)] }],
    ['applied past the log', { applied: 9 }],
    ['applied before the entries', { applied: 1 }],
    ['a term older than the log', { hardState: { currentTerm: 1, votedFor: null } }],
  ])('refuses to start from %s', (_, wrong) => {
    expect(() => new Server({ recovered: { ...recovered, ...wrong } })).toThrow('assertion failed')
  })

  it('refuses to start with limits that cannot work', () => {
    expect(() => new Server({ config: { heartbeatTicks: 6 } })).toThrow('electionTimeoutTicks')
    expect(() => new Server({ config: { maxBytesPerAppend: 0 } })).toThrow(
      'maxBytesPerAppend: expected a positive',
    )
    expect(() => new Server({ config: { maxBytesPerAppend: maxBytesPerMessage + 1 } })).toThrow(
      'maxBytesPerAppend: expected at most',
    )
    expect(() => new Server({ config: { maxEntriesPerAppend: maxEntriesPerMessage + 1 } })).toThrow(
      'maxEntriesPerAppend: expected at most',
    )
  })
})
