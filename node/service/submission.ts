/**
 * The way of a transaction through the node that it came to: checked, given to the leader (`Forwarder`, at a follower),
 * watched until it is committed or certified, answered (docs/ARCHITECTURE.md, life of a transaction). What a leader takes,
 * admission.ts decides.
 *
 * Invariants:
 *   - the same bytes get the same answer, whichever node they come to and however often: an id is executed once, and
 *     what became of it is looked up before anything else;
 *   - a lost leader is no error while there is time left: what was taken in here is sent to the next one;
 *   - what this node answers as committed or certified, it has executed itself;
 *   - bounded: at most `inFlightMax` transactions are watched, one timer serves them all.
 *
 * A refusal by the leader ends the watch only if no earlier leader may have put the transaction into its log.
 */
import type { DeviceId, Height, TransactionId } from '../../chain/brands.ts'
import type { Certificate } from '../../chain/certificate.ts'
import { equalBytes } from '../../chain/codec.ts'
import { type ErrorCode, errorTable } from '../../chain/errors.ts'
import { MoteError, ok, type Refusal, type Result, refuse } from '../../chain/result.ts'
import { type ParsedTransaction, parseTransaction } from '../../chain/transaction.ts'
import type { SubmitWait, TransactionStatus } from '../../client/chain-source.ts'
import { type Execution, type LiveChain, type RecentOutcome, storedOutcome } from '../ledger/live-chain.ts'
import type { Leadership, NodeListener } from '../ledger/node-events.ts'
import { forwardFrames, refusalFrom } from '../network/wire.ts'
import type { Clock, Network, Storage, TransactionRefusal } from '../ports.ts'
import type { Admission } from '../replica/admission.ts'
import type { Mempool } from '../replica/mempool.ts'
import type { Replica } from '../replica/replica.ts'

export interface SubmissionLimits {
  readonly inFlightMax: number
  /** A watch without an outcome ends after this time with what is known. */
  readonly watchMs: number
  /** Sent on again if nothing was heard for this long. */
  readonly forwardAgainMs: number
  readonly sweepMs: number
}

export const defaultSubmissionLimits: SubmissionLimits = {
  inFlightMax: 20_000,
  watchMs: 15_000,
  forwardAgainMs: 1_500,
  sweepMs: 250,
}

export interface SubmissionParts {
  readonly chain: LiveChain
  readonly storage: Storage
  readonly clock: Clock
  readonly mempool: Pick<Mempool, 'has'>
  readonly admission: Admission
  readonly forwarder: Forwarder
  readonly replica: Pick<Replica, 'leadership' | 'wake'>
  readonly limits: SubmissionLimits
}

interface Waiter {
  readonly wait: Exclude<SubmitWait, 'none'>
  readonly resolve: (status: TransactionStatus) => void
}

interface Watched {
  readonly id: TransactionId
  parsed: ParsedTransaction
  readonly deadline: number
  waiters: Waiter[]
  /** Times it was given to a leader. */
  timesForwarded: number
  forwardedAt: number
  /** The leader to which it was given last. */
  forwardedTo?: DeviceId
  lastRefusal: Refusal | undefined
  outcome: RecentOutcome | undefined
}

export class Submission implements NodeListener {
  readonly #parts: SubmissionParts
  readonly #limits: SubmissionLimits
  readonly #watched = new Map<TransactionId, Watched>()
  /** Executed and waiting for their block's certificate, by height. */
  readonly #uncertified = new Map<Height, Watched[]>()
  #cancelSweep: (() => void) | undefined
  #stopped = false

  constructor(parts: SubmissionParts) {
    this.#parts = parts
    this.#limits = parts.limits
  }

  /** Transactions whose answer is still open: not executed yet, or without the certificate that somebody waits for. */
  get open(): number {
    let open = this.#watched.size
    for (const list of this.#uncertified.values()) open += list.length
    return open
  }

  start(): void {
    this.#cancelSweep = this.#parts.clock.after(this.#limits.sweepMs, () => {
      if (this.#stopped) return
      this.start()
      this.#sweep()
    })
  }

  /** Every open answer is given with what is known now. */
  stop(): void {
    this.#stopped = true
    this.#cancelSweep?.()
    for (const watched of [...this.#watched.values()]) this.#giveUp(watched, 'not-ready')
    for (const list of this.#uncertified.values()) this.#answerNow(list)
    this.#uncertified.clear()
  }

  /**
   * Takes in one signed transaction. Throws `malformed`, `too-large`, `unknown-version` or `kind-not-supported` for
   * bytes that have no id; whatever has one gets a status.
   */
  async submit(bytes: Uint8Array, wait: SubmitWait): Promise<TransactionStatus> {
    const parsed = parseTransaction(bytes)
    if (!parsed.ok) throw new MoteError(parsed.error.code, parsed.error.detail)
    const { id } = parsed.value
    const known = this.#parts.chain.outcomeOf(id)
    if (known) return this.#afterExecution(known, parsed.value, wait)
    let watched = this.#watched.get(id)
    if (!watched || !equalBytes(watched.parsed.bytes, bytes)) {
      const checked = this.#check(parsed.value)
      if (!checked.ok) {
        // It may have been executed before this node's memory begins.
        const old = looksExecuted(checked.error.code)
          ? await storedOutcome(this.#parts.storage, id)
          : undefined
        return old ? this.#afterExecution(old, parsed.value, wait) : this.#refused(id, checked.error)
      }
      watched ??= this.#watch(parsed.value)
      watched.parsed = parsed.value
      this.#forward([watched], checked.value)
      const { lastRefusal } = watched
      if (!this.#watched.has(id) && lastRefusal) return this.#refused(id, lastRefusal)
    }
    return wait === 'none' ? { id, status: 'pending' } : waitFor(watched, wait)
  }

  /** What is known of an id. */
  async status(id: TransactionId): Promise<TransactionStatus> {
    const known = this.#parts.chain.outcomeOf(id) ?? (await storedOutcome(this.#parts.storage, id))
    if (known) return this.#statusOf(known)
    return { id, status: this.#watched.has(id) || this.#parts.mempool.has(id) ? 'pending' : 'unknown' }
  }

  /** A leader's refusals of what this node gave to it last. Nobody else has a say: the others were not asked. */
  refused(from: DeviceId, refusals: readonly TransactionRefusal[]): void {
    for (const { id, code, detail } of refusals) {
      const watched = this.#watched.get(id)
      if (watched?.forwardedTo === from) this.#answered(watched, refusalFrom({ code, detail }))
    }
  }

  /** A block was executed here. */
  executed(execution: Execution): void {
    const { chain } = this.#parts
    for (const { id, final, code } of execution.outcomes) {
      const watched = this.#watched.get(id)
      if (!watched) continue
      const outcome = chain.outcomeOf(id)
      if (final && outcome) this.#executedOne(watched, outcome)
      else if (code !== 'duplicate' && code !== 'ok')
        this.#end(watched, this.#refused(id, { code, detail: sentenceOf(code) }))
    }
  }

  /** Everything up to `height` is certified. */
  certified({ height }: Certificate): void {
    // Not in order of height: what is sent again waits for an older block than what came before it.
    for (const [executedAt, list] of this.#uncertified) {
      if (executedAt > height) continue
      this.#uncertified.delete(executedAt)
      this.#answerNow(list)
    }
  }

  /** A snapshot took the place of blocks: what was executed in one of them has its outcome elsewhere, and none here. */
  installed(): void {
    const { replay, header } = this.#parts.chain.ledger
    for (const watched of [...this.#watched.values()]) {
      const { expiry } = watched.parsed.unsigned
      if (header.time > expiry || replay.has(watched.id, expiry)) this.#giveUp(watched, 'timeout')
    }
  }

  /** The leader changed: what is open goes to the new one. */
  leadershipChanged({ leader }: Leadership): void {
    if (!leader) return
    for (const watched of this.#watched.values()) watched.forwardedAt = 0
    this.#forward([...this.#watched.values()], 'old')
  }

  /** `old`: refused by the state of this node, which may be behind; the leader judges it again. */
  #check(parsed: ParsedTransaction): Result<'checked' | 'old'> {
    const { admission } = this.#parts
    if (this.#stopped) return refuse('not-ready', 'the node is stopping')
    if (this.#watched.size >= this.#limits.inFlightMax)
      return refuse('overloaded', `transactions in flight: expected at most ${this.#limits.inFlightMax}`)
    const checked = admission.check(parsed)
    if (checked.ok) return ok('checked')
    return admission.mayChange(checked.error) ? ok('old') : checked
  }

  #watch(parsed: ParsedTransaction): Watched {
    const watched = this.#newWatch(parsed, undefined)
    this.#watched.set(parsed.id, watched)
    return watched
  }

  #newWatch(parsed: ParsedTransaction, outcome: RecentOutcome | undefined): Watched {
    const deadline = this.#parts.clock.steady() + this.#limits.watchMs
    const nothing = { waiters: [], timesForwarded: 0, forwardedAt: 0, lastRefusal: undefined }
    return { id: parsed.id, parsed, deadline, outcome, ...nothing }
  }

  /** Gives transactions to the leader, if there is one: to this node's mempool, or over the network. */
  #forward(list: readonly Watched[], state: 'checked' | 'old'): void {
    const { admission, replica, clock, forwarder } = this.#parts
    const { role, leader } = replica.leadership
    if (!leader) return
    for (const watched of list) {
      watched.forwardedAt = clock.steady()
      watched.forwardedTo = leader
      watched.timesForwarded++
      if (role !== 'leader') forwarder.forward(leader, watched.parsed.bytes, this.#watched.size)
      else {
        const late = (refusal: Refusal) => this.#answered(watched, refusal)
        const judged =
          state === 'checked' ? admission.pool(watched.parsed) : admission.judge(watched.parsed, late)
        if (judged && !judged.ok) late(judged.error)
      }
    }
    if (role === 'leader') replica.wake()
  }

  /** The leader did not take it. */
  #answered(watched: Watched, refusal: Refusal): void {
    watched.lastRefusal = refusal
    // Executed already, and on its way here.
    if (refusal.code === 'duplicate') return
    const mayBeInALog = watched.timesForwarded > 1
    if (!mayBeInALog) this.#end(watched, this.#refused(watched.id, refusal))
  }

  #executedOne(watched: Watched, outcome: RecentOutcome): void {
    watched.outcome = outcome
    this.#watched.delete(watched.id)
    this.#resolve(watched, this.#statusOf(outcome), waiter => waiter.wait === 'committed')
    if (watched.waiters.length > 0) this.#awaitCertificate(watched, outcome)
  }

  #awaitCertificate(watched: Watched, { height }: RecentOutcome): void {
    const list = this.#uncertified.get(height)
    if (list) list.push(watched)
    else this.#uncertified.set(height, [watched])
  }

  /** Sent again after it was executed: the same answer as the first time. */
  #afterExecution(
    outcome: RecentOutcome,
    parsed: ParsedTransaction,
    wait: SubmitWait,
  ): TransactionStatus | Promise<TransactionStatus> {
    const status = this.#statusOf(outcome)
    if (wait !== 'certified' || this.#stopped || outcome.height <= this.#parts.chain.certifiedHeight)
      return status
    const watched = this.#newWatch(parsed, outcome)
    this.#awaitCertificate(watched, outcome)
    return waitFor(watched, wait)
  }

  #statusOf(outcome: RecentOutcome): TransactionStatus {
    const { id, height, term, time, index, code } = outcome
    const place = { id, height, term, time, index }
    if (code !== 'ok') return { ...place, status: 'invalid', code, detail: sentenceOf(code) }
    return { ...place, status: height <= this.#parts.chain.certifiedHeight ? 'certified' : 'committed' }
  }

  #refused(id: TransactionId, { code, detail }: Refusal): TransactionStatus {
    return { id, status: 'refused', code, detail }
  }

  #end(watched: Watched, status: TransactionStatus): void {
    this.#watched.delete(watched.id)
    this.#resolve(watched, status, () => true)
  }

  /** Executed ones get what is known of them now, certified or not. */
  #answerNow(list: readonly Watched[]): void {
    for (const watched of list)
      if (watched.outcome) this.#resolve(watched, this.#statusOf(watched.outcome), () => true)
  }

  #resolve(watched: Watched, status: TransactionStatus, which: (waiter: Waiter) => boolean): void {
    const { waiters } = watched
    watched.waiters = waiters.filter(waiter => !which(waiter))
    for (const waiter of waiters) if (which(waiter)) waiter.resolve(status)
  }

  /** Time is up: what is known now. The outcome stays open, and sending the same bytes again is safe. */
  #giveUp(watched: Watched, code: ErrorCode): void {
    const { leader } = this.#parts.replica.leadership
    const refusal = watched.lastRefusal ?? {
      code: leader ? code : 'no-leader',
      detail: leader ? sentenceOf(code) : sentenceOf('no-leader'),
    }
    this.#end(watched, {
      id: watched.id,
      status: watched.timesForwarded > 0 ? 'pending' : 'unknown',
      ...refusal,
    })
  }

  #sweep(): void {
    const now = this.#parts.clock.steady()
    this.#parts.admission.expire()
    const again: Watched[] = []
    for (const watched of this.#watched.values()) {
      // Certified time past the expiry: no block will ever take it.
      if (this.#parts.chain.certified.header.time > watched.parsed.unsigned.expiry)
        this.#end(watched, { id: watched.id, status: 'invalid', code: 'transaction-expired' })
      else if (watched.deadline <= now) this.#giveUp(watched, 'timeout')
      else if (now - watched.forwardedAt >= this.#limits.forwardAgainMs) again.push(watched)
    }
    if (again.length > 0) this.#forward(again, 'old')
    for (const [height, list] of this.#uncertified) {
      const open = list.filter(watched => watched.deadline > now)
      this.#answerNow(list.filter(watched => watched.deadline <= now))
      if (open.length === 0) this.#uncertified.delete(height)
      else this.#uncertified.set(height, open)
    }
  }
}

function waitFor(watched: Watched, wait: Exclude<SubmitWait, 'none'>): Promise<TransactionStatus> {
  return new Promise(resolve => watched.waiters.push({ wait, resolve }))
}

/** Refusals that a transaction gets which is on the chain already. */
function looksExecuted(code: ErrorCode): boolean {
  return code === 'duplicate' || code === 'transaction-expired'
}

function sentenceOf(code: ErrorCode | 'ok'): string {
  return code === 'ok' ? '' : errorTable[code].sentence
}

/** Transactions gathered for one leader, at most; over it the oldest are dropped, and sent again later. */
const maxGathered = 20_000

/** The longest pause between two frames to the leader, ms. */
const maxForwardPauseMs = 10

/**
 * Sends transactions that came to a follower on to the leader, gathered: the first leaves at once, what follows after a pause
 * together, 1 ms for each ten that wait for a block. A leader with much to do only gathers them too, and a frame has its price.
 *
 * Fire and forget. The leader answers for what it refuses only; for the rest the block speaks. What is lost on the way
 * is sent again by `Submission`.
 */
export class Forwarder {
  readonly #network: Pick<Network, 'send'>
  readonly #clock: Clock
  #leader: DeviceId | undefined
  #gathered: Uint8Array[] = []
  #waiting = 0
  #pausing = false

  constructor(network: Pick<Network, 'send'>, clock: Clock) {
    this.#network = network
    this.#clock = clock
  }

  /** @param waiting transactions of this node that wait for a block, this one among them */
  forward(leader: DeviceId, bytes: Uint8Array, waiting: number): void {
    if (leader !== this.#leader) {
      this.#leader = leader
      this.#gathered = []
    }
    if (this.#gathered.length >= maxGathered) this.#gathered.shift()
    this.#gathered.push(bytes)
    this.#waiting = waiting
    if (!this.#pausing) this.#flush()
  }

  #flush(): void {
    this.#pausing = this.#gathered.length > 0
    if (!this.#pausing) return
    if (this.#leader)
      for (const transactions of forwardFrames(this.#gathered))
        this.#network.send(this.#leader, { type: 'transactions', transactions })
    this.#gathered = []
    const pauseMs = Math.ceil(this.#waiting / 10)
    this.#clock.after(Math.min(pauseMs, maxForwardPauseMs), () => this.#flush())
  }
}
