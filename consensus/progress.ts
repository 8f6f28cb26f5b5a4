/**
 * What a leader knows of one follower (Figure 2, `nextIndex` and `matchIndex`; thesis section 10.2.1 for pipelining).
 *
 *   probe ──success──▶ replicate        one append at a time, looking for the place where the logs agree
 *   replicate ──rejection, lost stream──▶ probe      many appends in flight, `nextIndex` runs ahead
 *   any ──needs entries that are compacted──▶ snapshot ──installed──▶ replicate, ──failed──▶ probe
 *   probe, replicate ──answer says `full`──▶ full ──answer to a later heartbeat without it──▶ probe
 *
 * A follower in `full` gets heartbeats alone. It is left by way of `probe`, one append at a time: a follower that takes
 * heartbeats and no entries never gets to `replicate`, so nothing counts it as in step.
 *
 * Invariants: 1. `matchIndex` only grows, and only from a success. 2. `nextIndex` > `matchIndex`. 3. Rejections move
 * `nextIndex` and nothing else. 4. Between two heartbeats a follower gets at most `maxBytesInFlight` and one append of
 * bytes that it was sent before, whatever it answers.
 */
import { entryBytes, type Position } from './log.ts'
import type { Entry, NodeId, SnapshotMeta } from './types.ts'

/** Limits of `Config` that decide whether another append may leave. */
export interface FlightLimits {
  readonly maxAppendsInFlight: number
  readonly maxBytesInFlight: number
}

export class Progress {
  readonly id: NodeId
  state: 'probe' | 'replicate' | 'snapshot' | 'full' = 'probe'
  matchIndex = 0
  nextIndex: number
  /** Leader ticks when this follower was last heard in this term: an answer, or that its answer waits for its disk. */
  heardAt: number
  /** Leader ticks at its last answer: its disk keeps up with what it is sent. */
  answeredAt: number
  /** The latest read round this follower has confirmed. */
  readContext = 0
  /** The highest `leaderCommit` sent. */
  commitSent = 0
  /** An append is due in this step even if there is nothing to append (heartbeat, read round). */
  mustSend = false
  /** In `probe`: the append at `nextIndex` is out. Cleared by an answer; a heartbeat repeats it without entries. */
  probeSent = false
  /** In `snapshot`: what is offered. */
  snapshot: SnapshotMeta | undefined
  /** Of a member that was left out: the entry that removes it, the last one that it gets (departing.ts). */
  end: Position | undefined
  /** In `replicate`: the last entry sent. Its term is needed again when memory has let go of it. */
  lastSent: Position | undefined
  /** In `full`: a heartbeat has left since the follower said so. An older answer without `full` proves nothing. */
  #askedAgain = false
  /** The highest index ever sent to this follower by this leader. */
  #highestSent = 0
  /** Bytes of entries that were sent again since the last heartbeat. */
  #bytesSentAgain = 0
  #inFlight: { readonly lastIndex: number; readonly bytes: number }[] = []
  #bytesInFlight = 0

  constructor(id: NodeId, nextIndex: number, heardAt: number) {
    this.id = id
    this.nextIndex = nextIndex
    this.heardAt = heardAt
    this.answeredAt = heardAt
  }

  get appendsInFlight(): number {
    return this.#inFlight.length
  }

  get bytesInFlight(): number {
    return this.#bytesInFlight
  }

  /** True if an append with entries may leave: the one probe, or another of a pipeline. */
  mayAppend(limits: FlightLimits): boolean {
    if (this.#bytesSentAgain >= limits.maxBytesInFlight) return false
    if (this.state === 'probe') return !this.probeSent
    return (
      this.state === 'replicate' &&
      this.#inFlight.length < limits.maxAppendsInFlight &&
      this.#bytesInFlight < limits.maxBytesInFlight
    )
  }

  /** A heartbeat is about to leave. */
  beat(): void {
    this.mustSend = true
    this.#askedAgain = true
    this.#bytesSentAgain = 0
  }

  /** Counts what leaves a second time. */
  count(entries: readonly Entry[]): void {
    for (const entry of entries) {
      if (entry.index <= this.#highestSent) this.#bytesSentAgain += entryBytes(entry)
      else this.#highestSent = entry.index
    }
  }

  /** Notes an append of entries up to `last`: from here on the follower is assumed to get them. */
  sent(last: Position, bytes: number): void {
    this.#inFlight.push({ lastIndex: last.index, bytes })
    this.#bytesInFlight += bytes
    this.lastSent = last
    this.nextIndex = last.index + 1
  }

  /** It has answered, at this tick of the leader. */
  answered(ticks: number): void {
    this.heardAt = ticks
    this.answeredAt = ticks
  }

  /** The follower's log agrees with ours up to `matchIndex`, durably. True if that is news. */
  acknowledge(matchIndex: number): boolean {
    const advanced = matchIndex > this.matchIndex
    if (advanced) this.matchIndex = matchIndex
    if (this.state === 'replicate') {
      this.nextIndex = Math.max(this.nextIndex, this.matchIndex + 1)
      this.#release()
    } else if (this.state === 'full') {
      this.nextIndex = Math.max(this.nextIndex, this.matchIndex + 1)
    } else if (this.state === 'probe' || this.matchIndex >= (this.snapshot?.lastIncludedIndex ?? 0)) {
      this.becomeReplicate()
    }
    return advanced
  }

  /**
   * The follower had no entry that agrees with `prevLogIndex`; `hint` is where to look next. A rejection that speaks
   * of an append we no longer wait for is stale and changes nothing.
   */
  reject(prevLogIndex: number, hint: number): void {
    if (prevLogIndex <= this.matchIndex || prevLogIndex >= this.nextIndex) return
    if (this.state === 'snapshot') return
    if (this.state !== 'replicate' && prevLogIndex !== this.nextIndex - 1) return
    const nextIndex = Math.max(this.matchIndex + 1, Math.min(hint, prevLogIndex))
    if (this.state === 'full') this.nextIndex = nextIndex
    else this.becomeProbe(nextIndex)
  }

  /** An answer says whether the follower takes entries: what it says of its log is noted already. */
  heardFull(full: boolean): void {
    if (this.state === 'snapshot') return
    if (full) {
      // In `probe` the place is still looked for, by heartbeats from now on.
      if (this.state !== 'full')
        this.#enter('full', this.state === 'probe' ? this.nextIndex : this.matchIndex + 1)
      this.#askedAgain = false
    } else if (this.state === 'full' && this.#askedAgain) {
      this.becomeProbe(this.nextIndex)
    }
  }

  becomeProbe(nextIndex: number): void {
    this.#enter('probe', nextIndex)
  }

  becomeReplicate(): void {
    this.#enter('replicate', this.matchIndex + 1)
  }

  becomeSnapshot(snapshot: SnapshotMeta): void {
    this.#enter('snapshot', snapshot.lastIncludedIndex + 1)
    this.snapshot = snapshot
  }

  #enter(state: Progress['state'], nextIndex: number): void {
    this.state = state
    this.nextIndex = nextIndex
    this.probeSent = false
    this.snapshot = undefined
    this.lastSent = undefined
    this.#inFlight = []
    this.#bytesInFlight = 0
  }

  #release(): void {
    let released = 0
    for (const { lastIndex, bytes } of this.#inFlight) {
      if (lastIndex > this.matchIndex) break
      released += 1
      this.#bytesInFlight -= bytes
    }
    if (released > 0) this.#inFlight.splice(0, released)
  }
}
