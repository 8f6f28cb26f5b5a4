/**
 * Domain-separated SHA-256 (docs/FORMATS.md, "Hashing domains").
 *
 * Everything that the chain hashes or signs begins with the name of what it is and a zero byte, so that bytes
 * made for one purpose never mean anything for another. The trees of RFC 6962 (chain/merkle.ts) are the one
 * exception: their prefixes are the RFC's.
 */
import { sha256 as nobleSha256 } from '@noble/hashes/sha2.js'
import { concatBytes, utf8ToBytes } from '@noble/hashes/utils.js'
import type { Hash, HashText } from './brands.ts'
import { bytesToHex } from './hex.ts'
import { assert } from './result.ts'

/** Every domain in use. A format that changes gets a new number; a name is never reused. */
export const domains = [
  'mote/acknowledgement/1',
  'mote/assignment/1',
  'mote/authorities/1',
  'mote/box-aad/1',
  'mote/box-info/1',
  'mote/boxes/1',
  'mote/broker-account/1',
  'mote/broker-gateway/1',
  'mote/certificate/1',
  'mote/challenge/1',
  'mote/changes/1',
  'mote/contract/1',
  'mote/coordination-address/1',
  'mote/credential/1',
  'mote/device/1',
  'mote/envelope-group-key/1',
  'mote/envelope-id/1',
  'mote/envelope-info/1',
  'mote/envelope-light-key/1',
  'mote/envelope-light-secret/1',
  'mote/envelope-signature/1',
  'mote/epoch-key/1',
  'mote/credential/1',
  'mote/genesis/1',
  'mote/grant-token/1',
  'mote/grant/1',
  'mote/group/1',
  'mote/header/1',
  'mote/header-rest/1',
  'mote/hello/1',
  'mote/incidents/1',
  'mote/join/1',
  'mote/key/1',
  'mote/members/1',
  'mote/metadata/1',
  'mote/mqtt-assertion/1',
  'mote/possession/1',
  'mote/receipt/1',
  'mote/registry/1',
  'mote/replay/1',
  'mote/replay-slot/1',
  'mote/signers/1',
  'mote/state-branch/1',
  'mote/state-key/1',
  'mote/state-leaf/1',
  'mote/state-value/1',
  'mote/stream/1',
  'mote/topic/1',
  'mote/topic-key/1',
  'mote/transaction-signature/1',
  'mote/transaction/1',
  'mote/unreadable-transaction/1',
] as const

export type Domain = (typeof domains)[number]

const prefixes = new Map<Domain, Uint8Array>(
  domains.map(domain => [domain, concatBytes(utf8ToBytes(domain), Uint8Array.of(0))]),
)

/** `utf8(domain) ‖ 0x00 ‖ parts…`: what is hashed, or signed where a signature covers the bytes themselves. */
export function domainBytes(domain: Domain, ...parts: readonly Uint8Array[]): Uint8Array {
  return concatBytes(prefixes.get(domain) as Uint8Array, ...parts)
}

/**
 * SHA-256 of bytes that belong to the caller and are gone after the call, as text: of one character a byte (*binary*, 32
 * characters), or as lowercase hexadecimal digits (64).
 */
export type Sha256 = (bytes: Uint8Array, as: 'binary' | 'hex') => string

const fresh = nobleSha256.create()
/** The one hash state that noble computes in: making a new one for each hash costs as much as hashing a tree node. */
const working = nobleSha256.create()

function portableDigest(bytes: Uint8Array): Uint8Array {
  fresh._cloneInto(working)
  return working.update(bytes).digest()
}

const portableSha256: Sha256 = (bytes, as) => {
  const digest = portableDigest(bytes)
  return as === 'hex' ? bytesToHex(digest) : hashText(digest)
}

let sha256 = portableSha256
let digestOf = portableDigest

/**
 * From now on hashes with native code. It must be SHA-256: it is compared with the portable one first, for every length
 * of padding, and a different one throws.
 */
export function useSha256(native: Sha256): void {
  for (let length = 0; length <= 130; length++) {
    const bytes = Uint8Array.from({ length }, (_, i) => (i * 7 + length) & 0xff)
    for (const as of ['binary', 'hex'] as const)
      assert(native(bytes, as) === portableSha256(bytes, as), `native SHA-256: differs for ${length} bytes`)
  }
  sha256 = native
  digestOf = bytes => hashTextBytes(native(bytes, 'binary') as HashText)
}

/** A hash as text of one character a byte. 32 bytes of text take a third of the memory of an array of 32 bytes. */
export function hashText(hash: Uint8Array): HashText {
  return String.fromCharCode.apply(null, hash as unknown as number[]) as HashText
}

export function hashTextBytes(hash: HashText): Uint8Array {
  const bytes = new Uint8Array(32)
  writeHashText(hash, bytes, 0)
  return bytes
}

/** Puts the 32 bytes of a hash into `target` from `offset` on. */
export function writeHashText(hash: HashText, target: Uint8Array, offset: number): void {
  for (let i = 0; i < 32; i++) target[offset + i] = hash.charCodeAt(i)
}

/** What is hashed next, gathered. Longer input is gathered elsewhere. */
const gathered = new Uint8Array(4096)

function gather(prefix: Uint8Array, parts: readonly Uint8Array[]): Uint8Array {
  let length = prefix.length
  for (const part of parts) length += part.length
  const input = length <= gathered.length ? gathered : new Uint8Array(length)
  input.set(prefix)
  let offset = prefix.length
  for (const part of parts) {
    input.set(part, offset)
    offset += part.length
  }
  return input.subarray(0, length)
}

/** SHA-256 of `prefix` and then the parts. */
export function hasherFor(prefix: Uint8Array): (...parts: readonly Uint8Array[]) => Uint8Array {
  return (...parts) => digestOf(gather(prefix, parts))
}

/** SHA-256 of `domainBytes(domain, …parts)`: 32 bytes. */
export function hashOf(domain: Domain, ...parts: readonly Uint8Array[]): Uint8Array {
  return digestOf(gather(prefixes.get(domain) as Uint8Array, parts))
}

/** `hashOf` as 64 lowercase hexadecimal characters. */
export function hashHex(domain: Domain, ...parts: readonly Uint8Array[]): Hash {
  return sha256(gather(prefixes.get(domain) as Uint8Array, parts), 'hex') as Hash
}

/** Hashes input of one length, which the caller puts into `input`: `hash()` is SHA-256 of `domainBytes(domain, input)`. */
export class FixedHasher {
  readonly input: Uint8Array
  readonly #whole: Uint8Array

  constructor(domain: Domain, length: number) {
    this.#whole = domainBytes(domain, new Uint8Array(length))
    this.input = this.#whole.subarray(this.#whole.length - length)
  }

  hash(): HashText {
    return sha256(this.#whole, 'binary') as HashText
  }
}

/** Unsigned 64-bit integer, most significant byte first. `value` is at most 2^53-1. */
export function u64be(value: number): Uint8Array {
  const bytes = new Uint8Array(8)
  writeU64be(value, bytes, 0)
  return bytes
}

/** Puts `u64be(value)` into `target` from `offset` on. */
export function writeU64be(value: number, target: Uint8Array, offset: number): void {
  const high = Math.floor(value / 2 ** 32)
  const low = value % 2 ** 32
  for (let i = 0; i < 4; i++) {
    target[offset + i] = high >>> (24 - 8 * i)
    target[offset + 4 + i] = low >>> (24 - 8 * i)
  }
}
