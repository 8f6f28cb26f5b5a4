/**
 * What a peer sends is never trusted: an impossible message changes nothing, and no message makes a server throw.
 */
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { isWellFormed } from '../../../consensus/message-check.ts'
import type { Configuration, Entry, EntryType, Message } from '../../../consensus/types.ts'
import { command, logOf, Server, simple } from './server.ts'

const good: Message = {
  type: 'append-entries',
  from: 'b',
  term: 3,
  prevLogIndex: 2,
  prevLogTerm: 1,
  entries: [command(3, 1), command(4, 3)],
  leaderCommit: 2,
  readContext: 0,
}

const configured: Entry = {
  index: 3,
  term: 3,
  type: 'configuration',
  data: new Uint8Array(),
  configuration: simple('a'),
}

describe('ill-formed messages', () => {
  it('a correct append is well formed', () => {
    expect(isWellFormed(good)).toBe(true)
    expect(isWellFormed({ ...good, entries: [configured] })).toBe(true)
  })

  const wrong: [name: string, change: object][] = [
    ['no sender', { from: '' }],
    ['a negative term', { term: -1 }],
    ['term zero', { term: 0 }],
    ['a fractional term', { term: 1.5 }],
    ['a term past all bounds', { term: 2 ** 53 }],
    ['a negative index', { prevLogIndex: -1 }],
    ['a previous term newer than its own', { prevLogTerm: 4 }],
    ['an entry newer than its own term', { entries: [command(3, 4)] }],
    ['a gap before the entries', { entries: [command(4, 3)] }],
    ['a gap between entries', { entries: [command(3, 3), command(5, 3)] }],
    ['terms that decrease', { entries: [command(3, 3), command(4, 1)] }],
    ['a term older than the previous one', { prevLogTerm: 3, entries: [command(3, 2)] }],
    ['a command with a configuration', { entries: [{ ...command(3, 3), configuration: simple('a') }] }],
    ['a configuration without voters', { entries: [{ ...configured, configuration: simple() }] }],
    [
      'a configuration that repeats a voter',
      { entries: [{ ...configured, configuration: simple('a', 'a') }] },
    ],
    ['a configuration entry without one', { entries: [{ ...command(3, 3), type: 'configuration' }] }],
    ['an unknown type of entry', { entries: [{ ...command(3, 3), type: 'other' }] }],
    ['data that is no bytes', { entries: [{ ...command(3, 3), data: 'text' }] }],
    ['entries that are no list', { entries: 7 }],
    ['an unknown type', { type: 'other' }],
  ]
  it.each(wrong)('%s: refused', (_, change) => {
    expect(isWellFormed({ ...good, ...change } as Message)).toBe(false)
  })

  it('heard: a round that is no natural number is refused', () => {
    const heard: Message = { type: 'heard', from: 'b', term: 3, readContext: 2 }
    expect(isWellFormed(heard)).toBe(true)
    for (const readContext of [-1, 0.5, 2 ** 53, Number.NaN, '1' as never])
      expect(isWellFormed({ ...heard, readContext })).toBe(false)
    expect(isWellFormed({ ...heard, term: 0 })).toBe(false)
  })

  it('are ignored whole: no term is learnt from them', () => {
    const server = new Server()
    expect(server.append('b', { term: 9, entries: [command(2, 9)] })).toEqual([])
    expect(server.status.currentTerm).toBe(0)
  })

  it('a message in our own name is ignored', () => {
    const server = new Server()
    expect(server.append('a', { term: 9 })).toEqual([])
  })
})

const ids = fc.constantFrom('a', 'b', 'c', 'd', '')
const small = fc.oneof(fc.nat({ max: 6 }), fc.constantFrom(-1, 2 ** 52, 2 ** 53, Number.NaN))
const members = fc.array(ids, { maxLength: 4 })
const configurations: fc.Arbitrary<Configuration> = fc.record({
  voters: members,
  votersOutgoing: members,
  learners: members,
})
const entryTypes = fc.constantFrom<EntryType>('command', 'noop', 'configuration')
const entries = fc
  .tuple(
    fc.nat({ max: 5 }),
    fc.array(fc.tuple(fc.nat({ max: 4 }), entryTypes, configurations), { maxLength: 4 }),
  )
  .map(([first, bodies]): Entry[] =>
    bodies.map(([term, type, configuration], offset) => ({
      index: first + offset + 1,
      term,
      type,
      data: new Uint8Array(),
      ...(type === 'configuration' && { configuration }),
    })),
  )
const common = { from: ids, term: small }
const snapshots = fc.record({
  lastIncludedIndex: small,
  lastIncludedTerm: small,
  configuration: configurations,
})
const messages: fc.Arbitrary<Message> = fc.oneof(
  fc.record({
    ...common,
    type: fc.constant('request-vote' as const),
    lastLogIndex: small,
    lastLogTerm: small,
    preVote: fc.boolean(),
    leadershipTransfer: fc.boolean(),
  }),
  fc.record({
    ...common,
    type: fc.constant('vote' as const),
    voteGranted: fc.boolean(),
    preVote: fc.boolean(),
  }),
  fc.record({
    ...common,
    type: fc.constant('append-entries' as const),
    prevLogIndex: small,
    prevLogTerm: small,
    entries,
    leaderCommit: small,
    readContext: small,
  }),
  fc.record({
    ...common,
    type: fc.constant('append-response' as const),
    success: fc.boolean(),
    prevLogIndex: small,
    matchIndex: small,
    conflictIndex: small,
    conflictTerm: small,
    readContext: small,
    full: fc.boolean(),
  }),
  fc.record({ ...common, type: fc.constant('heard' as const), readContext: small }),
  fc.record({ ...common, type: fc.constant('install-snapshot' as const), snapshot: snapshots }),
  fc.record({
    ...common,
    type: fc.constant('snapshot-response' as const),
    lastIncludedIndex: small,
    success: fc.boolean(),
  }),
  fc.record({ ...common, type: fc.constant('timeout-now' as const) }),
)

describe('any message', () => {
  it('never makes a server throw, and never moves term, commit or what is committed backwards', () => {
    fc.assert(
      fc.property(fc.boolean(), fc.array(messages, { maxLength: 30 }), (leads, received) => {
        const server = new Server({ entries: logOf(1, 1, 2) })
        if (leads) server.becomeLeader()
        for (const [position, message] of received.entries()) {
          const before = server.status
          server.receive(message)
          if (position % 3 === 0) server.durable()
          if (position % 5 === 0) server.ticks(3)
          const after = server.status
          expect(after.currentTerm).toBeGreaterThanOrEqual(before.currentTerm)
          expect(after.commitIndex).toBeGreaterThanOrEqual(before.commitIndex)
          expect(after.lastLogIndex).toBeGreaterThanOrEqual(after.commitIndex)
        }
      }),
      { seed: 20_261_121, numRuns: 1_000 },
    )
  })
})
