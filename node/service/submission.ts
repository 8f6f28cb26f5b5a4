/**
 * The way of a transaction through this node: checked, sent on to the leader, watched until it is committed or
 * certified, answered (docs/ARCHITECTURE.md, life of a transaction).
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
import type { Height, TransactionId } from '../../chain/brands.ts'
import { type ErrorCode, errorTable } from '../../chain/errors.ts'
import { checkTransaction } from '../../chain/execution.ts'
import { MoteError, ok, type Refusal, type Result, refuse } from '../../chain/result.ts'
import { type ParsedTransaction, parseTransaction } from '../../chain/transaction.ts'
import type { SubmitWait, TransactionStatus } from '../../client/chain-source.ts'
import type { RecentOutcome } from '../ledger/live-chain.ts'
import type { Execution } from '../ledger/replicated-chain.ts'
import { refusalFrom } from '../network/answer-frame.ts'
import type { TransactionRefusal } from '../ports.ts'
import type { Lane } from '../replica/mempool.ts'
import type { Leadership } from '../replica/replica.ts'
import {
  defaultSubmissionLimits,
  HeldJudgements,
  type SubmissionLimits,
  type SubmissionParts,
} from './submission-parts.ts'

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
  handedOver: number
  handedOverAt: number
  lastRefusal: Refusal | undefined
  outcome: RecentOutcome | undefined
}

/** Refusals that depend on what the refusing node has executed so far: the leader knows better. */
const leaderDecides: ReadonlySet<ErrorCode> = new Set([
  'unknown-signer',
  'signer-not-active',
  'key-not-valid',
  'not-authorised',
  'unknown-subject',
])

const revocationKinds: ReadonlySet<string> = new Set(['identity.revoke', 'identity.suspend', 'key.revoke'])

export class Submission {
  readonly #parts: SubmissionParts
  readonly #limits: SubmissionLimits
  readonly #watched = new Map<TransactionId, Watched>()
  /** Executed and waiting for their block's certificate, by height. */
  readonly #uncertified = new Map<Height, Watched[]>()
  readonly #held: HeldJudgements
  #cancelSweep: (() => void) | undefined
  #stopped = false

  constructor(parts: SubmissionParts) {
    this.#parts = parts
    this.#limits = parts.limits ?? defaultSubmissionLimits
    this.#held = new HeldJudgements(this.#limits.inFlightMax)
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
    for (const list of this.#uncertified.values())
      for (const watched of list)
        if (watched.outcome) this.#resolve(watched, this.#statusOf(watched.outcome), () => true)
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
    if (!watched || !equal(watched.parsed.bytes, bytes)) {
      const checked = this.#check(parsed.value)
      if (!checked.ok) {
        // It may have been executed before this node's memory begins.
        const old = looksExecuted(checked.error.code) ? await this.#parts.lookUp(id) : undefined
        return old ? this.#afterExecution(old, parsed.value, wait) : this.#refused(id, checked.error)
      }
      watched ??= this.#watch(parsed.value)
      watched.parsed = parsed.value
      this.#handOver([watched], checked.value)
      const { lastRefusal } = watched
      if (!this.#watched.has(id) && lastRefusal) return this.#refused(id, lastRefusal)
    }
    return wait === 'none' ? { id, status: 'pending' } : waitFor(watched, wait)
  }

  /** What is known of an id. */
  async status(id: TransactionId): Promise<TransactionStatus> {
    const known = this.#parts.chain.outcomeOf(id) ?? (await this.#parts.lookUp(id))
    if (known) return this.#statusOf(known)
    return { id, status: this.#watched.has(id) || this.#parts.mempool.has(id) ? 'pending' : 'unknown' }
  }

  /**
   * Leader's side: transactions that another full node took in. What is refused, and why. A node that does not lead says
   * nothing: the sender learns of the leader as this node does, and sends them there.
   */
  admit(transactions: readonly Uint8Array[]): TransactionRefusal[] {
    if (this.#parts.leadership().role !== 'leader') return []
    const refusals: TransactionRefusal[] = []
    for (const bytes of transactions) {
      const parsed = parseTransaction(bytes)
      if (!parsed.ok) continue // No honest node forwards such bytes.
      // One that is held and refused later is sent again by then.
      const judged = this.#judge(parsed.value, () => {})
      if (judged && !judged.ok) refusals.push({ id: parsed.value.id, ...judged.error })
    }
    this.#parts.admitted()
    return refusals
  }

  /** The leader's refusals of what this node forwarded. */
  refused(refusals: readonly TransactionRefusal[]): void {
    for (const { id, code, detail } of refusals) {
      const watched = this.#watched.get(id)
      if (watched) this.#answered(watched, refusalFrom({ code, detail }))
    }
  }

  /** The log is applied up to `index`. */
  applied(index: number): void {
    this.#held.applied(index)
  }

  /** A block was executed here. */
  executed(execution: Execution): void {
    const { mempool, chain } = this.#parts
    mempool.remove(execution.outcomes.filter(outcome => outcome.final).map(outcome => outcome.id))
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
  certified(height: Height): void {
    // Not in order of height: what is sent again waits for an older block than what came before it.
    for (const [executedAt, list] of this.#uncertified) {
      if (executedAt > height) continue
      this.#uncertified.delete(executedAt)
      for (const watched of list)
        if (watched.outcome) this.#resolve(watched, this.#statusOf(watched.outcome), () => true)
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
  leadership({ leader }: Leadership): void {
    if (!leader) return
    for (const watched of this.#watched.values()) watched.handedOverAt = 0
    this.#handOver([...this.#watched.values()], 'old')
  }

  /** `old` where somebody has to look again: this node cannot know. */
  #check(parsed: ParsedTransaction): Result<'checked' | 'old'> {
    const { chain, time, verifier, leadership } = this.#parts
    if (this.#stopped) return refuse('not-ready', 'the node is stopping')
    if (this.#watched.size >= this.#limits.inFlightMax)
      return refuse('overloaded', `transactions in flight: expected at most ${this.#limits.inFlightMax}`)
    const checked = checkTransaction(chain.ledger, parsed, time(), verifier)
    if (checked.ok) return ok('checked')
    const undecided = leadership().role !== 'leader' || this.#isBehind
    return undecided && leaderDecides.has(checked.error.code) ? ok('old') : checked
  }

  get #isBehind(): boolean {
    const { applied, last } = this.#parts.log()
    return applied < last
  }

  #watch(parsed: ParsedTransaction): Watched {
    const watched = this.#newWatch(parsed, undefined)
    this.#watched.set(parsed.id, watched)
    return watched
  }

  #newWatch(parsed: ParsedTransaction, outcome: RecentOutcome | undefined): Watched {
    const deadline = this.#parts.clock.steady() + this.#limits.watchMs
    const nothing = { waiters: [], handedOver: 0, handedOverAt: 0, lastRefusal: undefined }
    return { id: parsed.id, parsed, deadline, outcome, ...nothing }
  }

  /** Gives transactions to the leader, if there is one: to this node's mempool, or over the network. */
  #handOver(list: readonly Watched[], state: 'checked' | 'old'): void {
    const { leadership, clock, forwarder } = this.#parts
    const { role, leader } = leadership()
    const now = clock.steady()
    if (role === 'leader') {
      for (const watched of list) {
        watched.handedOverAt = now
        watched.handedOver++
        const late = (refusal: Refusal) => this.#answered(watched, refusal)
        const judged = state === 'checked' ? this.#pool(watched.parsed) : this.#judge(watched.parsed, late)
        if (judged && !judged.ok) late(judged.error)
      }
      this.#parts.admitted()
    } else if (leader) {
      for (const watched of list) {
        watched.handedOverAt = now
        watched.handedOver++
        forwarder.forward(leader, watched.parsed.bytes)
      }
    }
  }

  /** Leader's side: into the mempool, or why not; undefined if that can be said only when more of the log is executed. */
  #judge(parsed: ParsedTransaction, late: (refusal: Refusal) => void): Result<void> | undefined {
    const { chain, time, verifier, mempool, log } = this.#parts
    if (mempool.has(parsed.id)) return ok(undefined)
    const checked = checkTransaction(chain.ledger, parsed, time(), verifier)
    if (checked.ok) return this.#pool(parsed)
    if (!this.#isBehind || !leaderDecides.has(checked.error.code)) return checked
    const decide = () => {
      if (this.#parts.leadership().role !== 'leader') return
      const again = checkTransaction(chain.ledger, parsed, time(), verifier)
      const pooled = again.ok ? this.#pool(parsed) : again
      if (pooled.ok) this.#parts.admitted()
      else late(pooled.error)
    }
    return this.#held.hold({ until: log().last, decide }) ? undefined : checked
  }

  /** A checked transaction into the mempool of this leader. */
  #pool({ id, unsigned, bytes }: ParsedTransaction): Result<void> {
    const { body, expiry, signer } = unsigned
    const lane: Lane = revocationKinds.has(body.type) ? 'revocation' : 'ordinary'
    const added = this.#parts.mempool.add({ id, signer: signer.deviceId, expiry, lane, bytes })
    return added.ok ? ok(undefined) : added
  }

  /** The leader did not take it. */
  #answered(watched: Watched, refusal: Refusal): void {
    watched.lastRefusal = refusal
    // Executed already, and on its way here.
    if (refusal.code === 'duplicate') return
    const mayBeInALog = watched.handedOver > 1
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
    if (wait !== 'certified' || this.#stopped || outcome.height <= this.#parts.certifiedHeight())
      return status
    const watched = this.#newWatch(parsed, outcome)
    this.#awaitCertificate(watched, outcome)
    return waitFor(watched, wait)
  }

  #statusOf(outcome: RecentOutcome): TransactionStatus {
    const { id, height, term, time, index, code } = outcome
    const place = { id, height, term, time, index }
    if (code !== 'ok') return { ...place, status: 'invalid', code, detail: sentenceOf(code) }
    return { ...place, status: height <= this.#parts.certifiedHeight() ? 'certified' : 'committed' }
  }

  #refused(id: TransactionId, { code, detail }: Refusal): TransactionStatus {
    return { id, status: 'refused', code, detail }
  }

  #end(watched: Watched, status: TransactionStatus): void {
    this.#watched.delete(watched.id)
    this.#resolve(watched, status, () => true)
  }

  #resolve(watched: Watched, status: TransactionStatus, which: (waiter: Waiter) => boolean): void {
    const { waiters } = watched
    watched.waiters = waiters.filter(waiter => !which(waiter))
    for (const waiter of waiters) if (which(waiter)) waiter.resolve(status)
  }

  /** Time is up: what is known now. The outcome stays open, and sending the same bytes again is safe. */
  #giveUp(watched: Watched, code: ErrorCode): void {
    const { leader } = this.#parts.leadership()
    const refusal = watched.lastRefusal ?? {
      code: leader ? code : 'no-leader',
      detail: leader ? sentenceOf(code) : sentenceOf('no-leader'),
    }
    this.#end(watched, { id: watched.id, status: watched.handedOver > 0 ? 'pending' : 'unknown', ...refusal })
  }

  #sweep(): void {
    const { clock, chain, mempool, leadership } = this.#parts
    const now = clock.steady()
    if (leadership().role === 'leader') mempool.expire(chain.ledger.header.time)
    const again: Watched[] = []
    for (const watched of this.#watched.values()) {
      // Certified time past the expiry: no block will ever take it.
      if (this.#certifiedTime() > watched.parsed.unsigned.expiry)
        this.#end(watched, { id: watched.id, status: 'invalid', code: 'transaction-expired' })
      else if (watched.deadline <= now) this.#giveUp(watched, 'timeout')
      else if (now - watched.handedOverAt >= this.#limits.forwardAgainMs) again.push(watched)
    }
    if (again.length > 0) this.#handOver(again, 'old')
    for (const [height, list] of this.#uncertified) {
      const open = list.filter(watched => watched.deadline > now)
      for (const watched of list)
        if (watched.deadline <= now && watched.outcome)
          this.#resolve(watched, this.#statusOf(watched.outcome), () => true)
      if (open.length === 0) this.#uncertified.delete(height)
      else this.#uncertified.set(height, open)
    }
  }

  #certifiedTime(): number {
    return this.#parts.chain.at(this.#parts.certifiedHeight())?.header.time ?? 0
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

function equal(a: Uint8Array, b: Uint8Array): boolean {
  return Buffer.compare(a, b) === 0
}
