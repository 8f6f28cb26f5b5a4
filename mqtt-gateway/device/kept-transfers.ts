/**
 * Chunks of kept messages at their recipient (docs/FORMATS.md, "Kept messages"): on the disk until the last one has come, so that each can be
 * acknowledged, and a message that takes longer than one run of the recipient is given out whole all the same, or not at all.
 *
 *   <transfer>-<index>    one file for each chunk: whose it is, its place, until when, its content
 *
 * Bounded in transfers of one sender and in bytes of all. Where there is no room, what was heard of longest ago gives way, of the sender that
 * has too many or of all: chunks that were kept come one right after another, and a transfer that waits long is one whose rest was refused to
 * its sender. Nobody can hold up what is complete.
 */
import { createHash } from 'node:crypto'
import { readdir, readFile, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { bytesToHex } from '@noble/hashes/utils.js'
import type { DeviceId, Hash, Milliseconds } from '../../chain/brands.ts'
import { bytes, constant, digest, encode, struct, text, uint } from '../../chain/codec.ts'
import { ok, type Refusal, type Result, refuse } from '../../chain/result.ts'
import { privateDirectory, writeFileAtomic } from '../../client/atomic-file.ts'
import { OrderedQueue } from '../../client/ordered-queue.ts'
import { decodeStored } from '../../client/stored-value.ts'
import { type ChunkPlace, maxChunks, maxContentBytes, transferIdBytes } from '../protocol/content.ts'
import { type ChunkSource, wholeOf } from './transfers.ts'

/** Transfers of one sender that wait for chunks. */
export const maxKeptTransfersPerSender = 4
/** Bytes that all of them will take: sixteen of the largest. */
export const maxKeptTransfersBytes = 256 * 1024 * 1024
/** A chunk, and 1 KiB for what stands around it. */
const maxChunkFileBytes = 1025 * 1024

const formatVersion = 1 as const

interface StoredChunk extends ChunkPlace {
  readonly version: typeof formatVersion
  readonly sender: DeviceId
  readonly target: string
  readonly until: Milliseconds
  readonly content: Uint8Array
}

const chunkCodec = struct<StoredChunk>({
  version: constant(formatVersion),
  sender: digest<DeviceId>(),
  target: text(64),
  transfer: bytes(transferIdBytes),
  index: uint(maxChunks - 1),
  count: uint(maxChunks),
  whole: digest<Hash>(),
  until: uint<Milliseconds>(),
  content: bytes(1, maxContentBytes),
})

/** What is known of a transfer without reading its files. */
interface Waiting {
  readonly sender: DeviceId
  readonly whole: Hash
  readonly count: number
  readonly here: Set<number>
  until: Milliseconds
}

export interface ArrivedChunk extends ChunkSource {
  readonly place: ChunkPlace
  readonly bytes: Uint8Array
  /** Until when its envelope may be delivered. */
  readonly until: Milliseconds
}

/** A message that is whole with its last chunk. */
export interface WholeMessage {
  readonly bytes: Uint8Array
  /** It was taken: its chunks go from the disk. */
  readonly forget: () => Promise<void>
}

export class KeptTransfers {
  readonly #directory: string
  readonly #onDropped: (refusal: Refusal) => void
  /** The one that was heard of longest ago first. */
  readonly #waiting = new Map<string, Waiting>()
  readonly #edits = new OrderedQueue()

  private constructor(directory: string, onDropped: (refusal: Refusal) => void) {
    this.#directory = directory
    this.#onDropped = onDropped
  }

  /**
   * What an earlier run has left in a directory (created, 0700). Files that cannot be read go: their chunks are lost. Throws `storage-failed`.
   * @param onDropped told of each transfer that is given up
   */
  static async open(
    directory: string,
    onDropped: (refusal: Refusal) => void = () => {},
  ): Promise<KeptTransfers> {
    await privateDirectory(directory)
    const transfers = new KeptTransfers(directory, onDropped)
    for (const name of (await readdir(directory)).toSorted()) await transfers.#load(name)
    return transfers
  }

  /** Transfers that wait for chunks. */
  get count(): number {
    return this.#waiting.size
  }

  /**
   * The whole message with its last chunk, which is not written; undefined for another, which is on the disk then. Refuses `malformed` for a
   * chunk that does not fit the others, and for a whole that is not what its chunks named. Throws `storage-failed`.
   */
  add(chunk: ArrivedChunk, now: Milliseconds): Promise<Result<WholeMessage | undefined>> {
    return this.#edits.run(async () => {
      await this.#dropOver(now)
      const { sender, place, until } = chunk
      const { whole, count, index } = place
      const name = nameOf(chunk)
      const waiting = this.#waiting.get(name) ?? { sender, whole, count, here: new Set<number>(), until }
      if (waiting.whole !== whole || waiting.count !== count)
        return refuse('malformed', 'chunk: it does not belong to the others of its transfer')
      waiting.until = Math.max(waiting.until, until) as Milliseconds
      const others = [...waiting.here].filter(each => each !== index)
      if (others.length === count - 1) return this.#whole(name, waiting, chunk)
      if (!this.#waiting.has(name)) await this.#makeRoom(sender, count)
      await writeFileAtomic(this.#pathOf(name, index), encode(chunkCodec, storedChunk(chunk)))
      waiting.here.add(index)
      // The one heard of last is the last one.
      this.#waiting.delete(name)
      this.#waiting.set(name, waiting)
      return ok(undefined)
    })
  }

  async #whole(
    name: string,
    waiting: Waiting,
    { place, bytes }: ArrivedChunk,
  ): Promise<Result<WholeMessage>> {
    const parts: Uint8Array[] = []
    for (let index = 0; index < waiting.count; index++)
      parts.push(index === place.index ? bytes : (await this.#read(this.#pathOf(name, index))).content)
    const message = wholeOf(parts, waiting.whole)
    if (message.ok) return ok({ bytes: message.value, forget: () => this.#edits.run(() => this.#drop(name)) })
    await this.#drop(name)
    return message
  }

  async #makeRoom(sender: DeviceId, count: number): Promise<void> {
    const ofSender = [...this.#waiting].filter(([, each]) => each.sender === sender)
    if (ofSender.length >= maxKeptTransfersPerSender)
      await this.#giveUp(ofSender[0]?.[0] ?? '', `${maxKeptTransfersPerSender} newer ones of its sender wait`)
    for (const [name] of [...this.#waiting]) {
      const chunks = [...this.#waiting.values()].reduce((sum, each) => sum + each.count, count)
      if (chunks * maxContentBytes <= maxKeptTransfersBytes) return
      await this.#giveUp(name, `those that wait would take more than ${maxKeptTransfersBytes} bytes`)
    }
  }

  async #dropOver(now: Milliseconds): Promise<void> {
    for (const [name, { until }] of this.#waiting)
      if (until < now) await this.#giveUp(name, 'its time is over')
  }

  async #giveUp(name: string, why: string): Promise<void> {
    const { sender, here, count } = this.#waiting.get(name) as Waiting
    await this.#drop(name)
    const detail = `transfer of ${sender}: dropped with ${here.size} of ${count} chunks: ${why}`
    this.#onDropped({ code: 'envelope-expired', detail })
  }

  async #drop(name: string): Promise<void> {
    const { here } = this.#waiting.get(name) ?? { here: [] }
    this.#waiting.delete(name)
    for (const index of here) await rm(this.#pathOf(name, index), { force: true })
  }

  async #load(file: string): Promise<void> {
    const path = join(this.#directory, file)
    const chunk = await this.#read(path).catch(() => undefined)
    const name = chunk && nameOf({ ...chunk, place: chunk })
    if (!chunk || !name || path !== this.#pathOf(name, chunk.index)) return rm(path, { force: true })
    const { sender, whole, count, index, until } = chunk
    const waiting = this.#waiting.get(name) ?? { sender, whole, count, here: new Set<number>(), until }
    waiting.here.add(index)
    waiting.until = Math.max(waiting.until, until) as Milliseconds
    this.#waiting.set(name, waiting)
  }

  async #read(path: string): Promise<StoredChunk> {
    return decodeStored(chunkCodec, await readFile(path), path, maxChunkFileBytes)
  }

  #pathOf(name: string, index: number): string {
    return join(this.#directory, `${name}-${String(index).padStart(2, '0')}`)
  }
}

function nameOf({ sender, target, place }: Pick<ArrivedChunk, 'sender' | 'target' | 'place'>): string {
  return createHash('sha256')
    .update(`${sender}/${target}/${bytesToHex(place.transfer)}`)
    .digest('hex')
}

function storedChunk({ sender, target, place, until, bytes: content }: ArrivedChunk): StoredChunk {
  return { version: formatVersion, sender, target, ...place, until, content }
}
