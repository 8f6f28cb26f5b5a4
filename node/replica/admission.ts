/**
 * The leader's side of submission: what may wait for a block. Transactions that this node took in itself and those that
 * other full nodes sent on pass the same judgement.
 *
 * A leader cannot pass judgement yet on a transaction which speaks of something (a new device, a group) that its log may
 * hold and that it has not executed. It executes an entry when its own disk has it; two followers with faster disks can have
 * it certified before, and a client that has heard of it may ask for the next thing at once. Such a judgement is held until
 * everything that the log holds now is executed.
 */

import type { Milliseconds } from '../../chain/brands.ts'
import type { ErrorCode } from '../../chain/errors.ts'
import { checkTransaction } from '../../chain/execution.ts'
import type { SignatureVerifier } from '../../chain/keys.ts'
import { permissions } from '../../chain/permissions.ts'
import { slotOf } from '../../chain/replay.ts'
import { ok, type Refusal, type Result, refuse } from '../../chain/result.ts'
import {
  type ParsedTransaction,
  parseTransaction,
  type TransactionBody,
  type UnsignedTransaction,
} from '../../chain/transaction.ts'
import type { Execution, LiveChain } from '../ledger/live-chain.ts'
import type { NodeListener } from '../ledger/node-events.ts'
import type { TransactionRefusal } from '../ports.ts'
import type { ClockExchange } from './block-time.ts'
import type { Lane, Mempool, QuotaHolder } from './mempool.ts'
import type { Replica } from './replica.ts'

export interface AdmissionParts {
  readonly chain: LiveChain
  readonly mempool: Mempool
  readonly verifier: SignatureVerifier
  readonly clocks: Pick<ClockExchange, 'time'>
  readonly replica: Pick<Replica, 'leadership' | 'appliedIndex' | 'consensus' | 'wake'>
}

/** Judgements held at the same time; what comes beyond is judged by what is executed now. */
const heldJudgementsMax = 20_000

/** Refusals that depend on what the refusing node has executed so far. */
const dependsOnState: ReadonlySet<ErrorCode> = new Set([
  'unknown-signer',
  'signer-not-active',
  'key-not-valid',
  'not-authorised',
  'unknown-subject',
  // A node that has just started from nothing knows neither the voters' time nor a block's, and takes any expiry for too far.
  'expiry-too-far',
])

/** By what the permission table says of the kind; the check has judged that this signer is one who may ask for it. */
function laneOf({ type }: TransactionBody): Lane {
  if (permissions[type] === 'authority') return 'operator'
  return type === 'key.revoke' ? 'revocation' : 'ordinary'
}

function quotaHolderOf({ body, signer }: UnsignedTransaction): QuotaHolder {
  return permissions[body.type] === 'newcomer' ? 'newcomers' : signer.deviceId
}

interface HeldJudgement {
  /** Everything that the log held at the time is executed once this index is applied. */
  readonly until: number
  readonly decide: () => void
}

export class Admission implements NodeListener {
  readonly #parts: AdmissionParts
  readonly #unexpired = new UnexpiredCounts()
  #held: HeldJudgement[] = []

  constructor(parts: AdmissionParts) {
    this.#parts = parts
  }

  /** By what this node has executed, at the voters' time, or the newest block's while nobody can say. */
  check(parsed: ParsedTransaction): Result<void> {
    const { chain, clocks, verifier } = this.#parts
    const checked = checkTransaction(chain.ledger, parsed, clocks.time() ?? chain.time, verifier)
    if (!checked.ok) return checked
    chain.expect(parsed)
    return ok(undefined)
  }

  /** True if this refusal may not stand once more is executed: a follower lags behind the leader, a leader behind its log. */
  mayChange({ code }: Refusal): boolean {
    const { role } = this.#parts.replica.leadership
    return dependsOnState.has(code) && (role !== 'leader' || this.#isBehind)
  }

  /** Into the mempool, or why not; undefined if that can be said only later, and then `late` is told of a refusal. */
  judge(parsed: ParsedTransaction, late: (refusal: Refusal) => void): Result<void> | undefined {
    const { mempool, replica } = this.#parts
    if (mempool.has(parsed.id)) return ok(undefined)
    const checked = this.check(parsed)
    if (checked.ok) return this.pool(parsed)
    if (!this.#isBehind || !dependsOnState.has(checked.error.code)) return checked
    if (this.#held.length >= heldJudgementsMax) return checked
    const decide = () => {
      if (replica.leadership.role !== 'leader') return
      const again = this.check(parsed)
      const pooled = again.ok ? this.pool(parsed) : again
      if (pooled.ok) replica.wake()
      else late(pooled.error)
    }
    this.#held.push({ until: replica.consensus.lastLogIndex, decide })
    return undefined
  }

  /** A checked transaction into the mempool of this leader; `replica.wake` has to follow. */
  pool({ id, unsigned, bytes }: ParsedTransaction): Result<void> {
    const { mempool, chain } = this.#parts
    if (mempool.has(id)) return ok(undefined)
    const { replay, parameters } = chain.ledger
    const pending = {
      id,
      signer: quotaHolderOf(unsigned),
      expiry: unsigned.expiry,
      lane: laneOf(unsigned.body),
      bytes,
    }
    const room = this.#unexpired.room(pending, {
      all: replay.count + mempool.size,
      most: parameters.limits.unexpiredTransactions,
    })
    if (!room.ok) return room
    const added = mempool.add(pending)
    return added.ok ? ok(undefined) : added
  }

  /**
   * Transactions that another full node took in. What is refused, and why. A node that does not lead says nothing: the
   * sender learns of the leader as this node does, and sends them there.
   */
  admit(transactions: readonly Uint8Array[]): TransactionRefusal[] {
    const { replica } = this.#parts
    if (replica.leadership.role !== 'leader') return []
    const refusals: TransactionRefusal[] = []
    for (const bytes of transactions) {
      const parsed = parseTransaction(bytes)
      if (!parsed.ok) continue // No honest node forwards such bytes.
      // One that is held and refused later is sent again by then.
      const judged = this.judge(parsed.value, () => {})
      if (judged && !judged.ok) refusals.push({ id: parsed.value.id, ...judged.error })
    }
    replica.wake()
    return refusals
  }

  /** Forgets what no block can take any more. Linear in the size of the mempool: a timer calls it. */
  expire(): void {
    const { chain, mempool, replica } = this.#parts
    if (replica.leadership.role === 'leader') mempool.expire(chain.ledger.header.time)
  }

  applied(index: number): void {
    if (this.#held.length === 0) return
    const due = this.#held.filter(({ until }) => until <= index)
    this.#held = this.#held.filter(({ until }) => until > index)
    for (const { decide } of due) decide()
  }

  executed({ outcomes, executed, time }: Execution): void {
    for (const { parsed } of executed)
      this.#unexpired.add(quotaHolderOf(parsed.unsigned), parsed.unsigned.expiry)
    this.#unexpired.forgetBefore(time)
    this.#parts.mempool.remove(outcomes.filter(outcome => outcome.final).map(outcome => outcome.id))
  }

  get #isBehind(): boolean {
    const { appliedIndex, consensus } = this.#parts.replica
    return appliedIndex < consensus.lastLogIndex
  }
}

/** How much of a chain's `unexpiredTransactions` one signer's may be, in percent, rounded up. */
const maxSignerSharePercent = 5
/** How much of them is for what only operators may ask for, in percent, rounded down. */
const operatorReservePercent = 10

/**
 * How many transactions of each signer were executed and have not expired. The chain remembers their ids, and when it remembers
 * `unexpiredTransactions`, execution refuses everybody, an operator too. A leader therefore takes a share from one signer, and
 * keeps places for what only operators may ask for.
 *
 * The counts begin with this process: a signer may have used its share before. The operators' places hold nevertheless, since
 * they are judged by the chain's own number.
 */
class UnexpiredCounts {
  readonly #slots = new Map<number, Map<QuotaHolder, number>>()
  readonly #counts = new Map<QuotaHolder, number>()

  /** A transaction was executed. */
  add(signer: QuotaHolder, expiry: Milliseconds): void {
    const number = slotOf(expiry)
    const slot = this.#slots.get(number) ?? new Map<QuotaHolder, number>()
    this.#slots.set(number, slot)
    slot.set(signer, (slot.get(signer) ?? 0) + 1)
    this.#counts.set(signer, (this.#counts.get(signer) ?? 0) + 1)
  }

  /** Block time is `time`: the chain has forgotten the slots before. */
  forgetBefore(time: Milliseconds): void {
    for (const [number, slot] of this.#slots) {
      if (number >= slotOf(time)) continue
      this.#slots.delete(number)
      for (const [signer, count] of slot) {
        const left = (this.#counts.get(signer) ?? 0) - count
        if (left > 0) this.#counts.set(signer, left)
        else this.#counts.delete(signer)
      }
    }
  }

  /**
   * Whether one more may wait. `all`: the chain's number, those that wait included. Refuses `rate-limited` over the share of the
   * signer, `overloaded` if only operators' places are left.
   */
  room(
    { signer, lane }: { readonly signer: QuotaHolder; readonly lane: Lane },
    { all, most }: { readonly all: number; readonly most: number },
  ): Result<void> {
    const share = Math.ceil((most * maxSignerSharePercent) / 100)
    if ((this.#counts.get(signer) ?? 0) >= share)
      return refuse('rate-limited', `signer: expected at most ${share} transactions that have not expired`)
    const places = most - Math.floor((most * operatorReservePercent) / 100)
    if (lane !== 'operator' && all >= places)
      return refuse(
        'overloaded',
        `${places} transactions wait for their expiry; what is left is for operators`,
      )
    return ok(undefined)
  }
}
