/** Bytes that are wrong: valid ones that were bent, and ones that a grammar makes up. All follow from the seed. */
import type { SeededRandom } from '../simulation/random.ts'

/** What lengths and types are often wrong about. */
const edges = [0x00, 0x01, 0x7f, 0x80, 0xff]
const mostInserted = 32

function randomBytes(random: SeededRandom, length: number): Buffer {
  return Buffer.from(Array.from({ length }, () => random.below(256)))
}

type Bend = (random: SeededRandom, bytes: Buffer, others: readonly Buffer[]) => Buffer

const place = (random: SeededRandom, bytes: Buffer) => random.below(bytes.length + 1)

const bends: readonly Bend[] = [
  // One bit.
  (random, bytes) => {
    const bent = Buffer.from(bytes)
    const at = random.below(bytes.length)
    bent[at] = (bent[at] ?? 0) ^ (1 << random.below(8))
    return bent
  },
  // One byte, at an edge.
  (random, bytes) => {
    const bent = Buffer.from(bytes)
    bent[random.below(bytes.length)] = edges[random.below(edges.length)] ?? 0
    return bent
  },
  // Cut off.
  (random, bytes) => bytes.subarray(0, place(random, bytes)),
  // Something between.
  (random, bytes) => {
    const at = place(random, bytes)
    const more = randomBytes(random, 1 + random.below(mostInserted))
    return Buffer.concat([bytes.subarray(0, at), more, bytes.subarray(at)])
  },
  // Something left out.
  (random, bytes) => {
    const at = place(random, bytes)
    return Buffer.concat([bytes.subarray(0, at), bytes.subarray(at + 1 + random.below(mostInserted))])
  },
  // A part twice.
  (random, bytes) => {
    const at = place(random, bytes)
    const end = at + random.below(mostInserted)
    return Buffer.concat([bytes.subarray(0, end), bytes.subarray(at)])
  },
  // Half of one and half of another.
  (random, bytes, others) => {
    const other = others[random.below(others.length)] ?? bytes
    return Buffer.concat([bytes.subarray(0, place(random, bytes)), other.subarray(place(random, other))])
  },
]

/** One of the samples, bent one to four times; never as it was. */
export function bentFrom(random: SeededRandom, samples: readonly Buffer[]): Buffer {
  const sample = samples[random.below(samples.length)] ?? Buffer.alloc(1)
  let bent = sample
  for (let count = 1 + random.below(4); count > 0 || bent.equals(sample); count--) {
    const bend = bends[random.below(bends.length)] as Bend
    bent = bent.length === 0 ? randomBytes(random, 1 + random.below(8)) : bend(random, bent, samples)
  }
  return bent
}

/** MessagePack by its grammar, with the forms that ours does not have: maps, floats, extensions, lengths that lie. */
export function randomMessagePack(random: SeededRandom, depth = 0): Buffer {
  const first = random.below(256)
  const many = (length: number) =>
    Buffer.concat(Array.from({ length: Math.min(length, 8) }, () => randomMessagePack(random, depth + 1)))
  // Deeper than any reader should follow, now and then.
  if (depth === 0 && random.below(50) === 0) return Buffer.alloc(random.below(2_000), 0x91)
  if (depth > 4 || first < 0x80) return Buffer.from([first & 0x7f])
  if (first < 0x90) return Buffer.concat([Buffer.from([first]), many(2 * (first & 0x0f))])
  if (first < 0xa0) return Buffer.concat([Buffer.from([first]), many(first & 0x0f)])
  if (first < 0xc0) return Buffer.concat([Buffer.from([first]), randomBytes(random, first & 0x1f)])
  const length = Buffer.alloc([1, 2, 4, 8][random.below(4)] ?? 1)
  const said = random.below(3) === 0 ? 0xffff_ffff : random.below(300)
  length.writeUIntBE(
    Math.min(said, 2 ** (8 * Math.min(length.length, 4)) - 1),
    Math.max(0, length.length - 4),
    Math.min(4, length.length),
  )
  return Buffer.concat([Buffer.from([first]), length, randomBytes(random, random.below(64))])
}

/** A packet of MQTT by its grammar: any type and flags, a length that is right, wrong or too long, and a body made of parts. */
export function randomPacket(random: SeededRandom): Buffer {
  const text = () => {
    const content = randomBytes(random, random.below(12))
    const length = Buffer.alloc(2)
    length.writeUInt16BE(random.below(4) === 0 ? random.below(0x10000) : content.length)
    return Buffer.concat([length, content])
  }
  const parts = Array.from({ length: random.below(5) }, () =>
    random.below(2) === 0 ? text() : randomBytes(random, random.below(4)),
  )
  const body = Buffer.concat(parts)
  return Buffer.concat([Buffer.from([random.below(256)]), lengthField(random, body.length), body])
}

function lengthField(random: SeededRandom, right: number): Buffer {
  const kind = random.below(8)
  if (kind === 0) return Buffer.from([0xff, 0xff, 0xff, 0x7f])
  if (kind === 1) return Buffer.from([0x80, 0x80, 0x80, 0x80, 0x01])
  if (kind === 2) return Buffer.from([0x80 | (right & 0x7f), 0x00])
  return Buffer.from([Math.max(0, right + (kind === 3 ? random.below(5) - 2 : 0)) & 0x7f])
}
