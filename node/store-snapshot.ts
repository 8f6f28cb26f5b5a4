/**
 * What a verified snapshot puts into the database in place of state and log: one write, so that a crash leaves either
 * the old state with its log or the new one (store-keys.ts numbers the kinds).
 *
 * Leaves that are the same in both are left alone. Blocks, headers and indexes of earlier heights stay; those
 * between the old height and the snapshot's are missing here, as on every node that was not there.
 */
import type { StateKey } from '../chain/brands.ts'
import { encode } from '../chain/codec.ts'
import type { ByteStore, Operation } from './byte-store.ts'
import type { SnapshotWrite } from './ports.ts'
import { digestInKey, rangeOf, seal, storeKey } from './store-keys.ts'
import { put } from './store-operations.ts'
import * as records from './store-records.ts'

/** The write that installs `snapshot`. Everything called before must be in the store already. */
export async function snapshotOperations(
  store: ByteStore,
  { meta, state }: SnapshotWrite,
): Promise<Operation[]> {
  const { height } = state
  const { lastIncludedIndex: index, configuration } = meta
  const operations: Operation[] = [
    put(storeKey('snapshot'), encode(records.snapshotCodec, meta)),
    put(storeKey('configuration'), encode(records.configurationCodec, configuration)),
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
