/**
 * What each write of chain-storage.ts puts into the database, record by record (store-keys.ts numbers the kinds).
 */

import type { StateKey } from '../../chain/brands.ts'
import { encode } from '../../chain/codec.ts'
import type { Entry } from '../../consensus/types.ts'
import type { BlockWrite, SignedHeader, SnapshotWrite } from '../ports.ts'
import { configurationCodec, snapshotCodec } from '../raft-codecs.ts'
import type { BatchOperation, ByteStore } from './byte-store.ts'
import { digestInKey, rangeOf, seal, storeKey } from './store-keys.ts'
import * as records from './store-records.ts'

/** A sealed record. */
export function put(key: Uint8Array, ...pieces: readonly Uint8Array[]): BatchOperation {
  return { key, value: seal(key, ...pieces) }
}

export function entryOperation(entry: Entry): BatchOperation {
  const data =
    entry.configuration === undefined ? entry.data : encode(configurationCodec, entry.configuration)
  return put(storeKey('entry', entry.index), records.entryHead(entry), data)
}

export function signedOperation(signed: SignedHeader): BatchOperation {
  return put(storeKey('signed', signed.incarnation, signed.height), encode(records.signedCodec, signed))
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
    operations.push(put(storeKey('transaction', id), encode(records.placeCodec, { height, index })))
    const row = encode(records.deviceRowCodec, { id, kind })
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
  if (block.undo) operations.push(put(storeKey('undo', height), encode(records.undoCodec, block.undo)))
  return operations
}

/* ---------------------------------------------------------------- snapshots */

/*
 * What a verified snapshot puts into the database in place of state and log: one write, so that a crash leaves either
 * the old state with its log or the new one (store-keys.ts numbers the kinds).
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
    put(storeKey('applied'), encode(records.appliedCodec, { index, height })),
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
