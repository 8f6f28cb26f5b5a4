/**
 * What waits for subscribers that read more slowly than others send. aedes waits, and the publisher's acknowledgement
 * with it, until the socket of every subscriber has room. Here a socket always says that it has: nobody waits for
 * another, and what is not sent yet is counted.
 *
 * Bounded for each subscriber in messages, bytes and time, and for all together in bytes: who is over a bound is cut, and
 * where all of them are, the one for which most waits.
 */
import type { Socket } from 'node:net'

export interface OutgoingLimits {
  /** Packets that wait for one subscriber. */
  readonly messages: number
  /** Bytes that wait for one subscriber. */
  readonly bytes: number
  /** Bytes that wait for all subscribers. */
  readonly bytesInAll: number
  /** Time for which a subscriber may take nothing of what waits for it. */
  readonly stalledMs: number
}

export const defaultOutgoingLimits: OutgoingLimits = {
  messages: 4096,
  // A message of 16 MiB comes in chunks as fast as its sender sends them.
  bytes: 32 * 1024 * 1024,
  bytesInAll: 256 * 1024 * 1024,
  stalledMs: 30_000,
}

/** What waits for one subscriber. */
interface Queue {
  messages: number
  bytes: number
  /** When something was last taken, or there was nothing to take; of `performance.now()`. */
  takenAt: number
  readonly cut: (reason: string) => void
}

/** How often stalled subscribers are looked for. */
const sweepIntervalMs = 500

export class OutgoingQueues {
  readonly #limits: OutgoingLimits
  readonly #queues = new Set<Queue>()
  readonly #sweeping: NodeJS.Timeout
  #bytes = 0

  constructor(limits: OutgoingLimits) {
    this.#limits = limits
    this.#sweeping = setInterval(() => this.#cutStalled(), sweepIntervalMs)
  }

  /** Counts what is written to this socket from now on. `cut` is called once, when it is over a bound. */
  watch(socket: Socket, cut: (reason: string) => void): void {
    const queue: Queue = { messages: 0, bytes: 0, takenAt: performance.now(), cut }
    this.#queues.add(queue)
    socket.once('close', () => this.#forget(queue))
    const cork = socket.cork.bind(socket)
    const write: (chunk: Uint8Array | string, encoding?: BufferEncoding, sent?: () => void) => boolean =
      socket.write.bind(socket)
    let packetBegins = false
    // mqtt-packet corks once for each packet, and writes it in several pieces.
    socket.cork = () => {
      packetBegins = true
      cork()
    }
    socket.write = (chunk: Uint8Array | string, encoding?: unknown) => {
      const bytes = Buffer.byteLength(chunk)
      const messages = packetBegins ? 1 : 0
      packetBegins = false
      this.#add(queue, messages, bytes)
      write(chunk, encoding as BufferEncoding, () => this.#add(queue, -messages, -bytes))
      this.#judge(queue)
      return true
    }
  }

  close(): void {
    clearInterval(this.#sweeping)
  }

  #add(queue: Queue, messages: number, bytes: number): void {
    if (queue.bytes === 0 || bytes < 0) queue.takenAt = performance.now()
    queue.messages += messages
    queue.bytes += bytes
    if (this.#queues.has(queue)) this.#bytes += bytes
  }

  #forget(queue: Queue): boolean {
    const isKnown = this.#queues.delete(queue)
    if (isKnown) this.#bytes -= queue.bytes
    return isKnown
  }

  #judge(queue: Queue): void {
    if (!this.#queues.has(queue)) return
    const { messages, bytes, bytesInAll } = this.#limits
    if (queue.messages > messages) this.#cut(queue, `expected at most ${messages} messages`)
    else if (queue.bytes > bytes) this.#cut(queue, `expected at most ${bytes} bytes, got ${queue.bytes}`)
    else if (this.#bytes > bytesInAll)
      this.#cut(this.#fullest(), `the fullest where over ${bytesInAll} bytes wait in all`)
  }

  #fullest(): Queue {
    return [...this.#queues].reduce((fullest, queue) => (queue.bytes > fullest.bytes ? queue : fullest))
  }

  #cutStalled(): void {
    const { stalledMs } = this.#limits
    const now = performance.now()
    for (const queue of this.#queues)
      if (queue.bytes > 0 && now - queue.takenAt > stalledMs)
        this.#cut(queue, `nothing of ${queue.bytes} bytes was taken for ${stalledMs} ms`)
  }

  #cut(queue: Queue, what: string): void {
    if (this.#forget(queue)) queue.cut(`queue of the subscriber: ${what}`)
  }
}
