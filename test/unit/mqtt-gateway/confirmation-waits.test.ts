/** How long an agent waits for a confirmation before it sends again. */
import { expect, test } from 'vitest'
import { ConfirmationWaits } from '../../../mqtt-gateway/agent/confirmation-waits.ts'

test('confirmation waits: one that is over doubles the next, for one recipient, up to a minute (RFC 6298, 5.5)', () => {
  const waits = new ConfirmationWaits(2_000)
  const seen = Array.from({ length: 7 }, () => {
    const waitMs = waits.of('a')
    waits.over('a')
    return waitMs
  })
  expect(seen).toEqual([2_000, 4_000, 8_000, 16_000, 32_000, 60_000, 60_000])
  expect(waits.of('b')).toBe(2_000)
})

test('confirmation waits: it stays long until a message is confirmed that was sent once, and is twice what that takes, and no shorter than at first (RFC 6298, 5.7, 2.3, 2.4)', () => {
  const waits = new ConfirmationWaits(2_000)
  waits.over('a')
  waits.over('a')
  expect(waits.of('a')).toBe(8_000)
  waits.confirmed('a', 3_000)
  expect(waits.of('a')).toBe(6_000)
  waits.confirmed('a', 3_800)
  expect(waits.of('a')).toBe(6_200)
  for (let i = 0; i < 50; i++) waits.confirmed('a', 10)
  expect(waits.of('a')).toBe(2_000)
  waits.confirmed('b', 200_000)
  expect(waits.of('b')).toBe(60_000)
})

test('confirmation waits: while verdicts take long, confirmations are given three times as long', () => {
  const waits = new ConfirmationWaits(2_000)
  const given = [10, 1_000, 30_000, 10].map(verdictMs => {
    waits.decided(verdictMs)
    return waits.of('a')
  })
  expect(given).toEqual([2_000, 3_000, 60_000, 2_000])
})
