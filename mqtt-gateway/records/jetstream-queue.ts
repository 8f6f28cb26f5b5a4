/**
 * The queue on NATS servers (JetStream, nats-server 2.9 and newer), for gateways that share the way to the chain or outgrow one disk
 * (docs/decisions/0037-nats-client.md).
 *
 * One stream for a chain, a work queue in which a message is gone once it was acknowledged, on several servers; one subject and one consumer for
 * each shard. A message is a whole batch, so that one unacknowledged message of a consumer is one batch of the shard, whichever gateway has it.
 * What whoever publishes repeats, because the answer did not come, is there twice: the chain executes an id once, so the servers need not remember
 * message ids.
 *
 * What goes back is published before its batch is acknowledged; the stream has room for it, since what is added stops short of its bound
 * (stream-room.ts).
 *
 * A gateway that is gone keeps its batches for `acknowledgeMs`; then another one gets them.
 */
import {
  AckPolicy,
  type Consumer,
  DiscardPolicy,
  JetStreamApiCodes,
  JetStreamApiError,
  type JetStreamClient,
  type JetStreamManager,
  type JsMsg,
  jetstream,
  jetstreamManager,
  RetentionPolicy,
  StorageType,
} from '@nats-io/jetstream'
import { type NatsConnection, nanos } from '@nats-io/transport-node'
import type { ChainId } from '../../chain/brands.ts'
import { decode, encode } from '../../chain/codec.ts'
import { assert, MoteError, type Result, unwrap } from '../../chain/result.ts'
import { submissionCodec } from '../../client/chain-source.ts'
import { Deadline, pause, unlessAborted } from '../../client/deadline.ts'
import type { Shard } from '../protocol/sharded-topics.ts'
import {
  connectNats,
  FailureReport,
  type NatsServers,
  natsFailure,
  requestTimeoutMs,
} from './nats-connection.ts'
import { publishUntilStored, unreachable } from './stream-publish.ts'
import { reservedBytes, StreamRoom } from './stream-room.ts'
import {
  maxBatchBytes,
  maxBatchTransactions,
  type QueuedTransaction,
  type TransactionBatch,
  type TransactionQueue,
} from './transaction-queue.ts'

export interface JetStreamOptions extends NatsServers {
  readonly chainId: ChainId
  /** How many of them have each message. */
  readonly replicas: number
  /** What may be added to the stream, on the disk of each; it is said when the stream is made, which takes `reservedBytes` more. */
  readonly bytes: number
  /** Told of failures after which it goes on: each kind once, until the servers answer. */
  readonly onError: (error: unknown) => void
}

/** How long a transaction waits for the servers to have it. */
const addTimeoutMs = 5_000
const retryDelayMs = 200
/** How long a batch is with a gateway that says nothing. */
const acknowledgeMs = 15_000
/** How often one that has a batch says that it works on it, and for how long: it may be the one that does not reach the chain. */
const workingEveryMs = acknowledgeMs / 5
const workingMs = 60_000
/** One request for a batch that is not there yet: as long may go by after a server was lost. */
const pullMs = 5_000
/** Acknowledgements that are tried before a batch counts as done: it may come again, and is found executed. */
const maxAcknowledgements = 3
/** JSStreamStoreFailedF: the stream is full, and its rule is to refuse what is new. */
const storeFailed = 10077

interface Waiting {
  readonly transaction: QueuedTransaction
  readonly added: PromiseWithResolvers<Result<void>>
}

/** A batch that is here, and what says so to the servers. */
interface TakenBatch {
  readonly message: JsMsg
  readonly working: NodeJS.Timeout
}

interface Connected {
  readonly connection: NatsConnection
  readonly client: JetStreamClient
  readonly manager: JetStreamManager
  /** Made when something is first asked for: each is a Raft group of the servers, which takes a while. */
  readonly consumers: Map<Shard, Promise<Consumer>>
}

export class JetStreamQueue implements TransactionQueue {
  readonly #options: JetStreamOptions
  /** Of the stream, and the first part of its subjects. */
  readonly #name: string
  readonly #failures: FailureReport
  readonly #closing = new AbortController()
  readonly #connecting: Promise<Connected>
  readonly #waiting = new Map<Shard, Waiting[]>()
  /** What was asked for and has not come; it is for whoever takes from the shard next. */
  readonly #pulls = new Map<Shard, Promise<JsMsg | null>>()
  readonly #taken = new Map<TransactionBatch, TakenBatch>()
  readonly #room = new StreamRoom(async () => {
    const { manager } = await this.#connecting
    const { state, config } = await manager.streams.info(this.#name)
    return { bytes: state.bytes, maxBytes: config.max_bytes }
  })

  /** Connects in the background: as long as no server answers, nothing can be added and nothing is there. */
  constructor(options: JetStreamOptions) {
    this.#options = options
    this.#name = streamNameOf(options.chainId)
    this.#failures = new FailureReport(options.onError)
    this.#connecting = this.#connect()
    this.#connecting.catch(() => {})
  }

  get failure(): MoteError | undefined {
    return this.#failures.last
  }

  /** What comes for a shard while something of it is on its way follows together. */
  add(transaction: QueuedTransaction): Promise<Result<void>> {
    const added = Promise.withResolvers<Result<void>>()
    const waiting = this.#waiting.get(transaction.shard)
    if (waiting) waiting.push({ transaction, added })
    else {
      this.#waiting.set(transaction.shard, [{ transaction, added }])
      void this.#publishWaiting(transaction.shard)
    }
    return added.promise
  }

  async take(shard: Shard, signal: AbortSignal): Promise<TransactionBatch | undefined> {
    const over = AbortSignal.any([signal, this.#closing.signal])
    while (!over.aborted) {
      const message = await this.#pulled(shard, over)
      if (!message) continue
      const read = decode(submissionCodec, message.data)
      if (read.ok) return this.#take({ shard, transactions: read.value }, message)
      // No gateway of this kind has put it there, and none could do anything with it.
      this.#options.onError(new MoteError('storage-corrupt', `queue: shard ${shard}: ${read.error.detail}`))
      message.ack()
    }
    return undefined
  }

  async done(batch: TransactionBatch, back: readonly Uint8Array[] = []): Promise<void> {
    const taken = this.#taken.get(batch)
    assert(taken, 'a batch is done once, by who took it')
    if (back.length > 0) unwrap(await this.#publish(batch.shard, encode(submissionCodec, back)))
    for (let i = 0; i < maxAcknowledgements; i++)
      if (await taken.message.ackAck({ timeout: requestTimeoutMs }).catch(() => false)) break
    this.#release(batch)
  }

  /** What was taken and is not done goes to another gateway at once. */
  async close(): Promise<void> {
    if (this.#closing.signal.aborted) return
    this.#closing.abort()
    const connected = await this.#connecting.catch(() => undefined)
    for (const [batch, { message }] of this.#taken) {
      message.nak()
      this.#release(batch)
    }
    for (const pull of this.#pulls.values()) void pull.then(message => message?.nak()).catch(() => {})
    await connected?.connection.flush().catch(() => {})
    await connected?.connection.close()
  }

  #take(batch: TransactionBatch, message: JsMsg): TransactionBatch {
    const held = new Deadline(workingMs)
    const working = setInterval(() => {
      if (!held.isOver) message.working()
    }, workingEveryMs)
    working.unref()
    this.#taken.set(batch, { message, working })
    return batch
  }

  #release(batch: TransactionBatch): void {
    clearInterval(this.#taken.get(batch)?.working)
    this.#taken.delete(batch)
  }

  /** The next message of the shard, which comes when the one before was acknowledged. */
  async #pulled(shard: Shard, over: AbortSignal): Promise<JsMsg | null> {
    const pull = this.#pulls.get(shard) ?? this.#pull(shard)
    this.#pulls.set(shard, pull)
    const stopped = () => new MoteError('interrupted', 'queue: nobody waits any more')
    const message = await unlessAborted(over, pull, stopped).catch(() => undefined)
    if (message === undefined) return null
    this.#pulls.delete(shard)
    return message
  }

  async #pull(shard: Shard): Promise<JsMsg | null> {
    try {
      const consumer = await this.#consumerOf(shard, await this.#connecting)
      return await consumer.next({ expires: pullMs })
    } catch (error) {
      if (!this.#closing.signal.aborted) this.#options.onError(unreachable(error))
      await pause(retryDelayMs, this.#closing.signal)
      return null
    }
  }

  async #publishWaiting(shard: Shard): Promise<void> {
    for (;;) {
      const waiting = this.#waiting.get(shard) ?? []
      const batch = waiting.splice(0, lengthOfBatch(waiting))
      if (batch.length === 0) break
      const message = encode(
        submissionCodec,
        batch.map(({ transaction }) => transaction.bytes),
      )
      const published = this.#publish(shard, message, this.#room)
      await published.then(
        result => {
          for (const { added } of batch) added.resolve(result)
        },
        error => {
          for (const { added } of batch) added.reject(error)
        },
      )
    }
    this.#waiting.delete(shard)
  }

  /** What is added, if there is room. */
  #publish(shard: Shard, message: Uint8Array, room?: StreamRoom): Promise<Result<void>> {
    const deadline = new Deadline(addTimeoutMs, { signal: this.#closing.signal })
    const connected = async () => {
      const connected = await deadline.race(this.#connecting)
      if (connected) return connected
      throw new MoteError('unreachable', 'no server answers')
    }
    const admit = async () => {
      await connected()
      return !room || room.take(message.length)
    }
    const send = async () => {
      const { client } = await connected()
      return storedBy(client.publish(`${this.#name}.${shard}`, message, { timeout: requestTimeoutMs }))
    }
    return publishUntilStored({ admit, send }, deadline)
  }

  /** Until a server answers, and the stream is there. */
  async #connect(): Promise<Connected> {
    const { signal } = this.#closing
    for (;;) {
      try {
        const connected = await this.#connectOnce()
        this.#failures.answered()
        void this.#watch(connected)
        return connected
      } catch (error) {
        this.#failures.failed(natsFailure(error, this.#options))
      }
      if (signal.aborted) throw new MoteError('interrupted', 'queue: closed')
      await pause(retryDelayMs, signal)
    }
  }

  async #connectOnce(): Promise<Connected> {
    const connection = await connectNats(this.#options)
    try {
      return await this.#prepared(connection)
    } catch (error) {
      await connection.close()
      throw error
    }
  }

  /** Until it is closed: it comes back by itself. */
  async #watch({ connection }: Connected): Promise<void> {
    for await (const status of connection.status()) {
      if (status.type === 'reconnect') this.#failures.answered()
      else if (status.type === 'disconnect') this.#failures.failed(unreachable('the connection broke'))
      else if (status.type === 'error') this.#failures.failed(natsFailure(status.error, this.#options))
    }
  }

  async #prepared(connection: NatsConnection): Promise<Connected> {
    const manager = await jetstreamManager(connection, { timeout: requestTimeoutMs })
    await this.#prepareStream(manager)
    const client = jetstream(connection, { timeout: requestTimeoutMs })
    return { connection, client, manager, consumers: new Map() }
  }

  /** A failure is not kept. */
  async #consumerOf(shard: Shard, { client, manager, consumers }: Connected): Promise<Consumer> {
    const known = consumers.get(shard)
    if (known) return known
    const name = `shard-${shard}`
    const making = manager.consumers
      .add(this.#name, {
        durable_name: name,
        filter_subject: `${this.#name}.${shard}`,
        ack_policy: AckPolicy.Explicit,
        ack_wait: nanos(acknowledgeMs),
        max_ack_pending: 1,
      })
      .then(() => client.consumers.get(this.#name, name))
    consumers.set(shard, making)
    making.catch(() => consumers.delete(shard))
    return making
  }

  /** One that is there already stays as it is: its operator may have changed it. */
  async #prepareStream(manager: JetStreamManager): Promise<void> {
    const { replicas, bytes } = this.#options
    try {
      await manager.streams.info(this.#name)
    } catch (error) {
      if (!(error instanceof JetStreamApiError && error.code === JetStreamApiCodes.StreamNotFound))
        throw error
      await manager.streams.add({
        name: this.#name,
        subjects: [`${this.#name}.*`],
        retention: RetentionPolicy.Workqueue,
        discard: DiscardPolicy.New,
        storage: StorageType.File,
        num_replicas: replicas,
        max_bytes: bytes + reservedBytes,
      })
    }
  }
}

/** Of the queue of a chain. */
export function streamNameOf(chainId: ChainId): string {
  return `mote-${chainId.slice(0, 16)}`
}

/** How many of those that wait go together. */
function lengthOfBatch(waiting: readonly Waiting[]): number {
  let size = 0
  const end = waiting.findIndex(({ transaction }, index) => {
    size += transaction.bytes.length
    return index > 0 && (size > maxBatchBytes || index >= maxBatchTransactions)
  })
  return end < 0 ? waiting.length : end
}

/** False: the stream is full. */
async function storedBy(published: Promise<unknown>): Promise<boolean> {
  try {
    await published
    return true
  } catch (error) {
    if (error instanceof JetStreamApiError && error.code === storeFailed) return false
    throw error
  }
}
