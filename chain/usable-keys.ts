/**
 * Which keys may stand on the chain: those that every implementation can use for what they are there for (docs/FORMATS.md,
 * "Keys and signatures"). Execution and the genesis ask here, and so do the adapters: a key that passes is accepted by noble,
 * libsodium, OpenSSL and HPKE alike; test/vectors/keys.json shows the edges. Without the rule one member with a key of small order
 * would stop the re-key of its whole group, and a grant with a token key of garbage could never be used.
 *
 * One secret does not serve both purposes: a record has no encryption key that is one of its signing keys in another form.
 *
 * A key has one encoding, so that it has one id; that its owner knows the secret half is for a signature to show.
 *
 * Cost on one core: a point of Ed25519 or P-256 0.13 ms (its square root) the first time, the others 1 µs. Signing keys that come with a
 * signature of their own need no check: no signature verifies under a key that is refused here.
 */
import { ed25519 } from '@noble/curves/ed25519.js'
import { p256 } from '@noble/curves/nist.js'
import { bytesToHex } from '@noble/hashes/utils.js'
import type { EncryptionKey, PublicKey } from './keys.ts'
import { RecentMap } from './recent-map.ts'
import { assertNever } from './result.ts'

const maxUsablePoints = 1_024
/** Points that were found usable lately, by curve and bytes. */
const usablePoints = new RecentMap<string, true>(maxUsablePoints)

/** Why a key is not usable, in words; undefined for a usable one. Never throws on what a peer sent. */
export function keyFlaw({ suite, bytes }: PublicKey | EncryptionKey): string | undefined {
  switch (suite) {
    case 'ed25519':
      return pointFlaw('ed25519', bytes, ed25519Flaw)
    case 'p256':
    case 'p256-ecdh':
      return pointFlaw('p256', bytes, p256Flaw)
    case 'x25519':
      return x25519Flaw(bytes)
    case 'rsa-oaep':
      return rsaFlaw(bytes)
    default:
      return assertNever(suite)
  }
}

/**
 * Why a record may not have both keys, in words; undefined if it may: one secret must not sign and decrypt. Of P-256 the same x, since
 * a point and its negative have one secret but for its sign; of Curve25519 the Montgomery form of the signing key (RFC 7748, section 4.1).
 * Both are usable keys.
 */
export function sharingFlaw(sign: PublicKey, encrypt: EncryptionKey): string | undefined {
  return isOneKey(sign, encrypt)
    ? `${encrypt.suite}: expected another key than the one that signs as ${sign.suite}`
    : undefined
}

function isOneKey(sign: PublicKey, encrypt: EncryptionKey): boolean {
  switch (encrypt.suite) {
    case 'p256-ecdh':
      return (
        sign.suite === 'p256' && bytesToHex(sign.bytes.subarray(1)) === bytesToHex(encrypt.bytes.subarray(1))
      )
    case 'x25519':
      return sign.suite === 'ed25519' && isMontgomeryForm(sign.bytes, encrypt.bytes)
    case 'rsa-oaep':
      return false
    default:
      return assertNever(encrypt.suite)
  }
}

/** u = (1 + y) / (1 − y) mod p, without the division. */
function isMontgomeryForm(edwards: Uint8Array, montgomery: Uint8Array): boolean {
  const y = littleEndian(edwards) & ((1n << 255n) - 1n)
  const u = littleEndian(montgomery)
  return (u * (1n - y) - (1n + y)) % p25519 === 0n
}

function littleEndian(bytes: Uint8Array): bigint {
  return BigInt(`0x${bytesToHex(bytes.toReversed())}`)
}

/** Of a point of this curve; what was usable is. */
function pointFlaw(
  curve: 'ed25519' | 'p256',
  bytes: Uint8Array,
  flawOf: (bytes: Uint8Array) => string | undefined,
): string | undefined {
  const point = `${curve} ${bytesToHex(bytes)}`
  if (usablePoints.get(point)) return undefined
  const flaw = flawOf(bytes)
  if (flaw === undefined) usablePoints.set(point, true)
  return flaw
}

/** Decodes as in RFC 8032, section 5.1.3, to a point that is not of small order. */
function ed25519Flaw(bytes: Uint8Array): string | undefined {
  try {
    return ed25519.Point.fromBytes(bytes, false).isSmallOrder()
      ? 'ed25519: expected a point of large order'
      : undefined
  } catch {
    return 'ed25519: expected the canonical encoding of a point on the curve'
  }
}

/** A compressed point of SEC 1, section 2.3.4: x < p, and on the curve. The curve has no point of small order. */
function p256Flaw(bytes: Uint8Array): string | undefined {
  const flaw = 'p256: expected a compressed point on the curve'
  if (bytes.length !== 33) return flaw
  try {
    p256.Point.fromBytes(bytes)
    return undefined
  } catch {
    return flaw
  }
}

const p25519 = 2n ** 255n - 19n

/** The u-coordinates below p of order 1, 2, 4 and 8, on the curve and on its twist: X25519 gives zero for each (RFC 7748, section 6.1). */
const smallOrderX25519: ReadonlySet<string> = new Set([
  `00${'00'.repeat(31)}`,
  `01${'00'.repeat(31)}`,
  'e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800',
  '5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157',
  `ec${'ff'.repeat(30)}7f`,
])

/** u < p = 2²⁵⁵ − 19, in 32 bytes with the least significant first, and not of small order. */
function x25519Flaw(bytes: Uint8Array): string | undefined {
  if (bytes.length !== 32 || !isBelowP25519(bytes)) return 'x25519: expected 32 bytes below 2^255 - 19'
  return smallOrderX25519.has(bytesToHex(bytes)) ? 'x25519: expected a point of large order' : undefined
}

function isBelowP25519(bytes: Uint8Array): boolean {
  const [least = 0] = bytes
  const most = bytes[31] ?? 0
  return most < 0x7f || (most === 0x7f && (least < 0xed || bytes.subarray(1, 31).some(byte => byte !== 0xff)))
}

/** Bytes of the modulus: 2,048 or 3,072 bits. */
const modulusBytes: readonly number[] = [256, 384]
const leastExponent = 65_537

/**
 * The one DER encoding of `RSAPublicKey` (RFC 8017, appendix A.1.1) with an odd modulus of 2,048 or 3,072 bits and an odd exponent
 * from 65,537 (FIPS 186-5) to 2³¹ − 1 (the largest that every library takes).
 */
function rsaFlaw(bytes: Uint8Array): string | undefined {
  const form = 'rsa-oaep: expected the DER of an RSAPublicKey'
  // A length above 255 takes two bytes behind 82; the modulus has its highest bit set, so a zero byte goes before it.
  const whole = 4 + longLength(bytes, 0, 0x30)
  const modulus = longLength(bytes, 4, 0x02) - 1
  const exponent = 8 + 1 + modulus
  if (whole !== bytes.length || bytes[8] !== 0 || bytes[exponent] !== 0x02) return form
  if (!modulusBytes.includes(modulus) || (bytes[9] ?? 0) < 0x80)
    return 'rsa-oaep: expected a modulus of 2048 or 3072 bits'
  if (((bytes[exponent - 1] ?? 0) & 1) === 0) return 'rsa-oaep: expected an odd modulus'
  const value = bytes.subarray(exponent + 2)
  if (bytes[exponent + 1] !== value.length) return form
  const isMinimal = value[0] !== 0 || (value[1] ?? 0) >= 0x80
  const number = value.reduce((sum, byte) => sum * 256 + byte, 0)
  const isInRange = value.length <= 4 && (value[0] ?? 0) < 0x80 && number >= leastExponent && number % 2 === 1
  return isMinimal && isInRange
    ? undefined
    : 'rsa-oaep: expected an odd exponent from 65537 to 2147483647 in its shortest form'
}

/** The length of the DER value with this tag at `offset`, if it is written in two bytes; NaN otherwise. */
function longLength(bytes: Uint8Array, offset: number, tag: number): number {
  const [found, form, high = Number.NaN, low = Number.NaN] = bytes.subarray(offset, offset + 4)
  return found === tag && form === 0x82 ? high * 256 + low : Number.NaN
}
