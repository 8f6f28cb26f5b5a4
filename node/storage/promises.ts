/** What others count on in a database of a full node, copied out of a damaged one (node/rebuild.ts says what and why). */
import { decode, encode } from '../../chain/codec.ts'
import { MoteError } from '../../chain/result.ts'
import type { BatchOperation, ByteStore } from './byte-store.ts'
import { put } from './store-operations.ts'
import {
  describeKey,
  hardStateCodec,
  logTailCodec,
  open,
  rangeOf,
  rebuildingCodec,
  storeKey,
} from './store-records.ts'

export interface RebuildReport {
  /** The term that the rebuilt node starts in. */
  readonly term: number
  /** The node does not vote before it has applied this index. */
  readonly upTo: number
  readonly signedHeaders: number
}

const recordsPerWrite = 4096

/** Copies what must not be forgotten from a damaged store to an empty one. Throws `storage-corrupt` if it is not all there. */
export async function copyPromises(from: ByteStore, to: ByteStore): Promise<RebuildReport> {
  const owner = await mustRead(from, storeKey('owner'))
  const hardState = decoded(hardStateCodec, await mustRead(from, storeKey('hardState')), 'hardState')
  const upTo = Math.max(await lastIndexOf(from), await earlierRebuild(from))
  const term = hardState.currentTerm + 1
  let signedHeaders = 0
  let operations: BatchOperation[] = []
  for await (const [key, value] of from.range(rangeOf('signed'))) {
    operations.push(put(key, checked(key, value)))
    signedHeaders++
    if (operations.length < recordsPerWrite) continue
    await to.write(operations, false)
    operations = []
  }
  operations.push(
    put(storeKey('owner'), owner),
    put(storeKey('hardState'), encode(hardStateCodec, { currentTerm: term, votedFor: null })),
    put(storeKey('rebuilding'), encode(rebuildingCodec, { upTo })),
  )
  await to.write(operations, true)
  return { term, upTo, signedHeaders }
}

async function lastIndexOf(store: ByteStore): Promise<number> {
  const key = storeKey('logTail')
  const value = await store.get(key)
  // A rebuild that was cut short, or never started, has no log yet.
  if (!value && (await store.get(storeKey('rebuilding')))) return 0
  return decoded(logTailCodec, await mustRead(store, key), 'logTail').lastIndex
}

async function earlierRebuild(store: ByteStore): Promise<number> {
  const key = storeKey('rebuilding')
  const value = await store.get(key)
  return value ? decoded(rebuildingCodec, checked(key, value), 'rebuilding').upTo : 0
}

async function mustRead(store: ByteStore, key: Uint8Array): Promise<Uint8Array> {
  const value = await store.get(key)
  if (!value) throw beyondRepair(`${describeKey(key)}: the record is missing`)
  return checked(key, value)
}

function checked(key: Uint8Array, value: Uint8Array): Uint8Array {
  try {
    return open(key, value)
  } catch {
    throw beyondRepair(`${describeKey(key)}: the checksum does not fit`)
  }
}

function decoded<T>(codec: Parameters<typeof decode<T>>[0], bytes: Uint8Array, name: string): T {
  const result = decode(codec, bytes)
  if (!result.ok) throw beyondRepair(`${name}: ${result.error.detail}`)
  return result.value
}

function beyondRepair(detail: string): MoteError {
  return new MoteError(
    'storage-corrupt',
    `${detail}; without it this node cannot know what it promised: remove it from the chain and join as a new member (docs/OPERATIONS.md)`,
  )
}
