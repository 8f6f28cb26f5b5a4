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
import { type Codec, decode } from '../chain/codec.ts'
import { headerCodec } from '../chain/header.ts'
import { historyFrontierCodec, type Ledger, ledgerWith } from '../chain/ledger.ts'
import { restoreReplay, slotOf } from '../chain/replay.ts'
import { update } from '../chain/state-tree.ts'
import type { SnapshotMeta } from '../consensus/types.ts'
import { changesCodec } from './live-chain.ts'
import type { Storage } from './ports.ts'
import { corrupt } from './store-keys.ts'

/** A ledger, where in the log it stands, and the state keys that its block wrote. */
export interface EarlierLedger {
  readonly ledger: Ledger
  readonly place: SnapshotMeta
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
  const earlier: EarlierLedger[] = []
  let above = newest
  while (above.header.height > certified) {
    const undo = await storage.undo(above.header.height)
    if (!undo) break
    const height = Height(above.header.height - 1)
    const header = stored(headerCodec, await storage.header(height), `header ${height}`)
    const pieces = []
    for await (const piece of storage.replay(slotOf(header.time)))
      if (piece.height <= height) pieces.push(piece)
    const replay = restoreReplay(pieces)
    if (!replay.ok) throw corrupt(replay.error.detail)
    const ledger = ledgerWith({
      header,
      tree: update(above.tree, new Map(undo.leaves.map(({ key, value }) => [key, value ?? null]))),
      replay: replay.value,
      historyFrontier: stored(historyFrontierCodec, undo.history, `undo ${height + 1}`),
    })
    if (!ledger.ok) throw corrupt(`block ${height}: ${ledger.error.detail}`)
    const changes = stored(changesCodec, await storage.changes(height), `changes ${height}`)
    earlier.unshift({ ledger: ledger.value, place: undo.placeBelow, changes })
    above = ledger.value
  }
  return earlier
}

function stored<T>(codec: Codec<T>, bytes: Uint8Array | undefined, name: string): T {
  if (!bytes) throw corrupt(`${name}: the record is missing`)
  const value = decode(codec, bytes, Number.MAX_SAFE_INTEGER)
  if (!value.ok) throw corrupt(`${name}: ${value.error.detail}`)
  return value.value
}
