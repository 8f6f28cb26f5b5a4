/**
 * Frames on one libp2p stream: u32be length, then that many bytes of one encoded value (docs/FORMATS.md, "libp2p
 * protocols"). How they are read, a short exchange of them (`Conversation`: hello, requests), and the sending end of a
 * long-lived stream (`OutboundStream`). What they carry is in wire.ts.
 *
 * A frame over the protocol's limit is refused at its length, before any of it is kept, so a reader
 * holds at most one frame and one chunk.
 */
import type { Stream } from '@libp2p/interface'
import { MoteError, ok, type Result, refuse } from '../../chain/result.ts'
import type { Clock } from '../ports.ts'

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

/*
 * A short exchange of frames on one libp2p stream (hello, requests): send, wait for the next frame, finish. It has
 * one deadline; whatever ends it early rejects the pending `receive`. At most one frame may come unasked.
 */

/** Frames that wait to be received; a peer that sends more does not keep to the protocol. */
const maxUnreadFrames = 1

export interface ConversationOptions {
  readonly maxFrameBytes: number
  readonly timeoutMs: number
  readonly clock: Clock
}

export class Conversation {
  readonly #stream: Stream
  readonly #reader: FrameReader
  readonly #unread: Uint8Array[] = []
  readonly #cancelDeadline: () => void
  #waiting: PromiseWithResolvers<Uint8Array> | undefined
  #failure: MoteError | undefined

  constructor(stream: Stream, options: ConversationOptions) {
    this.#stream = stream
    this.#reader = new FrameReader(options.maxFrameBytes)
    this.#cancelDeadline = options.clock.after(options.timeoutMs, () =>
      this.fail(new MoteError('timeout', `${stream.protocol}: no answer within ${options.timeoutMs} ms`)),
    )
    stream.addEventListener('message', ({ data }) => this.#onBytes(data))
    stream.addEventListener('remoteCloseWrite', () => this.#onEnd('the peer ended the stream'))
    stream.addEventListener('close', event => {
      this.#cancelDeadline()
      this.#onEnd(event.error?.message ?? 'the stream closed')
    })
  }

  /** Throws `unreachable` when the stream is gone. */
  send(payload: Uint8Array): void {
    if (this.#failure) throw this.#failure
    try {
      this.#stream.send(framesOf([payload]))
    } catch (cause) {
      throw new MoteError('unreachable', `${this.#stream.protocol}: ${String(cause)}`, { cause })
    }
  }

  /** The next frame. Rejects with `malformed`, `too-large`, `timeout` or `unreachable`. */
  receive(): Promise<Uint8Array> {
    const frame = this.#unread.shift()
    if (frame) return Promise.resolve(frame)
    if (this.#failure) return Promise.reject(this.#failure)
    this.#waiting = Promise.withResolvers()
    return this.#waiting.promise
  }

  /** Ends this side after what was sent. The peer has until the deadline to end its own. */
  async finish(): Promise<void> {
    await this.#stream.close().catch(() => {})
  }

  /** Resets the stream. */
  fail(failure: MoteError): void {
    this.#reject(failure)
    this.#stream.abort(failure)
  }

  #onBytes(data: Uint8Array | Iterable<Uint8Array>): void {
    for (const chunk of data instanceof Uint8Array ? [data] : data) {
      const frames = this.#reader.push(chunk)
      if (!frames.ok) {
        this.fail(new MoteError(frames.error.code, frames.error.detail))
        return
      }
      for (const frame of frames.value) this.#onFrame(frame)
    }
  }

  #onFrame(frame: Uint8Array): void {
    if (this.#waiting) {
      this.#waiting.resolve(frame)
      this.#waiting = undefined
    } else if (this.#unread.length < maxUnreadFrames) this.#unread.push(frame)
    else this.fail(new MoteError('malformed', `${this.#stream.protocol}: more frames than the protocol has`))
  }

  /** Bytes that came with the end are read first: their event follows in the same turn. */
  #onEnd(reason: string): void {
    queueMicrotask(() => this.#reject(new MoteError('unreachable', `${this.#stream.protocol}: ${reason}`)))
  }

  #reject(failure: MoteError): void {
    this.#failure ??= failure
    this.#waiting?.reject(this.#failure)
    this.#waiting = undefined
  }
}

/*
 * The sending end of a long-lived stream: frames leave in order (those of one turn of the event loop together: libp2p-host.ts).
 *
 * Memory is bounded: frames wait here while the stream has no room, up to a limit; over it the stream is given
 * up, since a peer that takes nothing is as good as gone. `onLost` is called once, whatever ends the stream.
 */

/** Bytes handed to the stream at a time. */
const maxChunkBytes = 256 * 1024

export interface OutboundStreamOptions {
  readonly maxQueuedBytes: number
  /** The stream is over, and frames may be lost. Called once, never from within `send`. */
  readonly onLost: (reason: string) => void
}

export class OutboundStream {
  readonly #options: OutboundStreamOptions
  #stream: Stream | undefined
  #queue: Uint8Array[] = []
  #queuedBytes = 0
  #over = false

  /** Frames may be sent at once; they wait until `opening` has become a stream. */
  constructor(opening: Promise<Stream>, options: OutboundStreamOptions) {
    this.#options = options
    opening.then(
      stream => this.#use(stream),
      error => this.#end(String(error)),
    )
  }

  get over(): boolean {
    return this.#over
  }

  send(payload: Uint8Array): void {
    if (this.#over || this.#queuedBytes > this.#options.maxQueuedBytes) return
    this.#queue.push(payload)
    this.#queuedBytes += payload.length
    if (this.#queuedBytes > this.#options.maxQueuedBytes) this.abort('outbound queue is full')
    else this.#flush()
  }

  /** Ends the stream soon; what is queued is dropped. */
  abort(reason: string): void {
    if (this.#over) return
    queueMicrotask(() => {
      this.#stream?.abort(new Error(reason))
      this.#end(reason)
    })
  }

  #use(stream: Stream): void {
    if (this.#over) {
      stream.abort(new Error('not needed any more'))
      return
    }
    this.#stream = stream
    stream.addEventListener('drain', () => this.#flush())
    stream.addEventListener('close', event => this.#end(event.error?.message ?? 'stream closed'))
    if (stream.status !== 'open') this.#end(`stream ${stream.status}`)
    else this.#flush()
  }

  #flush(): void {
    const stream = this.#stream
    if (!stream || this.#over) return
    try {
      while (this.#queue.length > 0 && !stream.writableNeedsDrain) stream.send(framesOf(this.#nextChunk()))
    } catch (error) {
      this.abort(String(error))
    }
  }

  #nextChunk(): readonly Uint8Array[] {
    let count = 0
    let size = 0
    for (const payload of this.#queue) {
      if (count > 0 && size + payload.length > maxChunkBytes) break
      size += payload.length
      count++
    }
    this.#queuedBytes -= size
    return this.#queue.splice(0, count)
  }

  #end(reason: string): void {
    if (this.#over) return
    this.#over = true
    this.#queue = []
    // The library tells that a stream has broken from within its `send`.
    queueMicrotask(() => this.#options.onLost(reason))
  }
}
