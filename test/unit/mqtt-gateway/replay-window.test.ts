/** The replay window: once is enough, and full means refuse (RFC 4303 §3.4.3). */
import fc from 'fast-check'
import { expect, test } from 'vitest'
import type { KeyId, Milliseconds } from '../../../chain/brands.ts'
import { unwrap } from '../../../chain/result.ts'
import {
  ReplayWindow,
  replayWindowSize,
  type Sighting,
} from '../../../mqtt-gateway/protocol/replay-window.ts'

const now = 1000 as Milliseconds
const key = (n: number): KeyId => n.toString(16).padStart(64, '0') as KeyId
const sighting = (counter: number, keyNumber = 1, expiry = 2000): Sighting => ({
  keyId: key(keyNumber),
  counter,
  expiry: expiry as Milliseconds,
})
const verdict = (window: ReplayWindow, seen: Sighting, at = now): string => {
  const result = window.accept(seen, at)
  return result.ok ? 'ok' : result.error.code
}

test('replay window: a counter is accepted once, in any order within the window', () => {
  fc.assert(
    fc.property(fc.array(fc.nat(replayWindowSize - 1), { maxLength: 60 }), counters => {
      const window = new ReplayWindow(4)
      const used = new Set<number>()
      for (const counter of counters) {
        expect(verdict(window, sighting(counter))).toBe(used.has(counter) ? 'replayed' : 'ok')
        used.add(counter)
      }
    }),
  )
})

test('replay window: what lies below the window is refused, though it may be new', () => {
  const window = new ReplayWindow(4)
  expect(verdict(window, sighting(replayWindowSize + 10))).toBe('ok')
  expect(verdict(window, sighting(11))).toBe('ok')
  expect(verdict(window, sighting(10))).toBe('counter-too-old')
})

test('replay window: a far jump ahead costs no memory and forgets nothing it must keep', () => {
  const window = new ReplayWindow(4)
  expect(verdict(window, sighting(0))).toBe('ok')
  expect(verdict(window, sighting(Number.MAX_SAFE_INTEGER))).toBe('ok')
  expect(verdict(window, sighting(Number.MAX_SAFE_INTEGER))).toBe('replayed')
  expect(verdict(window, sighting(0))).toBe('counter-too-old')
})

test('replay window: a full table refuses a new key and keeps the old ones', () => {
  const window = new ReplayWindow(2)
  expect(verdict(window, sighting(1, 1))).toBe('ok')
  expect(verdict(window, sighting(1, 2))).toBe('ok')
  expect(verdict(window, sighting(1, 3))).toBe('overloaded')
  expect(verdict(window, sighting(1, 1))).toBe('replayed')
})

test('replay window: a full table makes room by keys whose envelopes have all expired', () => {
  const window = new ReplayWindow(1)
  expect(verdict(window, sighting(1, 1, 2000))).toBe('ok')
  expect(verdict(window, sighting(2, 1, 1500))).toBe('ok')
  expect(verdict(window, sighting(1, 2), 2000 as Milliseconds)).toBe('overloaded')
  expect(verdict(window, sighting(1, 2), 2001 as Milliseconds)).toBe('ok')
})

test('replay window: asking does not use a counter up', () => {
  const window = new ReplayWindow(1)
  expect(window.check(sighting(5), now).ok).toBe(true)
  expect(verdict(window, sighting(5))).toBe('ok')
  expect(window.check(sighting(5), now).ok).toBe(false)
})

test('replay window: survives a restart through its stored form', () => {
  const before = new ReplayWindow(4)
  for (const counter of [3, 9, 40]) verdict(before, sighting(counter))
  const after = new ReplayWindow(4, JSON.parse(JSON.stringify(before.toStored())))
  for (const counter of [3, 9, 40]) expect(verdict(after, sighting(counter))).toBe('replayed')
  expect(verdict(after, sighting(4))).toBe('ok')
})

test("replay window: a counter that is held is no other message's, free again if nothing came of it, and used if something did", () => {
  const window = new ReplayWindow(4)
  const held = window.hold(sighting(7), now)
  expect(verdict(window, sighting(7))).toBe('replayed')
  expect(verdict(window, sighting(8))).toBe('ok')
  unwrap(held).free()
  const again = unwrap(window.hold(sighting(7), now))
  // The window goes on past it meanwhile.
  expect(verdict(window, sighting(7 + replayWindowSize))).toBe('ok')
  again.use()
  expect(verdict(window, sighting(7))).toBe('counter-too-old')
  expect(verdict(window, sighting(9))).toBe('ok')
  const first = unwrap(window.hold(sighting(1, 2), now))
  first.use()
  expect(verdict(window, sighting(1, 2))).toBe('replayed')
})
