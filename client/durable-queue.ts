/**
 * A queue that survives `kill -9`: bounded in entries, in bytes and, by its reader, in age; in order within each lane, where a
 * lane is a recipient or a source that may be slow without holding up the others.
 *
 * Invariants:
 * - an entry is accepted when it is on the disk, and what is accepted stays until `remove`;
 * - what does not fit is refused to whoever brings it (`overloaded`), nothing that was accepted is pushed out;
 * - an entry's number is used once in the life of the store, also across crashes: numbers are reserved on the disk in ranges.
 */
import type { Milliseconds } from '../chain/brands.ts'
import { bytes, constant, encode, struct, text, uint } from '../chain/codec.ts'
import { assert, MoteError, ok, type Result, refuse } from '../chain/result.ts'
import type { MessageStore, StoreChange } from './message-store.ts'
import { decodeStored } from './stored-value.ts'

export interface QueueLimits {
  readonly messages: number
  /** Of the entries' bodies. */
  readonly bytes: number
  /** Older entries are for the reader to drop. */
  readonly ageMs: number
}

/** What a queue knows of an entry without reading it. */
export interface QueueEntry {
  readonly sequence: number
  readonly lane: string
  readonly acceptedAt: Milliseconds
  readonly bytes: number
}

const formatVersion = 1 as const

interface StoredEntry {
  readonly version: typeof formatVersion
  readonly lane: string
  readonly acceptedAt: Milliseconds
  readonly body: Uint8Array
}

/** Largest body of an entry: the largest message that comes, or waits to be sent, and what stands around it. */
export const maxEntryBytes = 17 * 1024 * 1024
/** The same with its lane and time. */
const maxStoredBytes = maxEntryBytes + 1024
/** Numbers reserved at a time. */
const sequenceRange = 1024

const entryCodec = struct<StoredEntry>({
  version: constant(formatVersion),
  lane: text(256),
  acceptedAt: uint<Milliseconds>(),
  body: bytes(0, maxEntryBytes),
})
const reservedCodec = struct<{ version: typeof formatVersion; reserved: number }>({
  version: constant(formatVersion),
  reserved: uint(),
})

export interface NewEntry {
  readonly lane: string
  readonly body: Uint8Array
  readonly now: Milliseconds
  /** Written in the same step as the entry. */
  readonly also?: readonly StoreChange[]
}

export class DurableQueue {
  readonly #store: MessageStore
  readonly #prefix: string
  readonly #limits: QueueLimits
  readonly #lanes = new Map<string, QueueEntry[]>()
  #next = 0
  #reserved = 0
  /** On the disk, and these with what waits for its write. */
  #stored = 0
  #count = 0
  #bytes = 0

  private constructor(store: MessageStore, prefix: string, limits: QueueLimits) {
    this.#store = store
    this.#prefix = prefix
    this.#limits = limits
  }

  /**
   * The queue as it was left. Throws `storage-corrupt`, `storage-failed`.
   * @param prefix of the keys in the store, unlike every other's
   */
  static async open(store: MessageStore, prefix: string, limits: QueueLimits): Promise<DurableQueue> {
    const queue = new DurableQueue(store, prefix, limits)
    await queue.#load()
    return queue
  }

  /** Entries that are on the disk. */
  get count(): number {
    return this.#stored
  }

  /** Lanes with entries. */
  get lanes(): readonly string[] {
    return [...this.#lanes.keys()]
  }

  /** The oldest entry of a lane. */
  head(lane: string): QueueEntry | undefined {
    return this.#lanes.get(lane)?.[0]
  }

  /** The oldest entries of a lane, at most so many. */
  heads(lane: string, count: number): readonly QueueEntry[] {
    return this.#lanes.get(lane)?.slice(0, count) ?? []
  }

  /** Resolves when the entry is on the disk. Refuses `overloaded`, `too-large`. Throws `storage-failed`. */
  async add(next: NewEntry): Promise<Result<QueueEntry>> {
    const { body, also = [] } = next
    const { messages, bytes: bytesMax } = this.#limits
    if (body.length > Math.min(maxEntryBytes, bytesMax))
      return refuse('too-large', `message: expected at most ${Math.min(maxEntryBytes, bytesMax)} bytes`)
    if (this.#count >= messages)
      return refuse('overloaded', `queue: full with ${messages} messages; the oldest waits for its recipient`)
    if (this.#bytes + body.length > bytesMax)
      return refuse('overloaded', `queue: full with ${this.#bytes} of ${bytesMax} bytes`)
    const entry = this.#entry(this.#next, next)
    this.#next += 1
    this.#count += 1
    this.#bytes += body.length
    try {
      await this.#writeNumbered([this.#change(entry, body), ...also])
    } catch (error) {
      this.#count -= 1
      this.#bytes -= entry.bytes
      throw error
    }
    this.#append(entry)
    return ok(entry)
  }

  /** Throws `storage-failed`, `storage-corrupt`. */
  async read(entry: QueueEntry): Promise<Uint8Array> {
    const value = await this.#store.get(this.#keyOf(entry))
    return stored(this.#keyOf(entry), value).body
  }

  /** Takes the head of its lane off the queue, and off the disk, with what else goes. */
  remove(entry: QueueEntry, also: readonly StoreChange[] = []): Promise<void> {
    return this.removeHeads([entry], also)
  }

  /** The same with several, the oldest ones of one lane. */
  async removeHeads(entries: readonly QueueEntry[], also: readonly StoreChange[] = []): Promise<void> {
    await this.#store.write([...this.#removals(entries), ...also])
    for (const entry of entries) this.#forget(entry)
  }

  /**
   * Takes the oldest entries of one lane off and puts these bodies at its end, in one write. No limit refuses them, as they are no more, in number
   * and in bytes, than what is taken off. Throws `storage-failed`.
   */
  async replaceHeads(
    entries: readonly QueueEntry[],
    bodies: readonly Uint8Array[],
    now: Milliseconds,
  ): Promise<void> {
    const lane = entries[0]?.lane ?? ''
    const added = bodies.map((body, i) => this.#entry(this.#next + i, { lane, body, now }))
    const isNoMore = bodies.length <= entries.length && bytesOf(added) <= bytesOf(entries)
    assert(isNoMore, 'what is put back is no more than what is taken off')
    this.#next += added.length
    const also = added.map((entry, i) => this.#change(entry, bodies[i] as Uint8Array))
    await this.#writeNumbered([...this.#removals(entries), ...also])
    for (const entry of entries) this.#forget(entry)
    for (const entry of added) {
      this.#count += 1
      this.#bytes += entry.bytes
      this.#append(entry)
    }
  }

  #entry(sequence: number, { lane, body, now }: NewEntry): QueueEntry {
    return { sequence, lane, acceptedAt: now, bytes: body.length }
  }

  #change(entry: QueueEntry, body: Uint8Array): StoreChange {
    const { lane, acceptedAt } = entry
    const value = encode(entryCodec, { version: formatVersion, lane, acceptedAt, body })
    return { key: this.#keyOf(entry), value }
  }

  #forget(entry: QueueEntry): void {
    const lane = this.#lanes.get(entry.lane) ?? []
    assert(lane[0] === entry, 'what is removed is the head of its lane')
    lane.shift()
    if (lane.length === 0) this.#lanes.delete(entry.lane)
    this.#stored -= 1
    this.#count -= 1
    this.#bytes -= entry.bytes
  }

  #removals(entries: readonly QueueEntry[]): readonly StoreChange[] {
    return entries.map(entry => ({ key: this.#keyOf(entry), value: undefined }))
  }

  /** With the numbers up to `#next` reserved. They count as that once it is on the disk: after a write that failed, the next one reserves. */
  async #writeNumbered(changes: readonly StoreChange[]): Promise<void> {
    if (this.#next < this.#reserved) return this.#store.write(changes)
    const reserved = this.#next + sequenceRange
    const value = encode(reservedCodec, { version: formatVersion, reserved })
    await this.#store.write([{ key: `${this.#prefix}reserved`, value }, ...changes])
    this.#reserved = Math.max(this.#reserved, reserved)
  }

  #append(entry: QueueEntry): void {
    this.#stored += 1
    const lane = this.#lanes.get(entry.lane)
    if (lane) lane.push(entry)
    else this.#lanes.set(entry.lane, [entry])
  }

  #keyOf({ sequence }: QueueEntry): string {
    return `${this.#prefix}entry/${String(sequence).padStart(16, '0')}`
  }

  async #load(): Promise<void> {
    const key = `${this.#prefix}reserved`
    const reserved = await this.#store.get(key)
    if (reserved) {
      this.#reserved = decodeStored(reservedCodec, reserved, nameOf(key)).reserved
      this.#next = this.#reserved
    }
    for (const [name, value] of await this.#store.all(`${this.#prefix}entry/`)) {
      const { lane, acceptedAt, body } = stored(name, value)
      const sequence = Number(name)
      this.#append({ sequence, lane, acceptedAt, bytes: body.length })
      this.#next = Math.max(this.#next, sequence + 1)
      this.#count += 1
      this.#bytes += body.length
    }
  }
}

function bytesOf(entries: readonly QueueEntry[]): number {
  return entries.reduce((sum, { bytes }) => sum + bytes, 0)
}

function stored(key: string, value: Uint8Array | undefined): StoredEntry {
  if (!value) throw new MoteError('storage-corrupt', `${nameOf(key)}: it is gone`)
  return decodeStored(entryCodec, value, nameOf(key), maxStoredBytes)
}

function nameOf(key: string): string {
  return `message store: ${key}`
}
