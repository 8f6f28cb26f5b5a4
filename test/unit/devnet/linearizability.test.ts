/** The checker accepts what is linearizable and refuses what is not (Herlihy & Wing 1990), on known histories. */
import { describe, expect, test } from 'vitest'
import { type EpochOperation, type EpochOutput, epochModel } from '../../../devnet/chaos/epoch-register.ts'
import { checkLinearizable } from '../../../devnet/chaos/linearizability.ts'

const model = epochModel({ epoch: 0, value: '' })
const verdict = (history: readonly EpochOperation[]) => checkLinearizable(history, model).type

/** Called at, returned at (undefined: never). */
type Span = readonly [number, number | undefined]
const done = ([calledAt, at]: Span, input: EpochOperation['input'], output: EpochOutput): EpochOperation => ({
  client: 'c',
  input,
  calledAt,
  returned: at === undefined ? undefined : { at, output },
})
const set = (span: Span, epoch: number, value: string): EpochOperation =>
  done(span, { type: 'set', epoch, value }, { type: 'set' })
const conflict = (span: Span, epoch: number, value: string): EpochOperation =>
  done(span, { type: 'set', epoch, value }, { type: 'conflict' })
const read = (span: Span, epoch: number, value: string): EpochOperation =>
  done(span, { type: 'read' }, { type: 'state', state: { epoch, value } })

describe('linearizability: accepts', () => {
  test.each<[string, readonly EpochOperation[]]>([
    ['an empty history', []],
    [
      'one after another',
      [set([0, 1], 0, 'a'), read([2, 3], 1, 'a'), set([4, 5], 1, 'b'), read([6, 7], 2, 'b')],
    ],
    ['a read beside a write that sees it', [set([0, 10], 0, 'a'), read([1, 2], 1, 'a')]],
    ['a read beside a write that does not', [set([0, 10], 0, 'a'), read([1, 2], 0, '')]],
    ['two writers, one wins', [set([0, 10], 0, 'a'), conflict([0, 10], 0, 'b'), read([11, 12], 1, 'a')]],
    ['a lost answer whose write took effect', [set([0, undefined], 0, 'a'), read([5, 6], 1, 'a')]],
    ['a lost answer whose write never did', [set([0, undefined], 0, 'a'), read([5, 6], 0, '')]],
    [
      'a lost answer that takes effect late',
      [set([0, undefined], 0, 'a'), read([5, 6], 0, ''), read([7, 8], 1, 'a')],
    ],
  ])('%s', (_name, history) => {
    expect(verdict(history)).toBe('linearizable')
  })
})

describe('linearizability: refuses', () => {
  test.each<[string, readonly EpochOperation[]]>([
    ['a stale read after the write was answered', [set([0, 1], 0, 'a'), read([2, 3], 0, '')]],
    ['a lost update', [set([0, 1], 0, 'a'), set([2, 3], 0, 'b')]],
    ['two winners at once', [set([0, 10], 0, 'a'), set([0, 10], 0, 'b')]],
    ['a value that nobody wrote', [set([0, 1], 0, 'a'), read([2, 3], 1, 'x')]],
    ['reads that go back', [set([0, 20], 0, 'a'), read([1, 2], 1, 'a'), read([3, 4], 0, '')]],
    ['a conflict with nobody', [conflict([0, 1], 0, 'a'), read([2, 3], 0, '')]],
    [
      'a lost answer seen, then unseen',
      [set([0, undefined], 0, 'a'), read([5, 6], 1, 'a'), read([7, 8], 0, '')],
    ],
    ['a write seen before its call', [read([0, 1], 1, 'a'), set([2, 3], 0, 'a')]],
  ])('%s', (_name, history) => {
    const found = checkLinearizable(history, model)
    expect(found.type).toBe('violation')
    if (found.type === 'violation') expect(found.stuckAt.length).toBeGreaterThan(0)
  })
})

test('linearizability: long histories with many lost answers are decided', () => {
  const history: EpochOperation[] = []
  for (let i = 0; i < 2_000; i++) {
    const at = 10 * i
    history.push(set([at, at + 8], i, `v${i}`), conflict([at + 1, at + 9], i, `w${i}`))
    history.push(read([at + 9, at + 12], i + 1, `v${i}`))
    if (i % 50 === 0) history.push(set([at + 2, undefined], i, `lost${i}`))
  }
  expect(verdict(history)).toBe('linearizable')
  expect(verdict([...history, read([30_000, 30_001], 1_999, 'v1998')])).toBe('violation')
})

test('linearizability: says when it was cut off', () => {
  const history = [set([0, 1], 0, 'a'), read([2, 3], 1, 'a')]
  expect(checkLinearizable(history, model, { maxSteps: 1 })).toEqual({ type: 'undecided', steps: 1 })
})
