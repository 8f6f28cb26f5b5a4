import { describe, expect, test } from 'vitest'
import type { ConsenterSet } from '../../../chain/consenters.ts'
import type { Ledger } from '../../../chain/ledger.ts'
import type { Configuration, Entry } from '../../../consensus/types.ts'
import { withholdUnproven } from '../../../node/ledger/members.ts'
import { command } from '../consensus/server.ts'

const ids = (letters: string) => [...letters]
const setOf = (letters: string) =>
  ({ consenters: ids(letters).map(id => ({ id })) }) as unknown as ConsenterSet
const ledgerOf = (consenters: string, next = '') =>
  ({
    parameters: { consenters: setOf(consenters), nextConsenters: next === '' ? undefined : setOf(next) },
  }) as unknown as Ledger

/** `voters/outgoing/learners`, as letters. */
function entryOf(index: number, members: string): Entry {
  const [voters = '', votersOutgoing = '', learners = ''] = members.split('/')
  const configuration: Configuration = {
    voters: ids(voters),
    votersOutgoing: ids(votersOutgoing),
    learners: ids(learners),
  }
  return { index, term: 1, type: 'configuration', data: new Uint8Array(), configuration }
}

interface Case {
  readonly ledger?: Ledger
  readonly certified?: Ledger
  readonly applied?: number
  readonly durable?: number
  readonly leaderCommit?: number
}

/** How many of the entries 11 (a command), 12 (this configuration) and 13 (a command) are taken. */
function taken(members: string, given: Case = {}): number {
  const { ledger = ledgerOf('abc', 'abd'), certified = ledger } = given
  const { applied = 11, durable = applied, leaderCommit = 11 } = given
  const entries = [command(11, 1), entryOf(12, members), command(13, 1)]
  const append = {
    type: 'append-entries' as const,
    from: 'a',
    term: 1,
    prevLogIndex: 10,
    prevLogTerm: 1,
    entries,
    leaderCommit,
    readContext: 0,
  }
  const { message, withheld } = withholdUnproven(append, { applied, durable }, { ledger, certified })
  expect(withheld).toBe(message.entries.length < entries.length)
  return message.entries.length
}

describe('configuration judge', () => {
  test.each<[string, string, Case, number]>([
    ['the present consenters, and any learners', 'abc//xyz', {}, 3],
    ['others', 'abx', {}, 1],
    ['some of them', 'ab', {}, 1],
    ['more than them', 'abcx', {}, 1],
    ['joint, from the present ones to those decided on', 'abd/abc', {}, 3],
    ['joint, from others', 'abd/abx', {}, 1],
    ['joint, to others', 'abx/abc', {}, 1],
    ['joint, to others, by an older decision', 'abx/abc', { certified: ledgerOf('abc', 'abx') }, 1],
    ['joint, with nothing decided', 'abd/abc', { ledger: ledgerOf('abc') }, 1],
    ['joint, the decision not certified here', 'abd/abc', { certified: ledgerOf('abc') }, 1],
    ['the same, and the entry is committed', 'abd/abc', { certified: ledgerOf('abc'), leaderCommit: 12 }, 3],
    ['others, and committed by the leader’s word', 'abx', { leaderCommit: 12 }, 1],
    ['right, before the entry below is applied', 'abc', { applied: 10 }, 1],
    ['right, before that is on disk', 'abc', { applied: 11, durable: 10 }, 1],
    ['applied here already, whatever it says', 'abx', { applied: 12 }, 3],
  ])('%s', (_name, members, given, expected) => {
    expect(taken(members, given)).toBe(expected)
  })
})
