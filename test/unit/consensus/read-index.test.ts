import { describe, expect, it } from 'vitest'
import type { Effect } from '../../../consensus/types.ts'
import { effectsOf, Server, sendsOf, simple } from './server.ts'

function leader(...voters: string[]): Server {
  const server = new Server({ configuration: simple('a', ...voters) })
  server.becomeLeader()
  for (const id of voters) server.answer(id, { matchIndex: 1 })
  return server
}

function read(server: Server, context: number): Effect[] {
  return server.step({ type: 'read', context })
}

function ready(effects: readonly Effect[]): [context: number, index: number][] {
  return effectsOf(effects, 'read-ready').map(({ context, index }) => [context, index])
}

/** The read round that appends among effects carry. */
function roundOf(effects: readonly Effect[]): number {
  return sendsOf(effects, 'append-entries')[0]?.message.readContext ?? 0
}

describe('read index (§8; thesis §6.4)', () => {
  it('a read is answered once a quorum has confirmed the leadership after it began', () => {
    const server = leader('b', 'c')
    const effects = read(server, 7)
    expect(ready(effects)).toEqual([])
    expect(sendsOf(effects, 'append-entries').map(({ to }) => to)).toEqual(['b', 'c'])
    expect(ready(server.answer('b', { matchIndex: 1, readContext: roundOf(effects) }))).toEqual([[7, 1]])
  })

  it('an answer from before the read does not confirm it', () => {
    const server = leader('b', 'c')
    read(server, 7)
    expect(ready(server.answer('b', { matchIndex: 1, readContext: 0 }))).toEqual([])
  })

  it('a round that was never sent out confirms nothing', () => {
    const server = leader('b', 'c')
    read(server, 7)
    expect(ready(server.answer('b', { matchIndex: 1, readContext: 99 }))).toEqual([])
  })

  it('a rejection confirms it as well: it is of this term', () => {
    const server = leader('b', 'c')
    const readContext = roundOf(read(server, 7))
    expect(ready(server.answer('b', { success: false, prevLogIndex: 9, readContext }))).toEqual([[7, 1]])
  })

  it('who hears its leader confirms it, whatever waits for its disk; nothing of its log counts', () => {
    const server = leader('b', 'c')
    server.propose('x')
    const readContext = roundOf(read(server, 7))
    const heard = { type: 'heard', from: 'b', term: 1 } as const
    expect(ready(server.receive({ ...heard, readContext: readContext - 1 }))).toEqual([])
    expect(ready(server.receive({ ...heard, readContext: 99 }))).toEqual([])
    const { followers } = server.status
    expect(ready(server.receive({ ...heard, readContext }))).toEqual([[7, 1]])
    expect(server.status).toMatchObject({ commitIndex: 1, followers })
  })

  it('heard of a stranger, or of an older term, confirms nothing', () => {
    const server = leader('b', 'c')
    const readContext = roundOf(read(server, 7))
    expect(ready(server.receive({ type: 'heard', from: 'z', term: 1, readContext }))).toEqual([])
    const later = new Server({ hardState: { currentTerm: 4, votedFor: null } })
    later.becomeLeader()
    later.answer('b', { matchIndex: 1 })
    const round = roundOf(read(later, 7))
    expect(ready(later.receive({ type: 'heard', from: 'b', term: 4, readContext: round }))).toEqual([])
  })

  it('learners and strangers confirm nothing', () => {
    const server = new Server({ configuration: { ...simple('a', 'b', 'c'), learners: ['d'] } })
    server.becomeLeader()
    server.answer('b', { matchIndex: 1 })
    const readContext = roundOf(read(server, 7))
    expect(ready(server.answer('d', { matchIndex: 1, readContext }))).toEqual([])
    expect(ready(server.answer('z', { matchIndex: 1, readContext }))).toEqual([])
  })

  it('in joint consensus both majorities have to confirm', () => {
    const server = new Server({
      configuration: { voters: ['a', 'd', 'e'], votersOutgoing: ['a', 'b', 'c'], learners: [] },
    })
    server.becomeLeader()
    server.answer('b', { matchIndex: 1 })
    server.answer('d', { matchIndex: 1 })
    const readContext = roundOf(read(server, 7))
    expect(ready(server.answer('b', { matchIndex: 1, readContext }))).toEqual([])
    expect(ready(server.answer('e', { success: false, readContext }))).toEqual([[7, 1]])
  })

  it('no read is answered before an entry of the own term is committed', () => {
    const server = new Server()
    server.becomeLeader()
    const effects = read(server, 7)
    expect(roundOf(effects)).toBe(0)
    const committing = server.answer('b', { matchIndex: 1 })
    expect(ready(committing)).toEqual([])
    expect(ready(server.answer('b', { matchIndex: 1, readContext: roundOf(committing) }))).toEqual([[7, 1]])
  })

  it('reads that come during a round share the next one', () => {
    const server = leader('b', 'c')
    const first = roundOf(read(server, 1))
    expect(roundOf(read(server, 2))).toBe(0)
    read(server, 3)
    const effects = server.answer('b', { matchIndex: 1, readContext: first })
    expect(ready(effects)).toEqual([[1, 1]])
    expect(ready(server.answer('c', { matchIndex: 1, readContext: first }))).toEqual([])
    const second = server.answer('c', { matchIndex: 1, readContext: roundOf(effects) })
    expect(ready(second)).toEqual([
      [2, 1],
      [3, 1],
    ])
  })

  it('a lost round is carried by the next heartbeat', () => {
    const server = leader('b', 'c')
    read(server, 7)
    const readContext = roundOf(server.ticks(1))
    expect(ready(server.answer('c', { matchIndex: 1, readContext }))).toEqual([[7, 1]])
  })

  it('a single server confirms itself', () => {
    const server = leader()
    server.durable()
    expect(ready(read(server, 7))).toEqual([[7, 1]])
  })

  it('reads elsewhere, and those of a leader that steps down, are refused', () => {
    const follower = new Server()
    follower.append('b', { term: 1 })
    expect(effectsOf(read(follower, 1), 'read-refused')).toMatchObject([{ context: 1, leader: 'b' }])

    const server = leader('b', 'c')
    read(server, 1)
    read(server, 2)
    const effects = server.append('c', { term: 2 })
    expect(effectsOf(effects, 'read-refused').map(({ context }) => context)).toEqual([1, 2])
  })
})
