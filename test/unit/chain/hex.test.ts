import { bytesToHex as nobleToHex } from '@noble/hashes/utils.js'
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { bytesToHex, hexToBytes } from '../../../chain/hex.ts'

test('hex: makes the text that noble makes, and reads it back', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 70 }), bytes => {
      const text = bytesToHex(bytes)
      expect(text).toBe(nobleToHex(bytes))
      expect(hexToBytes(text)).toEqual(bytes)
    }),
    { seed: 1 },
  )
  const long = Uint8Array.from({ length: 10_001 }, (_, i) => i % 256)
  expect(bytesToHex(long)).toBe(nobleToHex(long))
  expect(hexToBytes(bytesToHex(long))).toEqual(long)
})

test('hex: refuses everything but an even number of lowercase digits', () => {
  for (const text of ['0', '0g', 'AB', ' 0', '0x', '0ß', '€0', 'abc'])
    expect(() => hexToBytes(text), text).toThrow('hexadecimal')
})
