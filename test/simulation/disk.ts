/**
 * A simulated disk under the real storage logic: an ordered byte store whose writes take time, can fail, and can be lost.
 *
 * What a crash leaves: of the writes that were not synced a prefix, and the one on its way either whole, or not at all, or
 * torn. A torn write is modelled for appends of log entries alone: some of them are there, damaged or not, without the
 * record of the log's end that makes them count. For everything else the store promises atomic batches.
 *
 * Bit rot changes what is read and nothing else: what was durable before it stays known to those who judge the run.
 */
import { MoteError } from '../../chain/result.ts'
import type { BatchOperation, ByteStore, KeyRange } from '../../node/storage/byte-store.ts'
import { recordKinds } from '../../node/storage/store-records.ts'
import type { SeededRandom } from './random.ts'
import type { SimulatedActor, Timeline } from './timeline.ts'

/** `process`: killed, the machine goes on. `power`: everything that was not synced may be gone. */
export type CrashKind = 'process' | 'power'

const nameOf = (key: Uint8Array): string =>
  Buffer.from(key.buffer, key.byteOffset, key.byteLength).toString('latin1')

/** Records by kind (the first byte of a key), then by key. */
class Table {
  readonly #kinds = new Map<number, Map<string, Uint8Array>>()

  apply(operations: readonly BatchOperation[]): void {
    for (const { key, value } of operations) {
      const kind = key[0] ?? 0
      let records = this.#kinds.get(kind)
      if (!records) {
        records = new Map()
        this.#kinds.set(kind, records)
      }
      if (value === null) records.delete(nameOf(key))
      else records.set(nameOf(key), value)
    }
  }

  get(key: Uint8Array): Uint8Array | undefined {
    return this.#kinds.get(key[0] ?? 0)?.get(nameOf(key))
  }

  names({ from, to, reverse = false, limit = Number.POSITIVE_INFINITY }: KeyRange): readonly string[] {
    const [first, end] = [nameOf(from), nameOf(to)]
    const names: string[] = []
    for (const records of this.#kinds.values())
      for (const name of records.keys()) if (name >= first && name < end) names.push(name)
    names.sort((a, b) => (a < b ? -1 : 1))
    return (reverse ? names.reverse() : names).slice(0, limit)
  }

  get all(): readonly string[] {
    return [...this.#kinds.values()].flatMap(records => [...records.keys()]).sort()
  }

  copy(): Table {
    const copy = new Table()
    for (const [kind, records] of this.#kinds) copy.#kinds.set(kind, new Map(records))
    return copy
  }
}

interface Batch {
  readonly operations: readonly BatchOperation[]
  readonly durable: boolean
}

export interface DiskFaults {
  /** Time of one write, in milliseconds. */
  writeMsMin: number
  writeMsMax: number
  /** No write that begins now ends before this simulated time. */
  stalledUntil: number
  /** The next write fails. */
  failNext: boolean
}

/** What a disk tells those who use it. */
export interface DiskUser extends SimulatedActor {
  /** Called at every place at which a process may end. */
  readonly boundary: () => void
}

export class SimulatedDisk {
  readonly faults: DiskFaults = { writeMsMin: 0.2, writeMsMax: 3, stalledUntil: 0, failNext: false }
  readonly #timeline: Timeline
  readonly #random: SeededRandom
  /** What a power loss keeps. */
  #durable = new Table()
  #written = new Table()
  /** Written after the last sync. */
  #unsynced: Batch[] = []
  #onItsWay: Batch | undefined
  #user: DiskUser | undefined
  readonly #rotten = new Map<string, Uint8Array>()

  constructor(timeline: Timeline, random: SeededRandom) {
    this.#timeline = timeline
    this.#random = random
  }

  /** A record as it was synced, whatever has become of it since. */
  durable(key: Uint8Array): Uint8Array | undefined {
    return this.#durable.get(key)
  }

  /** Throws `in-use` while somebody who lives has it open. */
  open(user: DiskUser): ByteStore {
    if (this.#user?.alive) throw new MoteError('in-use', `simulated disk: ${this.#user.name} has it open`)
    this.#user = user
    return new SimulatedByteStore(this, user)
  }

  close(user: DiskUser): void {
    if (this.#user === user) this.#user = undefined
  }

  read(key: Uint8Array): Uint8Array | undefined {
    return this.#rotten.get(nameOf(key)) ?? this.#written.get(key)
  }

  names(range: KeyRange): readonly string[] {
    return this.#written.names(range)
  }

  write(user: DiskUser, batch: Batch): Promise<void> {
    user.boundary()
    if (!user.alive) return new Promise(() => {})
    this.#onItsWay = batch
    const { writeMsMin, writeMsMax, stalledUntil, failNext } = this.faults
    this.faults.failNext = false
    const stalledMs = Math.max(0, stalledUntil - this.#timeline.now)
    return new Promise((resolve, reject) => {
      this.#timeline.schedule(stalledMs + this.#random.between(writeMsMin, writeMsMax), user, 'disk', () => {
        if (failNext) {
          reject(new MoteError('storage-failed', 'simulated disk: input/output error'))
          return
        }
        this.#finish(batch)
        user.boundary()
        if (user.alive) resolve()
      })
    })
  }

  #finish(batch: Batch): void {
    this.#onItsWay = undefined
    for (const { key } of batch.operations) this.#rotten.delete(nameOf(key))
    this.#written.apply(batch.operations)
    this.#unsynced.push(batch)
    if (!batch.durable) return
    for (const { operations } of this.#unsynced) this.#durable.apply(operations)
    this.#unsynced = []
  }

  /** The process has ended. Gives what became of the write on its way. */
  crash(kind: CrashKind): 'idle' | 'lost' | 'whole' | 'torn' {
    const batch = this.#onItsWay
    const fate = batch ? this.#fateOf(batch) : 'idle'
    this.#onItsWay = undefined
    this.faults.failNext = false
    if (batch && fate === 'whole') this.#finish(batch)
    if (batch && fate === 'torn') this.#tear(batch)
    const kept = kind === 'process' ? this.#unsynced.length : this.#random.below(this.#unsynced.length + 1)
    // A killed process leaves its writes to the kernel, which goes on to sync them.
    for (const { operations } of this.#unsynced.slice(0, kept)) this.#durable.apply(operations)
    this.#unsynced = []
    this.#written = this.#durable.copy()
    return fate
  }

  #fateOf({ operations }: Batch): 'lost' | 'whole' | 'torn' {
    const choice = this.#random.below(4)
    if (choice === 0) return 'whole'
    const entries = operations.filter(({ key }) => key[0] === recordKinds.entry)
    const isAppend = entries.length > 0 && entries.every(({ value }) => value !== null)
    return choice === 1 && isAppend ? 'torn' : 'lost'
  }

  /** The first few entries reach the disk, the last of them perhaps not in one piece; nothing says that they count. */
  #tear({ operations }: Batch): void {
    const entries = operations.filter(({ key }) => key[0] === recordKinds.entry)
    const count = 1 + this.#random.below(entries.length)
    const torn = entries.slice(0, count).map(({ key, value }, i) => {
      const isCut = i === count - 1 && this.#random.chance(0.5)
      return { key, value: value && isCut ? value.subarray(0, this.#random.below(value.length)) : value }
    })
    this.#durable.apply(torn)
  }

  /** Changes one bit of a stored record. Gives its key, or undefined when there is none of these kinds. */
  rot(kinds: readonly number[]): Uint8Array | undefined {
    const names = this.#durable.all.filter(name => kinds.includes(name.charCodeAt(0)))
    if (names.length === 0) return undefined
    const name = this.#random.pick(names)
    const key = Buffer.from(name, 'latin1')
    const value = Uint8Array.from(this.read(key) ?? [])
    if (value.length === 0) return undefined
    const place = this.#random.below(value.length)
    value[place] = value[place]! ^ (1 << this.#random.below(8))
    this.#rotten.set(name, value)
    return key
  }
}

class SimulatedByteStore implements ByteStore {
  readonly #disk: SimulatedDisk
  readonly #user: DiskUser

  constructor(disk: SimulatedDisk, user: DiskUser) {
    this.#disk = disk
    this.#user = user
  }

  async get(key: Uint8Array): Promise<Uint8Array | undefined> {
    await this.#lives()
    return this.#disk.read(key)
  }

  async *range(range: KeyRange): AsyncGenerator<readonly [Uint8Array, Uint8Array]> {
    await this.#lives()
    for (const name of this.#disk.names(range)) {
      const key = Buffer.from(name, 'latin1')
      const value = this.#disk.read(key)
      if (value) yield [key, value]
    }
  }

  write(operations: readonly BatchOperation[], durable: boolean): Promise<void> {
    return this.#disk.write(this.#user, { operations, durable })
  }

  async reclaim(): Promise<void> {}

  async close(): Promise<void> {
    this.#disk.close(this.#user)
  }

  /** A dead process learns nothing any more. */
  #lives(): Promise<void> | undefined {
    return this.#user.alive ? undefined : new Promise(() => {})
  }
}
