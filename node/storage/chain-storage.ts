/**
 * The `Storage` port over an ordered byte store: the log of Raft and the chain it produced, in one database, so
 * that "executed block, state, indexes, applied index" is one atomic write.
 *
 * Invariants
 * 1. The log is contiguous from `snapshot.lastIncludedIndex + 1` to the tail record's `lastIndex`. The tail
 *    record travels in the same batch as the entries: it is the commit point of a persist.
 * 2. Entries above the tail are a torn write that was never acknowledged: they are cut at start. A damaged or
 *    missing entry at or below it may have been acknowledged to a leader: `storage-corrupt`, never a cut.
 * 3. At one (incarnation, height) one header hash is recorded as signed, for ever.
 * 4. Every value carries a checksum over its key and payload, checked at each read.
 *
 * A read sees every write whose promise has resolved; `readEntries` waits for all that were called before it.
 */

import { DeviceId, type Height, StateKey, type TransactionId } from '../../chain/brands.ts'
import { type Codec, encode } from '../../chain/codec.ts'
import { assert } from '../../chain/result.ts'
import type { Configuration, SnapshotMeta } from '../../consensus/types.ts'
import {
  type ApplyWrite,
  type BlockUndo,
  type BlockWrite,
  configurationCodec,
  type DeviceTransactionRow,
  type EntriesRead,
  type HandoverRow,
  type LogWrite,
  type Rebuilding,
  type RecoveredNode,
  type SignedHeader,
  type Storage,
  snapshotCodec,
  type TransactionPlace,
} from '../ports.ts'
import { type BatchOperation, type ByteStore, WriteQueue } from './byte-store.ts'
import {
  blockOperations,
  Certificates,
  cutOutside,
  deletions,
  entryOperation,
  forgettingOperations,
  type HeightAndCertificate,
  put,
  RowFloors,
  readEntries,
  SignedRecords,
  signedOperation,
  snapshotOperations,
  termAt,
} from './store-operations.ts'
import {
  appliedCodec,
  checkOwner,
  corrupt,
  describeKey,
  deviceRowCodec,
  digestInKey,
  hardStateCodec,
  logTailCodec,
  numberInKey,
  open,
  openRecord,
  ownerCodec,
  placeCodec,
  type RecordKind,
  rangeOf,
  rebuildingCodec,
  type StorageOwner,
  storeKey,
  undoCodec,
} from './store-records.ts'

const nothing = new Uint8Array()

/**
 * Storage over `store`, which belongs to `owner` from now on. A store of another chain or device is refused with
 * `wrong-chain`. `store` is closed when the result is closed, or when opening fails.
 */
export async function openStorage(store: ByteStore, owner: StorageOwner): Promise<Storage> {
  try {
    const key = storeKey('owner')
    const value = await store.get(key)
    if (value) checkOwner(openRecord(ownerCodec, key, value), owner)
    else await store.write([put(key, encode(ownerCodec, { format: 1 as const, ...owner }))], true)
    return new ChainStorage(store)
  } catch (error) {
    await store.close()
    throw error
  }
}

class ChainStorage implements Storage {
  readonly #store: ByteStore
  readonly #queue: WriteQueue
  #snapshot: SnapshotMeta | undefined
  /** Last index of the log once every queued persist is carried out. */
  #lastIndex = 0
  readonly #certificates: Certificates
  readonly #floors: RowFloors
  readonly #signed: SignedRecords

  constructor(store: ByteStore) {
    this.#store = store
    this.#queue = new WriteQueue(store)
    this.#certificates = new Certificates(store, this.#queue)
    this.#floors = new RowFloors(store)
    this.#signed = new SignedRecords(store)
  }

  async recover(): Promise<RecoveredNode | undefined> {
    assert(!this.#snapshot, 'recover comes once, before any write')
    const hardState = await this.#record('hardState', hardStateCodec)
    if (!hardState) {
      for await (const [key] of this.#store.range({ ...rangeOf('entry'), limit: 1 }))
        throw corrupt(`${describeKey(key)}: a log without a hard state`)
      return undefined
    }
    if (await this.#isEmptied()) return undefined
    const snapshot = await this.#required('snapshot', snapshotCodec)
    const { lastIndex } = await this.#required('logTail', logTailCodec)
    const applied = await this.#required('applied', appliedCodec)
    if (applied.index > lastIndex || applied.index < snapshot.lastIncludedIndex)
      throw corrupt(`applied: index ${applied.index} is outside the log, which ends at ${lastIndex}`)
    await cutOutside(this.#store, snapshot.lastIncludedIndex + 1, lastIndex)
    this.#snapshot = snapshot
    this.#lastIndex = lastIndex
    return {
      hardState,
      snapshot,
      configuration: await this.#required('configuration', configurationCodec),
      applied: applied.index,
      before: { index: applied.index, term: await termAt(this.#store, applied.index, snapshot) },
      entries: await readEntries(this.#store, {
        from: applied.index + 1,
        to: lastIndex,
        maxBytes: Number.POSITIVE_INFINITY,
      }),
      height: applied.height,
      history: (await this.#bytes('history')) ?? nothing,
    }
  }

  async rebuilding(): Promise<Rebuilding | undefined> {
    const record = await this.#record('rebuilding', rebuildingCodec)
    return record && { ...record, hardState: await this.#required('hardState', hardStateCodec) }
  }

  /** True in a directory that is to be rebuilt and holds nothing but promises yet. */
  async #isEmptied(): Promise<boolean> {
    const rebuilding = await this.#record('rebuilding', rebuildingCodec)
    return rebuilding !== undefined && !(await this.#store.get(storeKey('snapshot')))
  }

  async initialise(genesis: { configuration: Configuration; block: BlockWrite }): Promise<void> {
    assert(!this.#snapshot, 'initialise comes once, in a fresh directory')
    const { configuration, block } = genesis
    const snapshot = { lastIncludedIndex: 0, lastIncludedTerm: 0, configuration }
    this.#snapshot = snapshot
    const hardState = (await this.rebuilding())?.hardState ?? { currentTerm: 0, votedFor: null }
    await this.#queue.write(
      () => [
        put(storeKey('hardState'), encode(hardStateCodec, hardState)),
        put(storeKey('snapshot'), encode(snapshotCodec, snapshot)),
        put(storeKey('logTail'), encode(logTailCodec, { lastIndex: 0 })),
        put(storeKey('configuration'), encode(configurationCodec, configuration)),
        put(storeKey('applied'), encode(appliedCodec, { index: 0, height: block.height })),
        ...blockOperations(block),
      ],
      true,
    )
  }

  persist(write: LogWrite): Promise<void> {
    const operations: BatchOperation[] = []
    const { snapshot } = write
    if (snapshot) {
      this.#snapshot = snapshot.meta
      this.#lastIndex = snapshot.meta.lastIncludedIndex
    }
    if (write.truncateAfter !== undefined && !snapshot) {
      for (let index = write.truncateAfter + 1; index <= this.#lastIndex; index++)
        operations.push({ key: storeKey('entry', index), value: null })
      this.#lastIndex = Math.min(this.#lastIndex, write.truncateAfter)
    }
    for (const entry of write.entries) {
      assert(
        entry.index === this.#lastIndex + 1,
        `log: expected entry ${this.#lastIndex + 1}, got ${entry.index}`,
      )
      operations.push(entryOperation(entry))
      this.#lastIndex = entry.index
    }
    operations.push(put(storeKey('logTail'), encode(logTailCodec, { lastIndex: this.#lastIndex })))
    if (write.hardState) operations.push(put(storeKey('hardState'), encode(hardStateCodec, write.hardState)))
    if (!snapshot) return this.#queue.write(() => operations, true)
    const build = async () => {
      this.#height = snapshot.state.height
      return [...(await snapshotOperations(this.#store, snapshot)), ...operations]
    }
    return this.#queue.write(build, true, 'alone')
  }

  async readEntries(range: { from: number; to: number; maxBytes: number }): Promise<EntriesRead> {
    await this.#queue.idle()
    const snapshot = this.#snapshot
    assert(snapshot, 'readEntries comes after recover or initialise')
    if (range.from <= snapshot.lastIncludedIndex) return { type: 'compacted', snapshot }
    const to = Math.min(range.to, this.#lastIndex)
    try {
      return {
        type: 'entries',
        before: { index: range.from - 1, term: await termAt(this.#store, range.from - 1, snapshot) },
        entries: await readEntries(this.#store, { ...range, to }),
      }
    } catch (error) {
      const now = this.#snapshot
      // Forgotten while they were read.
      if (now && range.from <= now.lastIncludedIndex) return { type: 'compacted', snapshot: now }
      throw error
    }
  }

  compact(snapshot: SnapshotMeta): Promise<void> {
    const earlier = this.#snapshot
    assert(earlier && snapshot.lastIncludedIndex <= this.#lastIndex, 'compact: a snapshot beyond the log')
    // A snapshot may have taken the place of more than that since it was asked for.
    if (snapshot.lastIncludedIndex <= earlier.lastIncludedIndex) return Promise.resolve()
    this.#snapshot = snapshot
    const record = put(storeKey('snapshot'), encode(snapshotCodec, snapshot))
    const writes = [this.#queue.write(() => [record], true)]
    // What a crash leaves of these is below the log's beginning, and cut at the next start.
    for (const operations of deletions(earlier.lastIncludedIndex + 1, snapshot.lastIncludedIndex))
      writes.push(this.#queue.write(() => operations, false))
    return Promise.all(writes).then(() => {})
  }

  apply(write: ApplyWrite): Promise<void> {
    const last = write.blocks.at(-1)
    return this.#queue.write(async () => {
      const height = last?.height ?? (await this.#appliedHeight())
      const operations = [put(storeKey('applied'), encode(appliedCodec, { index: write.applied, height }))]
      if (write.configuration)
        operations.push(put(storeKey('configuration'), encode(configurationCodec, write.configuration)))
      for (const block of write.blocks) if (block.signed) await this.#signed.check(block.signed)
      for (const block of write.blocks) operations.push(...blockOperations(block))
      if (last) operations.push(...(await this.#floors.raise('replay', last.replayFloor)))
      if (last?.undoFloor) operations.push(...(await this.#floors.raise('undo', last.undoFloor)))
      for (const block of write.blocks) if (block.signed) await this.#signed.remember(block.signed)
      this.#height = height
      return operations
    }, true)
  }

  undo(height: Height): Promise<BlockUndo | undefined> {
    return this.#record('undo', undoCodec, height)
  }

  /** Height after every built apply; read from the store once. */
  #height: Height | undefined

  async #appliedHeight(): Promise<Height> {
    this.#height ??= (await this.#required('applied', appliedCodec)).height
    return this.#height
  }

  recordSigned(signed: SignedHeader): Promise<void> {
    return this.#queue.write(async () => {
      await this.#signed.check(signed)
      await this.#signed.remember(signed)
      return [signedOperation(signed)]
    }, true)
  }

  signedHeader(at: { incarnation: number; height: Height }): Promise<SignedHeader | undefined> {
    return this.#signed.at(at)
  }

  putCertificate(height: Height, certificate: Uint8Array): void {
    this.#certificates.put(height, certificate)
  }

  putHandover({ height, record }: HandoverRow): Promise<void> {
    return this.#queue.write(() => [put(storeKey('handover', height), record)], false)
  }

  async *handovers(): AsyncGenerator<HandoverRow> {
    for await (const [key, value] of this.#store.range(rangeOf('handover')))
      yield { height: numberInKey(key, 1) as Height, record: open(key, value) }
  }

  header(height: Height): Promise<Uint8Array | undefined> {
    return this.#bytes('header', height)
  }

  changes(height: Height): Promise<Uint8Array | undefined> {
    return this.#bytes('changes', height)
  }

  block(height: Height): Promise<Uint8Array | undefined> {
    return this.#bytes('block', height)
  }

  receipts(height: Height): Promise<Uint8Array | undefined> {
    return this.#bytes('receipts', height)
  }

  forgotten(height: Height): Promise<Uint8Array | undefined> {
    return this.#bytes('forgotten', height)
  }

  async blockAtOrAbove(height: Height): Promise<Height | undefined> {
    const range = { ...rangeOf('block'), from: storeKey('block', height), limit: 1 }
    for await (const [key] of this.#store.range(range)) return numberInKey(key, 1) as Height
    return undefined
  }

  async forget(blocks: Parameters<Storage['forget']>[0], reclaims: boolean): Promise<void> {
    const operations = blocks.flatMap(forgettingOperations)
    await this.#queue.write(() => operations, false)
    const last = blocks.at(-1)
    if (!last || !reclaims) return
    for (const kind of ['block', 'receipts'] as const)
      await this.#store.reclaim({ from: storeKey(kind, 0), to: storeKey(kind, last[0] + 1) })
  }

  certificate(height: Height): Promise<Uint8Array | undefined> {
    return this.#certificates.at(height)
  }

  latestCertificate(): Promise<HeightAndCertificate | undefined> {
    return this.#certificates.highest()
  }

  transaction(id: TransactionId): Promise<TransactionPlace | undefined> {
    return this.#record('transaction', placeCodec, id)
  }

  async deviceTransactions(id: DeviceId, limit: number, before?: TransactionPlace) {
    const rows: DeviceTransactionRow[] = []
    const { from, to } = rangeOf('deviceTransaction', DeviceId(id))
    const end = before ? storeKey('deviceTransaction', id, before.height, before.index) : to
    for await (const [key, value] of this.#store.range({ from, to: end, reverse: true, limit }))
      rows.push({
        ...openRecord(deviceRowCodec, key, value),
        height: numberInKey(key, 33) as Height,
        index: numberInKey(key, 41),
      })
    return rows
  }

  async *leaves(): AsyncGenerator<readonly [StateKey, Uint8Array]> {
    for await (const [key, value] of this.#store.range(rangeOf('leaf')))
      yield [StateKey(digestInKey(key, 1)), open(key, value)]
  }

  async *replay(from: number): AsyncGenerator<{ slot: number; height: Height; ids: Uint8Array }> {
    for await (const [key, value] of this.#store.range({
      ...rangeOf('replay'),
      from: storeKey('replay', from),
    }))
      yield { slot: numberInKey(key, 1), height: numberInKey(key, 9) as Height, ids: open(key, value) }
  }

  async close(): Promise<void> {
    await this.#queue.close()
    await this.#store.close()
  }

  async #bytes(kind: RecordKind, ...parts: readonly (number | string)[]): Promise<Uint8Array | undefined> {
    const key = storeKey(kind, ...parts)
    const value = await this.#store.get(key)
    return value && open(key, value)
  }

  async #record<T>(
    kind: RecordKind,
    codec: Codec<T>,
    ...parts: readonly (number | string)[]
  ): Promise<T | undefined> {
    const key = storeKey(kind, ...parts)
    const value = await this.#store.get(key)
    return value && openRecord(codec, key, value)
  }

  async #required<T>(kind: RecordKind, codec: Codec<T>): Promise<T> {
    const value = await this.#record(kind, codec)
    if (value === undefined) throw corrupt(`${kind}: the record is missing`)
    return value
  }
}
