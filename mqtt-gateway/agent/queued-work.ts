/**
 * What has been handed over and waits for its outcome: entries of a durable queue, the oldest of each lane worked on until it is known what
 * comes of it, then off the disk, and whoever waits told. After a crash it goes on where it was.
 */
import type { Milliseconds } from '../../chain/brands.ts'
import { type Refusal, type Result, refusalOf } from '../../chain/result.ts'
import type { DurableQueue, QueueEntry } from '../../client/durable-queue.ts'
import { LaneWorkers } from './lane-workers.ts'

/** Something on the disk, and what comes of it. */
export interface Queued<Outcome> {
  readonly sequence: number
  /** Never rejects; stays open when the program ends first. */
  readonly outcome: Promise<Outcome>
}

export interface QueuedWorkOptions<Outcome> {
  readonly queue: DurableQueue
  /** In as many attempts as it takes; undefined when the signal has fired first. */
  readonly work: (entry: QueueEntry, signal: AbortSignal) => Promise<Outcome | undefined>
  /** What stands beside an entry on the disk, and goes with it. */
  readonly progressKey: (entry: QueueEntry) => string
  readonly onOutcome: (outcome: Outcome) => void
  /** The disk failed: what is there is worked on when the program is started again. */
  readonly onFailure: (lane: string, reason: Refusal) => void
}

export class QueuedWork<Outcome> {
  readonly #options: QueuedWorkOptions<Outcome>
  readonly #workers: LaneWorkers
  readonly #settle = new Map<number, (outcome: Outcome) => void>()

  constructor(options: QueuedWorkOptions<Outcome>) {
    this.#options = options
    this.#workers = new LaneWorkers({
      work: lane => this.#work(lane),
      onFailure: (lane, error) => options.onFailure(lane, refusalOf(error)),
    })
  }

  get count(): number {
    return this.#options.queue.count
  }

  /** Goes on with what an earlier run has left. */
  start(): void {
    for (const lane of this.#options.queue.lanes) this.#workers.begin(lane)
  }

  /** Resolves when it is on the disk. Refuses `overloaded` when there is no room, `too-large`. Throws `storage-failed`. */
  async add(lane: string, body: Uint8Array, now: Milliseconds): Promise<Result<Queued<Outcome>>> {
    const added = await this.#options.queue.add({ lane, body, now })
    if (!added.ok) return added
    const { sequence } = added.value
    const outcome = Promise.withResolvers<Outcome>()
    this.#settle.set(sequence, outcome.resolve)
    this.#workers.begin(lane)
    return { ok: true, value: { sequence, outcome: outcome.promise } }
  }

  /** Resolves when nothing is done any more, or `patienceMs` later. */
  close(patienceMs: number): Promise<void> {
    return this.#workers.close(patienceMs)
  }

  async #work(lane: string): Promise<void> {
    const { queue, work, progressKey, onOutcome } = this.#options
    for (;;) {
      const entry = queue.head(lane)
      if (!entry) return this.#workers.isIdle(lane)
      const outcome = await work(entry, this.#workers.signal)
      if (!outcome) return
      await queue.remove(entry, [{ key: progressKey(entry), value: undefined }])
      this.#settle.get(entry.sequence)?.(outcome)
      this.#settle.delete(entry.sequence)
      onOutcome(outcome)
    }
  }
}
