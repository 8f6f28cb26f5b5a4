/**
 * From a body to a certified transaction: sign, send, and send the same bytes again until the outcome is final
 * (docs/ARCHITECTURE.md, life of a transaction).
 *
 * Sending again is always safe: the id covers the bytes, and the chain executes an id once. So a timeout or a lost
 * leader is never reported as a failure while there is time left. What a node says about a transaction is its word;
 * callers that must know read the record it changed, verified.
 */
import { randomBytes } from 'node:crypto'
import type { ChainId, Height, Milliseconds, TransactionId } from '../chain/brands.ts'
import { errorTable } from '../chain/errors.ts'
import { MoteError, unwrap } from '../chain/result.ts'
import { parseTransaction, signTransaction, type TransactionBody } from '../chain/transaction.ts'
import type { SourcePool, SubmitWait, TransactionStatus } from './chain-source.ts'
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
}): Uint8Array {
  const { chainId, body, keys, time } = options
  const expiry = (time + expiryAheadMs) as Milliseconds
  const nonce = Uint8Array.from(randomBytes(16))
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
}

const retryDelayMsMin = 25
const retryDelayMsMax = 500

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
  const { timeoutMs = 30_000, wait = 'certified', signal } = options
  const deadline = performance.now() + timeoutMs
  let last = 'no answer'
  for (let delayMs = retryDelayMsMin; ; delayMs = Math.min(2 * delayMs, retryDelayMsMax)) {
    const remainingMs = Math.ceil(deadline - performance.now())
    if (remainingMs <= 0)
      throw new MoteError('timeout', `transaction: not ${wait} after ${timeoutMs} ms (${last})`)
    const limit = AbortSignal.timeout(remainingMs)
    const sent = await pool
      .attempt(source =>
        source.submit(bytes, wait, { signal: signal ? AbortSignal.any([limit, signal]) : limit }),
      )
      .then(
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
      if (!isWorthRetrying(error) && !limit.aborted) throw error
      last = error instanceof MoteError ? error.message : String(error)
    }
    await new Promise(resolve => setTimeout(resolve, delayMs))
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
      if (status.code && errorTable[status.code].retry) return undefined
      throw new MoteError(status.code ?? 'internal', detail)
    default:
      return undefined
  }
}

function isWorthRetrying(error: unknown): boolean {
  return error instanceof MoteError && errorTable[error.code].retry
}

/** The id of signed bytes. Throws `malformed` for bytes that are no transaction. */
export function idOfSigned(bytes: Uint8Array): TransactionId {
  return unwrap(parseTransaction(bytes)).id
}
