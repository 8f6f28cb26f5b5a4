import { expect, test } from 'vitest'
import { Height } from '../../../chain/brands.ts'
import type { Configuration, Entry } from '../../../consensus/types.ts'
import { Compaction, type CompactionLimits } from '../../../node/ledger/compaction.ts'

const configuration: Configuration = { voters: ['a'], votersOutgoing: [], learners: [] }
const start = { height: Height(0), meta: { lastIncludedIndex: 0, lastIncludedTerm: 0, configuration } }
const limits: CompactionLimits = { entriesKept: 10, bytesKept: 1_000_000 }

function entry(index: number, bytes = 0): Entry {
  return { index, term: 1, type: 'command', data: new Uint8Array(bytes) }
}

/** Applies entries 1..`count`, each of which makes the block of its own number. */
function applied(compaction: Compaction, count: number, bytes = 0): Compaction {
  for (let i = 1; i <= count; i++) compaction.applied(entry(i, bytes), Height(i))
  return compaction
}

test('compaction: nothing is forgotten before a tenth more than is kept has gathered', () => {
  expect(applied(new Compaction(start, 0, limits), 11).due(Height(11))).toBeUndefined()
  const due = applied(new Compaction(start, 0, limits), 12).due(Height(12))
  expect(due).toEqual({ lastIncludedIndex: 2, lastIncludedTerm: 1, configuration })
})

test('compaction: never goes past the certified height, nor past what is still needed', () => {
  const compaction = applied(new Compaction(start, 0, limits), 50)
  expect(compaction.due(Height(0))).toBeUndefined()
  expect(compaction.due(Height(7))?.lastIncludedIndex).toBe(7)
  expect(compaction.due(Height(50), 9)?.lastIncludedIndex).toBe(9)
  expect(compaction.due(Height(50))?.lastIncludedIndex).toBe(40)
  expect(compaction.due(Height(50))).toBeUndefined()
})

test('compaction: bytes count as well as entries', () => {
  const compaction = applied(new Compaction(start, 0, { entriesKept: 1000, bytesKept: 5_000 }), 12, 936)
  expect(compaction.due(Height(12))?.lastIncludedIndex).toBe(7)
})

test('compaction: a place has the configuration that was in force there, and entries without a block are none', () => {
  const compaction = new Compaction(start, 0, limits)
  const next = { ...configuration, learners: ['b'] }
  compaction.applied(entry(1), Height(1))
  compaction.applied({ ...entry(2), type: 'configuration', configuration: next }, undefined)
  compaction.applied(entry(3), Height(2))
  expect(compaction.pointAt(Height(1))?.meta).toMatchObject({ lastIncludedIndex: 1, configuration })
  expect(compaction.pointAt(Height(2))?.meta).toMatchObject({ lastIncludedIndex: 3, configuration: next })
})

test('compaction: begins anew behind an installed snapshot', () => {
  const compaction = applied(new Compaction(start, 0, limits), 50)
  const meta = { lastIncludedIndex: 100, lastIncludedTerm: 3, configuration }
  compaction.reset({ height: Height(90), meta })
  expect(compaction.due(Height(90))).toBeUndefined()
  expect(compaction.pointAt(Height(50))).toBeUndefined()
  expect(compaction.pointAt(Height(90))?.meta).toEqual(meta)
})

test('compaction: a node that starts behind its newest block cuts and offers the log at the block', () => {
  const at = (lastIncludedIndex: number) => ({ lastIncludedIndex, lastIncludedTerm: 1, configuration })
  const begun = { height: Height(7), meta: at(25) }
  const places = [
    { height: Height(6), meta: at(18) },
    { height: Height(7), meta: at(20) },
  ]
  const compaction = new Compaction(begun, 2, limits, places)
  expect(compaction.length).toBe(23)
  expect(compaction.pointAt(Height(7))?.meta).toEqual(at(20))
  // Who has executed block 7, and not the entries after it, is not told to fetch the state that it has.
  expect(compaction.due(Height(7))).toEqual(at(18))
})
