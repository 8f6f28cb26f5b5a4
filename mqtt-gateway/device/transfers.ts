/**
 * Large messages, cut into chunks and put together again (docs/FORMATS.md, "Content"). A chunk is a message like any other: sealed,
 * checked, relayed and counted alone. What has come of a transfer waits here until the rest has, and is given out whole or not at all:
 * its SHA-256 stands in every chunk.
 *
 * Bounded: transfers of one sender, the bytes that all of them will take, and the time since the last chunk. In memory only, so a
 * recipient that starts anew in the middle of a transfer does not get it.
 */
import { createHash, randomBytes } from 'node:crypto'
import { bytesToHex } from '@noble/hashes/utils.js'
import type { DeviceId, Hash } from '../../chain/brands.ts'
import { ok, type Result, refuse } from '../../chain/result.ts'
import { type Clock, systemClock } from '../../client/clock.ts'
import {
  type ChunkPlace,
  type Content,
  maxContentBytes,
  maxTransferBytes,
  transferIdBytes,
} from '../protocol/content.ts'

/** Transfers of one sender that wait for chunks. */
export const maxTransfersPerSender = 4
/** Bytes that all waiting transfers of a recipient will take: four of the largest. */
export const maxTransfersBytes = 64 * 1024 * 1024
/** Longest time between two chunks of a transfer. */
export const chunkWaitMs = 120_000

/** A new name for a transfer. */
export function newTransferId(): Uint8Array {
  return Uint8Array.from(randomBytes(transferIdBytes))
}

/** The envelopes' contents for a message: itself, or its chunks under the name of a transfer. Refuses `too-large`. */
export function contentsOf(message: Uint8Array, transfer = newTransferId()): Result<readonly Content[]> {
  if (message.length > maxTransferBytes)
    return refuse('too-large', `content: expected at most ${maxTransferBytes} bytes, got ${message.length}`)
  if (message.length <= maxContentBytes) return ok([{ bytes: message, place: undefined }])
  const count = Math.ceil(message.length / maxContentBytes)
  const whole = digestOf(message)
  return ok(
    Array.from({ length: count }, (_, index) => ({
      bytes: message.subarray(index * maxContentBytes, (index + 1) * maxContentBytes),
      place: { transfer, index, count, whole },
    })),
  )
}

/** The message of which these are all chunks, in order. Refuses `malformed` for one that is not what they name. */
export function wholeOf(chunks: readonly Uint8Array[], whole: Hash): Result<Uint8Array> {
  const message = Uint8Array.from(Buffer.concat(chunks))
  return digestOf(message) === whole
    ? ok(message)
    : refuse('malformed', 'transfer: the whole does not have the SHA-256 that its chunks name')
}

function digestOf(message: Uint8Array): Hash {
  return createHash('sha256').update(message).digest('hex') as Hash
}

/** Who sent a chunk, and to whom: device or group. */
export interface ChunkSource {
  readonly sender: DeviceId
  readonly target: string
}

interface Transfer {
  readonly sender: DeviceId
  readonly whole: Hash
  readonly chunks: (Uint8Array | undefined)[]
  heardAt: number
}

export class Transfers {
  readonly #clock: Pick<Clock, 'steady' | 'after'>
  readonly #waiting = new Map<string, Transfer>()
  #cancelSweep: (() => void) | undefined

  constructor(clock: Pick<Clock, 'steady' | 'after'> = systemClock) {
    this.#clock = clock
  }

  /** Transfers that wait for chunks. */
  get count(): number {
    return this.#waiting.size
  }

  /**
   * The whole message, once its last chunk is in; undefined until then. Refuses `overloaded` for a transfer that there is no room for,
   * `malformed` for a chunk that does not fit the others, and for a whole that is not what its chunks named.
   */
  add({ sender, target }: ChunkSource, place: ChunkPlace, bytes: Uint8Array): Result<Uint8Array | undefined> {
    this.#sweep()
    const name = `${sender}/${target}/${bytesToHex(place.transfer)}`
    const known = this.#waiting.get(name)
    const room = known ? ok(undefined) : this.#roomFor(sender, place)
    if (!room.ok) return room
    const transfer = known ?? this.#begin(name, sender, place)
    if (transfer.whole !== place.whole || transfer.chunks.length !== place.count)
      return refuse('malformed', 'chunk: it does not belong to the others of its transfer')
    transfer.chunks[place.index] = bytes
    transfer.heardAt = this.#clock.steady()
    if (transfer.chunks.includes(undefined)) return ok(undefined)
    this.#waiting.delete(name)
    return wholeOf(transfer.chunks as Uint8Array[], transfer.whole)
  }

  #begin(name: string, sender: DeviceId, { whole, count }: ChunkPlace): Transfer {
    const chunks = Array<Uint8Array | undefined>(count).fill(undefined)
    const transfer = { sender, whole, chunks, heardAt: this.#clock.steady() }
    this.#waiting.set(name, transfer)
    return transfer
  }

  #roomFor(sender: DeviceId, { count }: ChunkPlace): Result<void> {
    const all = [...this.#waiting.values()]
    if (all.filter(each => each.sender === sender).length >= maxTransfersPerSender)
      return refuse('overloaded', `transfers: ${maxTransfersPerSender} of ${sender} wait for chunks already`)
    const chunks = all.reduce((sum, each) => sum + each.chunks.length, count)
    return chunks * maxContentBytes > maxTransfersBytes
      ? refuse('overloaded', `transfers: those that wait will take ${maxTransfersBytes} bytes already`)
      : ok(undefined)
  }

  /** Drops what nobody goes on with, also when no chunk comes any more. */
  #sweep(): void {
    this.#cancelSweep?.()
    for (const [name, { heardAt }] of this.#waiting)
      if (this.#clock.steady() - heardAt >= chunkWaitMs) this.#waiting.delete(name)
    this.#cancelSweep = this.#clock.after(chunkWaitMs, () => {
      if (this.#waiting.size > 0) this.#sweep()
    })
  }
}
