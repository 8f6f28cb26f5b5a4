/**
 * Bytes to lowercase hexadecimal text and back, for digests on the hot path.
 *
 * @noble/hashes builds its text by appending, which engines keep as a tree of 32 pieces and flatten at the first use as a
 * key: three times the time of making the text at once, and the garbage of the pieces.
 */
import { assert } from './result.ts'

const notDigit = 0xff
/** Value of each digit's character code. */
const valueOfCode = new Uint8Array(128).fill(notDigit)
/** Character code of each value from 0 to 15. */
const codeOfValue = new Uint8Array(16)
for (let value = 0; value < 16; value++) {
  const code = value.toString(16).charCodeAt(0)
  codeOfValue[value] = code
  valueOfCode[code] = value
}

/** Character codes of a digest's text while it is made. */
const digestCodes = new Uint8Array(64)
/** More arguments than this are not given to one call. */
const maxCodes = 4096

/** Two lowercase digits for each byte. */
export function bytesToHex(bytes: Uint8Array): string {
  if (bytes.length * 2 > maxCodes)
    return bytesToHex(bytes.subarray(0, maxCodes / 2)) + bytesToHex(bytes.subarray(maxCodes / 2))
  const codes = bytes.length === 32 ? digestCodes : new Uint8Array(bytes.length * 2)
  for (let i = 0; i < bytes.length; i++) {
    const byte = bytes[i] as number
    codes[2 * i] = codeOfValue[byte >> 4] as number
    codes[2 * i + 1] = codeOfValue[byte & 15] as number
  }
  return String.fromCharCode.apply(null, codes as unknown as number[])
}

/** The bytes of lowercase hexadecimal text. Throws on any other text. */
export function hexToBytes(hex: string): Uint8Array {
  const bytes = new Uint8Array(hex.length >> 1)
  writeHex(hex, bytes, 0)
  return bytes
}

/** Puts the bytes of lowercase hexadecimal text into `target` from `offset` on. Throws on any other text. */
export function writeHex(hex: string, target: Uint8Array, offset: number): void {
  let seen = hex.length & 1 ? notDigit : 0
  for (let i = 0; 2 * i + 1 < hex.length; i++) {
    const high = valueOfCode[hex.charCodeAt(2 * i)] ?? notDigit
    const low = valueOfCode[hex.charCodeAt(2 * i + 1)] ?? notDigit
    seen |= high | low
    target[offset + i] = (high << 4) | low
  }
  assert(seen <= 15, 'hex: expected an even number of lowercase hexadecimal digits')
}
