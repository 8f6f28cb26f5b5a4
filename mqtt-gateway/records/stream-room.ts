/**
 * How much more gateways add to a stream of NATS servers. The servers refuse at the stream's own bound, whoever publishes; a part of it is kept
 * free for what goes back into the queue, which is there twice for a moment. What other gateways add between two looks may take of that part.
 */
import { Deadline } from '../../client/deadline.ts'
import { maxBatchBytes } from './transaction-queue.ts'

/** Of a stream's bytes, for what goes back: twice a batch of each of the 16 shards. */
export const reservedBytes = 2 * 16 * maxBatchBytes
/** How long an answer of the servers counts. */
const knownMs = 1_000

export interface StreamFill {
  readonly bytes: number
  /** The stream's own bound; negative: it has none. */
  readonly maxBytes: number
}

export class StreamRoom {
  readonly #ask: () => Promise<StreamFill>
  /** As the servers said, and what was added here since. */
  #bytes = 0
  #limit = 0
  #known = new Deadline(0)
  #asking: Promise<void> | undefined

  /** @param ask what is in the stream now, of its servers */
  constructor(ask: () => Promise<StreamFill>) {
    this.#ask = ask
  }

  /** Whether so many bytes may be added; they count from now on. Throws what asking throws. */
  async take(bytes: number): Promise<boolean> {
    if (this.#known.isOver || !this.#has(bytes)) await this.#look()
    if (!this.#has(bytes)) return false
    this.#bytes += bytes
    return true
  }

  #has(bytes: number): boolean {
    return this.#bytes + bytes <= this.#limit
  }

  /** One question at a time. */
  #look(): Promise<void> {
    this.#asking ??= this.#learn().finally(() => {
      this.#asking = undefined
    })
    return this.#asking
  }

  async #learn(): Promise<void> {
    const { bytes, maxBytes } = await this.#ask()
    this.#bytes = bytes
    this.#limit = limitOf(maxBytes)
    this.#known = new Deadline(knownMs)
  }
}

/** A stream that is no larger than the reserved part, since an operator made it so, is filled to the half. */
function limitOf(maxBytes: number): number {
  if (maxBytes < 0) return Number.POSITIVE_INFINITY
  return maxBytes > reservedBytes ? maxBytes - reservedBytes : maxBytes / 2
}
