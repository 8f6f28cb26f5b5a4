import fc from 'fast-check'
import { Packr } from 'msgpackr'
import { describe, expect, test } from 'vitest'
import * as codec from '../../../chain/codec.ts'
import { maxDepth, maxItems, readMessagePack, utf8Length, type Wire } from '../../../chain/messagepack.ts'

const packr = new Packr({ useRecords: false, useBigIntExtension: false, int64AsType: 'bigint' })

/** Any value of the restricted subset. */
const wire: fc.Arbitrary<Wire> = fc.letrec<{ value: Wire }>(tie => ({
  value: fc.oneof(
    { maxDepth: 5 },
    fc.constant(null),
    fc.boolean(),
    fc.nat(0xffff_ffff),
    fc.constantFrom(0, 0x7f, 0x80, 0xff, 0x100, 0xffff, 0x1_0000, 0xffff_ffff),
    fc.bigInt({ min: 2n ** 32n, max: 2n ** 53n - 1n }),
    fc.string({ unit: 'binary', maxLength: 300 }),
    fc.uint8Array({ maxLength: 300 }),
    fc.array(tie('value'), { maxLength: 20 }),
  ),
})).value

const sample = codec.struct<{
  version: 1
  id: string
  name: string
  count: number
  flag: boolean
  kind: 'a' | 'b'
  maybe: Uint8Array | undefined
  items: readonly number[]
}>({
  version: codec.constant(1),
  id: codec.digest<string>(),
  name: codec.text(20),
  count: codec.uint(),
  flag: codec.boolean,
  kind: codec.oneOf({ a: 1, b: 2 }),
  maybe: codec.optional(codec.bytes(2, 40)),
  items: codec.list(codec.uint(1000), 300),
})

const sampleValue = fc.record({
  version: fc.constant(1 as const),
  id: fc.uint8Array({ minLength: 32, maxLength: 32 }).map(bytes => Buffer.from(bytes).toString('hex')),
  name: fc.string({ unit: 'grapheme' }).filter(name => (utf8Length(name) ?? 99) <= 20),
  count: fc.maxSafeNat(),
  flag: fc.boolean(),
  kind: fc.constantFrom('a' as const, 'b' as const),
  maybe: fc.option(fc.uint8Array({ minLength: 2, maxLength: 40 }), { nil: undefined }),
  items: fc.array(fc.nat(1000), { maxLength: 300 }),
})

function hex(text: string): Uint8Array {
  return Uint8Array.from(Buffer.from(text.replaceAll(' ', ''), 'hex'))
}

describe('codec', () => {
  test('codec: what is encoded decodes to the same value (docs/FORMATS.md, Encoding)', () => {
    fc.assert(
      fc.property(sampleValue, value => {
        const decoded = codec.decode(sample, codec.encode(sample, value))
        expect(decoded).toEqual({ ok: true, value })
      }),
    )
  })

  test('codec: bytes that decode are the bytes that encode, also after a mutation', () => {
    let accepted = 0
    fc.assert(
      fc.property(sampleValue, fc.nat(), fc.nat(255), fc.nat(3), (value, at, byte, how) => {
        const bytes = codec.encode(sample, value)
        const position = at % bytes.length
        const mutated =
          how === 0
            ? bytes.with(position, byte)
            : how === 1
              ? bytes.slice(0, position)
              : how === 2
                ? Uint8Array.from([...bytes.slice(0, position), byte, ...bytes.slice(position)])
                : bytes.with(position, (bytes[position]! ^ (1 << (byte & 7))) & 0xff)
        const decoded = codec.decode(sample, mutated)
        if (!decoded.ok) return
        accepted++
        expect(codec.encode(sample, decoded.value)).toEqual(mutated)
      }),
      { numRuns: 2000 },
    )
    expect(accepted).toBeGreaterThan(0)
  })

  test('codec: random bytes never throw', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 400 }), bytes => {
        codec.decode(sample, bytes)
      }),
      { numRuns: 2000 },
    )
  })

  test('codec: shares no memory with the bytes it decoded', () => {
    const pair = codec.struct<{ a: Uint8Array }>({ a: codec.bytes(1, 4) })
    const bytes = Buffer.from(codec.encode(pair, { a: Uint8Array.of(1, 2) }))
    const decoded = codec.decode(pair, bytes)
    bytes.fill(0)
    expect(decoded).toEqual({ ok: true, value: { a: Uint8Array.of(1, 2) } })
  })

  test('codec: an integer above 2^32-1 is 0xd3 and eight bytes', () => {
    expect(codec.encode(codec.uint(), 2 ** 32)).toEqual(hex('d3 0000000100000000'))
    expect(codec.encode(codec.uint(), 2 ** 53 - 1)).toEqual(hex('d3 001fffffffffffff'))
    expect(codec.encode(codec.uint(), 2 ** 32 - 1)).toEqual(hex('ce ffffffff'))
  })

  test.each([
    ['an integer in a longer form', 'cc 7f'],
    ['an integer in a longer form', 'cd 00ff'],
    ['an integer in a longer form', 'ce 0000ffff'],
    ['an integer in a longer form', 'd3 00000000ffffffff'],
    ['the unsigned 64-bit form', 'cf 0000000100000000'],
    ['an integer of 54 bits', 'd3 0020000000000000'],
    ['a negative integer', 'ff'],
    ['a negative integer', 'd0 80'],
    ['a negative integer', 'd3 ffffffffffffffff'],
    ['a float', 'ca 3f800000'],
    ['a float', 'cb 3ff0000000000000'],
    ['trailing bytes', '01 00'],
    ['no bytes', ''],
    ['a map', '80'],
    ['an extension', 'd4 00 00'],
  ])('codec: refuses %s (%s)', (_, bytes) => {
    const decoded = codec.decode(codec.uint(), hex(bytes))
    expect(decoded).toMatchObject({ ok: false, error: { code: 'malformed' } })
  })

  test.each([
    ['an overlong form', 'a2 c080'],
    ['an overlong form', 'a3 e08080'],
    ['an overlong form', 'a4 f0808080'],
    ['a surrogate', 'a3 eda080'],
    ['a code point above U+10FFFF', 'a4 f4908080'],
    ['a lone continuation byte', 'a1 80'],
    ['a cut sequence', 'a2 e282'],
    ['a sequence that ends in ASCII', 'a2 c341'],
    ['a length prefix longer than needed', 'd9 01 41'],
  ])('codec: refuses text with %s (%s; RFC 3629)', (_, bytes) => {
    const decoded = codec.decode(codec.text(20), hex(bytes))
    expect(decoded).toMatchObject({ ok: false, error: { code: 'malformed' } })
    expect(() => readMessagePack(hex(bytes))).toThrow()
  })

  test('codec: a limit on text counts UTF-8 bytes, not characters', () => {
    expect(() => codec.encode(codec.text(3), 'éé')).toThrow('at most 3 bytes')
    expect(codec.decode(codec.text(3), hex('a4 c3a9 c3a9')).ok).toBe(false)
    expect(codec.decode(codec.text(4), hex('a4 c3a9 c3a9'))).toEqual({ ok: true, value: 'éé' })
    expect(() => codec.encode(codec.text(10), '\ud800')).toThrow('assertion failed')
  })

  test('codec: an error names the field', () => {
    const bytes = codec.encode(codec.list(codec.uint(), 3), [1, 2, 3])
    const decoded = codec.decode(codec.list(codec.uint(2), 3), bytes)
    expect(decoded).toEqual({
      ok: false,
      error: { code: 'malformed', detail: 'value[2]: expected an integer from 0 to 2, got 3' },
    })
  })

  test('codec: refuses more bytes than the limit before it looks at them', () => {
    expect(codec.decode(codec.bytes(0, 9), new Uint8Array(11), 10)).toMatchObject({
      error: { code: 'too-large' },
    })
  })
})

test('codec: passing encodings are those of encode, and none is written over another', () => {
  const any = codec.bytes(0, 10_000)
  const values = Array.from({ length: 300 }, (_, i) => new Uint8Array((i * 37) % 5000).fill(i & 0xff))
  const passing = values.map(value => codec.encodePassing(any, value))
  expect(passing.map(bytes => Buffer.from(bytes).toString('hex'))).toEqual(
    values.map(value => Buffer.from(codec.encode(any, value)).toString('hex')),
  )
})

describe('messagepack', () => {
  test('messagepack: reads what msgpackr writes, as msgpackr reads it', () => {
    fc.assert(
      fc.property(wire, value => {
        const bytes = Uint8Array.from(packr.pack(value))
        const read = readMessagePack(bytes)
        expect(read).toEqual(value)
        expect(Uint8Array.from(packr.pack(read))).toEqual(bytes)
      }),
      { numRuns: 1000 },
    )
  })

  test('messagepack: what is read shared has views of the longer byte strings, and of those alone', () => {
    const [short, long] = [new Uint8Array(64).fill(1), new Uint8Array(65).fill(2)]
    const bytes = Uint8Array.from(packr.pack([short, long]))
    const [shortRead, longRead] = readMessagePack(bytes, maxItems, 'shared') as [Uint8Array, Uint8Array]
    const own = readMessagePack(bytes) as [Uint8Array, Uint8Array]
    expect([shortRead, longRead]).toEqual([short, long])
    bytes.fill(0)
    expect([shortRead, longRead]).toEqual([short, new Uint8Array(65)])
    expect(own).toEqual([short, long])
  })

  test('messagepack: accepted random bytes are the canonical ones', () => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 1, maxLength: 12 }), bytes => {
        let read: Wire
        try {
          read = readMessagePack(bytes)
        } catch {
          return
        }
        expect(Uint8Array.from(packr.pack(read))).toEqual(bytes)
      }),
      { numRuns: 5000 },
    )
  })

  test.each([
    ['array', 'dd ffffffff', 'items more'],
    ['array of arrays', 'dd 00ffffff dd 00ffffff dd 00ffffff', 'items more'],
    ['byte string', 'c6 ffffffff', 'bytes more'],
    ['text', 'db ffffffff', 'text more'],
  ])('messagepack: a hostile length prefix of an %s allocates nothing', (_, prefix, problem) => {
    const bytes = hex(prefix)
    const before = process.memoryUsage()
    for (let i = 0; i < 1000; i++) expect(() => readMessagePack(bytes)).toThrow(problem)
    const after = process.memoryUsage()
    expect(after.arrayBuffers - before.arrayBuffers).toBeLessThan(16 * 1024 * 1024)
    expect(after.heapUsed - before.heapUsed).toBeLessThan(64 * 1024 * 1024)
  })

  test('messagepack: refuses deep nesting and too many values', () => {
    expect(() => readMessagePack(new Uint8Array(1_000_000).fill(0x91))).toThrow('nested')
    const deepest = new Uint8Array(maxDepth + 1).fill(0x91).with(maxDepth, 0x90 - 0x90)
    expect(readMessagePack(deepest)).toBeInstanceOf(Array)
    const many = new Uint8Array(maxItems + 5).fill(0xc0)
    many.set([0xdd, 0, 4, 0, 0])
    expect(() => readMessagePack(many)).toThrow('fewer values')
  })

  test('messagepack: who takes more bytes takes more values: what a node wrote itself it can read', () => {
    const booleans = codec.list(codec.boolean, 2 * maxItems)
    const bytes = codec.encode(booleans, new Array(maxItems + 1).fill(true))
    expect(codec.decode(booleans, bytes)).toMatchObject({ error: { code: 'malformed' } })
    expect(codec.decode(booleans, bytes, 2 * codec.maxEncodedBytes)).toMatchObject({ ok: true })
    expect(codec.decode(booleans, bytes, Number.MAX_SAFE_INTEGER)).toMatchObject({ ok: true })
  })
})

test('encoded list: is the encoding of the list of the values', () => {
  const numbers = codec.list(codec.uint(), 70_000)
  for (const length of [0, 1, 15, 16, 255, 256, 4096, 65_535]) {
    const values = Array.from({ length }, (_, i) => i)
    const items = values.map(value => codec.encode(codec.uint(), value))
    expect(codec.encodedList(items)).toEqual(codec.encode(numbers, values))
  }
  expect(() => codec.encodedList(Array.from({ length: 65_536 }, () => new Uint8Array(1)))).toThrow('65,535')
})
