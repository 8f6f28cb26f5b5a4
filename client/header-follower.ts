/**
 * Keeps one trusted head fresh from sources that are not trusted (docs/ARCHITECTURE.md, "Life of a header").
 *
 * It starts at a checkpoint, asks for newer headers, and believes what a quorum of the trusted consenters certified:
 * header by header with every list of changed keys (so that cached values stay judged), or, when it is far behind, in
 * skips from handover to handover, after which nothing older is known. Far is what takes longer to read than to ask
 * for the cached values again: many headers, or headers of full blocks. Whatever else a source sends is refused with `bad-header`,
 * `bad-certificate` or `wrong-chain`, inside the pool's attempt, so that the source pays for it.
 *
 * Invariants: the head never goes back; a listener sees every height between two skips, in order.
 * A source that stays silent is compared with another one, again and again; one that is behind the head is passed over with
 * `stale`, and after `quietMs` (several heartbeats) whatever is silent. How old the head is, `time` says; whether that is too
 * old, the caller judges.
 */

import type { Height } from '../chain/brands.ts'
import type { Certificate } from '../chain/certificate.ts'
import { type Header, headerHash } from '../chain/header.ts'
import type { SignatureVerifier } from '../chain/keys.ts'
import {
  advance,
  type CertifiedHeader,
  follow,
  matchesChanges,
  type TrustedHead,
} from '../chain/light-client.ts'
import { MoteError, unwrap } from '../chain/result.ts'
import { type ChainSource, maxHeadersPerAnswer, type SourcePool } from './chain-source.ts'
import { bytesOfCheckpoint, type CheckpointStore, restored } from './checkpoint-file.ts'
import { type Clock, systemClock } from './clock.ts'
import { Deadline, pause } from './deadline.ts'
import { findHandover } from './handover-search.ts'
import { OrderedQueue } from './ordered-queue.ts'

/** What a follower tells: consecutive headers, or the header of a head reached without those in between. */
export type HeadEvent =
  | { readonly type: 'headers'; readonly headers: readonly CertifiedHeader[]; readonly head: TrustedHead }
  | { readonly type: 'skipped'; readonly header: CertifiedHeader; readonly head: TrustedHead }

export interface FollowerOptions {
  readonly pool: SourcePool
  readonly verifier: SignatureVerifier
  /** Where trust starts: the genesis, or a head from the operator. A stored checkpoint that is higher is preferred. */
  readonly checkpoint: TrustedHead
  readonly store?: CheckpointStore
  /** A stored checkpoint is renewed at most this often, which spares flash memory. Default 5 s. */
  readonly saveEveryMs?: number
  /** Further behind than this many headers, it skips. Default 1024. */
  readonly longestRun?: number
  /** It skips as well after as many changed keys, if it is not there then. Default 65,536: 2.2 MB of headers. */
  readonly longestRunKeys?: number
  /** How long one request waits for news. Default 10 s. */
  readonly waitMs?: number
  /** Without news for this long, another source is asked. Default 180 s: three heartbeats. */
  readonly quietMs?: number
  /** The machine's unless given. */
  readonly clock?: Pick<Clock, 'steady'>
  /** By which it waits and pauses. The machine's unless given. */
  readonly timers?: Clock
  /** Told of failures of `run`, which goes on. */
  readonly onError?: (error: unknown) => void
}

/** A node that is further behind than this has been away; nearer, the next blocks are on their way. */
export const blocksBehindMax = 8
/** Within this time a source has to show the head that another one has shown. */
const levelWithinMs = 500
/** Shortest and longest pause of `run` after a failure. */
const retryDelayMsMin = 50
const retryDelayMsMax = 2_000

export class HeaderFollower {
  #head: TrustedHead
  readonly #options: FollowerOptions
  readonly #listeners = new Set<(event: HeadEvent) => void>()
  /** Every change of the head goes through here, one after another. */
  readonly #taking = new OrderedQueue()
  #newest: CertifiedHeader | undefined
  readonly #shownBy = new WeakMap<ChainSource, Height>()
  /** The highest certified header that is known of. */
  #heard = 0
  /** What a source shows at present and other consenters have certified, as it says: it is believed when the head is there. */
  #claimed = 0
  #isLevel = false
  #isComparing = false
  #isRunning = false
  readonly #clock: Pick<Clock, 'steady'>
  #lastNews: number
  #arrivedAt: number | undefined
  #lastSave = Number.NEGATIVE_INFINITY
  #saved: Height
  /** The write under way. A program that ends after a read must not cut it in two. */
  readonly #saving = new OrderedQueue()

  private constructor(options: FollowerOptions, head: TrustedHead) {
    this.#options = options
    this.#clock = options.clock ?? systemClock
    this.#lastNews = this.#clock.steady()
    this.#head = head
    this.#saved = head.header.height
  }

  /** A follower at the checkpoint, or at the stored one if that is higher. Throws `storage-corrupt`, `wrong-chain`. */
  static async open(options: FollowerOptions): Promise<HeaderFollower> {
    const stored = await options.store?.load()
    return new HeaderFollower(options, stored ? restored(stored, options.checkpoint) : options.checkpoint)
  }

  get head(): TrustedHead {
    return this.#head
  }

  /** When the head was first seen here, by the steady clock; undefined while it is from an earlier process. */
  get arrivedAt(): number | undefined {
    return this.#arrivedAt
  }

  /** The head with its certificate, as it was taken; undefined while the head is the checkpoint. */
  get newest(): CertifiedHeader | undefined {
    return this.#newest
  }

  /** How many headers the head is behind the newest one that is known of. */
  get behind(): number {
    return Math.max(this.#heard, this.#claimed, this.#head.header.height) - this.#head.header.height
  }

  /**
   * True from when the head was the newest of a source; false again from more than `blocksBehindMax` on, as after a pause,
   * until it has caught up.
   */
  get isLevel(): boolean {
    return this.#isLevel
  }

  /** Calls `listener` for each advance, in order, before anyone who waits for the head sees it. */
  onAdvance(listener: (event: HeadEvent) => void): () => void {
    this.#listeners.add(listener)
    return () => this.#listeners.delete(listener)
  }

  /** The highest header that a source has claimed to have; 0 before it was asked. */
  shownBy(source: ChainSource): Height {
    return this.#shownBy.get(source) ?? (0 as Height)
  }

  /**
   * Catches up with the newest header of one source and returns the head. Throws when no source has a valid one. Unless `run`
   * does it all the time, another source is asked as well, if there is one: the head is the higher of the two, and who is
   * behind it is late. One that does not answer at once holds nobody up.
   */
  async sync(): Promise<TrustedHead> {
    return this.#options.pool.attempt(async source => {
      const turn = new Deadline(levelWithinMs, { clock: this.#options.timers })
      const comparing = this.#isRunning ? undefined : this.#compare(source, turn.signal)
      await this.syncFrom(source)
      if (comparing) await turn.race(comparing)
      if (this.shownBy(source) < this.#head.header.height) await this.#mustBeLevel(source)
      return this.#head
    })
  }

  /** The same from a given source. A source that is behind changes nothing. */
  async syncFrom(source: ChainSource): Promise<TrustedHead> {
    await this.#take(source, await source.certifiedHeader('latest'))
    await this.#saving.idle()
    return this.#head
  }

  /** Catches up to this height at least, by whichever source gets there. Throws `stale` when the time is over. */
  async reach(height: Height, timeoutMs = 5_000): Promise<TrustedHead> {
    const { pool, timers } = this.#options
    const deadline = new Deadline(timeoutMs, { clock: timers })
    const { signal } = deadline
    while (this.#head.header.height < height && !deadline.isOver) {
      const attempt = pool.attempt(async source => {
        await this.#takeNews(source, signal, 500)
        if (this.#head.header.height < height)
          throw new MoteError('stale', `${source.name}: behind height ${height}`)
      })
      // A failure is followed by another round; what else advances the head ends the wait as well.
      await Promise.race([
        attempt.catch(() => pause(retryDelayMsMin, signal, timers)),
        this.#advanced(signal),
      ])
    }
    await this.#saving.idle()
    if (this.#head.header.height >= height) return this.#head
    throw new MoteError('stale', `head: expected height ${height}, got ${this.#head.header.height}`)
  }

  /** Follows until the signal fires. Failures are reported and tried again. */
  async run(signal: AbortSignal): Promise<void> {
    this.#isRunning = true
    let delayMs = retryDelayMsMin
    while (!signal.aborted) {
      try {
        await this.#options.pool.attempt(source => this.#awaitNews(source, signal))
        delayMs = retryDelayMsMin
      } catch (error) {
        if (signal.aborted) break
        this.#options.onError?.(error)
        await pause(delayMs, signal, this.#options.timers)
        delayMs = Math.min(2 * delayMs, retryDelayMsMax)
      }
    }
    this.#isRunning = false
    await this.save()
  }

  async #awaitNews(source: ChainSource, signal: AbortSignal): Promise<void> {
    if (this.shownBy(source) < this.#head.header.height) return this.#mustBeLevel(source, signal)
    // A caller that does not know yet whether the head is level asks: on a quiet chain nothing else shows it.
    const isUnknown = !this.#isLevel && this.behind === 0
    if (await this.#takeNews(source, signal, isUnknown ? 0 : (this.#options.waitMs ?? 10_000))) return
    const quietMs = this.#clock.steady() - this.#lastNews
    if (quietMs > (this.#options.quietMs ?? 180_000))
      throw new MoteError('stale', `${source.name}: no new header for ${Math.round(quietMs / 1000)} s`)
    void this.#compare(source, signal)
  }

  /** A source is late by what others have shown, never by a clock. Throws `stale`. */
  async #mustBeLevel(source: ChainSource, signal?: AbortSignal): Promise<void> {
    const { height } = this.#head.header
    const shown = await source.waitForHeader((height - 1) as Height, levelWithinMs, signal && { signal })
    if (!shown) throw new MoteError('stale', `${source.name}: behind height ${height}, which others have`)
    await this.#take(source, shown)
  }

  /** Takes what another source has, while this one is waited for; then this one must have it too. */
  async #compare(source: ChainSource, signal: AbortSignal): Promise<void> {
    if (this.#isComparing) return
    this.#isComparing = true
    const taking = this.#options.pool.compare(source, async other => {
      const newest = await other.certifiedHeader('latest', { signal })
      if (!signal.aborted) await this.#take(other, newest)
    })
    await taking.catch(() => {})
    this.#isComparing = false
  }

  /** False if the source had no news within the time. */
  async #takeNews(source: ChainSource, signal: AbortSignal, waitMs: number): Promise<boolean> {
    const newest = await source.waitForHeader(this.#head.header.height, waitMs, { signal })
    if (newest) await this.#take(source, newest)
    else if (this.behind === 0) this.#isLevel = true
    return newest !== undefined
  }

  /** Resolves with the next advance, or when the signal fires. */
  #advanced(signal: AbortSignal): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>()
    const detach = this.onAdvance(() => resolve())
    const stop = () => resolve()
    signal.addEventListener('abort', stop, { once: true })
    return promise.finally(() => {
      detach()
      signal.removeEventListener('abort', stop)
    })
  }

  /** Takes the newest header of a source and all between. Calls wait for each other. */
  #take(source: ChainSource, newest: CertifiedHeader): Promise<void> {
    return this.#taking.run(() => this.#settle(source, newest))
  }

  async #settle(source: ChainSource, newest: CertifiedHeader): Promise<void> {
    let level = this.#isLevel
    try {
      await this.#advanceTo(source, newest)
      level = true
    } finally {
      this.#claimed = 0
      // A claim that came to nothing leaves no trace.
      if (this.behind === 0) this.#isLevel = level
    }
  }

  /** Counts what is known of the newest height. A source cannot make it up: who the head trusts has signed, or it is a claim. */
  #hear(source: ChainSource, newest: CertifiedHeader, certificate: Certificate): void {
    const { header, handover } = newest
    const isBySame = header.signersHash === this.#head.header.nextSignersHash
    if (isBySame) {
      unwrap(advance(this.#head, header, certificate, this.#options.verifier, handover))
      this.#heard = Math.max(this.#heard, header.height)
    } else this.#claimed = this.shownBy(source)
    if (this.behind > blocksBehindMax) this.#isLevel = false
  }

  async #advanceTo(source: ChainSource, newest: CertifiedHeader): Promise<void> {
    const { certificate, header } = newest
    if (header.height > this.shownBy(source)) this.#shownBy.set(source, header.height)
    const gap = header.height - this.#head.header.height
    if (gap <= 0) return this.#checkNotForked(source, header)
    if (!certificate)
      throw new MoteError('stale', `${source.name}: has no certificate for its newest header yet`)
    if (gap === 1) return this.#accept(source, [newest])
    this.#hear(source, newest, certificate)
    while (this.#head.header.height < header.height) {
      const isNear = header.height - this.#head.header.height <= (this.#options.longestRun ?? 1024)
      if (isNear && (await this.#walk(source, newest))) return
      const sameSigners = header.signersHash === this.#head.header.nextSignersHash
      this.#skipTo(source, sameSigners ? newest : await findHandover(source, this.#head, newest))
    }
  }

  /** Takes a header that the consenters of the head certified, without those in between. */
  #skipTo(source: ChainSource, { header, certificate, handover, changes }: CertifiedHeader): void {
    const { verifier } = this.#options
    if (!certificate)
      throw new MoteError('bad-certificate', `${source.name}: shows none for a handover at ${header.height}`)
    if (!matchesChanges(header, changes))
      throw new MoteError('bad-header', `${source.name}: changes: expected the keys that changesHash names`)
    this.#head = unwrap(advance(this.#head, header, certificate, verifier, handover))
    this.#newest = { header, certificate, handover, changes }
    this.#publish({ type: 'skipped', header: this.#newest, head: this.#head })
  }

  /** A header of the head's height with another hash is a fork or an invention; below, the head says nothing. */
  #checkNotForked(source: ChainSource, header: Header): void {
    if (header.chainId !== this.#head.chainId)
      throw new MoteError('wrong-chain', `${source.name}: chainId: expected ${this.#head.chainId}`)
    if (header.height === this.#head.header.height && headerHash(header) !== this.#head.headerHash)
      throw new MoteError(
        'bad-header',
        `${source.name}: another header at the trusted height ${header.height}`,
      )
    if (header.height === this.#head.header.height) this.#arrivedAt ??= this.#clock.steady()
  }

  /**
   * Asks for the headers in between and takes them page by page; a page may end before a certified one. False if they
   * list more changed keys than a skip is worth.
   */
  async #walk(source: ChainSource, newest: CertifiedHeader): Promise<boolean> {
    let waiting: CertifiedHeader[] = []
    let keysLeft = this.#options.longestRunKeys ?? 65_536
    while (this.#head.header.height < newest.header.height) {
      if (keysLeft < 0) return false
      const from = (this.#head.header.height + waiting.length + 1) as Height
      const missing = newest.header.height - from
      const page =
        missing === 0 ? [newest] : await source.headersFrom(from, Math.min(missing, maxHeadersPerAnswer))
      if (page.length === 0 || page.length > maxHeadersPerAnswer)
        throw new MoteError('stale', `${source.name}: lacks the headers from ${from} on`)
      waiting.push(...page)
      keysLeft -= page.reduce((sum, { changes }) => sum + changes.length, 0)
      if (waiting.length > 16 * maxHeadersPerAnswer)
        throw new MoteError('bad-header', `${source.name}: no certificate in ${waiting.length} headers`)
      const before = this.#head.header.height
      if (waiting.some(entry => entry.certificate)) this.#accept(source, waiting)
      waiting = waiting.slice(this.#head.header.height - before)
    }
    return true
  }

  #accept(source: ChainSource, run: readonly CertifiedHeader[]): void {
    const before = this.#head.header.height
    const followed = follow(this.#head, run, this.#options.verifier)
    if (!followed.ok) throw new MoteError(followed.error.code, `${source.name}: ${followed.error.detail}`)
    this.#head = followed.value
    const headers = run.slice(0, this.#head.header.height - before)
    this.#newest = headers.at(-1) ?? this.#newest
    this.#publish({ type: 'headers', headers, head: this.#head })
  }

  #publish(event: HeadEvent): void {
    this.#lastNews = this.#clock.steady()
    this.#arrivedAt = this.#lastNews
    for (const listener of this.#listeners) listener(event)
    this.#saving.run(() => this.#save(false)).catch(error => this.#options.onError?.(error))
  }

  async #save(now: boolean): Promise<void> {
    const { store, saveEveryMs = 5_000 } = this.#options
    const { header } = this.#head
    if (!store || header.height === this.#saved) return
    if (!now && this.#clock.steady() - this.#lastSave < saveEveryMs) return
    this.#lastSave = this.#clock.steady()
    this.#saved = header.height
    await store.save(bytesOfCheckpoint(this.#head))
  }

  /** Stores the head as it is: for a program that ends. */
  async save(): Promise<void> {
    await this.#saving.idle()
    await this.#save(true)
  }
}
