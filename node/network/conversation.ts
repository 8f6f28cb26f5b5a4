/**
 * A short exchange of frames on one libp2p stream (hello, requests): send, wait for the next frame, finish. It has
 * one deadline; whatever ends it early rejects the pending `receive`. At most one frame may come unasked.
 */
import type { Stream } from '@libp2p/interface'
import { MoteError } from '../../chain/result.ts'
import type { Clock } from '../ports.ts'
import { FrameReader, framesOf } from './framing.ts'

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
