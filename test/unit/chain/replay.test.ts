/** Replay slots: what is remembered, for how long, and that it comes back from storage. */
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { Milliseconds, TransactionId } from '../../../chain/brands.ts'
import { ReplayDraft, ReplaySlots, restoreReplay, slotOf } from '../../../chain/replay.ts'
import { unwrap } from '../../../chain/result.ts'

function idOf(n: number): TransactionId {
  return TransactionId(n.toString(16).padStart(64, '0'))
}

function slots(ids: readonly (readonly [id: number, expiry: number])[], base = ReplaySlots.empty, time = 0) {
  const draft = new ReplayDraft(base, Milliseconds(time))
  for (const [id, expiry] of ids) draft.add(idOf(id), Milliseconds(expiry))
  return draft.finish()
}

describe('replay slots', () => {
  test('replay: an id is remembered until time has passed its second', () => {
    const base = slots([[1, 5999]])
    expect(base.has(idOf(1), Milliseconds(5999))).toBe(true)
    expect(base.has(idOf(2), Milliseconds(5999))).toBe(false)
    expect(slots([], base, 5999).count).toBe(1)
    expect(slots([], base, 6000).count).toBe(0)
    expect(slots([], base, 6000).root).toBe(ReplaySlots.empty.root)
  })

  test('replay: the root tells order, slot and number of ids apart', () => {
    const roots = [
      slots([]),
      slots([[1, 1000]]),
      slots([[1, 2000]]),
      slots([[2, 1000]]),
      slots([
        [1, 1000],
        [2, 1000],
      ]),
      slots([
        [2, 1000],
        [1, 1000],
      ]),
      slots([
        [1, 1000],
        [2, 2000],
      ]),
    ].map(each => each.root)
    expect(new Set(roots).size).toBe(roots.length)
    expect(
      slots([
        [1, 2000],
        [2, 1000],
      ]).root,
    ).toBe(
      slots([
        [2, 1000],
        [1, 2000],
      ]).root,
    )
  })

  test('replay: a version does not see what a later one added', () => {
    const first = slots([[1, 1000]])
    const second = slots([[2, 1000]], first)
    const fork = slots([[3, 1000]], first)
    const known = (version: ReplaySlots) => [1, 2, 3].map(n => version.has(idOf(n), Milliseconds(1000)))
    expect(known(first)).toEqual([true, false, false])
    expect(known(second)).toEqual([true, true, false])
    expect(known(fork)).toEqual([true, false, true])
    expect([first, second, fork].map(version => version.count)).toEqual([1, 2, 2])
  })

  test('replay: the pieces that blocks stored restore the same root', () => {
    const events = fc.array(fc.tuple(fc.nat(8), fc.integer({ min: 0, max: 3 })), { maxLength: 40 })
    fc.assert(
      fc.property(events, steps => {
        let current = ReplaySlots.empty
        let time = 0
        const stored: { slot: number; ids: Uint8Array }[] = []
        for (const [i, [ahead, pause]] of steps.entries()) {
          time += pause * 700
          const draft = new ReplayDraft(current, Milliseconds(time))
          draft.add(idOf(i), Milliseconds(time + ahead * 500))
          for (const [slot, ids] of draft.added()) stored.push({ slot, ids })
          current = draft.finish()
        }
        const live = stored.filter(({ slot }) => slot >= slotOf(Milliseconds(time)))
        const restored = unwrap(restoreReplay(live))
        expect(restored.root).toBe(current.root)
        expect(unwrap(restoreReplay(current.stored())).root).toBe(current.root)
        for (const { slot, ids } of restored.stored()) expect(ids.length % 32, String(slot)).toBe(0)
      }),
      { seed: 1 },
    )
  })

  test('replay: refuses stored pieces that are no whole ids, and an id twice', () => {
    const ids = new Uint8Array(32).fill(1)
    const code = (pieces: readonly { slot: number; ids: Uint8Array }[]) => {
      const restored = restoreReplay(pieces)
      return restored.ok ? 'ok' : restored.error.code
    }
    expect(code([{ slot: 1, ids: ids.slice(1) }])).toBe('malformed')
    expect(code([{ slot: -1, ids }])).toBe('malformed')
    expect(
      code([
        { slot: 1, ids },
        { slot: 1, ids },
      ]),
    ).toBe('malformed')
    expect(
      code([
        { slot: 1, ids },
        { slot: 2, ids },
      ]),
    ).toBe('ok')
  })

  test('replay: adding what is there is a mistake of the caller', () => {
    expect(() =>
      slots([
        [1, 1000],
        [1, 1000],
      ]),
    ).toThrow('remembered already')
  })
})
