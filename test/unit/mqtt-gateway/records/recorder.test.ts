/** What tells one message from another. */
import { expect, test } from 'vitest'
import { bytesToHex } from '../../../../chain/hex.ts'
import { exchangeDigest } from '../../../../mqtt-gateway/records/recorder.ts'

test('exchange digest: covers topic and payload, and where the one ends', () => {
  const digest = (topic: string, payload: string) =>
    bytesToHex(exchangeDigest(topic, new TextEncoder().encode(payload)))
  const digests = [digest('a', 'bc'), digest('ab', 'c'), digest('abc', ''), digest('a', 'bd')]
  expect(new Set(digests).size).toBe(4)
  expect(digest('a', 'bc')).toBe(digest('a', 'bc'))
  expect(exchangeDigest('a', new Uint8Array())).toHaveLength(32)
})
