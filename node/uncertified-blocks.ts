/**
 * The ledgers below the newest one, down to the certified block: what a node that starts again with uncertified blocks needs
 * besides the state on disk, which is always the newest.
 *
 * Only a certified state can be offered as a snapshot, and only with one can a consenter that is behind the log execute and
 * sign what still lacks its signature: without these ledgers the certificate and the snapshot could wait for each other.
 *
 * Invariant: a ledger from here has the roots that its stored header names.
 */
import { Height, type StateKey } from '../chain/brands.ts'
import { type Header, headerCodec } from '../chain/header.ts'
import { type HistoryFrontier, historyFrontierCodec, type Ledger, ledgerWith } from '../chain/ledger.ts'
import { restoreReplay, type StoredSlot, slotOf } from '../chain/replay.ts'
import { type StateTree, update } from '../chain/state-tree.ts'
import type { Configuration } from '../consensus/types.ts'
import { changesCodec } from './live-chain.ts'
import type { Storage } from './ports.ts'
import { corrupt } from './store-keys.ts'
import { stored } from './store-records.ts'

/** A ledger, the configuration in force at its place in the log, and the state keys that its block wrote. */
export interface EarlierLedger {
  readonly ledger: Ledger
  readonly configuration: Configuration
  readonly changes: readonly StateKey[]
}

/**
 * The ledgers of the blocks from `certified` to the one below `newest`, oldest first; fewer, if a block was stored without
 * what it took the place of. Throws `storage-corrupt`.
 */
export async function ledgersBelow(
  storage: Storage,
  newest: Ledger,
  certified: Height,
): Promise<readonly EarlierLedger[]> {
  const states = await statesBelow(storage, newest, certified)
  const [lowest] = states
  if (!lowest) return []
  const pieces = new Map<number, StoredSlot[]>()
  for await (const { height, slot, ids } of storage.replay(slotOf(lowest.header.time))) {
    const at = Math.max(height, lowest.header.height)
    pieces.set(at, [...(pieces.get(at) ?? []), { slot, ids }])
  }
  // Upwards, so that the ids are kept once and each ledger knows its own part of them.
  const earlier: EarlierLedger[] = []
  for (const { header, tree, history, configuration, changes } of states) {
    const below = earlier.at(-1)?.ledger.replay
    const replay = restoreReplay(
      pieces.get(header.height) ?? [],
      below && { slots: below, time: header.time },
    )
    if (!replay.ok) throw corrupt(replay.error.detail)
    const ledger = ledgerWith({ header, tree, replay: replay.value, historyFrontier: history })
    if (!ledger.ok) throw corrupt(`block ${header.height}: ${ledger.error.detail}`)
    earlier.push({ ledger: ledger.value, configuration, changes })
  }
  return earlier
}

interface EarlierState extends Omit<EarlierLedger, 'ledger'> {
  readonly header: Header
  readonly tree: StateTree
  readonly history: HistoryFrontier
}

/** Trees and headers, from the newest ledger downwards by what each block took the place of; oldest first. */
async function statesBelow(storage: Storage, newest: Ledger, certified: Height): Promise<EarlierState[]> {
  const states: EarlierState[] = []
  let { tree } = newest
  for (let above = newest.header.height; above > certified; above = Height(above - 1)) {
    const undo = await storage.undo(above)
    if (!undo) break
    const height = Height(above - 1)
    tree = update(tree, new Map(undo.leaves.map(({ key, value }) => [key, value ?? null])))
    states.unshift({
      header: stored(headerCodec, await storage.header(height), `header ${height}`),
      tree,
      history: stored(historyFrontierCodec, undo.history, `undo ${above}`),
      configuration: undo.configurationBelow,
      changes: stored(changesCodec, await storage.changes(height), `changes ${height}`),
    })
  }
  return states
}
