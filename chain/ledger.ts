/**
 * A ledger: everything the execution of the next block depends on, as one immutable value.
 *
 * Invariant: the roots in `header` are those of `tree`, `replay` and `history`, where `history` holds the hashes of the
 * headers before `header`. A ledger that is restored is checked against them.
 */
import type { Hash, StateKey } from './brands.ts'
import { type Codec, decode, digest, list, struct, uint } from './codec.ts'
import { type Header, headerHash } from './header.ts'
import { hexToBytes } from './hex.ts'
import { HistoryTree } from './merkle.ts'
import { type ChainParameters, parametersCodec, stateKeyOf } from './records.ts'
import { type ReplaySlots, restoreReplay, type StoredSlot } from './replay.ts'
import { ok, type Result, refuse } from './result.ts'
import { emptyTree, get, rootOf, type StateTree, update } from './state-tree.ts'

/** The rules that this program executes. A chain whose parameters ask for others is not run. */
export const executionVersion = 1

export interface Ledger {
  readonly header: Header
  readonly headerHash: Hash
  readonly tree: StateTree
  readonly replay: ReplaySlots
  /** Hashes of the headers before `header`. */
  readonly history: HistoryTree
  readonly parameters: ChainParameters
}

/** The frontier of a history tree: how many headers, and the roots of its perfect subtrees, the largest first. */
export interface HistoryFrontier {
  readonly size: number
  readonly peaks: readonly Hash[]
}

export const historyFrontierCodec: Codec<HistoryFrontier> = struct<HistoryFrontier>({
  size: uint(),
  peaks: list(digest<Hash>(), 53),
})

/** What a ledger is restored from. */
export interface LedgerParts {
  readonly header: Header
  readonly leaves: Iterable<readonly [StateKey, Uint8Array]>
  readonly replay: Iterable<StoredSlot>
  readonly historyFrontier: HistoryFrontier
}

/** The ledger with these parts. Refuses `storage-corrupt` if one of them does not have the root that the header names. */
export function restoreLedger(parts: LedgerParts): Result<Ledger> {
  const { header, historyFrontier } = parts
  const tree = update(emptyTree, new Map(parts.leaves))
  const replay = restoreReplay(parts.replay)
  if (!replay.ok) return refuse('storage-corrupt', replay.error.detail)
  return ledgerWith({ header, tree, replay: replay.value, historyFrontier })
}

/** The same, of a tree and replay slots that are in memory: it shares them. */
export function ledgerWith(
  parts: Pick<LedgerParts, 'header' | 'historyFrontier'> & Pick<Ledger, 'tree' | 'replay'>,
): Result<Ledger> {
  const { header, tree, replay } = parts
  if (rootOf(tree) !== header.stateRoot) return corrupt('state root', header.stateRoot, rootOf(tree))
  if (replay.root !== header.replayRoot) return corrupt('replay root', header.replayRoot, replay.root)
  const { size, peaks } = parts.historyFrontier
  const history = new HistoryTree(size, peaks)
  if (size !== header.height || history.root() !== header.historyRoot)
    return corrupt('history root', header.historyRoot, history.root())
  const stored = get(tree, stateKeyOf.parameters())
  const parameters = stored ? decode(parametersCodec, stored) : refuse('malformed', 'there are none')
  if (!parameters.ok) return refuse('storage-corrupt', `parameters: ${parameters.error.detail}`)
  return ok({
    header,
    headerHash: headerHash(header),
    tree,
    replay,
    history,
    parameters: parameters.value,
  })
}

function corrupt(what: string, expected: Hash, got: Hash): Result<never> {
  return refuse('storage-corrupt', `${what}: expected ${expected}, got ${got}`)
}

/** The history of the ledger's next block: every header up to and including its own. */
export function nextHistory(ledger: Ledger): HistoryTree {
  return ledger.history.append(hexToBytes(ledger.headerHash))
}
