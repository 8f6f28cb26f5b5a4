import { describe, expect, it } from 'vitest'
import type { SnapshotMeta } from '../../../consensus/types.ts'
import { command, effectsOf, electionTimeoutTicks, logOf, Server, sendsOf, simple } from './server.ts'

const snapshot: SnapshotMeta = {
  lastIncludedIndex: 10,
  lastIncludedTerm: 2,
  configuration: simple('a', 'b', 'd'),
}

function offer(server: Server, meta: SnapshotMeta = snapshot, from = 'b') {
  return server.receive({ type: 'install-snapshot', from, term: 3, snapshot: meta })
}

/** A leader of term 3 whose log in memory starts at 11, and whose follower b says that its log is empty. */
function leaderWithCompactedLog() {
  const server = new Server({
    recovered: {
      hardState: { currentTerm: 2, votedFor: null },
      snapshot: { ...snapshot, configuration: simple('a', 'b', 'c') },
      before: { index: 10, term: 2 },
      applied: 10,
    },
  })
  server.becomeLeader()
  const effects = server.answer('b', { success: false, prevLogIndex: 10, conflictIndex: 0 })
  expect(effectsOf(effects, 'load')).toMatchObject([{ from: 1 }])
  return { server, effects: server.step({ type: 'compacted', snapshot }) }
}

describe('snapshots, leader (§7)', () => {
  it('a follower that needs what is compacted is offered the snapshot', () => {
    const { server, effects } = leaderWithCompactedLog()
    expect(effectsOf(effects, 'send-snapshot')).toMatchObject([{ to: 'b' }])
    expect(sendsOf(effects, 'install-snapshot')).toMatchObject([{ to: 'b', message: { snapshot } }])
    expect(server.status.followers.get('b')?.state).toBe('snapshot')
  })

  it('meanwhile it gets heartbeats with the offer and no entries', () => {
    const { server } = leaderWithCompactedLog()
    expect(sendsOf(server.propose('x'), 'append-entries').filter(({ to }) => to === 'b')).toEqual([])
    const beat = server.ticks(1)
    expect(sendsOf(beat, 'install-snapshot').map(({ to }) => to)).toEqual(['b'])
    expect(sendsOf(beat, 'append-entries').map(({ message }) => message.entries)).toEqual([[], []])
  })

  it('its driver is told to keep the bytes with every heartbeat, while the follower answers', () => {
    const { server } = leaderWithCompactedLog()
    const askedAt: number[] = []
    for (let tick = 1; tick <= electionTimeoutTicks + 2; tick += 1) {
      if (effectsOf(server.ticks(1), 'send-snapshot').some(({ to }) => to === 'b')) askedAt.push(tick)
      server.answer('c', { matchIndex: 11 })
    }
    expect(askedAt).toEqual(Array.from({ length: electionTimeoutTicks }, (_, tick) => tick + 1))
    server.answer('b', { success: false, prevLogIndex: 10, conflictIndex: 0 })
    expect(effectsOf(server.ticks(1), 'send-snapshot')).toMatchObject([{ to: 'b', snapshot }])
  })

  it('replication goes on behind the snapshot once it is installed', () => {
    const { server } = leaderWithCompactedLog()
    const installed = { type: 'snapshot-response', from: 'b', term: 3, success: true } as const
    expect(server.receive({ ...installed, lastIncludedIndex: 9 })).toEqual([])
    const [append] = sendsOf(server.receive({ ...installed, lastIncludedIndex: 10 }), 'append-entries')
    expect(append?.message).toMatchObject({ prevLogIndex: 10, prevLogTerm: 2 })
    expect(server.status.followers.get('b')).toMatchObject({ state: 'replicate', matchIndex: 10 })
  })

  it('a failed one is offered again, but not in a tight loop', () => {
    const { server } = leaderWithCompactedLog()
    const failed = {
      type: 'snapshot-response',
      from: 'b',
      term: 3,
      lastIncludedIndex: 10,
      success: false,
    } as const
    expect(server.receive(failed)).toEqual([])
    expect(server.status.followers.get('b')?.state).toBe('probe')
    server.ticks(1)
    const effects = server.answer('b', { success: false, prevLogIndex: 10, conflictIndex: 0 })
    expect(effectsOf(effects, 'load')).toHaveLength(1)
    expect(sendsOf(server.step({ type: 'compacted', snapshot }), 'install-snapshot')).toHaveLength(1)
  })
})

describe('snapshots, follower (§7)', () => {
  it('the offer is fetched once, however often it comes; a new leader makes it new', () => {
    const server = new Server()
    expect(effectsOf(offer(server), 'fetch-snapshot')).toMatchObject([{ from: 'b', snapshot }])
    expect(effectsOf(offer(server), 'fetch-snapshot')).toEqual([])
    const later = { ...snapshot, lastIncludedIndex: 12 }
    expect(effectsOf(offer(server, later), 'fetch-snapshot')).toMatchObject([{ snapshot: later }])
  })

  it('a fetched one replaces the log in one write, and is acknowledged when that is durable', () => {
    const server = new Server({ entries: logOf(1, 1, 1) })
    offer(server)
    server.durable()
    const effects = server.step({ type: 'snapshot-installed', snapshot })
    const [persist] = effectsOf(effects, 'persist')
    expect(persist).toMatchObject({ snapshot, entries: [] })
    expect(sendsOf(effects, 'snapshot-response')).toMatchObject([
      { to: 'b', after: persist?.token, message: { success: true, lastIncludedIndex: 10 } },
    ])
    expect(effectsOf(effects, 'configuration')).toMatchObject([{ configuration: snapshot.configuration }])
    expect(server.status).toMatchObject({
      commitIndex: 10,
      lastApplied: 10,
      lastLogIndex: 10,
      lastLogTerm: 2,
    })
  })

  it('entries behind it are acknowledged and handed out only when they are durable', () => {
    const server = new Server()
    offer(server)
    server.step({ type: 'snapshot-installed', snapshot })
    const next = { prevLogIndex: 10, prevLogTerm: 2, entries: [command(11, 3)], leaderCommit: 11 }
    const effects = server.append('b', next)
    expect(sendsOf(effects, 'append-response')[0]?.after).toBe(effectsOf(effects, 'persist')[0]?.token)
    expect(effectsOf(effects, 'commit')).toEqual([])
    expect(effectsOf(server.durable(), 'commit').map(({ entries }) => entries.length)).toEqual([1])
  })

  it('one that is not past what is committed is never installed', () => {
    const server = new Server()
    offer(server)
    const terms = Array.from({ length: 12 }, () => 2)
    server.append('b', { term: 3, entries: logOf(...terms), leaderCommit: 12 })
    server.durable()
    const effects = server.step({ type: 'snapshot-installed', snapshot })
    expect(effectsOf(effects, 'persist')).toEqual([])
    expect(sendsOf(effects, 'snapshot-response')).toMatchObject([{ message: { success: true } }])
    expect(server.status).toMatchObject({ lastLogIndex: 12, commitIndex: 12 })
  })

  it('"if existing log entry has same index and term as snapshot\'s last included entry, retain log entries following it"', () => {
    const terms = Array.from({ length: 12 }, () => 2)
    const server = new Server({ entries: logOf(...terms) })
    const effects = offer(server)
    expect(effectsOf(effects, 'fetch-snapshot')).toEqual([])
    expect(effectsOf(effects, 'commit').flatMap(({ entries }) => entries)).toHaveLength(10)
    expect(server.status).toMatchObject({ commitIndex: 10, lastLogIndex: 12 })
  })

  it('entries that arrived during the fetch and agree with it are retained, acknowledged as they are', () => {
    const server = new Server()
    offer(server)
    const terms = Array.from({ length: 12 }, () => 2)
    server.append('b', { term: 3, entries: logOf(...terms) })
    server.durable()
    const effects = server.step({ type: 'snapshot-installed', snapshot })
    expect(effectsOf(effects, 'persist')).toEqual([])
    expect(server.status).toMatchObject({ commitIndex: 10, lastLogIndex: 12 })
  })

  it('a failed fetch is reported, and the next offer is fetched again', () => {
    const server = new Server()
    offer(server)
    const effects = server.step({ type: 'snapshot-failed', lastIncludedIndex: 10 })
    expect(sendsOf(effects, 'snapshot-response')).toMatchObject([{ message: { success: false } }])
    expect(effectsOf(offer(server), 'fetch-snapshot')).toHaveLength(1)
  })

  it('a leader installs none', () => {
    const server = new Server()
    offer(server)
    server.durable()
    server.becomeLeader()
    expect(server.step({ type: 'snapshot-installed', snapshot })).toEqual([])
    expect(server.status.lastLogIndex).toBe(1)
  })
})
