import { describe, expect, it } from 'vitest'
import { entryBytes } from '../../../consensus/log.ts'
import { maxBytesPerMessage } from '../../../consensus/message-check.ts'
import type { Effect, Entry } from '../../../consensus/types.ts'
import { command, effectsOf, electionTimeoutTicks, logOf, Server, sendsOf, simple } from './server.ts'

function answers(effects: readonly Effect[]) {
  return sendsOf(effects, 'append-response').map(({ message }) => message)
}

function places(entries: readonly Entry[]): string[] {
  return entries.map(({ index, term }) => `${index}@${term}`)
}

function committed(effects: readonly Effect[]): string[] {
  return places(effectsOf(effects, 'commit').flatMap(({ entries }) => entries))
}

/** A leader in term 1 with a committed no-op; b and c are replicating. */
function settledLeader(options: ConstructorParameters<typeof Server>[0] = {}): Server {
  const server = new Server(options)
  server.becomeLeader()
  const { lastLogIndex } = server.status
  server.answer('b', { matchIndex: lastLogIndex })
  server.answer('c', { matchIndex: lastLogIndex })
  return server
}

describe('log replication, leader (§5.3)', () => {
  it('a proposal is one write, and one append to each follower', () => {
    const server = settledLeader()
    const effects = server.propose('x', 'y', 'z')
    expect(effectsOf(effects, 'persist').map(({ entries }) => places(entries))).toEqual([
      ['2@1', '3@1', '4@1'],
    ])
    const appends = sendsOf(effects, 'append-entries')
    expect(appends.map(({ to, message }) => [to, places(message.entries)])).toEqual([
      ['b', ['2@1', '3@1', '4@1']],
      ['c', ['2@1', '3@1', '4@1']],
    ])
    expect(effectsOf(effects, 'proposed')).toMatchObject([{ firstIndex: 2, lastIndex: 4, term: 1 }])
  })

  it("the leader's appends overlap its own write (thesis §10.2.1)", () => {
    const server = settledLeader()
    for (const { after } of sendsOf(server.propose('x'), 'append-entries')) expect(after).toBeUndefined()
  })

  it('an entry is committed once a majority holds it, and followers learn of it at once', () => {
    const server = settledLeader()
    server.propose('x')
    server.durable()
    const effects = server.answer('b', { matchIndex: 2 })
    expect(committed(effects)).toEqual(['2@1'])
    expect(sendsOf(effects, 'append-entries').map(({ message }) => message.leaderCommit)).toEqual([2, 2])
  })

  it("the leader's own log counts as far as it is durable", () => {
    const server = settledLeader()
    server.propose('x')
    expect(committed(server.answer('b', { matchIndex: 2 }))).toEqual([])
    expect(server.status.commitIndex).toBe(1)
    expect(committed(server.durable())).toEqual(['2@1'])
  })

  it('followers alone can commit; the leader applies when its own write is done', () => {
    const server = settledLeader()
    server.propose('x')
    server.answer('b', { matchIndex: 2 })
    server.answer('c', { matchIndex: 2 })
    expect(server.status.commitIndex).toBe(2)
    expect(committed(server.durable())).toEqual(['2@1'])
  })

  it('a leader never overwrites or deletes entries in its log', () => {
    const server = settledLeader()
    server.propose('x')
    expect(server.append('b', { term: 1, entries: logOf(1) })).toEqual([])
    expect(server.status).toMatchObject({ role: 'leader', lastLogIndex: 2 })
  })

  it('a follower that rejects is asked for an earlier place until the logs agree', () => {
    const server = new Server({ entries: logOf(1, 1, 1, 1) })
    server.becomeLeader()
    const effects = server.answer('b', {
      success: false,
      prevLogIndex: 4,
      conflictIndex: 1,
      conflictTerm: 1,
    })
    const [append] = sendsOf(effects, 'append-entries')
    expect(append?.message).toMatchObject({ prevLogIndex: 1, prevLogTerm: 1 })
    expect(places(append?.message.entries ?? [])).toEqual(['2@1', '3@1', '4@1', '5@2'])
  })

  it('a conflicting term is skipped as a whole', () => {
    const server = new Server({ entries: logOf(1, 1, 4, 4, 5, 5, 6, 6) })
    server.becomeLeader()
    const unknownTerm = { success: false, prevLogIndex: 8, conflictIndex: 7, conflictTerm: 2 } as const
    const [toFirst] = sendsOf(server.answer('b', unknownTerm), 'append-entries')
    expect(toFirst?.message.prevLogIndex).toBe(2)
    const knownTerm = { success: false, prevLogIndex: 8, conflictIndex: 7, conflictTerm: 5 } as const
    const [toLast] = sendsOf(server.answer('c', knownTerm), 'append-entries')
    expect(toLast?.message.prevLogIndex).toBe(6)
  })

  it('matchIndex is never taken from a rejection, however high its numbers', () => {
    const server = settledLeader()
    server.propose('x')
    server.durable()
    const rejection = {
      success: false,
      prevLogIndex: 2,
      matchIndex: 2,
      conflictIndex: 2,
      conflictTerm: 1,
    } as const
    expect(committed(server.answer('b', rejection))).toEqual([])
    expect(server.status.followers.get('b')?.matchIndex).toBe(1)
  })

  it('an acknowledgement beyond the end of the log is impossible and ignored', () => {
    const server = settledLeader()
    server.propose('x')
    server.durable()
    expect(committed(server.answer('b', { matchIndex: 3 }))).toEqual([])
    expect(server.status.commitIndex).toBe(1)
  })
})

describe('answers of an older term (§5.1)', () => {
  it('an acknowledgement from an earlier leadership says nothing about the log of this one', () => {
    const server = new Server({ hardState: { currentTerm: 4, votedFor: null } })
    server.becomeLeader()
    expect(committed(server.answer('b', { matchIndex: 1, term: 4 }))).toEqual([])
    expect(server.status.followers.get('b')?.matchIndex).toBe(0)
    expect(committed(server.answer('b', { matchIndex: 1 }))).toEqual(['1@5'])
  })
})

describe('flow control (thesis §10.2.1)', () => {
  const size = entryBytes(command(2, 1, 'x'))

  it('appends are pipelined up to a number, then wait and leave together', () => {
    const server = settledLeader({ config: { maxAppendsInFlight: 2 } })
    const sent = ['v', 'w', 'x', 'y'].map(text =>
      sendsOf(server.propose(text), 'append-entries').filter(({ to }) => to === 'b'),
    )
    expect(sent.map(sends => sends.length)).toEqual([1, 1, 0, 0])
    const [next] = sendsOf(server.answer('b', { matchIndex: 2 }), 'append-entries')
    expect(places(next?.message.entries ?? [])).toEqual(['4@1', '5@1'])
  })

  it('bytes in flight are bounded', () => {
    const server = settledLeader({ config: { maxBytesInFlight: 2 * size } })
    for (const text of ['v', 'w', 'x', 'y']) server.propose(text)
    expect(server.status.followers.get('b')).toMatchObject({ appendsInFlight: 2, nextIndex: 4 })
  })

  it('an append holds at most so many entries and bytes; several leave in one step', () => {
    const server = settledLeader({ config: { maxEntriesPerAppend: 2, maxBytesPerAppend: 10 * size } })
    const sends = sendsOf(server.propose('v', 'w', 'x', 'y', 'z'), 'append-entries')
    expect(sends.filter(({ to }) => to === 'b').map(({ message }) => places(message.entries))).toEqual([
      ['2@1', '3@1'],
      ['4@1', '5@1'],
      ['6@1'],
    ])
  })

  it('proposals over the uncommitted bound are refused, all or none, until entries commit', () => {
    const server = settledLeader({ config: { maxUncommittedBytes: 2 * size } })
    server.propose('x')
    const refused = effectsOf(server.propose('y', 'z'), 'refused')
    expect(refused).toMatchObject([{ reason: 'overloaded', leader: 'a' }])
    expect(refused[0]?.detail).toContain(`expected at most ${2 * size}, got ${3 * size}`)
    expect(server.status.lastLogIndex).toBe(2)
    server.durable()
    server.answer('b', { matchIndex: 2 })
    server.step({ type: 'applied', index: 2 })
    expect(effectsOf(server.propose('y', 'z'), 'proposed')).toHaveLength(1)
  })

  it('proposals are refused while too much waits to be applied', () => {
    const server = settledLeader({ config: { maxUncommittedBytes: 3 * size } })
    for (const text of ['v', 'w', 'x', 'y']) {
      server.propose(text)
      server.durable()
      server.answer('b', { matchIndex: server.status.lastLogIndex })
    }
    expect(effectsOf(server.propose('z'), 'refused')).toMatchObject([{ reason: 'overloaded' }])
    server.step({ type: 'applied', index: server.status.commitIndex })
    expect(effectsOf(server.propose('z'), 'refused')).toEqual([])
  })

  it('a follower that has too much to apply takes no more, and acknowledges no more', () => {
    const server = new Server({ config: { maxUncommittedBytes: 1 } })
    server.append('b', { term: 1, entries: logOf(1, 1), leaderCommit: 2 })
    server.durable()
    const more = { term: 1, prevLogIndex: 2, prevLogTerm: 1, entries: [command(3, 1)], leaderCommit: 3 }
    expect(answers(server.append('b', more))).toMatchObject([{ success: true, matchIndex: 2, full: true }])
    server.step({ type: 'applied', index: 2 })
    expect(answers(server.append('b', more))).toMatchObject([{ success: true, matchIndex: 3, full: false }])
  })

  it('a follower whose driver holds entries back acknowledges the rest, and asks for no more', () => {
    const server = new Server()
    const message = {
      type: 'append-entries',
      from: 'b',
      term: 1,
      prevLogIndex: 0,
      prevLogTerm: 0,
      entries: logOf(1),
      leaderCommit: 2,
      readContext: 0,
    } as const
    const effects = server.step({ type: 'message', message, withheld: true })
    expect(answers(effects)).toMatchObject([{ success: true, matchIndex: 1, full: true }])
    expect(server.status).toMatchObject({ lastLogIndex: 1, commitIndex: 1 })
  })

  it('a follower that is full gets heartbeats alone, until it answers one without saying so', () => {
    const server = settledLeader()
    server.propose('x')
    server.answer('b', { matchIndex: 1, full: true })
    expect(server.status.followers.get('b')).toMatchObject({ state: 'full', nextIndex: 2 })
    const toB = (effects: readonly Effect[]) =>
      sendsOf(effects, 'append-entries')
        .filter(({ to }) => to === 'b')
        .map(({ message }) => message.entries.length)
    expect(toB(server.propose('y'))).toEqual([])
    expect(toB(server.answer('b', { matchIndex: 1 }))).toEqual([])
    expect(toB(server.ticks(1))).toEqual([0])
    expect(toB(server.answer('b', { matchIndex: 1, full: true }))).toEqual([])
    expect(toB(server.ticks(1))).toEqual([0])
    expect(toB(server.answer('b', { matchIndex: 1 }))).toEqual([2])
    server.answer('b', { matchIndex: 3 })
    expect(server.status.followers.get('b')?.state).toBe('replicate')
  })

  it('a follower that is full is not in step: no leadership goes to it, and no change counts on it', () => {
    const server = settledLeader()
    server.answer('b', { matchIndex: 1, full: true })
    expect(sendsOf(server.step({ type: 'transfer', to: 'b' }), 'timeout-now')).toEqual([])
    server.ticks(electionTimeoutTicks)
    server.answer('b', { matchIndex: 1, full: true })
    const change = { type: 'change-membership', voters: ['a', 'b', 'd'], learners: [], context: 2 } as const
    const [refused] = effectsOf(server.step(change), 'refused')
    expect(refused).toMatchObject({ reason: 'would-lose-quorum' })
    expect(refused?.detail).toContain('not in step: b')
  })

  it('a lost append is found by the next heartbeat and sent again', () => {
    const server = settledLeader()
    server.propose('x')
    const [heartbeat] = sendsOf(server.ticks(1), 'append-entries')
    expect(heartbeat?.message).toMatchObject({ prevLogIndex: 2, entries: [] })
    const rejection = { success: false, prevLogIndex: 2, conflictIndex: 1, conflictTerm: 1 } as const
    const [again] = sendsOf(server.answer('b', rejection), 'append-entries')
    expect(places(again?.message.entries ?? [])).toEqual(['2@1'])
  })

  it('a lost stream brings back what was in flight', () => {
    const server = settledLeader()
    server.propose('x')
    const [again] = sendsOf(server.step({ type: 'unreachable', peer: 'b' }), 'append-entries')
    expect([again?.to, places(again?.message.entries ?? [])]).toEqual(['b', ['2@1']])
  })

  it('a silent follower gets heartbeats, not the same entries again and again', () => {
    const server = new Server()
    server.becomeLeader()
    const sends = sendsOf(server.ticks(5), 'append-entries')
    expect(sends).toHaveLength(10)
    expect(sends.every(({ message }) => message.entries.length === 0)).toBe(true)
  })

  it('entries that memory has let go of are loaded, one request at a time', () => {
    const server = new Server({
      recovered: {
        hardState: { currentTerm: 1, votedFor: null },
        before: { index: 3, term: 1 },
        entries: [command(4, 1)],
        applied: 4,
      },
    })
    const effects = server.becomeLeader()
    expect(effectsOf(effects, 'load')).toEqual([])
    const short = { success: false, prevLogIndex: 4, conflictIndex: 1, conflictTerm: 1 } as const
    expect(effectsOf(server.answer('b', short), 'load')).toMatchObject([{ from: 2, to: 3 }])
    expect(effectsOf(server.answer('c', short), 'load')).toEqual([])
    const loaded = { before: { index: 1, term: 1 }, entries: [command(2, 1), command(3, 1)] }
    const sends = sendsOf(server.step({ type: 'loaded', ...loaded }), 'append-entries')
    expect(sends.map(({ to, message }) => [to, message.prevLogIndex, places(message.entries)])).toEqual([
      ['b', 1, ['2@1', '3@1']],
      ['c', 1, ['2@1', '3@1']],
    ])
  })
})

describe('log replication, follower (§5.3)', () => {
  it('entries that conflict are deleted together with all that follow', () => {
    const server = new Server({ entries: logOf(1, 2, 2, 2) })
    const effects = server.append('b', {
      term: 3,
      prevLogIndex: 1,
      prevLogTerm: 1,
      entries: [command(2, 3)],
    })
    expect(effectsOf(effects, 'persist')).toMatchObject([{ truncateAfter: 1, entries: [command(2, 3)] }])
    expect(server.status).toMatchObject({ lastLogIndex: 2, lastLogTerm: 3 })
  })

  it('entries that are already there stay, and what follows them too', () => {
    const server = new Server({ entries: logOf(1, 1, 1) })
    const effects = server.append('b', { term: 1, entries: logOf(1) })
    expect(effectsOf(effects, 'persist')).toEqual([])
    expect(server.status.lastLogIndex).toBe(3)
  })

  it('an acknowledgement covers what the message covered and nothing beyond it', () => {
    const server = new Server({ entries: logOf(1, 1, 2, 2) })
    const message = { term: 3, prevLogIndex: 1, prevLogTerm: 1, entries: [command(2, 1)], leaderCommit: 4 }
    expect(answers(server.append('b', message))).toMatchObject([{ success: true, matchIndex: 2 }])
    expect(server.status.commitIndex).toBe(2)
  })

  it('leaderCommit beyond the message commits only what the message covered', () => {
    const server = new Server({ entries: logOf(1, 1, 2) })
    server.append('b', { term: 3, prevLogIndex: 1, prevLogTerm: 1, leaderCommit: 3 })
    expect(server.status.commitIndex).toBe(1)
  })

  const conflicts: [own: number[], prevLogIndex: number, prevLogTerm: number, index: number, term: number][] =
    [
      [[], 3, 1, 0, 0],
      [[1, 1], 5, 2, 2, 1],
      [[1, 2, 2, 2], 4, 3, 4, 2],
      [[1, 1, 3], 3, 2, 2, 1],
      [[1, 1, 3, 3, 5], 5, 4, 4, 3],
    ]
  it.each(conflicts)(
    'log with terms %o refuses %i of term %i: the logs may agree at %i, term %i',
    (own, index, term, at, of) => {
      const server = new Server({ entries: logOf(...own) })
      const effects = server.append('b', { term: 5, prevLogIndex: index, prevLogTerm: term })
      expect(answers(effects)).toMatchObject([
        { success: false, prevLogIndex: index, conflictIndex: at, conflictTerm: of },
      ])
    },
  )

  it('200 terms that only the follower has cost one rejection (etcd)', () => {
    const ours = Array.from({ length: 200 }, (_, position) => 2 + position)
    const leader = new Server({ entries: logOf(1, ...ours.map(() => 500)) })
    const follower = new Server({
      entries: logOf(1, ...ours),
      hardState: { currentTerm: 500, votedFor: null },
    })
    let sends = sendsOf(leader.becomeLeader(), 'append-entries')
    let rejections = 0
    for (let round = 0; round < 10; round += 1) {
      const replies = sends
        .filter(({ to }) => to === 'b')
        .flatMap(({ message }) => answers(follower.receive({ ...message, from: 'b' })))
      follower.durable()
      rejections += replies.filter(({ success }) => !success).length
      sends = replies.flatMap(reply => sendsOf(leader.receive({ ...reply, from: 'b' }), 'append-entries'))
    }
    expect(follower.status).toMatchObject({ lastLogIndex: 202, lastLogTerm: 501 })
    expect(rejections).toBe(1)
  })

  it('a command that every follower would drop as ill-formed is refused at the door', () => {
    const server = settledLeader()
    const data = [new Uint8Array(maxBytesPerMessage + 1)]
    const [refused] = effectsOf(server.step({ type: 'propose', data, context: 1 }), 'refused')
    expect(refused).toMatchObject({ reason: 'too-large' })
    expect(server.status.lastLogIndex).toBe(1)
  })

  it('a message that would cut what is committed is impossible and ignored', () => {
    const server = new Server({ entries: logOf(1, 1, 1) })
    server.append('b', { term: 1, prevLogIndex: 3, prevLogTerm: 1, leaderCommit: 3 })
    expect(answers(server.append('b', { term: 2, entries: [command(1, 2)] }))).toEqual([])
    expect(answers(server.append('b', { term: 2, prevLogIndex: 2, prevLogTerm: 2 }))).toEqual([])
    expect(server.status).toMatchObject({ lastLogIndex: 3, lastLogTerm: 1, commitIndex: 3 })
  })

  it('an old append that lies before the window is acknowledged as far as it goes', () => {
    const server = new Server({
      recovered: {
        hardState: { currentTerm: 1, votedFor: null },
        before: { index: 5, term: 1 },
        applied: 5,
      },
    })
    const old = server.append('b', {
      prevLogIndex: 1,
      prevLogTerm: 1,
      entries: [command(2, 1), command(3, 1)],
    })
    expect(answers(old)).toMatchObject([{ success: true, matchIndex: 3 }])
    const across = { prevLogIndex: 4, prevLogTerm: 1, entries: [command(5, 1), command(6, 1)] }
    const effects = server.append('b', across)
    expect(answers(effects)).toMatchObject([{ success: true, matchIndex: 6 }])
    expect(effectsOf(effects, 'persist').map(({ entries }) => places(entries))).toEqual([['6@1']])
  })

  it('Figure 7: a leader brings every kind of follower to its own log', () => {
    const leaderTerms = [1, 1, 1, 4, 4, 5, 5, 6, 6, 6]
    const followers = [
      [1, 1, 1, 4, 4, 5, 5, 6, 6],
      [1, 1, 1, 4],
      [1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 6],
      [1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 7, 7],
      [1, 1, 1, 4, 4, 4, 4],
      [1, 1, 1, 2, 2, 2, 3, 3, 3, 3, 3],
    ]
    for (const terms of followers) {
      const leader = new Server({
        entries: logOf(...leaderTerms),
        hardState: { currentTerm: 7, votedFor: null },
      })
      const follower = new Server({ entries: logOf(...terms), hardState: { currentTerm: 7, votedFor: null } })
      let sends = sendsOf(leader.becomeLeader(), 'append-entries')
      for (let round = 0; round < 10; round += 1) {
        const toFollower = sends.filter(({ to }) => to === 'b')
        const replies = toFollower.flatMap(({ message }) =>
          answers(follower.receive({ ...message, from: 'b' })),
        )
        follower.durable()
        sends = replies.flatMap(reply => sendsOf(leader.receive({ ...reply, from: 'b' }), 'append-entries'))
      }
      expect(follower.status).toMatchObject({ lastLogIndex: 11, lastLogTerm: 8 })
      expect(leader.status.followers.get('b')?.matchIndex).toBe(11)
    }
  })
})

describe('committing entries from previous terms (§5.4.2)', () => {
  it('Figure 8: only entries of the current term are committed by counting', () => {
    const server = new Server({ entries: logOf(1, 2), hardState: { currentTerm: 3, votedFor: null } })
    server.becomeLeader()
    expect(committed(server.answer('b', { matchIndex: 2 }))).toEqual([])
    expect(committed(server.answer('c', { matchIndex: 2 }))).toEqual([])
    expect(server.status.commitIndex).toBe(0)
    expect(committed(server.answer('b', { matchIndex: 3 }))).toEqual(['1@1', '2@2', '3@4'])
  })

  it('committed state survives the step from leader to follower', () => {
    const server = settledLeader()
    server.propose('x')
    server.durable()
    server.answer('b', { matchIndex: 2 })
    server.append('c', { term: 2, prevLogIndex: 1, prevLogTerm: 1, leaderCommit: 1 })
    expect(server.status).toMatchObject({ role: 'follower', commitIndex: 2, lastLogIndex: 2 })
    server.append('c', { term: 2, prevLogIndex: 1, prevLogTerm: 1, entries: [command(2, 2)] })
    expect(server.status).toMatchObject({ commitIndex: 2, lastLogTerm: 1 })
  })

  it('proposals elsewhere are refused with the name of the leader', () => {
    const server = new Server()
    expect(effectsOf(server.propose('x'), 'refused')).toMatchObject([{ reason: 'not-leader', leader: null }])
    server.append('b', { term: 1 })
    expect(effectsOf(server.propose('x'), 'refused')).toMatchObject([{ reason: 'not-leader', leader: 'b' }])
  })

  it('a single server commits what it has written', () => {
    const server = new Server({ configuration: simple('a') })
    server.becomeLeader()
    expect(committed(server.propose('x'))).toEqual([])
    expect(committed(server.durable())).toEqual(['2@1'])
  })
})
