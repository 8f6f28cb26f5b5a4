/** The guard in front of the MQTT parser (MQTT 3.1.1, section 2.2): sizes, and how the stream is cut. */
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { PacketFraming } from '../../../mqtt-gateway/protocol/packet-framing.ts'
import type { PacketLimits } from '../../../mqtt-gateway/protocol/packet-rules.ts'

const framingOf = (limits: Partial<PacketLimits> = {}) =>
  new PacketFraming({ connectBytes: 100, publishBytes: () => 1000, filters: 8, ...limits })

function packet(first: number, body: Uint8Array): Uint8Array {
  const length: number[] = []
  let rest = body.length
  do {
    length.push((rest % 128) | (rest >= 128 ? 0x80 : 0))
    rest = Math.floor(rest / 128)
  } while (rest > 0)
  return Uint8Array.from([first, ...length, ...body])
}

/** PUBLISH at QoS 0 to the topic `t`. */
const publish = (bodyBytes: number): Uint8Array =>
  packet(0x30, Uint8Array.from([0, 1, 0x74, ...new Array<number>(bodyBytes - 3).fill(0xff)]))

/** SUBSCRIBE to so many filters, each of one character unless told. */
const subscribe = (filters: number, filterBytes = 1): Uint8Array => {
  const filter = [filterBytes >> 8, filterBytes & 0xff, ...new Array<number>(filterBytes).fill(0x61), 0]
  return packet(0x82, Uint8Array.from([0, 1, ...Array.from({ length: filters }, () => filter).flat()]))
}

test('packet framing: however the stream is cut, packets up to the limit pass and a larger one does not', () => {
  const bodies = fc.array(fc.integer({ min: 3, max: 1500 }), { minLength: 1, maxLength: 20 })
  fc.assert(
    fc.property(bodies, fc.integer({ min: 1, max: 700 }), (sizes, chunkBytes) => {
      const stream = Uint8Array.from(sizes.flatMap(size => [...publish(size)]))
      const framing = framingOf({ publishBytes: () => 1200 })
      let violation: string | undefined
      for (let at = 0; at < stream.length && violation === undefined; at += chunkBytes)
        violation = framing.accept(stream.subarray(at, at + chunkBytes))
      expect(violation === undefined).toBe(sizes.every(size => size <= 1200))
    }),
  )
})

test('packet framing: refuses by the announced length, before the body arrives', () => {
  expect(framingOf().accept(publish(1001).subarray(0, 3))).toBe(
    'length: expected at most 1000 bytes, got 1001',
  )
  expect(framingOf().accept(publish(1000).subarray(0, 3))).toBeUndefined()
  expect(framingOf().accept(Uint8Array.from([0x10, 101]))).toBe('length: expected at most 100 bytes, got 101')
  expect(framingOf().accept(Uint8Array.from([0x10, 100]))).toBeUndefined()
})

test('packet framing: refuses a length of more than four bytes [MQTT-2.2.3]', () => {
  const framing = framingOf({ publishBytes: () => Number.MAX_SAFE_INTEGER })
  expect(framing.accept(Uint8Array.from([0x30, 128, 128, 128, 128]))).toContain('section 2.2.3')
})

test('packet framing: the limit is asked for each packet, so it can rise after CONNACK', () => {
  let limit = 10
  const framing = framingOf({ publishBytes: () => limit })
  expect(framing.accept(publish(10))).toBeUndefined()
  limit = 100
  expect(framing.accept(publish(100))).toBeUndefined()
})

test('packet framing: a SUBSCRIBE of 150,000 filters is refused at its announced length', () => {
  const wire = subscribe(150_000, 3)
  expect(framingOf().accept(wire.subarray(0, 4))).toContain('length: expected at most')
})

test('packet framing: SUBSCRIBE and UNSUBSCRIBE have so many filters at most', () => {
  expect(framingOf().accept(subscribe(8))).toBeUndefined()
  expect(framingOf().accept(subscribe(9))).toBe('filters: expected at most 8')
  const unsubscribe = (count: number) =>
    packet(0xa2, Uint8Array.from([0, 1, ...Array.from({ length: count }, () => [0, 1, 0x61]).flat()]))
  expect(framingOf().accept(unsubscribe(8))).toBeUndefined()
  expect(framingOf().accept(unsubscribe(9))).toBe('filters: expected at most 8')
})

test('packet framing: a filter or topic name has so many bytes at most', () => {
  expect(framingOf().accept(subscribe(1, 512))).toBeUndefined()
  expect(framingOf().accept(subscribe(1, 513))).toBe('topic filter: expected at most 512 bytes, got 513')
  const topic = (bytes: number) =>
    packet(0x30, Uint8Array.from([bytes >> 8, bytes & 0xff, ...new Array<number>(bytes).fill(0x61)]))
  expect(framingOf().accept(topic(512))).toBeUndefined()
  expect(framingOf().accept(topic(513))).toBe('topic name: expected at most 512 bytes, got 513')
})
