/**
 * Sends transactions that came to a follower on to the leader: in batches, one request at a time per leader and a pause
 * between two, so that batches grow under load (opening a stream costs as much as many transactions) and a lone
 * transaction does not wait.
 *
 * Fire and answer: every transaction gets one result, a refusal if the request failed. Nothing is sent twice here;
 * whether to try again is the caller's decision.
 */
import type { DeviceId } from '../chain/brands.ts'
import { type Codec, decode, encode, list, optional, struct, text } from '../chain/codec.ts'
import { type ErrorCode, errorTable } from '../chain/errors.ts'
import { MoteError, ok, type Result, refuse } from '../chain/result.ts'
import type { Clock, Network } from './ports.ts'
import { maxForwardedTransactions, queryCodec } from './wire.ts'

interface Waiting {
  readonly bytes: Uint8Array
  readonly answer: (result: Result<void>) => void
}

export interface ForwarderOptions {
  /** From the end of one request to the next. Default 5 ms. */
  readonly pauseMs?: number
  readonly timeoutMs?: number
  readonly bytesPerRequest?: number
  readonly waitingMax?: number
}

const refusalCodec = struct<{ code: string; detail: string }>({
  code: text(64, /^[a-z0-9-]+$/),
  detail: text(2048),
})

/** The leader's answer to a batch: for each transaction nil (taken), or why not. */
export const forwardAnswerCodec: Codec<readonly ({ code: string; detail: string } | undefined)[]> = list(
  optional(refusalCodec),
  maxForwardedTransactions,
)

/** The answer's bytes for these results. */
export function encodeForwardAnswer(results: readonly Result<void>[]): Uint8Array {
  return encode(
    forwardAnswerCodec,
    results.map(result =>
      result.ok ? undefined : { code: result.error.code, detail: result.error.detail.slice(0, 512) },
    ),
  )
}

export class Forwarder {
  readonly #network: Pick<Network, 'request'>
  readonly #clock: Clock
  readonly #pauseMs: number
  readonly #timeoutMs: number
  readonly #bytesPerRequest: number
  readonly #waitingMax: number
  readonly #waiting = new Map<DeviceId, Waiting[]>()
  readonly #busy = new Set<DeviceId>()

  constructor(network: Pick<Network, 'request'>, clock: Clock, options: ForwarderOptions = {}) {
    this.#network = network
    this.#clock = clock
    this.#pauseMs = options.pauseMs ?? 5
    this.#timeoutMs = options.timeoutMs ?? 3_000
    this.#bytesPerRequest = options.bytesPerRequest ?? 1024 * 1024
    this.#waitingMax = options.waitingMax ?? 20_000
  }

  /** `answer` is called once, never before this returns. */
  forward(leader: DeviceId, bytes: Uint8Array, answer: (result: Result<void>) => void): void {
    let waiting = this.#waiting.get(leader)
    if (!waiting) {
      waiting = []
      this.#waiting.set(leader, waiting)
    }
    if (waiting.length >= this.#waitingMax) {
      queueMicrotask(() => answer(refuse('overloaded', 'too many transactions wait to be forwarded')))
      return
    }
    waiting.push({ bytes, answer })
    if (!this.#busy.has(leader)) void this.#run(leader)
  }

  async #run(leader: DeviceId): Promise<void> {
    this.#busy.add(leader)
    // Whatever came in the same turn travels together.
    await Promise.resolve()
    for (;;) {
      const batch = this.#take(leader)
      if (batch.length === 0) break
      await this.#send(leader, batch)
      await new Promise<void>(resolve => this.#clock.after(this.#pauseMs, resolve))
    }
    this.#busy.delete(leader)
    this.#waiting.delete(leader)
  }

  #take(leader: DeviceId): Waiting[] {
    const waiting = this.#waiting.get(leader) ?? []
    let bytes = 0
    let count = 0
    for (const entry of waiting) {
      bytes += entry.bytes.length
      if (count > 0 && (bytes > this.#bytesPerRequest || count >= maxForwardedTransactions)) break
      count++
    }
    return waiting.splice(0, count)
  }

  async #send(leader: DeviceId, batch: readonly Waiting[]): Promise<void> {
    const results = await this.#request(
      leader,
      batch.map(entry => entry.bytes),
    )
    for (const [i, { answer }] of batch.entries())
      answer(results[i] ?? refuse('unreachable', 'leader: the answer is incomplete'))
  }

  async #request(leader: DeviceId, transactions: readonly Uint8Array[]): Promise<Result<void>[]> {
    try {
      const body = encode(queryCodec, { type: 'forward', transactions })
      const answer = await this.#network.request(leader, 'query', body, this.#timeoutMs)
      const decoded = decode(forwardAnswerCodec, answer)
      if (!decoded.ok) return transactions.map(() => decoded)
      return decoded.value.map(refusal =>
        refusal ? refuse(knownCode(refusal.code), refusal.detail) : ok(undefined),
      )
    } catch (error) {
      const { code, detail } =
        error instanceof MoteError ? error : { code: 'unreachable' as const, detail: String(error) }
      return transactions.map(() => refuse(code, detail))
    }
  }
}

function knownCode(code: string): ErrorCode {
  return Object.hasOwn(errorTable, code) ? (code as ErrorCode) : 'internal'
}
