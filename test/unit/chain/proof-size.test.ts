import { expect, test } from 'vitest'
import { answerSizes, quantile } from '../../../bench/proof-size.ts'

test('state answer: at a million identities fits 1 KiB beyond the record at the median', () => {
  // Each doubling of the identities adds one sibling of 32 bytes; bench/proof-size.ts builds the million.
  const doublings = Math.log2(1_000_000 / 2 ** 14)
  const { present, absent } = answerSizes(2 ** 14, 400)
  for (const sizes of [present, absent]) {
    expect(quantile(sizes, 0.5)).toBeGreaterThan(300)
    expect(quantile(sizes, 0.5) + 32 * doublings).toBeLessThanOrEqual(1024)
  }
})
