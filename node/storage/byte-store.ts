/**
 * One ordered queue in front of a byte store. Writes that wait while another is on its way to the disk are
 * joined into one atomic batch, so that a burst costs one sync and not one each.
 *
 * After the disk has refused a write nothing more is written: what came later may depend on what was lost.
 */
import { MoteError } from '../../chain/result.ts'

/** Called in order, after all earlier writes have been built. Throwing rejects this write alone. */
export type BuildWrite = () => readonly BatchOperation[] | Promise<readonly BatchOperation[]>

/**
 * A write that is built from what the store holds goes `alone`: what is joined with it would not be there yet. One that
 * nobody waits for `waits` for the next one and travels with it, so that it costs no write of its own.
 */
export type Company = 'joined' | 'alone' | 'waits'

interface QueuedWrite {
  readonly build: BuildWrite
  readonly durable: boolean
  readonly company: Company
  readonly resolve: () => void
  readonly reject: (error: unknown) => void
}

/** Writes joined into one batch, at most. */
const maxJoinedWrites = 64

export class WriteQueue {
  readonly #store: ByteStore
  #waiting: QueuedWrite[] = []
  #running: Promise<void> | undefined
  #failure: MoteError | undefined
  #closed = false

  constructor(store: ByteStore) {
    this.#store = store
  }

  /** Resolves when the write is carried out (and durable, if asked). */
  write(build: BuildWrite, durable: boolean, company: Company = 'joined'): Promise<void> {
    if (this.#closed) return Promise.reject(new MoteError('not-ready', 'storage: closed'))
    return new Promise((resolve, reject) => {
      this.#waiting.push({ build, durable, company, resolve, reject })
      if (company !== 'waits') this.#running ??= this.#run()
    })
  }

  /** Waits for every write called so far, but for those that wait themselves. */
  async idle(): Promise<void> {
    await this.#running
  }

  /** Accepts no more writes and waits for those that are queued. */
  async close(): Promise<void> {
    this.#closed = true
    this.#running ??= this.#run()
    await this.#running
  }

  async #run(): Promise<void> {
    // Writes called in the same turn of the event loop travel together.
    await Promise.resolve()
    while (this.#waiting.some(({ company }) => company !== 'waits' || this.#closed))
      await this.#writeBatch(this.#takeBatch())
    this.#running = undefined
  }

  #takeBatch(): readonly QueuedWrite[] {
    const alone = this.#waiting.findIndex(write => write.company === 'alone')
    if (alone === 0) return this.#waiting.splice(0, 1)
    return this.#waiting.splice(0, alone < 0 ? maxJoinedWrites : Math.min(alone, maxJoinedWrites))
  }

  async #writeBatch(writes: readonly QueuedWrite[]): Promise<void> {
    const joined: QueuedWrite[] = []
    const operations: BatchOperation[] = []
    for (const write of writes) {
      try {
        if (this.#failure) throw this.#failure
        const built = await write.build()
        for (const operation of built) operations.push(operation)
        joined.push(write)
      } catch (error) {
        write.reject(error)
      }
    }
    if (joined.length === 0) return
    try {
      await this.#store.write(
        operations,
        joined.some(write => write.durable),
      )
      for (const write of joined) write.resolve()
    } catch (cause) {
      this.#failure = new MoteError('storage-failed', `write: ${String(cause)}`, { cause })
      for (const write of joined) write.reject(this.#failure)
    }
  }
}

/*
 * The ordered map of bytes that the chain's storage is built on: LevelDB in production (level-storage.ts), an
 * in-memory map with simulated crashes in tests. Keys sort bytewise.
 */

/** Put when `value` is given, delete when it is null. */
export interface BatchOperation {
  readonly key: Uint8Array
  readonly value: Uint8Array | null
}

/** Keys from `from` (inclusive) to `to` (exclusive). */
export interface KeyRange {
  readonly from: Uint8Array
  readonly to: Uint8Array
  readonly reverse?: boolean
  readonly limit?: number
}

export interface ByteStore {
  get(key: Uint8Array): Promise<Uint8Array | undefined>
  range(range: KeyRange): AsyncIterable<readonly [key: Uint8Array, value: Uint8Array]>
  /** Atomic. When `durable`, this write and every earlier one survive a crash once the promise resolves. */
  write(operations: readonly BatchOperation[], durable: boolean): Promise<void>
  /** Gives back the room of records that were deleted in this range, which LevelDB else does when it comes by. */
  reclaim(range: Pick<KeyRange, 'from' | 'to'>): Promise<void>
  close(): Promise<void>
}
