/**
 * `mote node rebuild`: puts a damaged database of a full node aside, and in its place one that keeps only what others count
 * on, so that the node is no other member than before (docs/OPERATIONS.md, "A damaged disk"). The next start fetches the
 * rest from peers.
 *
 * Kept are the term, every header that was signed, and how far the log was acknowledged. State, blocks and log are left
 * behind; peers have them. Until the node has applied everything that it may have acknowledged, it takes no part in
 * elections (replica.ts): a committed entry that it held can then not be voted away in the meantime.
 *
 * The term is raised by one. Nobody was promised anything in it, and a leader that remembers acknowledgements of the old
 * log stands down on hearing it; the next one begins to count anew.
 *
 * If one of the records that are kept is damaged, there is no such way: the node joins again as a new member.
 */

import { rename, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { decode, encode } from '../chain/codec.ts'
import { MoteError } from '../chain/result.ts'
import { readFullNodeConfig } from './config.ts'
import type { BatchOperation, ByteStore } from './storage/byte-store.ts'
import { openLevelByteStore } from './storage/level-storage.ts'
import { put } from './storage/store-operations.ts'
import {
  describeKey,
  hardStateCodec,
  logTailCodec,
  open,
  rangeOf,
  rebuildingCodec,
  storeKey,
} from './storage/store-records.ts'

export interface RebuiltDirectory extends RebuildReport {
  /** Where the damaged database is now. */
  readonly setAside: string
}

/** Throws `config-invalid`, `in-use`, `storage-corrupt` or `storage-failed`; the damaged database is then where it was. */
export async function rebuildNode(configFile: string, now: number): Promise<RebuiltDirectory> {
  const { data } = await readFullNodeConfig(configFile)
  const damaged = join(data, 'chain')
  const rebuilt = join(data, 'chain.rebuilt')
  const setAside = join(data, `chain.damaged-${now}`)
  await rm(rebuilt, { recursive: true, force: true })
  const report = await copyInto(damaged, rebuilt)
  await rename(damaged, setAside)
  await rename(rebuilt, damaged)
  return { ...report, setAside }
}

async function copyInto(damaged: string, rebuilt: string): Promise<RebuildReport> {
  const from = await openLevelByteStore(damaged)
  try {
    const to = await openLevelByteStore(rebuilt)
    try {
      return await copyPromises(from, to)
    } finally {
      await to.close()
    }
  } finally {
    await from.close()
  }
}

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
