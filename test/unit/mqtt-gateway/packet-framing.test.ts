/** The size guard in front of the MQTT parser (MQTT 3.1.1, section 2.2.3). */
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { PacketFraming } from '../../../mqtt-gateway/server/packet-framing.ts'

function packet(bodyBytes: number): Uint8Array {
  const length: number[] = []
  let rest = bodyBytes
  do {
    length.push((rest % 128) | (rest >= 128 ? 0x80 : 0))
    rest = Math.floor(rest / 128)
  } while (rest > 0)
  return Uint8Array.from([0x30, ...length, ...new Array<number>(bodyBytes).fill(0xff)])
}

test('packet framing: however the stream is cut, packets up to the limit pass and a larger one does not', () => {
  const bodies = fc.array(fc.nat(300), { minLength: 1, maxLength: 20 })
  fc.assert(
    fc.property(bodies, fc.integer({ min: 1, max: 50 }), (sizes, chunkBytes) => {
      const stream = Uint8Array.from(sizes.flatMap(size => [...packet(size)]))
      const framing = new PacketFraming(() => 200)
      let accepted = true
      for (let at = 0; at < stream.length && accepted; at += chunkBytes)
        accepted = framing.accept(stream.subarray(at, at + chunkBytes))
      expect(accepted).toBe(sizes.every(size => size <= 200))
    }),
  )
})

test('packet framing: refuses by the announced length, before the body arrives', () => {
  const framing = new PacketFraming(() => 1000)
  expect(framing.accept(packet(1001).subarray(0, 3))).toBe(false)
  expect(new PacketFraming(() => 1000).accept(packet(1000).subarray(0, 3))).toBe(true)
})

test('packet framing: refuses a length of more than four bytes [MQTT-2.2.3]', () => {
  expect(
    new PacketFraming(() => Number.MAX_SAFE_INTEGER).accept(Uint8Array.from([0x30, 128, 128, 128, 128])),
  ).toBe(false)
})

test('packet framing: the limit is asked for each packet, so it can rise after CONNACK', () => {
  let limit = 10
  const framing = new PacketFraming(() => limit)
  expect(framing.accept(packet(10))).toBe(true)
  limit = 100
  expect(framing.accept(packet(100))).toBe(true)
})
