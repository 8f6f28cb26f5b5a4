/**
 * Makes test/vectors/keys.json: public keys at the edges of what may stand on the chain (docs/FORMATS.md, "Keys and signatures"),
 * usable and not. The expected verdicts follow from how each one is built here, not from running the rule.
 * Run: node test/vectors/make-keys.ts
 */
import { writeFileSync } from 'node:fs'
import { ed25519, x25519 } from '@noble/curves/ed25519.js'
import { p256 } from '@noble/curves/nist.js'
import { sha256 } from '@noble/hashes/sha2.js'
import { bytesToHex, concatBytes, hexToBytes, utf8ToBytes } from '@noble/hashes/utils.js'

export interface KeyVector {
  readonly name: string
  readonly suite: 'ed25519' | 'p256' | 'x25519' | 'p256-ecdh' | 'rsa-oaep'
  readonly key: string
  readonly usable: boolean
}

const vectors: KeyVector[] = []

function add(suite: KeyVector['suite'], usable: boolean, name: string, key: Uint8Array | string): void {
  vectors.push({ name, suite, key: typeof key === 'string' ? key : bytesToHex(key), usable })
}

function littleEndian(value: bigint): string {
  return bytesToHex(hexToBytes(value.toString(16).padStart(64, '0')).reverse())
}

const seed = new Uint8Array(32).fill(7)
const p25519 = 2n ** 255n - 19n
const signBit = 2n ** 255n

// Ed25519: y, and the sign of x in the highest bit.
const { Point } = ed25519
const torsion = Point.fromHex('c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa')
const edwards = Point.fromBytes(ed25519.getPublicKey(seed))
add('ed25519', true, 'a key', edwards.toBytes())
add('ed25519', true, 'a key with a component of order 8', edwards.add(torsion).toBytes())
for (let i = 0; i < 8; i++) {
  let point = Point.ZERO
  for (let n = 0; n < i; n++) point = point.add(torsion)
  add('ed25519', false, `of small order: ${i} times a point of order 8`, point.toBytes())
}
add('ed25519', false, 'y = 1 with the sign of x set, which is 0', littleEndian(1n + signBit))
add('ed25519', false, 'y = p − 1 with the sign of x set, which is 0', littleEndian(p25519 - 1n + signBit))
add('ed25519', false, 'y = p: 0 in another encoding', littleEndian(p25519))
add('ed25519', false, 'y = p + 1: 1 in another encoding', littleEndian(p25519 + 1n))
// y = 3 is on the curve, and below 19, so that p + y has an encoding too.
add('ed25519', true, 'y = 3', littleEndian(3n))
add('ed25519', false, 'y = p + 3: 3 in another encoding', littleEndian(p25519 + 3n))
add('ed25519', false, 'y = 2, which no point has', littleEndian(2n))

// X25519: u, the highest bit 0.
const montgomery = x25519.getPublicKey(seed)
add('x25519', true, 'a key', montgomery)
add('x25519', true, 'u = 9, the base point', littleEndian(9n))
add('x25519', true, 'u = 2, on the twist', littleEndian(2n))
add('x25519', true, 'u = p − 2', littleEndian(p25519 - 2n))
const orderEight = [
  325606250916557431795983626356110631294008115727848805560023387167927233504n,
  39382357235489614581723060781553021112529911719440698176882885853963445705823n,
]
const smallOrder: readonly (readonly [string, bigint])[] = [
  ['0', 0n],
  ['1', 1n],
  ['p − 1', p25519 - 1n],
  ...orderEight.map(u => ['of order 8', u] as const),
]
for (const [name, u] of smallOrder) {
  add('x25519', false, `of small order: ${name}`, littleEndian(u))
  add('x25519', false, `of small order: ${name}, the highest bit set`, littleEndian(u + signBit))
}
for (const more of [0n, 1n, 2n, 18n])
  add('x25519', false, `u = p + ${more}: ${more} in another encoding`, littleEndian(p25519 + more))
add('x25519', false, 'a key, the highest bit set', montgomery.with(31, (montgomery[31] ?? 0) | 0x80))
add('x25519', false, 'all ones', 'ff'.repeat(32))

// P-256, for both suites: 02 or 03, and x.
const prime = p256.Point.Fp.ORDER
const compressed = p256.getPublicKey(seed, true)
const withX = (x: bigint, first = '02') => first + x.toString(16).padStart(64, '0')
function isOnCurve(x: bigint): boolean {
  const { Fp, CURVE } = { Fp: p256.Point.Fp, CURVE: p256.Point.CURVE() }
  const square = Fp.create(x * x * x + CURVE.a * x + CURVE.b)
  return Fp.eql(Fp.pow(square, (prime - 1n) / 2n), Fp.ONE)
}
const small = Array.from({ length: 20 }, (_, i) => BigInt(i))
const [on = 0n] = small.filter(isOnCurve)
const [off = 0n] = small.filter(x => !isOnCurve(x))
for (const suite of ['p256', 'p256-ecdh'] as const) {
  add(suite, true, 'a key', compressed)
  add(suite, true, 'the same x, the other y', compressed.with(0, (compressed[0] ?? 0) ^ 1))
  add(suite, true, `x = ${on}`, withX(on))
  add(suite, false, `x = p + ${on}: ${on} in another encoding`, withX(prime + on))
  add(suite, false, `x = ${off}, which no point has`, withX(off))
  add(suite, false, 'first byte 04', withX(on, '04'))
  add(suite, false, 'first byte 00', withX(on, '00'))
  add(suite, false, 'zeros', '00'.repeat(33))
}

// RSA: the DER of SEQUENCE { INTEGER modulus, INTEGER exponent }.
function length(value: Uint8Array): Uint8Array {
  const { length: n } = value
  if (n < 128) return Uint8Array.of(n)
  return n < 256 ? Uint8Array.of(0x81, n) : Uint8Array.of(0x82, n >> 8, n & 0xff)
}
const der = (tag: number, value: Uint8Array) => concatBytes(Uint8Array.of(tag), length(value), value)
/** `bits` bits, the highest one set, odd; as good as a product of primes for everything but keeping a secret. */
function modulus(bits: number): Uint8Array {
  const parts = Array.from({ length: Math.ceil(bits / 256) }, (_, i) => sha256(utf8ToBytes(`modulus ${i}`)))
  const bytes = concatBytes(...parts).subarray(0, Math.ceil(bits / 8))
  const top = (bits - 1) % 8
  bytes[0] = ((bytes[0] ?? 0) & ((1 << top) - 1)) | (1 << top)
  bytes[bytes.length - 1] = (bytes.at(-1) ?? 0) | 1
  return bytes
}
const positive = (bytes: Uint8Array) =>
  (bytes[0] ?? 0) < 0x80 ? bytes : concatBytes(Uint8Array.of(0), bytes)
const rsa = (n: Uint8Array, e: Uint8Array) => der(0x30, concatBytes(der(2, positive(n)), der(2, e)))
const exponent = Uint8Array.of(1, 0, 1)
const n2048 = modulus(2048)
const valid = rsa(n2048, exponent)
add('rsa-oaep', true, '2048 bits', valid)
add('rsa-oaep', true, '3072 bits', rsa(modulus(3072), exponent))
add('rsa-oaep', true, 'exponent 2^31 − 1', rsa(n2048, Uint8Array.of(0x7f, 0xff, 0xff, 0xff)))
add(
  'rsa-oaep',
  true,
  'exponent 2^23 + 1, with a zero byte before it',
  rsa(n2048, Uint8Array.of(0, 0x80, 0, 1)),
)
add('rsa-oaep', false, '2047 bits', rsa(modulus(2047), exponent))
add('rsa-oaep', false, '2056 bits', rsa(modulus(2056), exponent))
add('rsa-oaep', false, '3071 bits', rsa(modulus(3071), exponent))
add('rsa-oaep', false, '4000 bits', rsa(modulus(4000), exponent))
add('rsa-oaep', false, 'an even modulus', rsa(n2048.with(255, 2), exponent))
add('rsa-oaep', false, 'exponent 1', rsa(n2048, Uint8Array.of(1)))
add('rsa-oaep', false, 'exponent 3', rsa(n2048, Uint8Array.of(3)))
add('rsa-oaep', false, 'exponent 65535', rsa(n2048, Uint8Array.of(0, 0xff, 0xff)))
add('rsa-oaep', false, 'exponent 65538, even', rsa(n2048, Uint8Array.of(1, 0, 2)))
add('rsa-oaep', false, 'exponent 2^31 + 1', rsa(n2048, Uint8Array.of(0, 0x80, 0, 0, 1)))
add('rsa-oaep', false, 'a negative exponent', rsa(n2048, Uint8Array.of(0x81, 0, 1)))
add('rsa-oaep', false, 'an exponent with a zero byte too many', rsa(n2048, Uint8Array.of(0, 1, 0, 1)))
add('rsa-oaep', false, 'a negative modulus', der(0x30, concatBytes(der(2, n2048), der(2, exponent))))
const padded = concatBytes(Uint8Array.of(0, 0), n2048)
add(
  'rsa-oaep',
  false,
  'a modulus with a zero byte too many',
  der(0x30, concatBytes(der(2, padded), der(2, exponent))),
)
add('rsa-oaep', false, 'a byte after the end', concatBytes(valid, Uint8Array.of(0)))
add(
  'rsa-oaep',
  false,
  'a byte after the exponent',
  der(0x30, concatBytes(valid.subarray(4), Uint8Array.of(0))),
)
add('rsa-oaep', false, 'cut short', valid.subarray(0, -1))
add(
  'rsa-oaep',
  false,
  'a length of three bytes',
  concatBytes(Uint8Array.of(0x30, 0x83, 0), valid.subarray(2)),
)
const algorithm = hexToBytes('300d06092a864886f70d0101010500')
const bitString = der(3, concatBytes(Uint8Array.of(0), valid))
add('rsa-oaep', false, 'a SubjectPublicKeyInfo', der(0x30, concatBytes(algorithm, bitString)))
add('rsa-oaep', false, 'zeros', new Uint8Array(270))

writeFileSync(
  new URL('keys.json', import.meta.url),
  `${JSON.stringify({ comment: 'Made by make-keys.ts. Hexadecimal.', vectors }, undefined, 2)}\n`,
)
