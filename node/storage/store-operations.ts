/**
 * What chain-storage.ts writes and reads in more than one record (store-records.ts numbers the kinds): a block, a snapshot,
 * the log; and what is signed: certificates, and this node's own promises. The ends of the log are chain-storage.ts's.
 */
import type { Height, StateKey } from '../../chain/brands.ts'
import { encode, encodePassing } from '../../chain/codec.ts'
import { RecentMap } from '../../chain/recent-map.ts'
import { MoteError } from '../../chain/result.ts'
import type { Entry, SnapshotMeta } from '../../consensus/types.ts'
import {
  type BlockWrite,
  configurationCodec,
  type SignedHeader,
  type SnapshotWrite,
  snapshotCodec,
} from '../ports.ts'
import type { BatchOperation, ByteStore, WriteQueue } from './byte-store.ts'
import {
  appliedCodec,
  corrupt,
  describeKey,
  deviceRowCodec,
  digestInKey,
  entryHead,
  numberInKey,
  open,
  openEntry,
  openRecord,
  placeCodec,
  rangeOf,
  seal,
  signedCodec,
  storeKey,
  undoCodec,
} from './store-records.ts'

/** A sealed record. */
export function put(key: Uint8Array, ...pieces: readonly Uint8Array[]): BatchOperation {
  return { key, value: seal(key, ...pieces) }
}

export function entryOperation(entry: Entry): BatchOperation {
  const data =
    entry.configuration === undefined ? entry.data : encode(configurationCodec, entry.configuration)
  return put(storeKey('entry', entry.index), entryHead(entry), data)
}

export function signedOperation(signed: SignedHeader): BatchOperation {
  return put(storeKey('signed', signed.incarnation, signed.height), encode(signedCodec, signed))
}

/** Everything one block leaves behind, its promise of a signature included. */
export function blockOperations(block: BlockWrite): BatchOperation[] {
  const { height } = block
  const operations = [
    put(storeKey('header', height), block.header),
    put(storeKey('changes', height), block.changes),
    put(storeKey('block', height), block.block),
    put(storeKey('receipts', height), block.receipts),
    put(storeKey('history'), block.history),
  ]
  for (const { id, index, kind, devices } of block.transactions) {
    operations.push(put(storeKey('transaction', id), encode(placeCodec, { height, index })))
    const row = encode(deviceRowCodec, { id, kind })
    for (const device of devices)
      operations.push(put(storeKey('deviceTransaction', device, height, index), row))
  }
  for (const [stateKey, value] of block.leaves) {
    const key = storeKey('leaf', stateKey)
    operations.push(value === null ? { key, value } : put(key, value))
  }
  for (const [slot, ids] of block.replay) operations.push(put(storeKey('replay', slot, height), ids))
  if (block.handover) operations.push(put(storeKey('handover', height), block.handover))
  if (block.signed) operations.push(signedOperation(block.signed))
  if (block.undo) operations.push(put(storeKey('undo', height), encodePassing(undoCodec, block.undo)))
  return operations
}

/** What is kept of a block, in place of its transactions and receipts. */
export function forgettingOperations([height, kept]: readonly [Height, Uint8Array]): BatchOperation[] {
  return [
    put(storeKey('forgotten', height), kept),
    { key: storeKey('block', height), value: null },
    { key: storeKey('receipts', height), value: null },
  ]
}

/** Deletes rows of a kind that are needed no more as blocks come. */
export class RowFloors {
  readonly #store: ByteStore
  /** What is below is deleted already. */
  readonly #floors = { replay: 0, undo: 0 }

  constructor(store: ByteStore) {
    this.#store = store
  }

  /** The deletions of what is below `floor`. */
  async raise(kind: 'replay' | 'undo', floor: number): Promise<readonly BatchOperation[]> {
    const from = this.#floors[kind]
    if (floor <= from) return []
    this.#floors[kind] = floor
    // One row for each height, known without looking: an iterator costs more than all the rest of a small block.
    if (kind === 'undo' && from > 0 && floor - from <= maxDeletesPerWrite)
      return Array.from({ length: floor - from }, (_, i) => ({ key: storeKey(kind, from + i), value: null }))
    const operations: BatchOperation[] = []
    const range = { from: storeKey(kind, from), to: storeKey(kind, floor) }
    for await (const [key] of this.#store.range(range)) operations.push({ key, value: null })
    return operations
  }
}

/*
 * What a verified snapshot puts into the database in place of state and log: one write, so that a crash leaves either
 * the old state with its log or the new one.
 *
 * Leaves that are the same in both are left alone. Blocks, headers and indexes of earlier heights stay; those
 * between the old height and the snapshot's are missing here, as on every node that was not there.
 */

/** The write that installs `snapshot`. Everything called before must be in the store already. */
export async function snapshotOperations(
  store: ByteStore,
  { meta, state }: SnapshotWrite,
): Promise<BatchOperation[]> {
  const { height } = state
  const { lastIncludedIndex: index, configuration } = meta
  const operations: BatchOperation[] = [
    put(storeKey('snapshot'), encode(snapshotCodec, meta)),
    put(storeKey('configuration'), encode(configurationCodec, configuration)),
    put(storeKey('applied'), encode(appliedCodec, { index, height })),
    put(storeKey('header', height), state.header),
    put(storeKey('changes', height), state.changes),
    put(storeKey('certificate', height), state.certificate),
    put(storeKey('history'), state.history),
  ]
  for (const kind of ['entry', 'replay', 'undo'] as const)
    for await (const [key] of store.range(rangeOf(kind))) operations.push({ key, value: null })
  const leaves = new Map(state.leaves)
  for await (const [key, value] of store.range(rangeOf('leaf'))) {
    const stateKey = digestInKey(key, 1) as StateKey
    const leaf = leaves.get(stateKey)
    if (leaf === undefined) operations.push({ key, value: null })
    else if (Buffer.compare(seal(key, leaf), value) === 0) leaves.delete(stateKey)
  }
  for (const [stateKey, value] of leaves) operations.push(put(storeKey('leaf', stateKey), value))
  for (const { height: at, record } of state.handovers) operations.push(put(storeKey('handover', at), record))
  for (const { slot, ids } of state.replay) operations.push(put(storeKey('replay', slot, height), ids))
  return operations
}

/* The log: reading it, and cutting it off at either end. */

/** The term at `index`, which is the snapshot's or that of a stored entry. Throws `storage-corrupt`. */
export async function termAt(store: ByteStore, index: number, snapshot: SnapshotMeta): Promise<number> {
  if (index === snapshot.lastIncludedIndex) return snapshot.lastIncludedTerm
  const key = storeKey('entry', index)
  const value = await store.get(key)
  if (!value) throw corrupt(`${describeKey(key)}: the record is missing`)
  return openEntry(index, key, value).term
}

export interface EntryRange {
  readonly from: number
  readonly to: number
  readonly maxBytes: number
}

/**
 * Entries `from`..`to`, all of them there and sound; stops before `maxBytes` of data, but never before the first.
 * Throws `storage-corrupt`.
 */
export async function readEntries(
  store: ByteStore,
  { from, to, maxBytes }: EntryRange,
): Promise<readonly Entry[]> {
  const entries: Entry[] = []
  if (from > to) return entries
  let size = 0
  const range = { from: storeKey('entry', from), to: storeKey('entry', to + 1) }
  for await (const [key, value] of store.range(range)) {
    const index = from + entries.length
    if (numberInKey(key, 1) !== index) throw corrupt(`entry ${index}: the record is missing`)
    const entry = openEntry(index, key, value)
    size += entry.data.length
    if (entries.length > 0 && size > maxBytes) return entries
    entries.push(entry)
  }
  if (entries.length !== to - from + 1) throw corrupt(`entry ${from + entries.length}: the record is missing`)
  return entries
}

/** Deletes entries outside `first`..`last`: a torn end, or what a compaction had no time to delete. */
export async function cutOutside(store: ByteStore, first: number, last: number): Promise<void> {
  const all = rangeOf('entry')
  const outside = [
    { ...all, to: storeKey('entry', first) },
    { ...all, from: storeKey('entry', last + 1) },
  ]
  for (const range of outside) {
    let operations: BatchOperation[] = []
    for await (const [key] of store.range(range)) {
      operations.push({ key, value: null })
      if (operations.length < maxDeletesPerWrite) continue
      await store.write(operations, false)
      operations = []
    }
    if (operations.length > 0) await store.write(operations, true)
  }
}

/** Records deleted in one write, so that forgetting a long log never takes much memory. */
export const maxDeletesPerWrite = 4096

/** Deletions of the entries `from`..`to`, in writes of bounded size. */
export function* deletions(from: number, to: number): Generator<readonly BatchOperation[]> {
  for (let first = from; first <= to; first += maxDeletesPerWrite) {
    const count = Math.min(maxDeletesPerWrite, to - first + 1)
    yield Array.from({ length: count }, (_, i) => ({ key: storeKey('entry', first + i), value: null }))
  }
}

/*
 * Certificates on their way to the disk and on it. None has a write of its own, which would cost a lone block a third more: it
 * travels with the next one, and can be read until then. A crash loses what waits; it is fetched or collected again.
 *
 * Invariant: a certificate is in memory or on disk. What waits is looked at first, because it may be on disk when that is read.
 */

export interface HeightAndCertificate {
  readonly height: Height
  readonly certificate: Uint8Array
}

export class Certificates {
  readonly #store: ByteStore
  readonly #queue: WriteQueue
  /** Few: each block is a write, and they go with it. */
  readonly #waiting = new Map<Height, Uint8Array>()

  constructor(store: ByteStore, queue: WriteQueue) {
    this.#store = store
    this.#queue = queue
  }

  put(height: Height, certificate: Uint8Array): void {
    this.#waiting.set(height, certificate)
    const written = () => {
      if (this.#waiting.get(height) === certificate) this.#waiting.delete(height)
    }
    // A disk that refuses says so to the write that this one travels with.
    this.#queue
      .write(() => [put(storeKey('certificate', height), certificate)], false, 'waits')
      .then(written, () => {})
  }

  async at(height: Height): Promise<Uint8Array | undefined> {
    const waiting = this.#waiting.get(height)
    if (waiting) return waiting
    const key = storeKey('certificate', height)
    const value = await this.#store.get(key)
    return value && open(key, value)
  }

  async highest(): Promise<HeightAndCertificate | undefined> {
    const found: HeightAndCertificate[] = []
    for (const [height, certificate] of this.#waiting) found.push({ height, certificate })
    for await (const [key, value] of this.#store.range({
      ...rangeOf('certificate'),
      reverse: true,
      limit: 1,
    }))
      found.push({ height: numberInKey(key, 1) as Height, certificate: open(key, value) })
    return found.sort((a, b) => a.height - b.height).at(-1)
  }
}

/*
 * What this node has promised with its signatures: one header hash at each (incarnation, height), for ever.
 *
 * Headers are signed in order, so what comes after the newest record cannot contradict one and is not looked up: a search
 * for a key that is not there is the slowest kind. Recent records are kept in memory, because the writes of one batch
 * are checked before any of them is stored.
 */

type Place = Pick<SignedHeader, 'incarnation' | 'height'>

/** More records than one batch can hold. */
const maxRecent = 16_384

export class SignedRecords {
  readonly #store: ByteStore
  readonly #recent = new RecentMap<string, SignedHeader>(maxRecent)
  /** The newest record, stored or remembered; read once. */
  #newest: Promise<Place | undefined> | undefined

  constructor(store: ByteStore) {
    this.#store = store
  }

  /** As it is stored. */
  async at({ incarnation, height }: Place): Promise<SignedHeader | undefined> {
    const key = storeKey('signed', incarnation, height)
    const value = await this.#store.get(key)
    return value && { incarnation, height, ...openRecord(signedCodec, key, value) }
  }

  /** Throws `execution-diverged` if another hash is recorded at that place. */
  async check(signed: SignedHeader): Promise<void> {
    this.#newest ??= this.#newestStored()
    if (isAfter(signed, await this.#newest)) return
    const earlier = this.#recent.get(nameOf(signed)) ?? (await this.at(signed))
    if (!earlier || earlier.headerHash === signed.headerHash) return
    throw new MoteError(
      'execution-diverged',
      `height ${signed.height}: signed ${earlier.headerHash} before, refusing to sign ${signed.headerHash}`,
    )
  }

  /** The record is part of a batch that is being written. Follows `check`. */
  async remember(signed: SignedHeader): Promise<void> {
    if (isAfter(signed, await this.#newest)) this.#newest = Promise.resolve(signed)
    this.#recent.set(nameOf(signed), signed)
  }

  async #newestStored(): Promise<Place | undefined> {
    for await (const [key] of this.#store.range({ ...rangeOf('signed'), reverse: true, limit: 1 }))
      return { incarnation: numberInKey(key, 1), height: numberInKey(key, 9) as Height }
    return undefined
  }
}

function isAfter(place: Place, newest: Place | undefined): boolean {
  if (newest === undefined || place.incarnation !== newest.incarnation)
    return newest === undefined || place.incarnation > newest.incarnation
  return place.height > newest.height
}

function nameOf({ incarnation, height }: Place): string {
  return `${incarnation}/${height}`
}
