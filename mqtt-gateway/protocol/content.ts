/**
 * What is inside a sealed body: a whole message, or a chunk of one that is too large for one envelope (docs/FORMATS.md, "Content").
 * Nobody but the recipient sees which.
 *
 * Invariants: a message of up to 1 MiB is whole, a larger one always in chunks, at most 16 MiB of them; every chunk but the last has
 * exactly 1 MiB, so that place and count alone say how much memory the whole takes; each chunk names the SHA-256 of the whole.
 */

import type { Hash } from '../../chain/brands.ts'
import { bytes, type Codec, decode, digest, encode, struct, uint, union } from '../../chain/codec.ts'
import { ok, type Result, refuse } from '../../chain/result.ts'

/** Largest content of one envelope, and of each chunk but the last exactly this: 1 MiB. */
export const maxContentBytes = 1024 * 1024
/** Largest message: 16 MiB. */
export const maxTransferBytes = 16 * 1024 * 1024
/** Chunks of the largest message. */
export const maxChunks = 16
/** What the codec adds to a chunk, at most. */
const maxFrameBytes = 64
/** Largest body before sealing. */
export const maxBodyBytes = maxContentBytes + maxFrameBytes

/** Bytes of the random name of a transfer. */
export const transferIdBytes = 16

/** Where a chunk belongs. */
export interface ChunkPlace {
  /** Names the transfer among those of one sender: 16 random bytes. */
  readonly transfer: Uint8Array
  /** From 0 on. */
  readonly index: number
  /** 2 to 16. */
  readonly count: number
  /** SHA-256 of the whole message. */
  readonly whole: Hash
}

/** The content of an envelope; `place` is undefined for a whole message. */
export interface Content {
  readonly bytes: Uint8Array
  readonly place: ChunkPlace | undefined
}

interface Whole {
  readonly type: 'whole'
  readonly content: Uint8Array
}
interface Chunk extends ChunkPlace {
  readonly type: 'chunk'
  readonly content: Uint8Array
}
type Framed = Whole | Chunk

const contentCodec: Codec<Framed> = union<Framed>({
  whole: [1, struct<Omit<Whole, 'type'>>({ content: bytes(0, maxContentBytes) })],
  chunk: [
    2,
    struct<Omit<Chunk, 'type'>>({
      transfer: bytes(transferIdBytes),
      index: uint(maxChunks - 1),
      count: uint(maxChunks),
      whole: digest<Hash>(),
      content: bytes(1, maxContentBytes),
    }),
  ],
})

/** The body that is sealed. The content is at most 1 MiB. */
export function encodeContent({ bytes: content, place }: Content): Uint8Array {
  const framed: Framed = place ? { type: 'chunk', ...place, content } : { type: 'whole', content }
  return encode(contentCodec, framed)
}

/** Reads an opened body, which its sender may have made of anything. Refuses `malformed`. */
export function parseContent(body: Uint8Array): Result<Content> {
  const parsed = decode(contentCodec, body, maxBodyBytes)
  if (!parsed.ok) return parsed
  const { value } = parsed
  if (value.type === 'whole') return ok({ bytes: value.content, place: undefined })
  const { transfer, index, count, whole, content } = value
  if (count < 2 || index >= count)
    return refuse('malformed', `chunk: expected one of 2 to ${maxChunks}, got ${index} of ${count}`)
  if (index < count - 1 && content.length !== maxContentBytes)
    return refuse(
      'malformed',
      `chunk ${index} of ${count}: expected ${maxContentBytes} bytes, got ${content.length}`,
    )
  return ok({ bytes: content, place: { transfer, index, count, whole } })
}
