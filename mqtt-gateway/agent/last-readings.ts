/**
 * The last reading of each device on each topic of records, as an agent keeps them for the contracts that it runs (docs/FORMATS.md,
 * "Contracts"): what the state of the chain is to a guard there.
 *
 * On the disk, so that a restart does not forget what a step is measured from: numbers alone, which is all that a stream has. Bounded: for a
 * device or topic more than `maxKeptReadings` a reading is refused (`overloaded`), for a rule that has forgotten the one before lets anything
 * through.
 */
import type { DeviceId, Milliseconds } from '../../chain/brands.ts'
import { constant, encode, optional, struct, text, uint } from '../../chain/codec.ts'
import type { ReadingPlace } from '../../chain/contract-runs.ts'
import { type RecordValue, recordValuesCodec } from '../../chain/record-bodies.ts'
import { MoteError } from '../../chain/result.ts'
import type { MessageStore } from '../../client/message-store.ts'
import { decodeStored } from '../../client/stored-value.ts'

/** Devices, times topics, whose last reading an agent keeps. */
const maxKeptReadings = 4096

export interface KeptReading {
  readonly values: readonly RecordValue[]
  /** When it was taken here. */
  readonly time: Milliseconds
  /** The message that it came with; undefined for one of this device. */
  readonly messageId: string | undefined
  /** The rule that it violates. */
  readonly violation: string | undefined
}

/** Characters of a contract's name, of a reason and of a place, with what stands between them. */
const maxViolationCharacters = 128

export interface LastReadingsOptions {
  readonly store: MessageStore
  /** Of the keys in the store, unlike every other's. */
  readonly prefix: string
}

/** An id in hexadecimal. */
const maxMessageIdCharacters = 64

const formatVersion = 1 as const
const storedCodec = struct<KeptReading & { version: typeof formatVersion }>({
  version: constant(formatVersion),
  values: recordValuesCodec,
  time: uint<Milliseconds>(),
  messageId: optional(text(maxMessageIdCharacters)),
  violation: optional(text(maxViolationCharacters)),
})

export class LastReadings {
  readonly #options: LastReadingsOptions
  readonly #readings: Map<string, KeptReading>
  readonly #listeners = new Set<() => void>()

  private constructor(options: LastReadingsOptions, readings: Map<string, KeptReading>) {
    this.#options = options
    this.#readings = readings
  }

  /** As an earlier run left them. Throws `storage-corrupt`, `storage-failed`. */
  static async open(options: LastReadingsOptions): Promise<LastReadings> {
    const readings = new Map<string, KeptReading>()
    for (const [place, value] of await options.store.all(options.prefix)) {
      const { version: _, ...reading } = decodeStored(storedCodec, value, `message store: reading ${place}`)
      readings.set(place, reading)
    }
    return new LastReadings(options, readings)
  }

  /**
   * The last reading of a place, for a run at `now`. One from the future, which a clock that has been set back leaves, counts as of now from
   * then on: else its device could be silent until that time without a rule to notice. None of what a gateway attests: no agent has those.
   */
  last({ device, topic, attested }: ReadingPlace, now: Milliseconds): KeptReading | undefined {
    if (attested) return undefined
    const place = placeOf(device, topic)
    const reading = this.#readings.get(place)
    if (!reading || reading.time <= now) return reading
    const moved = { ...reading, time: now }
    this.#readings.set(place, moved)
    return moved
  }

  /** Throws `overloaded` if there is no room for the readings of this place. */
  requireRoom(device: DeviceId, topic: string): void {
    if (this.#readings.size >= maxKeptReadings && !this.#readings.has(placeOf(device, topic)))
      throw new MoteError('overloaded', `rules: ${maxKeptReadings} devices and topics have a last reading`)
  }

  /** Resolves when the reading is on the disk, the last one of its place. Throws `storage-failed`. */
  async keep(device: DeviceId, topic: string, kept: KeptReading): Promise<void> {
    const place = placeOf(device, topic)
    const reading = { ...kept, values: kept.values.filter(({ value }) => typeof value === 'number') }
    const { store, prefix } = this.#options
    const value = encode(storedCodec, { version: formatVersion, ...reading })
    await store.write([{ key: `${prefix}${place}`, value }])
    this.#readings.set(place, reading)
    for (const listener of this.#listeners) listener()
  }

  /** Calls `listener` after each reading that is kept; returns how to stop that. */
  onKept(listener: () => void): () => void {
    this.#listeners.add(listener)
    return () => this.#listeners.delete(listener)
  }
}

function placeOf(device: DeviceId, topic: string): string {
  return `${device}/${topic}`
}
