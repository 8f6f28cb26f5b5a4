/** Messages in chunks: cut, put together, and every way in which they do not fit or there is no room. */
import { randomBytes } from 'node:crypto'
import fc from 'fast-check'
import { beforeEach, expect, test } from 'vitest'
import type { DeviceId, Hash } from '../../../chain/brands.ts'
import { encode, list, uint } from '../../../chain/codec.ts'
import { unwrap } from '../../../chain/result.ts'
import {
  chunkWaitMs,
  contentsOf,
  maxTransfersBytes,
  maxTransfersPerSender,
  Transfers,
} from '../../../mqtt-gateway/device/transfers.ts'
import {
  type ChunkPlace,
  type Content,
  encodeContent,
  maxBodyBytes,
  maxContentBytes,
  maxTransferBytes,
  parseContent,
} from '../../../mqtt-gateway/protocol/content.ts'

const source = (n: number) => ({ sender: `${n}`.repeat(64) as DeviceId, target: 'bb'.repeat(32) })
const place: ChunkPlace = { transfer: new Uint8Array(16), index: 0, count: 2, whole: 'ab'.repeat(32) as Hash }
const chunk = new Uint8Array(maxContentBytes)

let now = 0
let timers: (() => void)[] = []
let transfers: Transfers
beforeEach(() => {
  now = 0
  timers = []
  const after = (_: number, callback: () => void) => {
    timers.push(callback)
    return () => {
      timers = timers.filter(each => each !== callback)
    }
  }
  transfers = new Transfers({ steady: () => now, after })
})

const codeOf = (result: { ok: boolean; error?: { code: string } }) => result.error?.code ?? 'ok'
const add = (from: number, changes: Partial<ChunkPlace> = {}, bytes = chunk) =>
  transfers.add(source(from), { ...place, ...changes }, bytes)
const named = (n: number) => ({ transfer: new Uint8Array(16).fill(n) })

test.each([
  [0, 1],
  [1, 1],
  [maxContentBytes, 1],
  [maxContentBytes + 1, 2],
  [2 * maxContentBytes, 2],
  [maxTransferBytes, 16],
])(
  'transfers: a message of %i bytes goes in %i envelopes, and comes together in any order',
  (size, count) => {
    const message = Uint8Array.from(randomBytes(size))
    const contents = unwrap(contentsOf(message)).map(content => {
      const body = encodeContent(content)
      expect(body.length).toBeLessThanOrEqual(maxBodyBytes)
      return unwrap(parseContent(body))
    })
    expect(contents).toHaveLength(count)
    if (count === 1) return expect(contents[0]).toEqual({ bytes: message, place: undefined })
    const given = contents
      .toReversed()
      .map(({ place: at, bytes }) => unwrap(transfers.add(source(1), at!, bytes)))
    expect(given.slice(0, -1).every(each => each === undefined)).toBe(true)
    expect(Buffer.from(given.at(-1)!).equals(message)).toBe(true)
    expect(transfers.count).toBe(0)
  },
)

test('transfers: one byte more than 16 MiB is refused before anything is cut', () => {
  expect(codeOf(contentsOf(new Uint8Array(maxTransferBytes + 1)))).toBe('too-large')
})

test('transfers: a chunk that does not fit is malformed', () => {
  const parsed = (content: Content) => codeOf(parseContent(encodeContent(content)))
  expect(parsed({ bytes: chunk, place })).toBe('ok')
  expect(parsed({ bytes: chunk, place: { ...place, count: 1 } })).toBe('malformed')
  expect(parsed({ bytes: chunk, place: { ...place, index: 2 } })).toBe('malformed')
  expect(parsed({ bytes: chunk.subarray(1), place })).toBe('malformed')
  expect(parsed({ bytes: chunk.subarray(1), place: { ...place, index: 1 } })).toBe('ok')
  expect(codeOf(parseContent(encode(list(uint(), 2), [1, 2])))).toBe('malformed')
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 100 }), bytes => {
      const result = parseContent(bytes)
      if (!result.ok) expect(result.error.code).toBe('malformed')
    }),
  )
})

test('transfers: chunks that name another whole, or another count, do not mix', () => {
  expect(codeOf(add(1))).toBe('ok')
  expect(codeOf(add(1, { index: 1, whole: 'cd'.repeat(32) as Hash }))).toBe('malformed')
  expect(codeOf(add(1, { index: 1, count: 3 }))).toBe('malformed')
  // Another sender's, and one to another target, are other transfers.
  expect(unwrap(add(2, { index: 1 }))).toBeUndefined()
  expect(transfers.count).toBe(2)
})

test('transfers: a whole that is not what its chunks named is not given out', () => {
  expect(unwrap(add(1))).toBeUndefined()
  expect(codeOf(add(1, { index: 1 }))).toBe('malformed')
  expect(transfers.count).toBe(0)
})

test('transfers: so many of one sender wait, and another sender has its own', () => {
  for (let i = 0; i < maxTransfersPerSender; i++) expect(codeOf(add(1, named(i)))).toBe('ok')
  expect(codeOf(add(1, named(9)))).toBe('overloaded')
  expect(codeOf(add(1, { ...named(0), index: 1 })), 'one that waits goes on, here to its end').toBe(
    'malformed',
  )
  expect(codeOf(add(1, named(9)))).toBe('ok')
  expect(codeOf(add(2, named(9)))).toBe('ok')
})

test('transfers: all together will take so many bytes, counted when they begin', () => {
  const largest = { count: 16 }
  const fit = maxTransfersBytes / maxTransferBytes
  for (let i = 0; i < fit; i++) expect(codeOf(add(i + 1, largest))).toBe('ok')
  expect(codeOf(add(9))).toBe('overloaded')
})

test('transfers: what nobody goes on with is dropped, with the next chunk or without one', () => {
  expect(codeOf(add(1))).toBe('ok')
  now = chunkWaitMs - 1
  expect(codeOf(add(2))).toBe('ok')
  now = chunkWaitMs
  expect(codeOf(add(3))).toBe('ok')
  expect(transfers.count).toBe(2)
  now = 3 * chunkWaitMs
  expect(timers).toHaveLength(1)
  timers[0]!()
  expect(transfers.count).toBe(0)
})
