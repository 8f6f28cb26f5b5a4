/**
 * What arrived for a device and its application has not taken yet: on the disk, in order for each source, bounded.
 *
 * A message is written together with its id, and with its number if it wants a confirmation, so that a crash at any moment leaves
 * all of it or nothing. It comes again if it was lost, and after a crash before its counter was marked as used
 * (mqtt-gateway/device/listening-place.ts): then its id says that it is here, or was. Ids go from the disk with a later write, once
 * `settled` says that the message cannot come again; those of an earlier run when their time is over.
 */
import type { DeviceId, Hash, Milliseconds } from '../../chain/brands.ts'
import { bytes, constant, digest, encode, list, struct, text, uint } from '../../chain/codec.ts'
import { MoteError, type Refusal, refusalOf, unwrap } from '../../chain/result.ts'
import { pause } from '../../client/deadline.ts'
import { DurableQueue, maxEntryBytes, type QueueEntry, type QueueLimits } from '../../client/durable-queue.ts'
import type { MessageStore, StoreChange } from '../../client/message-store.ts'
import { decodeStored } from '../../client/stored-value.ts'
import type { DeliveredMessage } from '../device/listener.ts'
import { type Recipient, recipientCodec } from '../device/message-sealing.ts'
import { maxTransferBytes } from '../protocol/content.ts'
import { channelCodec } from '../protocol/envelope.ts'
import { type MessageNumber, parseChannel } from './confirmations.ts'
import { LaneWorkers } from './lane-workers.ts'

export const defaultInboxLimits: QueueLimits = {
  messages: 10_000,
  bytes: 64 * 1024 * 1024,
  ageMs: 7 * 24 * 60 * 60_000,
}

/** Senders whose last number is remembered. */
const maxNumberedSenders = 4096
/** Streams of one sender that are remembered: a device whose queue was lost begins another one. */
const maxStreamsPerSender = 4
/** Pause before an application that failed gets its message again; doubles up to the second. */
const handlerDelayMsMin = 100
const handlerDelayMsMax = 5_000

/** A message as the application gets it. */
export interface ReceivedText {
  readonly from: DeviceId
  /** What it was sent to: this device, or a group or open topic. */
  readonly to: Recipient
  readonly channel: string
  readonly content: Uint8Array
  readonly messageId: string
  /** When it was accepted here. */
  readonly at: Milliseconds
}

/**
 * Takes a message: it is gone from the disk when the promise has resolved, and comes again if it rejects. Whoever waits in it
 * for long rejects when the signal fires: this program ends.
 */
export type TextHandler = (message: ReceivedText, signal: AbortSignal) => void | Promise<void>

/** What became of an arrival: for the application, a number whose sender waits for a confirmation, or a confirmation. */
export type Arrived =
  | { readonly type: 'message'; readonly confirmation: MessageNumber | undefined }
  | { readonly type: 'confirmation'; readonly number: MessageNumber }

const formatVersion = 2 as const

interface StoredText {
  readonly version: typeof formatVersion
  readonly from: DeviceId
  readonly to: Recipient
  readonly channel: string
  readonly content: Uint8Array
  readonly messageId: Hash
  readonly at: Milliseconds
}

const textCodec = struct<StoredText>({
  version: constant(formatVersion),
  from: digest<DeviceId>(),
  to: recipientCodec,
  channel: channelCodec,
  content: bytes(0, maxTransferBytes),
  messageId: digest<Hash>(),
  at: uint<Milliseconds>(),
})
const numbersCodec = list(struct<MessageNumber>({ stream: text(8), sequence: uint() }), maxStreamsPerSender)

const takenCodec = struct<{ version: typeof formatVersion; until: Milliseconds }>({
  version: constant(formatVersion),
  until: uint<Milliseconds>(),
})

export interface InboxOptions {
  readonly store: MessageStore
  readonly prefix: string
  readonly limits: QueueLimits
  readonly now: () => Milliseconds
  /** Told of a message that the application could not take in time. */
  readonly onDropped: (refusal: Refusal) => void
}

const takenPrefix = 'taken/'

/** What the disk has beside the queue. */
interface Stored {
  readonly numbers: Map<DeviceId, readonly MessageNumber[]>
  readonly taken: Set<string>
}

/** Ids whose messages cannot come again any more go. Throws `storage-corrupt`, `storage-failed`. */
async function readStored({ store, prefix, now }: InboxOptions): Promise<Stored> {
  const numbers = new Map<DeviceId, readonly MessageNumber[]>()
  for (const [sender, value] of await store.all(`${prefix}number/`))
    numbers.set(sender as DeviceId, decodeStored(numbersCodec, value, `message store: ${sender}`))
  const taken = new Set<string>()
  const over: StoreChange[] = []
  for (const [id, value] of await store.all(`${prefix}${takenPrefix}`)) {
    if (decodeStored(takenCodec, value, `message store: ${id}`).until >= now()) taken.add(id)
    else over.push({ key: `${prefix}${takenPrefix}${id}`, value: undefined })
  }
  if (over.length > 0) await store.write(over)
  return { numbers, taken }
}

export class Inbox {
  readonly #options: InboxOptions
  readonly #queue: DurableQueue
  /** The last number of each stream, the newest stream last. */
  readonly #numbers: Map<DeviceId, readonly MessageNumber[]>
  /** Messages that are or were in the queue and might come again. */
  readonly #taken: Set<string>
  /** Those that cannot any more, and are still on the disk. */
  readonly #settled = new Set<string>()
  readonly #workers: LaneWorkers
  #handler: TextHandler | undefined

  private constructor(options: InboxOptions, queue: DurableQueue, stored: Stored) {
    this.#options = options
    this.#queue = queue
    this.#numbers = stored.numbers
    this.#taken = stored.taken
    this.#workers = new LaneWorkers({
      work: lane => this.#work(lane),
      // The disk failed: what is there comes again when the program is started again.
      onFailure: (_, error) => options.onDropped(refusalOf(error)),
    })
  }

  /** Throws `storage-corrupt`, `storage-failed`. */
  static async open(options: InboxOptions): Promise<Inbox> {
    const { store, prefix, limits } = options
    const queue = await DurableQueue.open(store, `${prefix}in/`, limits)
    return new Inbox(options, queue, await readStored(options))
  }

  get count(): number {
    return this.#queue.count
  }

  /** Gives every message to `handler`, those of one source in order; the next one when the promise before has resolved. */
  handle(handler: TextHandler): void {
    this.#handler = handler
    for (const lane of this.#queue.lanes) this.#workers.begin(lane)
  }

  /**
   * Keeps what arrived. Resolves when it is on the disk: then a confirmation may leave. Throws `malformed` for a reserved channel of
   * no known form, `overloaded` when there is no room.
   */
  async accept(message: DeliveredMessage): Promise<Arrived> {
    const use = parseChannel(message.channel)
    if (!use) throw new MoteError('malformed', `channel: expected no reserved one, got '${message.channel}'`)
    if (use.type === 'got') return { type: 'confirmation', number: use.number }
    const number = use.type === 'ask' && message.to.type === 'device' ? use.number : undefined
    const isHere = this.#taken.has(message.messageId) || (number && this.#has(message.from, number))
    if (isHere) return { type: 'message', confirmation: number }
    const { type, id } = message.to
    const to = { type, id } as Recipient
    const lane = type === 'device' ? `device/${message.from}` : `${type}/${id}`
    const now = this.#options.now()
    const body = encode(textCodec, {
      version: formatVersion,
      from: message.from,
      to,
      channel: use.channel,
      content: message.content,
      messageId: message.messageId as Hash,
      at: message.at,
    })
    const numbers = number && this.#withNumber(message.from, number)
    const settled = [...this.#settled]
    const also: readonly StoreChange[] = [
      {
        key: this.#takenKey(message.messageId),
        value: encode(takenCodec, { version: formatVersion, until: message.until }),
      },
      ...settled.map(id => ({ key: this.#takenKey(id), value: undefined })),
      ...(numbers
        ? [{ key: `${this.#options.prefix}number/${message.from}`, value: encode(numbersCodec, numbers) }]
        : []),
    ]
    unwrap(await this.#queue.add({ lane, body, now, also }))
    this.#taken.add(message.messageId)
    for (const id of settled) this.#settled.delete(id)
    if (numbers) this.#numbers.set(message.from, numbers)
    this.#workers.begin(lane)
    return { type: 'message', confirmation: number }
  }

  /** A message cannot come again: its id goes from the disk with the next write. */
  settled({ messageId }: Pick<DeliveredMessage, 'messageId'>): void {
    if (this.#taken.delete(messageId)) this.#settled.add(messageId)
  }

  #takenKey(messageId: string): string {
    return `${this.#options.prefix}${takenPrefix}${messageId}`
  }

  /** Resolves when nothing is given out any more, or `patienceMs` later. */
  close(patienceMs: number): Promise<void> {
    return this.#workers.close(patienceMs)
  }

  #has(sender: DeviceId, { stream, sequence }: MessageNumber): boolean {
    const last = this.#numbers.get(sender)?.find(number => number.stream === stream)
    return last !== undefined && sequence <= last.sequence
  }

  #withNumber(sender: DeviceId, number: MessageNumber): readonly MessageNumber[] {
    const known = this.#numbers.get(sender)
    if (!known && this.#numbers.size >= maxNumberedSenders)
      throw new MoteError('overloaded', `inbox: ${maxNumberedSenders} senders have asked for confirmations`)
    const others = (known ?? []).filter(({ stream }) => stream !== number.stream)
    return [...others.slice(1 - maxStreamsPerSender), number]
  }

  async #work(lane: string): Promise<void> {
    const { signal } = this.#workers
    let delayMs = handlerDelayMsMin
    while (this.#handler && !signal.aborted) {
      const entry = this.#queue.head(lane)
      if (!entry) return this.#workers.isIdle(lane)
      if (await this.#give(entry, this.#handler)) {
        delayMs = handlerDelayMsMin
        continue
      }
      await pause(delayMs, signal)
      delayMs = Math.min(2 * delayMs, handlerDelayMsMax)
    }
  }

  /** True when the entry is off the queue; false when the application did not take it. */
  async #give(entry: QueueEntry, handler: TextHandler): Promise<boolean> {
    const { now, limits, onDropped } = this.#options
    const body = await this.#queue.read(entry)
    const stored = decodeStored(textCodec, body, `inbox: entry ${entry.sequence}`, maxEntryBytes)
    const { from, to, channel, content, messageId, at } = stored
    if (now() - entry.acceptedAt > limits.ageMs) {
      const detail = `message ${messageId}: the application did not take it in time`
      onDropped({ code: 'envelope-expired', detail })
    } else
      try {
        await handler({ from, to, channel, content, messageId, at }, this.#workers.signal)
      } catch {
        return false
      }
    await this.#queue.remove(entry)
    return true
  }
}
