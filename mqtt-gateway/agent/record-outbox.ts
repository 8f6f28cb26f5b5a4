/**
 * What a device records and calls: signed by the device itself, on its disk until the chain has certified it or refused it for good (Altaş D3).
 * The gateway hands the bytes on, and can neither alter nor add to them.
 *
 * Invariants
 * 1. The signed bytes are on the disk before they leave, and the same bytes are sent again after a crash or without an answer: their id is
 *    executed once, however often they come.
 * 2. There are other bytes for an entry only when the first ones can do nothing any more: the newest header that this device has proven lies
 *    after their expiry, and the gateway says that they came to nothing. In that it is believed, as with its verdicts: one that lies has a
 *    reading recorded twice, where everybody sees it.
 * 3. Records on one topic, and calls of one contract, are certified in the order in which they were handed over: one is under way at a time.
 */
import type { Milliseconds, TransactionId } from '../../chain/brands.ts'
import { bytes, constant, digest, encode, struct, uint, union } from '../../chain/codec.ts'
import type { ErrorCode } from '../../chain/errors.ts'
import { maxTransactionBytes } from '../../chain/limits.ts'
import { type ReportBody, recordBodies } from '../../chain/record-bodies.ts'
import { type Refusal, type Result, refusalOf, refuse } from '../../chain/result.ts'
import { pause } from '../../client/deadline.ts'
import { DurableQueue, type QueueEntry, type QueueLimits } from '../../client/durable-queue.ts'
import type { MessageStore } from '../../client/message-store.ts'
import { decodeStored } from '../../client/stored-value.ts'
import { refusesTransaction } from '../../client/submission.ts'
import type { DeviceAgent } from '../device/agent.ts'
import type { SignedRecord } from '../device/signed-record.ts'
import type { AgentLink } from './agent-link.ts'
import { type Queued, QueuedWork } from './queued-work.ts'

export const defaultRecordLimits: QueueLimits = {
  messages: 10_000,
  bytes: 32 * 1024 * 1024,
  ageMs: 7 * 24 * 60 * 60_000,
}

/** Pause before bytes are sent again; doubles up to the second. */
const recordRetryDelayMsMin = 200
const recordRetryDelayMsMax = 15_000

/** Of a transaction, what is not its body. */
const maxSignedFrameBytes = 512

/** What came of it in the end. */
export type DeviceRecordOutcome = {
  readonly sequence: number
  /** Of the record, or of the first one of several; undefined for a call with values alone. */
  readonly topic: string | undefined
} & (
  | {
      readonly type: 'certified'
      readonly transaction: TransactionId
      /** Of the contract that was called, as the gateway tells it. */
      readonly decision: string | undefined
    }
  | {
      readonly type: 'refused'
      /** Undefined if nothing was signed yet. */
      readonly transaction: TransactionId | undefined
      readonly reason: Refusal
    }
)

export type QueuedRecord = Queued<DeviceRecordOutcome>

export interface RecordOutboxOptions {
  readonly store: MessageStore
  readonly prefix: string
  readonly limits: QueueLimits
  readonly link: Pick<AgentLink, 'agent' | 'renew'>
  readonly now: () => Milliseconds
  readonly onOutcome: (outcome: DeviceRecordOutcome) => void
  /** Told why something waits, each time. */
  readonly onWaiting: (reason: Refusal) => void
}

const formatVersion = 1 as const
const bodyCodec = union<ReportBody>({
  'record.one': recordBodies['record.one'],
  'record.batch': recordBodies['record.batch'],
  'contract.action': recordBodies['contract.action'],
})
const storedCodec = struct<{ version: typeof formatVersion; body: ReportBody }>({
  version: constant(formatVersion),
  body: bodyCodec,
})
const signedCodec = struct<SignedRecord & { version: typeof formatVersion }>({
  version: constant(formatVersion),
  bytes: bytes(1, maxTransactionBytes),
  id: digest<TransactionId>(),
  expiry: uint<Milliseconds>(),
})

/** Of bytes that are over once their expiry has passed: expired, or their key has ended. */
const overCodes: readonly ErrorCode[] = ['transaction-expired', 'key-not-valid']
/** Passes when the chain's time goes on: the same bytes may still be executed. */
const earlyCode: ErrorCode = 'expiry-too-far'

export class RecordOutbox {
  readonly #options: RecordOutboxOptions
  readonly #queue: DurableQueue
  readonly #work: QueuedWork<DeviceRecordOutcome>

  private constructor(options: RecordOutboxOptions, queue: DurableQueue) {
    this.#options = options
    this.#queue = queue
    this.#work = new QueuedWork({
      queue,
      work: (entry, signal) => this.#submit(entry, signal),
      progressKey: entry => this.#signedKey(entry),
      onOutcome: options.onOutcome,
      onFailure: (_, reason) => options.onWaiting(reason),
    })
  }

  /** The queue as it was left; `start` goes on with it. Throws `storage-corrupt`, `storage-failed`. */
  static async open(options: RecordOutboxOptions): Promise<RecordOutbox> {
    const { store, prefix, limits } = options
    return new RecordOutbox(options, await DurableQueue.open(store, `${prefix}record/`, limits))
  }

  get count(): number {
    return this.#work.count
  }

  start(): void {
    this.#work.start()
  }

  /** Resolves when it is on the disk. Refuses `overloaded` when there is no room, `too-large`. Throws `storage-failed`. */
  async add(body: ReportBody): Promise<Result<QueuedRecord>> {
    const stored = encode(storedCodec, { version: formatVersion, body })
    if (stored.length > maxTransactionBytes - maxSignedFrameBytes)
      return refuse(
        'too-large',
        `record: expected at most ${maxTransactionBytes - maxSignedFrameBytes} bytes, got ${stored.length}`,
      )
    return this.#work.add(laneOf(body), stored, this.#options.now())
  }

  /** Resolves when nothing is sent any more, or `patienceMs` later. */
  close(patienceMs: number): Promise<void> {
    return this.#work.close(patienceMs)
  }

  async #submit(entry: QueueEntry, signal: AbortSignal): Promise<DeviceRecordOutcome | undefined> {
    const { link, limits, now, onWaiting } = this.#options
    const { sequence } = entry
    const body = await this.#body(entry)
    const about = { sequence, topic: topicOf(body) }
    let signed = await this.#signed(entry)
    for (let delayMs = recordRetryDelayMsMin; ; delayMs = Math.min(2 * delayMs, recordRetryDelayMsMax)) {
      const agent = await link.agent()
      if (!agent || signal.aborted) return undefined
      if (!signed && now() - entry.acceptedAt > limits.ageMs) {
        const reason = { code: 'transaction-expired', detail: 'record: it waited too long' } as const
        return { type: 'refused', ...about, transaction: undefined, reason }
      }
      try {
        signed ??= await this.#sign(agent, entry, body)
        const { code, reason = '', decision } = await agent.submit(signed)
        if (code === undefined) return { type: 'certified', ...about, transaction: signed.id, decision }
        const refusal = { code, detail: reason }
        if (isFinal(code)) return { type: 'refused', ...about, transaction: signed.id, reason: refusal }
        onWaiting(refusal)
        if (code === 'key-not-valid') await link.renew()
        if (overCodes.includes(code) && (await agent.provenTime()) >= signed.expiry) signed = undefined
      } catch (error) {
        onWaiting(refusalOf(error))
      }
      if (signal.aborted) return undefined
      await pause(delayMs * (0.5 + Math.random() / 2), signal)
    }
  }

  /** The bytes that an earlier run may have sent. */
  async #signed(entry: QueueEntry): Promise<SignedRecord | undefined> {
    const stored = await this.#options.store.get(this.#signedKey(entry))
    return stored && decodeStored(signedCodec, stored, `records: entry ${entry.sequence}`)
  }

  async #body(entry: QueueEntry): Promise<ReportBody> {
    const stored = await this.#queue.read(entry)
    return decodeStored(storedCodec, stored, `records: entry ${entry.sequence}`).body
  }

  /** Signed, and on the disk in place of what was there. */
  async #sign(agent: DeviceAgent, entry: QueueEntry, body: ReportBody): Promise<SignedRecord> {
    const signed = await agent.sign(body)
    const value = encode(signedCodec, { version: formatVersion, ...signed })
    await this.#options.store.write([{ key: this.#signedKey(entry), value }])
    return signed
  }

  #signedKey({ sequence }: QueueEntry): string {
    return `${this.#options.prefix}record/signed/${sequence}`
  }
}

function isFinal(code: ErrorCode): boolean {
  return refusesTransaction(code) && !overCodes.includes(code) && code !== earlyCode
}

function laneOf(body: ReportBody): string {
  const topic = topicOf(body)
  return topic === undefined && body.type === 'contract.action' ? `call/${body.contract}` : `record/${topic}`
}

function topicOf(body: ReportBody): string | undefined {
  switch (body.type) {
    case 'record.one':
      return body.record.topic
    case 'record.batch':
      return body.records[0]?.topic
    case 'contract.action':
      return body.input.type === 'record' ? body.input.record.topic : undefined
  }
}
