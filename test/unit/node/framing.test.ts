import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { unwrap } from '../../../chain/result.ts'
import { FrameReader, framesOf } from '../../../node/network/streams.ts'

describe('framing', () => {
  test('frames come out as they went in, however the bytes are cut', () => {
    fc.assert(
      fc.property(
        fc.array(fc.uint8Array({ maxLength: 300 }), { maxLength: 20 }),
        fc.array(fc.integer({ min: 1, max: 97 }), { minLength: 1, maxLength: 20 }),
        (payloads, cuts) => {
          const bytes = framesOf(payloads)
          const reader = new FrameReader(300)
          const frames: Uint8Array[] = []
          for (let at = 0, i = 0; at < bytes.length; i++) {
            const size = cuts[i % cuts.length]!
            frames.push(
              ...unwrap(reader.push(bytes.subarray(at, at + size))).map(frame => Uint8Array.from(frame)),
            )
            at += size
          }
          expect(frames).toEqual(payloads.map(payload => Uint8Array.from(payload)))
        },
      ),
    )
  })

  test('the length is big-endian and does not count itself', () => {
    expect(Uint8Array.from(framesOf([Uint8Array.of(7, 8)]))).toEqual(Uint8Array.of(0, 0, 0, 2, 7, 8))
  })

  test('a frame at the limit passes, one over it is refused at its length', () => {
    expect(new FrameReader(3).push(framesOf([Uint8Array.of(1, 2, 3)]))).toMatchObject({ ok: true })
    expect(new FrameReader(3).push(Uint8Array.of(0, 0, 0, 4))).toMatchObject({
      ok: false,
      error: { code: 'too-large' },
    })
  })
})
