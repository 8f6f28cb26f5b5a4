/**
 * Several chain sources as one: it stays with the source that works and goes on with the next when that one fails.
 *
 * - A source that is down or slow is passed over for this operation, and the next one becomes the preferred one. The first
 *   of the list is tried again after `returnMs`: it is first for a reason.
 * - A source that makes no progress (behind another source, or without a leader) is asked after all others for `lateMs`: it
 *   answers, so nothing else would keep a client from it.
 * - A source that was caught lying (a proof, header or certificate that does not verify, or a withheld change) is not
 *   asked again for `distrustMs`, however many addresses are left.
 * - Any other refusal is one source's word, and so is an answer that is `too-large`: the next one is asked, and the caller
 *   hears of it if all the others fail. That is no fault: the source stays first.
 *
 * An operation that is tried again must be safe to repeat. Reads are, and so is sending one signed transaction twice.
 */

import type { ErrorCode } from '../chain/errors.ts'
import { MoteError } from '../chain/result.ts'
import type { ChainSource, SourcePool } from './chain-source.ts'
import { type Clock, systemClock } from './clock.ts'

/** What a failure says about the source it came from. */
type SourceFault = 'passing' | 'late' | 'lie' | 'refusal' | 'none'

const faults: Partial<Record<ErrorCode, SourceFault>> = {
  unreachable: 'passing',
  timeout: 'passing',
  'no-leader': 'late',
  'not-ready': 'passing',
  overloaded: 'passing',
  'certification-lag': 'passing',
  'rate-limited': 'passing',
  stale: 'late',
  'height-not-available': 'passing',
  'storage-failed': 'passing',
  'storage-corrupt': 'passing',
  'execution-diverged': 'passing',
  'hello-required': 'passing',
  'hello-refused': 'passing',
  internal: 'passing',
  'bad-proof': 'lie',
  'bad-certificate': 'lie',
  'bad-header': 'lie',
  'wrong-chain': 'lie',
  withheld: 'lie',
  interrupted: 'none',
}

/** `passing`, `late`, `refusal`: try another source now. `lie`: and do not come back. `none`: the failure is this program's own. */
function sourceFaultOf(error: unknown): SourceFault {
  return error instanceof MoteError ? (faults[error.code] ?? 'refusal') : 'none'
}

export interface FailoverOptions {
  /** How long a source that lied is left alone. Default 10 minutes. */
  readonly distrustMs?: number
  /** How long the first source is left alone after a passing failure. Default 5 s. */
  readonly returnMs?: number
  /** The machine's unless given. */
  readonly clock?: Pick<Clock, 'steady'>
  /** Told of every failure that made it go on: for the log. */
  readonly onFault?: (source: ChainSource, fault: 'passing' | 'late' | 'lie', error: MoteError) => void
}

/** How long a source that makes no progress is asked after the others. */
const lateMs = 30_000

export class FailoverSource implements SourcePool {
  #sources: readonly ChainSource[]
  #preferred: ChainSource | undefined
  #serving: ChainSource | undefined
  readonly #distrustedUntil = new Map<string, number>()
  readonly #lateUntil = new WeakMap<ChainSource, number>()
  #compared = 0
  readonly #distrustMs: number
  readonly #returnMs: number
  #returnAt = 0
  readonly #clock: Pick<Clock, 'steady'>
  readonly #onFault: NonNullable<FailoverOptions['onFault']>

  /** @param sources the preferred one first; none yet: every attempt is `unreachable` until `replace` */
  constructor(sources: readonly ChainSource[], options: FailoverOptions = {}) {
    this.#sources = sources
    this.#preferred = sources[0]
    this.#distrustMs = options.distrustMs ?? 10 * 60_000
    this.#returnMs = options.returnMs ?? 5_000
    this.#clock = options.clock ?? systemClock
    this.#onFault = options.onFault ?? (() => {})
  }

  get size(): number {
    return this.#sources.length
  }

  /** The source that answered last; before there was an answer, the first one. */
  get preferred(): ChainSource | undefined {
    return this.#preferred
  }

  /** All but those caught lying, the first one first. */
  get sources(): readonly ChainSource[] {
    return this.#sources.filter(source => !this.isDistrusted(source))
  }

  /** The source that answered last and has not failed since; undefined while none has answered. */
  get serving(): ChainSource | undefined {
    return this.#serving
  }

  /** Other sources from now on, the preferred one first. Distrust, which goes by name, stays. */
  replace(sources: readonly ChainSource[]): void {
    this.#sources = sources
    this.#preferred = sources[0]
    this.#serving = sources.find(({ name }) => name === this.#serving?.name)
  }

  isDistrusted(source: ChainSource): boolean {
    const until = this.#distrustedUntil.get(source.name)
    if (until === undefined) return false
    if (until > this.#clock.steady()) return true
    this.#distrustedUntil.delete(source.name)
    return false
  }

  /**
   * Runs the operation, verification included, against each source at most once. If none has an answer it throws the gravest
   * failure: the first refusal, which is the word of a source that serves; else the first lie, which is no accident of the
   * network; else the last failure.
   */
  async attempt<T>(operation: (source: ChainSource) => Promise<T>): Promise<T> {
    const first: { refusal?: unknown; lie?: unknown } = {}
    let last: unknown
    for (const source of this.#inTurn()) {
      if (this.isDistrusted(source)) continue
      try {
        const answer = await operation(source)
        // The list may have been replaced while this operation ran.
        this.#preferred = this.#sources.find(({ name }) => name === source.name) ?? this.#preferred
        this.#serving = source
        this.#lateUntil.delete(source)
        return answer
      } catch (error) {
        const fault = this.#judge(source, error)
        if (fault === 'refusal' || fault === 'lie') first[fault] ??= error
        last = error
      }
    }
    const gravest = first.refusal ?? first.lie ?? last
    const none = this.#sources.length === 0 ? 'none is known yet' : 'every one of them was caught lying'
    throw gravest ?? new MoteError('unreachable', `sources: ${none}`)
  }

  /**
   * Runs the operation against one of the other sources, each in its turn, to compare what they say. It changes nothing,
   * but a lie is a lie. Undefined if there is no other, or that one has failed.
   */
  async compare<T>(
    source: ChainSource,
    operation: (other: ChainSource) => Promise<T>,
  ): Promise<T | undefined> {
    const others = this.sources.filter(other => other !== source)
    const other = others[this.#compared++ % others.length]
    if (!other) return undefined
    try {
      return await operation(other)
    } catch (error) {
      this.#judge(other, error)
      return undefined
    }
  }

  #inTurn(): readonly ChainSource[] {
    const isBackOnTrial = this.#clock.steady() >= this.#returnAt
    const start = isBackOnTrial || !this.#preferred ? 0 : Math.max(0, this.#sources.indexOf(this.#preferred))
    const inTurn = [...this.#sources.slice(start), ...this.#sources.slice(0, start)]
    return [
      ...inTurn.filter(source => !this.#isLate(source)),
      ...inTurn.filter(source => this.#isLate(source)),
    ]
  }

  #isLate(source: ChainSource): boolean {
    return (this.#lateUntil.get(source) ?? Number.NEGATIVE_INFINITY) > this.#clock.steady()
  }

  /** Throws what is no fault of the source. */
  #judge(source: ChainSource, error: unknown): SourceFault {
    const fault = sourceFaultOf(error)
    if (fault === 'none') throw error
    if (fault !== 'refusal') this.#blame(source, fault, error as MoteError)
    return fault
  }

  #blame(source: ChainSource, fault: 'passing' | 'late' | 'lie', error: MoteError): void {
    if (source.name === this.#serving?.name) this.#serving = undefined
    if (source === this.#sources[0]) this.#returnAt = this.#clock.steady() + this.#returnMs
    if (fault === 'late') this.#lateUntil.set(source, this.#clock.steady() + lateMs)
    if (fault === 'lie') this.#distrustedUntil.set(source.name, this.#clock.steady() + this.#distrustMs)
    this.#onFault(source, fault, error)
  }
}
