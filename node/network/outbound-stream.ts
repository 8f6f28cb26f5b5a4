/**
 * The sending end of a long-lived stream: frames leave in order, those of one turn of the event loop together.
 *
 * Memory is bounded: frames wait here while the stream has no room, up to a limit; over it the stream is given
 * up, since a peer that takes nothing is as good as gone. `onLost` is called once, whatever ends the stream.
 */
import type { Stream } from '@libp2p/interface'
import { framesOf } from './framing.ts'

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
  #flushing = false
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
    else this.#scheduleFlush()
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

  #scheduleFlush(): void {
    if (this.#flushing || !this.#stream) return
    this.#flushing = true
    queueMicrotask(() => {
      this.#flushing = false
      this.#flush()
    })
  }

  #flush(): void {
    const stream = this.#stream
    if (!stream || this.#over) return
    try {
      while (this.#queue.length > 0 && !stream.writableNeedsDrain) stream.send(framesOf(this.#nextChunk()))
    } catch (error) {
      stream.abort(error as Error)
      this.#end(String(error))
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
    this.#options.onLost(reason)
  }
}
