/**
 * The recorder of a gateway: ties a message to a signed transaction (exchange-store.ts), puts that into the queue (transaction-queue.ts), and
 * answers when it is final. Whoever takes it out of the queue, this gateway or another one, settles it (pump.ts); here only outcomes arrive.
 *
 * Order of what is written, and why
 * 1. the tie, with the whole transaction: a crash after it leaves a message that is recorded although nobody was told, and whose repeat finds it;
 * 2. the queue: if it cannot be reached, a tied message goes to the chain without it, since it may or may not have arrived there;
 * 3. the outcome, after it was given: a crash before it asks the chain again.
 * A transaction that has expired is replaced in its ties before its successor is sent, so that no crash leaves two for one message.
 */
import { createHash } from 'node:crypto'
import type { Receipt, RefusalCode } from '../../chain/block.ts'
import type { ChainId, DeviceId, Milliseconds, TransactionId } from '../../chain/brands.ts'
import { errorTable } from '../../chain/errors.ts'
import type { AttestedBody } from '../../chain/record-bodies.ts'
import { refusedBy } from '../../chain/record-events.ts'
import { assert, MoteError, ok, type Result, refuse, unwrap } from '../../chain/result.ts'
import {
  attestedSources,
  encodeBody,
  type ParsedTransaction,
  parseTransaction,
  type TransactionBody,
} from '../../chain/transaction.ts'
import { type Clock, systemClock } from '../../client/clock.ts'
import { pause } from '../../client/deadline.ts'
import type { IdentityKeys } from '../../client/key-directory.ts'
import { signedBody } from '../../client/submission.ts'
import { deviceSigned } from './device-signed.ts'
import type { ExchangeStore } from './exchange-store.ts'
import type { Accepted, Recorder, RecordOutcome, RecordRequest, SessionStart } from './recorder.ts'
import type { Settlement, Settler } from './settling.ts'
import type { OpenRecord, Tie } from './ties.ts'
import { queued, sourceOf, type TransactionQueue } from './transaction-queue.ts'

export interface RecorderLimits {
  /** Messages whose outcome is open. */
  readonly records: number
  /** Bytes of their transactions. */
  readonly bytes: number
  /** The same of one device: what nodes put off of it goes round in its shard of the queue, and as much of it is in the way of others. */
  readonly recordsPerDevice: number
  readonly bytesPerDevice: number
  /** How long whoever sent one waits for its outcome. */
  readonly outcomeMs: number
}

export const defaultRecorderLimits: RecorderLimits = {
  records: 65_536,
  bytes: 64 * 1024 * 1024,
  recordsPerDevice: 1_024,
  bytesPerDevice: 8 * 1024 * 1024,
  outcomeMs: 30_000,
}

export interface RecorderParts {
  /** The gateway's own identity. */
  readonly keys: IdentityKeys
  readonly chainId: ChainId
  /** Of the chain, by which expiries go. */
  readonly time: () => Milliseconds
  readonly exchanges: ExchangeStore
  readonly queue: Pick<TransactionQueue, 'add'>
  readonly settler: Pick<Settler, 'settle'>
  /** Undefined: this gateway settles whatever is in the queue. Else how long it waits for another one that does. */
  readonly patienceMs: number | undefined
  readonly limits: RecorderLimits
  readonly signal: AbortSignal
  /** Told of failures after which it goes on. */
  readonly onError: (error: unknown) => void
  /** The machine's unless given. */
  readonly clock?: Clock | undefined
  /** As many random bytes, for nonces. The machine's unless given. */
  readonly random?: ((length: number) => Uint8Array) | undefined
}

/** An open record in this process. */
interface OpenMessage extends OpenRecord {
  /** It is on the disk and in the queue, or was refused by that. */
  readonly accepted: PromiseWithResolvers<Result<void>>
  readonly ended: PromiseWithResolvers<RecordOutcome>
  /** Of the transaction that it has now. */
  settled: PromiseWithResolvers<Settlement>
}

/** Deliveries of one transaction that wait for its outcome: a device may send what it has signed again and again. */
export const maxTiesPerRecord = 64
const retryDelayMs = 500

export class DurableRecorder implements Recorder {
  readonly #parts: RecorderParts
  readonly #clock: Clock
  readonly #open = new Map<TransactionId, OpenMessage>()
  /** In all, and of each device that has any. */
  readonly #sums = { records: 0, bytes: 0 }
  readonly #sumsOf = new Map<DeviceId, { records: number; bytes: number }>()

  constructor(parts: RecorderParts) {
    this.#parts = parts
    this.#clock = parts.clock ?? systemClock
    parts.signal.addEventListener('abort', () => this.#interrupt(), { once: true })
  }

  /** Goes on with what an earlier process left open. */
  resume(records: readonly OpenRecord[]): void {
    for (const record of records) this.#resume(record)
  }

  get openCount(): number {
    return this.#open.size
  }

  /** Ids of what is open: for whoever looks for them in new blocks. */
  isOpen(id: TransactionId): boolean {
    return this.#open.has(id)
  }

  /** A transaction is final: its message, if one is open here, has its outcome. */
  settled({ id }: Pick<ParsedTransaction, 'id'>, settlement: Settlement): void {
    this.#open.get(id)?.settled.resolve(settlement)
  }

  incarnationOf(client: string, start: SessionStart): ReturnType<Recorder['incarnationOf']> {
    return this.#parts.exchanges.incarnationOf(client, start)
  }

  released(client: string, packetIdentifier: number): Promise<void> {
    return this.#parts.exchanges.released(client, packetIdentifier)
  }

  passed(client: string): Promise<void> {
    return this.#parts.exchanges.passed(client)
  }

  isRepeat({ exchange, device, messageId, content }: RecordRequest): boolean {
    const { exchanges } = this.#parts
    if (exchange && exchanges.find(exchange)) return true
    const isNamed = content.type === 'attested' && messageId !== undefined
    return isNamed && exchanges.findMessage({ device, messageId }) !== undefined
  }

  async accept(request: RecordRequest): Promise<Result<Accepted>> {
    this.#mustRun()
    const { exchange, device, messageId, content } = request
    const { exchanges } = this.#parts
    const repeated = exchange && exchanges.find(exchange)
    if (repeated) return this.#again(repeated)
    const message =
      content.type === 'attested' && messageId !== undefined
        ? { device, messageId, digest: digestOf(content.body) }
        : undefined
    const named = message && exchanges.findMessage(message)
    if (named && named.digest !== Buffer.from(message.digest).toString('hex'))
      return refuse('already-exists', `message ${messageId}: another message of this device has this id`)
    if (named) return this.#again(named)
    const transaction = this.#transactionOf(request)
    if (!transaction.ok) return transaction
    const known = this.#open.get(transaction.value.id)
    if (known) {
      if (exchange && known.ties.size >= maxTiesPerRecord)
        return refuse(
          'rate-limited',
          `transaction ${known.transaction.id}: ${known.ties.size} deliveries wait`,
        )
      await exchanges.tie(known, { exchange })
      return this.#acceptedOnce(known)
    }
    const room = this.#roomFor(device)
    if (!room.ok) return room
    const open = this.#opened({ transaction: transaction.value, ties: new Set() })
    return this.#take(open, { exchange, message })
  }

  #roomFor(device: DeviceId): Result<void> {
    const { records, bytes, recordsPerDevice, bytesPerDevice } = this.#parts.limits
    const own = this.#sumsOf.get(device)
    if (own && (own.records >= recordsPerDevice || own.bytes >= bytesPerDevice))
      return refuse('rate-limited', `records: ${own.records} of ${device} wait for their outcome`)
    return this.#sums.records >= records || this.#sums.bytes >= bytes
      ? refuse('overloaded', `records: ${this.#sums.records} wait for their outcome`)
      : ok(undefined)
  }

  /** Counts an open record in (1) or out (-1). */
  #count({ transaction }: Pick<OpenRecord, 'transaction'>, change: 1 | -1): void {
    const device = sourceOf(transaction)
    const own = this.#sumsOf.get(device) ?? { records: 0, bytes: 0 }
    for (const sums of [this.#sums, own]) {
      sums.records += change
      sums.bytes += change * transaction.bytes.length
    }
    if (own.records > 0) this.#sumsOf.set(device, own)
    else this.#sumsOf.delete(device)
  }

  /** On the disk, then into the queue. */
  async #take(open: OpenMessage, ties: Parameters<ExchangeStore['tie']>[1]): Promise<Result<Accepted>> {
    try {
      await this.#parts.exchanges.tie(open, ties)
      const way = await this.#offer(open)
      if (!way.ok) {
        // First, so that no further delivery is tied to what is being taken back.
        this.#close(open)
        await this.#parts.exchanges.untie(open)
      }
      open.accepted.resolve(way.ok ? ok(undefined) : way)
      if (way.ok) void this.#follow(open, way.value)
    } catch (error) {
      this.#close(open)
      open.accepted.reject(error)
      // A repeat must not find what may not be on the disk.
      await this.#parts.exchanges.untie(open).catch(() => {})
    }
    return this.#acceptedOnce(open)
  }

  /** Into the queue; `direct` if it may not have arrived there. Refuses `overloaded`. Throws for a message without tie. */
  async #offer(open: OpenMessage): Promise<Result<'queued' | 'direct'>> {
    try {
      const added = await this.#parts.queue.add(queued(open.transaction))
      return added.ok ? ok('queued') : added
    } catch (error) {
      if (open.ties.size === 0) throw error
      this.#parts.onError(error)
      return ok('direct')
    }
  }

  async #again(tie: Tie): Promise<Result<Accepted>> {
    if (tie.open) return this.#acceptedOnce(this.#open.get(tie.open.transaction.id) ?? this.#resume(tie.open))
    const outcome = await this.#parts.exchanges.outcomeOf(tie)
    if (!outcome) throw new MoteError('interrupted', 'exchange: forgotten meanwhile')
    return ok({ transaction: outcome.transaction, outcome: Promise.resolve(outcome) })
  }

  async #acceptedOnce(open: OpenMessage): Promise<Result<Accepted>> {
    const accepted = await open.accepted.promise
    if (!accepted.ok) return accepted
    return ok({ transaction: open.transaction.id, outcome: this.#outcomeWithin(open) })
  }

  /** Whoever waits is told that there is none yet when the time is over. */
  #outcomeWithin({ ended }: OpenMessage): Promise<RecordOutcome> {
    const { outcomeMs } = this.#parts.limits
    const { promise, resolve, reject } = Promise.withResolvers<RecordOutcome>()
    const late = () => reject(new MoteError('timeout', `record: not certified within ${outcomeMs} ms`))
    const cancel = this.#clock.after(outcomeMs, late)
    ended.promise.then(resolve, reject).finally(cancel)
    promise.catch(() => {})
    return promise
  }

  #transactionOf({ device, content }: RecordRequest): Result<ParsedTransaction> {
    const { chainId, time } = this.#parts
    if (content.type === 'signed') return deviceSigned(content.transaction, { device, chainId, time: time() })
    const sources = attestedSources(content.body)
    assert(sources.length === 1 && sources[0] === device, 'what is attested is from the device')
    return ok(this.#signed(content.body))
  }

  #signed(body: TransactionBody): ParsedTransaction {
    const { chainId, keys, time, random } = this.#parts
    return unwrap(parseTransaction(signedBody({ chainId, body, keys, time: time(), random })))
  }

  /** Until it has ended, or the gateway stops. */
  async #follow(open: OpenMessage, way: 'queued' | 'direct'): Promise<void> {
    try {
      let settlement = await this.#settlementOf(open, way)
      while (settlement.type === 'unconfirmed' || this.#isToBeSignedAnew(open, settlement)) {
        const next = settlement.type === 'unconfirmed' ? askedAgain(open) : await this.#replace(open)
        settlement = await this.#settlementOf(open, next)
      }
      const outcome = outcomeFrom(open.transaction.id, settlement)
      open.ended.resolve(outcome)
      // While that is written a repeat may be tied, and is closed with the others or finds none that is open.
      do await this.#untilWritten(() => this.#parts.exchanges.end(open, outcome))
      while (open.ties.size > 0)
    } catch (error) {
      open.ended.reject(error)
      if (!this.#parts.signal.aborted) this.#parts.onError(error)
    } finally {
      this.#close(open)
    }
  }

  /** A disk that fails is asked again: what stays open in memory would go back to it as open, where nothing ends it. */
  async #untilWritten(write: () => Promise<void>): Promise<void> {
    for (;;)
      try {
        return await write()
      } catch (error) {
        this.#parts.onError(error)
        await pause(retryDelayMs, this.#parts.signal, this.#parts.clock)
        this.#mustRun()
      }
  }

  #settlementOf(open: OpenMessage, way: 'queued' | 'direct'): Promise<Settlement> {
    const { patienceMs } = this.#parts
    const { transaction, settled } = open
    const settle = () => {
      const [settlement] = this.#parts.settler.settle([transaction])
      settlement?.then(settled.resolve, settled.reject)
    }
    if (way === 'direct') settle()
    else if (patienceMs !== undefined)
      settled.promise.finally(this.#clock.after(patienceMs, settle)).catch(() => {})
    return settled.promise
  }

  #isToBeSignedAnew({ transaction: { unsigned } }: OpenMessage, settlement: Settlement): boolean {
    const isExpired = settlement.type === 'refused' && settlement.code === 'transaction-expired'
    return isExpired && unsigned.signer.deviceId === this.#parts.keys.id
  }

  /** Another transaction for the same message. The first one will never be executed: enough nodes have said so. */
  async #replace(open: OpenMessage): Promise<'queued' | 'direct'> {
    const before = open.transaction
    const next = this.#signed(before.unsigned.body)
    await this.#untilWritten(() => this.#parts.exchanges.replace(open, next))
    this.#open.delete(before.id)
    this.#open.set(next.id, open)
    // Not earlier: until here a second word about the first transaction finds the message, and must not count for the next one.
    open.settled = Promise.withResolvers()
    this.#count({ transaction: before }, -1)
    this.#count(open, 1)
    this.#mustRun()
    const way = await this.#offer(open).catch(() => ok('direct' as const))
    return way.ok ? way.value : 'direct'
  }

  #resume(record: OpenRecord): OpenMessage {
    const open = this.#opened(record)
    open.accepted.resolve(ok(undefined))
    void this.#follow(open, 'direct')
    return open
  }

  #opened(record: OpenRecord): OpenMessage {
    const open: OpenMessage = Object.assign(record, {
      accepted: Promise.withResolvers<Result<void>>(),
      ended: Promise.withResolvers<RecordOutcome>(),
      settled: Promise.withResolvers<Settlement>(),
    })
    for (const { promise } of [open.accepted, open.ended]) promise.catch(() => {})
    this.#open.set(record.transaction.id, open)
    this.#count(open, 1)
    return open
  }

  #close(open: OpenMessage): void {
    // Another message may have the same transaction by now.
    if (this.#open.get(open.transaction.id) !== open) return
    this.#open.delete(open.transaction.id)
    this.#count(open, -1)
  }

  #interrupt(): void {
    const stopped = new MoteError('interrupted', 'records: the gateway stops')
    for (const { settled, accepted } of this.#open.values()) {
      settled.promise.catch(() => {})
      settled.reject(stopped)
      accepted.reject(stopped)
    }
  }

  #mustRun(): void {
    if (this.#parts.signal.aborted) throw new MoteError('interrupted', 'records: the gateway stops')
  }
}

/** The same transaction, by itself. */
function askedAgain(open: OpenMessage): 'direct' {
  open.settled = Promise.withResolvers()
  return 'direct'
}

/** What the device said, whenever it is signed, and by whichever QoS it came this time. */
function digestOf(body: AttestedBody): Uint8Array {
  return createHash('sha256')
    .update(encodeBody({ ...body, qos: 1 }))
    .digest()
}

function outcomeFrom(transaction: TransactionId, settlement: Settlement): RecordOutcome {
  assert(settlement.type !== 'unconfirmed', 'what is unconfirmed is no outcome')
  if (settlement.type === 'refused') return { ...settlement, transaction }
  const { height, index, receipt } = settlement
  if (receipt.code === 'ok') return { type: 'certified', transaction, height, index, receipt }
  return { type: 'refused', transaction, code: receipt.code, detail: reasonOf(receipt) }
}

/** In the receipt's words. */
function reasonOf({ code, events }: Receipt): string {
  const refused = events.find(event => event.type === 'record.refused')
  if (!refused) return errorTable[code as RefusalCode].sentence
  return `record: ${refusedBy(refused)}`
}
