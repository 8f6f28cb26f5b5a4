/**
 * What each write of chain-storage.ts puts into the database, record by record (store-keys.ts numbers the kinds).
 */

import { encode } from '../chain/codec.ts'
import type { Entry } from '../consensus/types.ts'
import type { Operation } from './byte-store.ts'
import type { BlockWrite, SignedHeader } from './ports.ts'
import { seal, storeKey } from './store-keys.ts'
import * as records from './store-records.ts'

/** A sealed record. */
export function put(key: Uint8Array, ...pieces: readonly Uint8Array[]): Operation {
  return { key, value: seal(key, ...pieces) }
}

export function entryOperation(entry: Entry): Operation {
  const data =
    entry.configuration === undefined ? entry.data : encode(records.configurationCodec, entry.configuration)
  return put(storeKey('entry', entry.index), records.entryHead(entry), data)
}

export function signedOperation(signed: SignedHeader): Operation {
  return put(storeKey('signed', signed.incarnation, signed.height), encode(records.signedCodec, signed))
}

/** Everything one block leaves behind, its promise of a signature included. */
export function blockOperations(block: BlockWrite): Operation[] {
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
