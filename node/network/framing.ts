/**
 * Frames on a libp2p stream: u32be length, then that many bytes of one encoded value (docs/FORMATS.md, "libp2p
 * protocols"). A frame over the protocol's limit is refused at its length, before any of it is kept, so a reader
 * holds at most one frame and one chunk.
 */
import { ok, type Result, refuse } from '../../chain/result.ts'

const lengthBytes = 4

/** `payloads` as frames, in one buffer. */
export function framesOf(payloads: readonly Uint8Array[]): Uint8Array {
  const frames = Buffer.allocUnsafe(payloads.reduce((size, { length }) => size + lengthBytes + length, 0))
  let offset = 0
  for (const payload of payloads) {
    offset = frames.writeUInt32BE(payload.length, offset)
    frames.set(payload, offset)
    offset += payload.length
  }
  return frames
}

/** Reads frames from chunks of any size. After a refusal it reads nothing more. */
export class FrameReader {
  readonly #maxFrameBytes: number
  #chunks: Uint8Array[] = []
  #size = 0
  /** Length of the frame being collected, once its head is there. */
  #expected: number | undefined

  constructor(maxFrameBytes: number) {
    this.#maxFrameBytes = maxFrameBytes
  }

  /** The frames that `chunk` completes, without their length; `too-large` if one is over the limit. */
  push(chunk: Uint8Array): Result<readonly Uint8Array[]> {
    if (chunk.length === 0) return ok([])
    this.#chunks.push(chunk)
    this.#size += chunk.length
    const frames: Uint8Array[] = []
    for (;;) {
      if (this.#expected === undefined) {
        if (this.#size < lengthBytes) return ok(frames)
        const head = this.#take(lengthBytes)
        this.#expected = new DataView(head.buffer, head.byteOffset).getUint32(0)
        if (this.#expected > this.#maxFrameBytes)
          return refuse(
            'too-large',
            `frame: expected at most ${this.#maxFrameBytes} bytes, got ${this.#expected}`,
          )
      }
      if (this.#size < this.#expected) return ok(frames)
      frames.push(this.#take(this.#expected))
      this.#expected = undefined
    }
  }

  /** The next `length` bytes: a view where one chunk holds them all, else a copy. */
  #take(length: number): Uint8Array {
    this.#size -= length
    const [first] = this.#chunks
    if (first && first.length >= length) {
      if (first.length === length) this.#chunks.shift()
      else this.#chunks[0] = first.subarray(length)
      return first.subarray(0, length)
    }
    const taken = new Uint8Array(length)
    let filled = 0
    let used = 0
    for (const chunk of this.#chunks) {
      const part = chunk.subarray(0, length - filled)
      taken.set(part, filled)
      filled += part.length
      if (part.length < chunk.length) this.#chunks[used] = chunk.subarray(part.length)
      else used++
      if (filled === length) break
    }
    this.#chunks.splice(0, used)
    return taken
  }
}
