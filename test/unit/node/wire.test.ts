import { readFileSync } from 'node:fs'
import { hexToBytes } from '@noble/hashes/utils.js'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { type DeviceId, type Hash, Height, Milliseconds, Term } from '../../../chain/brands.ts'
import { type Codec, decode, encode } from '../../../chain/codec.ts'
import { unwrap } from '../../../chain/result.ts'
import { type Hello, helloCodec, helloReplyCodec, helloVerdictCodec } from '../../../node/network/hello.ts'
import {
  answerCodec,
  type RaftStreamFrame,
  raftCodec,
  raftStreamCodec,
  refusalFrame,
  refusalFrom,
  signaturesCodec,
} from '../../../node/network/wire.ts'
import { raftFrames, raftVectors } from '../../vectors/make-raft.ts'

const digest = 'ab'.repeat(32)

const hello: Hello = {
  version: 1,
  chainId: digest as never,
  deviceId: digest as DeviceId,
  proof: { type: 'certified', answer: Uint8Array.of(1, 2, 3), handovers: [] },
}
const signature = {
  incarnation: 0,
  height: Height(3),
  term: Term(1),
  headerHash: digest as Hash,
  signature: new Uint8Array(64),
}

function sample<T>(name: string, codec: Codec<T>, values: readonly T[]) {
  return [name, codec as unknown as Codec<unknown>, values as readonly unknown[]] as const
}

const samples = [
  sample('raft', raftCodec, raftFrames),
  sample<RaftStreamFrame>('raft stream', raftStreamCodec, [
    ...raftFrames.map(message => ({ type: 'raft' as const, message })),
    { type: 'clocks', samples: [] },
    { type: 'clocks', samples: [{ id: digest as DeviceId, wall: Milliseconds(1), ageMs: 10_000 }] },
  ]),
  sample<Hello>('hello', helloCodec, [hello, { ...hello, proof: { type: 'none' } }]),
  sample('hello reply', helloReplyCodec, [{ verdict: { code: 'stale', detail: 'x' }, hello }]),
  sample('hello verdict', helloVerdictCodec, [{ verdict: undefined }]),
  sample('signatures', signaturesCodec, [[signature, signature]]),
  sample('answer', answerCodec, [{ type: 'body', body: Uint8Array.of(1) }]),
]

describe.each(samples)('%s frames', (_, codec, values) => {
  test('decode to what was encoded', () => {
    for (const value of values) expect(unwrap(decode(codec, encode(codec, value)))).toEqual(value)
  })

  test('of random or damaged bytes are refused or valid, and never throw', () => {
    fc.assert(fc.property(fc.uint8Array({ maxLength: 200 }), bytes => void decode(codec, bytes)))
    const frames = values.map(value => encode(codec, value))
    fc.assert(
      fc.property(
        fc.constantFrom(...frames),
        fc.nat(),
        fc.integer({ min: 1, max: 255 }),
        (frame, at, flip) => {
          const damaged = Uint8Array.from(frame)
          damaged[at % damaged.length]! ^= flip
          const decoded = decode(codec, damaged)
          if (decoded.ok) expect(encode(codec, decoded.value)).toEqual(damaged)
        },
      ),
    )
  })
})

describe('wire', () => {
  test('the vectors of test/vectors/raft.json: one frame of each kind, and what is refused', () => {
    const vectors = JSON.parse(readFileSync(new URL('../../vectors/raft.json', import.meta.url), 'utf8'))
    expect(raftVectors()).toEqual(vectors)
    expect(new Set(raftFrames.map(({ type }) => type)).size).toBe(raftFrames.length)
    for (const [position, { encoded }] of raftVectors().frames.entries())
      expect(unwrap(decode(raftStreamCodec, hexToBytes(encoded)))).toEqual({
        type: 'raft',
        message: raftFrames[position],
      })
    for (const [why, bytes] of Object.entries(raftVectors().refused))
      expect(decode(raftStreamCodec, hexToBytes(bytes)).ok, why).toBe(false)
  })

  test('a refusal of a later version is still a refusal', () => {
    expect(refusalFrom({ code: 'from-the-future', detail: 'x' })).toEqual({
      code: 'internal',
      detail: 'from-the-future: x',
    })
    expect(refusalFrom({ code: 'stale', detail: 'x' })).toEqual({ code: 'stale', detail: 'x' })
  })

  test('a long detail is cut to what a frame takes', () => {
    const refusal = { type: 'refusal' as const, ...refusalFrame({ code: 'stale', detail: 'é'.repeat(5000) }) }
    expect(unwrap(decode(answerCodec, encode(answerCodec, refusal)))).toEqual(refusal)
  })
})
