/**
 * From a body to a certified transaction: sign, send, and send the same bytes again until the outcome is final
 * (docs/ARCHITECTURE.md, life of a transaction), to another node when one makes no progress.
 *
 * Sending again is always safe: the id covers the bytes, and the chain executes an id once. So a timeout or a lost
 * leader is never reported as a failure while there is time left. What a node says about a transaction is its word:
 * a refusal is final once two nodes have given it with one code (where more than one is known), and callers that must know of a
 * success read the record it changed, verified.
 */

import { randomBytes } from 'node:crypto'
import type { ChainId, Height, Milliseconds, TransactionId } from '../chain/brands.ts'
import { type ErrorCode, errorTable } from '../chain/errors.ts'
import { MoteError, type Refusal, unwrap } from '../chain/result.ts'
import { parseTransaction, signTransaction, type TransactionBody } from '../chain/transaction.ts'
import type { ChainSource, SourcePool, SubmitWait, TransactionStatus } from './chain-source.ts'
import type { Clock } from './clock.ts'
import { Deadline } from './deadline.ts'
import { type IdentityKeys, signerOf, transactionSignerOf } from './key-directory.ts'

/** How far ahead a client sets the expiry: half of what the chain allows. */
const expiryAheadMs = 5 * 60_000

/**
 * A signed transaction with a fresh nonce.
 * @param time of the newest header known, so that a device needs no clock of its own
 */
export function signedBody(options: {
  readonly chainId: ChainId
  readonly body: TransactionBody
  readonly keys: IdentityKeys
  readonly time: Milliseconds
  /** As many random bytes. The machine's unless given. */
  readonly random?: ((length: number) => Uint8Array) | undefined
}): Uint8Array {
  const { chainId, body, keys, time, random = randomBytes } = options
  const expiry = (time + expiryAheadMs) as Milliseconds
  const nonce = Uint8Array.from(random(16))
  const signer = transactionSignerOf(keys)
  return signTransaction({ version: 1, chainId, body, signer, nonce, expiry }, signerOf(keys))
}

/** A transaction that is final. */
export interface FinalTransaction {
  readonly id: TransactionId
  readonly height: Height
  readonly status: TransactionStatus
}

export interface SubmitOptions {
  /** Give up with `timeout` after this time; the outcome is unknown then. Default 30 s. */
  readonly timeoutMs?: number
  readonly wait?: Exclude<SubmitWait, 'none'>
  readonly signal?: AbortSignal
  /** How long a source has for the outcome before the next one is asked as well. Default 3 s. */
  readonly turnMs?: number
  /** The machine's unless given. */
  readonly clock?: Clock | undefined
  /** Judges what a source says before it counts; what it throws costs the source. Default: its word counts. */
  readonly confirm?: (source: ChainSource, status: TransactionStatus) => Promise<TransactionStatus>
}

/** Nodes that must refuse a transaction, where that many are known: one that lies cannot end it. */
const refusalsNeeded = 2

/** What a node said of a transaction, its refusal included. */
type Outcome = { readonly status: TransactionStatus } | { readonly error: MoteError }

/**
 * Says of one transaction who has refused it, and how: those that agree on the code count together. Once two say that it was executed
 * (`duplicate`), no number of others makes it expired. One alone does not hinder that: the chain looks at the expiry first
 * (chain/admission.ts), so of what has expired a node that is up to date never says it.
 */
export class Refusals {
  readonly #sources = new Map<ErrorCode, Set<string>>()

  /** Sends the bytes to one source after another until one takes them or enough have refused. */
  async send(
    pool: SourcePool,
    bytes: Uint8Array,
    wait: SubmitWait,
    options: Pick<SubmitOptions, 'signal' | 'turnMs' | 'clock' | 'confirm'> = {},
  ): Promise<TransactionStatus> {
    const { confirm = async (_source, status) => status } = options
    let unfinished: Outcome | undefined
    const attempt = pool.attempt(async source => {
      const submit = async (signal?: AbortSignal) =>
        confirm(source, await source.submit(bytes, wait, signal && { signal }))
      const isOnly = pool.size === 1
      const heard = await outcomeOf(isOnly ? submit(options.signal) : inTurn(source, submit, options))
      const reason = refusalIn(heard)
      if (reason !== undefined) {
        if (this.#isFinal(reason.code, source, Math.min(refusalsNeeded, pool.size))) return heard
        const { code, detail } = reason
        throw new MoteError('unconfirmed', `${source.name} alone refused the transaction: ${code}: ${detail}`)
      }
      if (!('status' in heard) || isAnswer(heard.status, wait)) return heard
      unfinished = heard
      throw new MoteError('stale', `${source.name}: ${heard.status.code ?? heard.status.status}`)
    })
    // Nobody has made it final: the word of one who knows of it is more than a failure.
    const outcome = await attempt.catch((error: unknown): Outcome => {
      if (unfinished && !options.signal?.aborted) return unfinished
      throw error
    })
    if ('error' in outcome) throw outcome.error
    return outcome.status
  }

  /** Whether with this source enough say so. */
  #isFinal(code: ErrorCode, { name }: ChainSource, needed: number): boolean {
    const sources = this.#sources.get(code) ?? new Set()
    this.#sources.set(code, sources.add(name))
    const executed = this.#sources.get('duplicate')?.size ?? 0
    if (code === 'transaction-expired' && executed >= needed) return false
    return sources.size >= needed
  }
}

/** A node that cannot reach the others takes longer, and one that can does not. */
const defaultTurnMs = 3_000

/** Throws `stale` when the turn of this source is over. */
export async function inTurn<T>(
  { name }: ChainSource,
  submit: (signal: AbortSignal) => Promise<T>,
  { signal, turnMs = defaultTurnMs, clock }: Pick<SubmitOptions, 'signal' | 'turnMs' | 'clock'>,
): Promise<T> {
  const turn = new Deadline(turnMs, { signal, clock })
  const over = () =>
    signal?.aborted
      ? new MoteError('interrupted', 'transaction: stopped')
      : new MoteError('stale', `${name}: no outcome within ${turnMs} ms`)
  try {
    return await turn.within(submit(turn.signal), over)
  } catch (error) {
    throw turn.isOver ? over() : error
  }
}

/** Whether a node has done what was asked of it. */
function isAnswer({ status }: TransactionStatus, wait: SubmitWait): boolean {
  return wait === 'none' ? status !== 'refused' : status === 'certified' || status === wait
}

/** Throws what is no refusal of the transaction. */
async function outcomeOf(sending: Promise<TransactionStatus>): Promise<Outcome> {
  try {
    return { status: await sending }
  } catch (error) {
    if (error instanceof MoteError && refusesTransaction(error.code)) return { error }
    throw error
  }
}

/** Undefined unless these words mean that sending again is no use. */
function refusalIn(outcome: Outcome): Refusal | undefined {
  if ('error' in outcome) return outcome.error
  const { status, code = 'internal', detail } = outcome.status
  const isFinal = status === 'invalid' || (status === 'refused' && refusesTransaction(code))
  return isFinal ? { code, detail: detail ?? status } : undefined
}

/** Whether a refusal is one of the transaction: what a node says of itself or of the connection, or lies about, is no word about that. */
export function refusesTransaction(code: ErrorCode): boolean {
  return !errorTable[code].retry && !codesOfNode.has(code)
}

const codesOfNode: ReadonlySet<ErrorCode> = new Set([
  'bad-proof',
  'hello-required',
  'hello-refused',
  'storage-corrupt',
  'execution-diverged',
  'state-lost',
])

const resendDelayMsMin = 25
const resendDelayMsMax = 500

/**
 * Sends the transaction until it is certified (or committed, as `wait` says).
 * Throws the code of its receipt when it was executed and failed, of the refusal when a retry does not help, or
 * `timeout`.
 */
export async function submitUntilFinal(
  pool: SourcePool,
  bytes: Uint8Array,
  options: SubmitOptions = {},
): Promise<FinalTransaction> {
  const { timeoutMs = 30_000, wait = 'certified', signal, turnMs = defaultTurnMs, clock } = options
  const deadline = new Deadline(timeoutMs, { signal, clock })
  const refusals = new Refusals()
  let last = 'no answer'
  for (let delayMs = resendDelayMsMin; ; delayMs = Math.min(2 * delayMs, resendDelayMsMax)) {
    if (signal?.aborted) throw new MoteError('interrupted', 'transaction: stopped')
    if (deadline.isOver)
      throw new MoteError('timeout', `transaction: not ${wait} after ${timeoutMs} ms (${last})`)
    const sent = await refusals.send(pool, bytes, wait, { signal: deadline.signal, turnMs, clock }).then(
      status => ({ status }),
      (error: unknown) => ({ error }),
    )
    if ('status' in sent) {
      const final = judge(sent.status, wait)
      if (final) return final
      last = sent.status.code ?? sent.status.status
    } else {
      const { error } = sent
      if (signal?.aborted) throw new MoteError('interrupted', 'transaction: stopped', { cause: error })
      if (!isWorthRetrying(error) && !deadline.isOver) throw error
      last = error instanceof MoteError ? error.message : String(error)
    }
    await deadline.pause(delayMs)
  }
}

/** The final state, undefined if the same bytes are to be sent again; throws what no retry mends. */
function judge(status: TransactionStatus, wait: 'certified' | 'committed'): FinalTransaction | undefined {
  const { id, height } = status
  const detail = status.detail ?? `transaction ${id}: ${status.status}`
  switch (status.status) {
    case 'certified':
    case 'committed':
      if (status.status !== wait && wait === 'certified') return undefined
      return height === undefined ? undefined : { id, height, status }
    case 'invalid':
      throw new MoteError(status.code ?? 'internal', detail)
    case 'refused':
      if (!refusesTransaction(status.code ?? 'internal')) return undefined
      throw new MoteError(status.code ?? 'internal', detail)
    default:
      return undefined
  }
}

function isWorthRetrying(error: unknown): boolean {
  return error instanceof MoteError && !refusesTransaction(error.code)
}

/** The id of signed bytes. Throws `malformed` for bytes that are no transaction. */
export function idOfSigned(bytes: Uint8Array): TransactionId {
  return unwrap(parseTransaction(bytes)).id
}
