import { describe, expect, it } from 'vitest'
import type { Effect, NodeId } from '../../../consensus/types.ts'
import { command, effectsOf, electionTimeoutTicks, Server, sendsOf, simple } from './server.ts'

/** Its no-op is committed, at 1. */
function leaderOf(...others: NodeId[]): Server {
  const server = new Server({ configuration: simple('a', ...others) })
  server.becomeLeader()
  holds(server, ...others)
  return server
}

/** These acknowledge the whole log, and the leader's write is done. */
function holds(server: Server, ...ids: NodeId[]): Effect[] {
  const matchIndex = server.status.lastLogIndex
  return [...server.durable(), ...ids.flatMap(id => server.answer(id, { matchIndex }))]
}

/** a leads a, b, c; c is left out by entry 3, by way of joint consensus, and a majority does not hold that yet. */
function removing(): { server: Server; effects: Effect[] } {
  const server = leaderOf('b', 'c')
  server.step({ type: 'change-membership', voters: ['a', 'b'], learners: [], context: 5 })
  holds(server, 'b', 'c')
  const effects = server.step({ type: 'leave-joint', context: 6 })
  return { server, effects }
}

/** The same, committed. */
function removed(): { server: Server; effects: Effect[] } {
  const { server } = removing()
  return { server, effects: holds(server, 'b') }
}

const appendsTo = (effects: readonly Effect[], id: NodeId) =>
  sendsOf(effects, 'append-entries').flatMap(({ to, message }) => (to === id ? [message] : []))

describe('members that are left out (§6, "disruptive servers")', () => {
  it('get the entry that removes them, and that it is committed', () => {
    const { server, effects } = removing()
    expect([...server.status.followers.keys()]).toEqual(['b'])
    expect(server.status.departing).toEqual(['c'])
    expect(effectsOf(effects, 'departing')).toEqual([{ type: 'departing', members: ['c'] }])
    expect(appendsTo(effects, 'c')).toMatchObject([
      { prevLogIndex: 2, entries: [{ index: 3, configuration: simple('a', 'b') }], leaderCommit: 2 },
    ])
    expect(appendsTo(holds(server, 'b'), 'c')).toMatchObject([
      { prevLogIndex: 3, entries: [], leaderCommit: 3 },
    ])
  })

  it('a learner as well, which goes in one step', () => {
    const server = leaderOf('b')
    server.step({ type: 'change-membership', voters: ['a', 'b'], learners: ['d'], context: 5 })
    holds(server, 'b', 'd')
    const effects = server.step({ type: 'change-membership', voters: ['a', 'b'], learners: [], context: 6 })
    expect(appendsTo(effects, 'd')).toMatchObject([{ prevLogIndex: 2, entries: [{ index: 3 }] }])
    expect(server.status.departing).toEqual(['d'])
  })

  it('get nothing behind it, however far the log goes on', () => {
    const { server } = removed()
    for (let round = 0; round < electionTimeoutTicks; round += 1) {
      const effects = [...server.propose(`${round}`), ...holds(server, 'b'), ...server.ticks(1)]
      for (const { prevLogIndex, entries, leaderCommit } of appendsTo(effects, 'c')) {
        expect(prevLogIndex + entries.length).toBeLessThanOrEqual(3)
        expect(leaderCommit).toBe(3)
      }
    }
    expect(server.status.commitIndex).toBe(3 + electionTimeoutTicks)
  })

  it('are let go when they have acknowledged both; an answer to what was sent before the commit is not that', () => {
    const { server, effects } = removed()
    const [notice] = appendsTo(effects, 'c')
    expect(server.answer('c', { matchIndex: 3, readContext: notice!.readContext - 1 })).toEqual([])
    expect(server.answer('c', { matchIndex: 2, readContext: notice!.readContext })).toEqual([])
    expect(server.status.departing).toEqual(['c'])
    const last = server.answer('c', { matchIndex: 3, readContext: notice!.readContext })
    expect(last).toEqual([{ type: 'departing', members: [] }])
    expect(appendsTo(server.ticks(3), 'c')).toEqual([])
  })

  it('are let go three election timeouts after the commit, and not before it', () => {
    const { server } = removing()
    const pass = (ticks: number) => {
      for (let tick = 0; tick < ticks; tick += 1) {
        server.ticks(1)
        server.answer('b', { matchIndex: 2 })
      }
    }
    pass(5 * electionTimeoutTicks)
    expect(server.status.departing).toEqual(['c'])
    holds(server, 'b')
    pass(3 * electionTimeoutTicks)
    expect(server.status.departing).toEqual(['c'])
    pass(1)
    expect(server.status.departing).toEqual([])
  })

  it('what was lost is found by heartbeats', () => {
    const { server } = removed()
    expect(appendsTo(server.ticks(1), 'c')).toMatchObject([{ prevLogIndex: 3, entries: [], leaderCommit: 3 }])
    const lacks = { success: false, prevLogIndex: 3, conflictIndex: 2, conflictTerm: 1 }
    const again = { prevLogIndex: 2, entries: [{ index: 3 }], leaderCommit: 3 }
    expect(appendsTo(server.answer('c', lacks), 'c')).toMatchObject([again])
    expect(appendsTo(server.step({ type: 'unreachable', peer: 'c' }), 'c')).toMatchObject([])
    expect(appendsTo(server.ticks(1), 'c')).toHaveLength(1)
  })

  it('count for nothing: no commitment, no read, no check-quorum, no term', () => {
    const { server } = removed()
    server.propose('x')
    server.durable()
    server.answer('c', { matchIndex: 4 })
    expect(server.status.commitIndex).toBe(3)
    server.step({ type: 'read', context: 9 })
    expect(effectsOf(server.answer('c', { matchIndex: 3, readContext: 2 }), 'read-ready')).toEqual([])
    server.answer('c', { term: 9 })
    expect(server.status).toMatchObject({ role: 'leader', currentTerm: 1 })
    for (let tick = 0; tick <= electionTimeoutTicks; tick += 1) {
      server.ticks(1)
      server.answer('c', { matchIndex: 2 })
    }
    expect(server.status.role).toBe('follower')
  })

  it('a round of reads that is out is confirmed as before', () => {
    const { server } = removing()
    const effects = server.step({ type: 'read', context: 9 })
    const { readContext } = appendsTo(effects, 'b')[0]!
    server.durable()
    const answers = server.answer('b', { matchIndex: 3, readContext })
    expect(effectsOf(answers, 'read-ready')).toMatchObject([{ context: 9, index: 2 }])
  })

  it('its place is remembered when memory has let go of the entry', () => {
    const server = new Server({ config: { maxLogBytesInMemory: 1 } })
    server.becomeLeader()
    holds(server, 'b', 'c')
    server.step({ type: 'change-membership', voters: ['a', 'b'], learners: [], context: 5 })
    holds(server, 'b', 'c')
    server.step({ type: 'leave-joint', context: 6 })
    holds(server, 'b')
    server.propose('x')
    holds(server, 'b')
    server.step({ type: 'applied', index: 4 })
    expect(appendsTo(server.ticks(1), 'c')).toMatchObject([{ prevLogIndex: 3, prevLogTerm: 1, entries: [] }])
  })

  it('who needs what is compacted is let go: a snapshot would bring it what is behind', () => {
    const { server } = removed()
    const configuration = simple('a', 'b')
    const tight = new Server({ config: { maxLogBytesInMemory: 1 } })
    tight.becomeLeader()
    holds(tight, 'b')
    tight.step({ type: 'change-membership', voters: ['a', 'b'], learners: [], context: 5 })
    holds(tight, 'b')
    tight.step({ type: 'leave-joint', context: 6 })
    holds(tight, 'b')
    tight.step({ type: 'applied', index: 3 })
    tight.answer('c', { success: false, prevLogIndex: 0, conflictIndex: 0 })
    const snapshot = { lastIncludedIndex: 3, lastIncludedTerm: 1, configuration }
    const effects = tight.step({ type: 'compacted', snapshot })
    expect(sendsOf(effects, 'install-snapshot').filter(({ to }) => to === 'c')).toEqual([])
    expect(tight.status.departing).toEqual([])
    expect(server.status.departing).toEqual(['c'])
  })

  it('who is a member again is one, from the start', () => {
    const { server } = removed()
    const effects = server.step({
      type: 'change-membership',
      voters: ['a', 'b'],
      learners: ['c'],
      context: 7,
    })
    expect(effectsOf(effects, 'departing')).toEqual([{ type: 'departing', members: [] }])
    expect(server.status.followers.get('c')).toMatchObject({ state: 'probe', matchIndex: 0 })
  })

  it('the end of a leadership is the end of it', () => {
    const { server } = removed()
    expect(effectsOf(server.append('b', { term: 2 }), 'departing')).toEqual([
      { type: 'departing', members: [] },
    ])
  })
})

describe('a later leader tells them as well', () => {
  const configured = (index: number, ...voters: NodeId[]) =>
    ({
      index,
      term: 1,
      type: 'configuration',
      data: new Uint8Array(),
      configuration: simple(...voters),
    }) as const

  it('of a removal that it finds in its log, committed or not', () => {
    const server = new Server({ entries: [configured(1, 'a', 'b')] })
    const effects = server.becomeLeader()
    expect(server.status.departing).toEqual(['c'])
    expect(appendsTo(effects, 'c')).toMatchObject([
      { prevLogIndex: 1, prevLogTerm: 1, entries: [], leaderCommit: 0 },
    ])
    const committed = server.answer('b', { matchIndex: 2 })
    expect(appendsTo(committed, 'c')).toMatchObject([{ prevLogIndex: 1, leaderCommit: 1 }])
  })

  it('of one that is applied: the leader before it may have removed itself, and gone', () => {
    const server = new Server()
    const entries = [configured(1, 'a', 'b'), command(2, 1)]
    server.append('c', { term: 1, entries, leaderCommit: 2 })
    server.durable()
    server.step({ type: 'applied', index: 2 })
    server.receive({ type: 'timeout-now', from: 'c', term: 1 })
    server.durable()
    const effects = server.vote('b')
    expect(server.status).toMatchObject({ role: 'leader', departing: ['c'] })
    expect(appendsTo(effects, 'c')).toMatchObject([
      { prevLogIndex: 1, entries: [], leaderCommit: 1, readContext: 1 },
    ])
    server.answer('c', { matchIndex: 1, readContext: 1 })
    expect(server.status.departing).toEqual([])
  })
})

describe('who is removed', () => {
  it('stands for no election once it knows that this is committed', () => {
    const server = new Server({ configuration: simple('a', 'b', 'c') })
    const configuration = simple('b', 'c')
    const entry = { index: 1, term: 1, type: 'configuration', data: new Uint8Array(), configuration } as const
    server.append('b', { term: 1, entries: [entry] })
    server.durable()
    expect(sendsOf(server.ticks(2 * electionTimeoutTicks), 'request-vote')).not.toEqual([])
    server.append('b', { term: 1, prevLogIndex: 1, prevLogTerm: 1, leaderCommit: 1 })
    expect(server.status).toMatchObject({ role: 'follower', commitIndex: 1 })
    expect(server.ticks(10 * electionTimeoutTicks)).toEqual([])
  })
})
