/**
 * Makes test/vectors/signatures.json: signatures at the edges of the strict set (docs/FORMATS.md, "Keys and signatures"),
 * valid and not, for any implementation in any language. The expected verdicts follow from how each one is built here, not
 * from running a verifier. Run: node test/vectors/make-signatures.ts
 */
import { writeFileSync } from 'node:fs'
import { ed25519 } from '@noble/curves/ed25519.js'
import { p256 } from '@noble/curves/nist.js'
import { sha256, sha512 } from '@noble/hashes/sha2.js'
import { bytesToHex, concatBytes, hexToBytes, utf8ToBytes } from '@noble/hashes/utils.js'

export interface SignatureVector {
  readonly name: string
  readonly suite: 'ed25519' | 'p256'
  readonly key: string
  readonly message: string
  readonly signature: string
  readonly valid: boolean
}

const vectors: SignatureVector[] = []

function add(
  suite: SignatureVector['suite'],
  name: string,
  valid: boolean,
  key: Uint8Array,
  message: Uint8Array,
  signature: Uint8Array,
): void {
  vectors.push({
    name,
    suite,
    key: bytesToHex(key),
    message: bytesToHex(message),
    signature: bytesToHex(signature),
    valid,
  })
}

function bigEndian(value: bigint): Uint8Array {
  return hexToBytes(value.toString(16).padStart(64, '0'))
}

function littleEndian(value: bigint): Uint8Array {
  return bigEndian(value).reverse()
}

function fromLittleEndian(bytes: Uint8Array): bigint {
  return BigInt(`0x${bytesToHex(Uint8Array.from(bytes).reverse())}`)
}

function modulo(value: bigint, order: bigint): bigint {
  return ((value % order) + order) % order
}

// Ed25519

const E = ed25519.Point
type EdwardsPoint = typeof E.BASE
const L = E.Fn.ORDER
const p25519 = E.Fp.ORDER
/** A point of order 8 (RFC 7748's curve has 8 points of small order; this one generates them). */
const torsion = E.fromHex('c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa')

const seed = new Uint8Array(32).fill(7)
const { scalar: a, point: A } = ed25519.utils.getExtendedPublicKey(seed)
const message = utf8ToBytes('motechain')

function challenge(R: Uint8Array, key: Uint8Array, text: Uint8Array): bigint {
  return modulo(fromLittleEndian(sha512(concatBytes(R, key, text))), L)
}

/** R = r·B + `residue`(k) and S = r + k·a for the first r that gives a k as wanted. */
function construct(
  key: EdwardsPoint,
  text: Uint8Array,
  addend: EdwardsPoint,
  wanted: (k: bigint) => boolean = () => true,
): Uint8Array {
  for (let r = 1_000_003n; ; r++) {
    const R = E.BASE.multiply(r).add(addend).toBytes()
    const k = challenge(R, key.toBytes(), text)
    if (wanted(k)) return concatBytes(R, littleEndian(modulo(r + k * a, L)))
  }
}

function addRfc8032(): void {
  const tests = [
    ['9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60', ''],
    ['4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb', '72'],
    ['c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7', 'af82'],
  ] as const
  tests.forEach(([secret, text], i) => {
    const key = ed25519.getPublicKey(hexToBytes(secret))
    const signature = ed25519.sign(hexToBytes(text), hexToBytes(secret))
    add('ed25519', `RFC 8032, 7.1, test ${i + 1}`, true, key, hexToBytes(text), signature)
  })
}

function addEdwardsTorsion(): void {
  const add25519 = (name: string, valid: boolean, key: EdwardsPoint, signature: Uint8Array, text = message) =>
    add('ed25519', name, valid, key.toBytes(), text, signature)
  add25519(
    'R has a component of order 8 (valid only with the cofactor)',
    false,
    A,
    construct(A, message, torsion),
  )
  const empty = new Uint8Array(0)
  add25519('R has a component of order 8, empty message', false, A, construct(A, empty, torsion), empty)
  const mixed = A.add(torsion)
  const divides = (k: bigint) => k % 8n === 0n
  add25519(
    'A has a component of order 8 and k is not a multiple of 8',
    false,
    mixed,
    construct(mixed, message, E.ZERO, k => k % 8n === 1n),
  )
  add25519(
    'A has a component of order 8 and k is a multiple of 8',
    true,
    mixed,
    construct(mixed, message, E.ZERO, divides),
  )
  // R = r·B − k·T with k = 3 (mod 8): both have torsion, and the equation holds byte for byte.
  const cancelling = torsion.multiplyUnsafe(3n).negate()
  add25519(
    'A and R have components of order 8 that cancel',
    true,
    mixed,
    construct(mixed, message, cancelling, k => k % 8n === 3n),
  )
}

function addEdwardsSmallOrder(): void {
  const r = 77n
  const base = concatBytes(E.BASE.multiply(r).toBytes(), littleEndian(r))
  const torsionFree = (k: bigint, multiple: number) => (k * BigInt(multiple)) % 8n === 0n
  for (let multiple = 0; multiple < 8; multiple++) {
    const small = multiple === 0 ? E.ZERO : torsion.multiplyUnsafe(BigInt(multiple))
    const key = small.toBytes()
    // S = r for the first r whose k makes k·A vanish: the equation holds byte for byte.
    for (let i = r; ; i++) {
      const R = E.BASE.multiply(i).toBytes()
      if (!torsionFree(challenge(R, key, message), multiple)) continue
      add(
        'ed25519',
        `A is ${multiple} times a point of order 8`,
        false,
        key,
        message,
        concatBytes(R, littleEndian(i)),
      )
      break
    }
    const k = challenge(key, A.toBytes(), message)
    add(
      'ed25519',
      `R is ${multiple} times a point of order 8`,
      false,
      A.toBytes(),
      message,
      concatBytes(key, littleEndian(modulo(k * a, L))),
    )
  }
  const nonCanonical: [string, Uint8Array][] = [
    ['y = 1 with the sign of x set', littleEndian(1n | (1n << 255n))],
    ['y = p + 1 (the neutral point)', littleEndian(p25519 + 1n)],
    ['y = p + 1 with the sign of x set', littleEndian((p25519 + 1n) | (1n << 255n))],
    ['y = p (order 4)', littleEndian(p25519)],
    ['y = p with the sign of x set', littleEndian(p25519 | (1n << 255n))],
    ['y = p - 1 with the sign of x set', littleEndian((p25519 - 1n) | (1n << 255n))],
    ['y = p + 3 (not of small order)', littleEndian(p25519 + 3n)],
  ]
  for (const [name, bytes] of nonCanonical) {
    add('ed25519', `A not canonical: ${name}`, false, bytes, message, base)
    const k = challenge(bytes, A.toBytes(), message)
    add(
      'ed25519',
      `R not canonical: ${name}`,
      false,
      A.toBytes(),
      message,
      concatBytes(bytes, littleEndian(modulo(k * a, L))),
    )
  }
}

function addEdwardsScalarsAndLengths(): void {
  const key = A.toBytes()
  const good = ed25519.sign(message, seed)
  const R = good.slice(0, 32)
  const S = fromLittleEndian(good.slice(32))
  add('ed25519', 'a valid signature', true, key, message, good)
  add('ed25519', 'another message', false, key, utf8ToBytes('motechaim'), good)
  add('ed25519', 'another key', false, ed25519.getPublicKey(new Uint8Array(32).fill(8)), message, good)
  for (const [name, value] of [
    ['S + L', S + L],
    ['S + 2L', S + 2n * L],
    ['S + 8L', S + 8n * L],
    ['L', L],
    ['0', 0n],
    ['2^256 - 1', 2n ** 256n - 1n],
    ['L - S', L - S],
  ] as const)
    add('ed25519', `S is ${name}`, false, key, message, concatBytes(R, littleEndian(value)))
  add('ed25519', 'top bit of S set', false, key, message, good.with(63, good[63]! | 0x80))
  add('ed25519', 'sign bit of R flipped', false, key, message, good.with(31, good[31]! ^ 0x80))
  add('ed25519', 'sign bit of A flipped', false, key.with(31, key[31]! ^ 0x80), message, good)
  add('ed25519', 'A is not on the curve (y = 2)', false, littleEndian(2n), message, good)
  add('ed25519', 'all zero', false, new Uint8Array(32), message, new Uint8Array(64))
  for (const length of [0, 32, 63, 65])
    add(
      'ed25519',
      `signature of ${length} bytes`,
      false,
      key,
      message,
      concatBytes(good, good).slice(0, length),
    )
  for (const length of [0, 31, 33])
    add('ed25519', `key of ${length} bytes`, false, concatBytes(key, key).slice(0, length), message, good)
}

// P-256

const P = p256.Point
type P256Point = typeof P.BASE
const n = P.Fn.ORDER
const p = P.Fp.ORDER
const half = n / 2n
const secret = new Uint8Array(32).fill(9)
const d = BigInt(`0x${bytesToHex(secret)}`)
const z = BigInt(`0x${bytesToHex(sha256(message))}`)

function pair(r: bigint, s: bigint): Uint8Array {
  return concatBytes(bigEndian(r), bigEndian(s))
}

/** The key under which (x of R mod n, s) is a valid signature of `message`: r⁻¹·(s·R − z·G). */
function keyFor(R: P256Point, s: bigint): Uint8Array {
  const inverse = P.Fn.inv(modulo(R.toAffine().x, n))
  return R.multiply(modulo(s * inverse, n))
    .subtract(P.BASE.multiply(modulo(z * inverse, n)))
    .toBytes(true)
}

function addP256Signatures(): void {
  const key = p256.getPublicKey(secret, true)
  const good = p256.sign(message, secret, { lowS: true, prehash: true, format: 'compact' })
  const r = BigInt(`0x${bytesToHex(good.slice(0, 32))}`)
  const s = BigInt(`0x${bytesToHex(good.slice(32))}`)
  add('p256', 'a valid signature', true, key, message, good)
  add('p256', 'another message', false, key, utf8ToBytes('motechaim'), good)
  add('p256', 'another key', false, p256.getPublicKey(new Uint8Array(32).fill(8), true), message, good)
  for (const [name, first, second] of [
    ['high s', r, n - s],
    ['s is 0', r, 0n],
    ['r is 0', 0n, s],
    ['both 0', 0n, 0n],
    ['s is n', r, n],
    ['r is n', n, s],
    ['r and s are n', n, n],
    ['r negated', n - r, s],
    ['r and s are 2^256 - 1', 2n ** 256n - 1n, 2n ** 256n - 1n],
    ['r and s exchanged', s, r],
    ['the sum is the point at infinity', modulo(-z * P.Fn.inv(d), n), 5n],
  ] as const)
    add('p256', name, false, key, message, pair(first, second))
  for (const length of [0, 32, 63, 65])
    add('p256', `signature of ${length} bytes`, false, key, message, concatBytes(good, good).slice(0, length))
  add(
    'p256',
    'a DER signature',
    false,
    key,
    message,
    p256.sign(message, secret, { lowS: true, format: 'der' }),
  )
}

function addP256Edges(): void {
  const R = P.BASE.multiply(4321n)
  const r = modulo(R.toAffine().x, n)
  add('p256', 's is 1', true, keyFor(R, 1n), message, pair(r, 1n))
  add('p256', 's is the largest low s', true, keyFor(R, half), message, pair(r, half))
  add('p256', 's is the smallest high s', false, keyFor(R, half + 1n), message, pair(r, half + 1n))
  // R whose x is above n, so that r = x − n: the reduction that implementations forget.
  for (let x = n + 1n; ; x++) {
    let point: P256Point
    try {
      point = P.fromBytes(concatBytes(Uint8Array.of(2), bigEndian(x)))
    } catch {
      continue
    }
    add('p256', 'x of R is above n', true, keyFor(point, 3n), message, pair(x - n, 3n))
    break
  }
}

function addP256Keys(): void {
  const good = p256.sign(message, secret, { lowS: true, prehash: true, format: 'compact' })
  const key = p256.getPublicKey(secret, true)
  const full = p256.getPublicKey(secret, false)
  const invalid: [string, Uint8Array][] = [
    ['uncompressed', full],
    ['hybrid', full.with(0, 6 + (full[64]! & 1))],
    ['of the other sign', key.with(0, key[0]! ^ 1)],
    ['with prefix 0', key.with(0, 0)],
    ['with prefix 4', key.with(0, 4)],
    ['with prefix 5', key.with(0, 5)],
    ['with x = p', concatBytes(Uint8Array.of(2), bigEndian(p))],
    ['with x = p + 5', concatBytes(Uint8Array.of(2), bigEndian(p + 5n))],
    ['with x = 2^256 - 1', concatBytes(Uint8Array.of(2), bigEndian(2n ** 256n - 1n))],
    ['the point at infinity', Uint8Array.of(0)],
    ['of 33 zero bytes', new Uint8Array(33)],
    ['of 32 bytes', key.slice(0, 32)],
    ['of 34 bytes', concatBytes(key, Uint8Array.of(0))],
    ['of no bytes', new Uint8Array(0)],
  ]
  for (let x = 1n; ; x++) {
    const bytes = concatBytes(Uint8Array.of(2), bigEndian(x))
    try {
      P.fromBytes(bytes)
    } catch {
      invalid.push(['not on the curve', bytes])
      break
    }
  }
  for (const [name, bytes] of invalid) add('p256', `key ${name}`, false, bytes, message, good)
}

addRfc8032()
addEdwardsScalarsAndLengths()
addEdwardsTorsion()
addEdwardsSmallOrder()
addP256Signatures()
addP256Edges()
addP256Keys()

const lines = vectors.map(vector => `    ${JSON.stringify(vector)}`).join(',\n')
writeFileSync(
  new URL('signatures.json', import.meta.url),
  `{\n  "comment": "Made by make-signatures.ts. Hexadecimal. valid: whether the strict set of docs/FORMATS.md contains the signature.",\n  "vectors": [\n${lines}\n  ]\n}\n`,
)
