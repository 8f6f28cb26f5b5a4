/**
 * Reading and cutting the log records of a node's database (store-keys.ts numbers the kinds). Writes of the log are
 * built in chain-storage.ts, which owns its ends.
 */
import type { Entry, SnapshotMeta } from '../../consensus/types.ts'
import type { BatchOperation, ByteStore } from './byte-store.ts'
import { corrupt, describeKey, numberInKey, rangeOf, storeKey } from './store-keys.ts'
import * as records from './store-records.ts'

/** The term at `index`, which is the snapshot's or that of a stored entry. Throws `storage-corrupt`. */
export async function termAt(store: ByteStore, index: number, snapshot: SnapshotMeta): Promise<number> {
  if (index === snapshot.lastIncludedIndex) return snapshot.lastIncludedTerm
  const key = storeKey('entry', index)
  const value = await store.get(key)
  if (!value) throw corrupt(`${describeKey(key)}: the record is missing`)
  return records.openEntry(index, key, value).term
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
    const entry = records.openEntry(index, key, value)
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
