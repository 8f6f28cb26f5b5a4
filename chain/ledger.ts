/**
 * A ledger: everything the execution of the next block depends on, as one immutable value, and its snapshot
 * (docs/FORMATS.md, section Ledger snapshot).
 *
 * Invariant: the roots in `header` are those of `tree`, `replay` and `history`, where `history` holds the hashes of the
 * headers before `header`. A ledger that is restored is checked against them.
 */
import { hexToBytes } from '@noble/hashes/utils.js'
import type { Hash, StateKey } from './brands.ts'
import { bytes, type Codec, constant, decode, digest, encode, list, struct, uint } from './codec.ts'
import { type Header, headerCodec, headerHash } from './header.ts'
import { HistoryTree } from './merkle.ts'
import { type ChainParameters, parametersCodec, stateKeyOf } from './records.ts'
import { type ReplaySlots, restoreReplay, type StoredSlot } from './replay.ts'
import { ok, type Result, refuse } from './result.ts'
import { emptyTree, entries, get, rootOf, type StateTree, update } from './state-tree.ts'

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
  const { header } = parts
  const tree = update(emptyTree, new Map(parts.leaves))
  if (rootOf(tree) !== header.stateRoot) return corrupt('state root', header.stateRoot, rootOf(tree))
  const replay = restoreReplay(parts.replay)
  if (!replay.ok) return refuse('storage-corrupt', replay.error.detail)
  if (replay.value.root !== header.replayRoot)
    return corrupt('replay root', header.replayRoot, replay.value.root)
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
    replay: replay.value,
    history,
    parameters: parameters.value,
  })
}

function corrupt(what: string, expected: Hash, got: Hash): Result<never> {
  return refuse('storage-corrupt', `${what}: expected ${expected}, got ${got}`)
}

interface Snapshot {
  readonly version: 1
  readonly header: Header
  readonly leaves: readonly { readonly key: StateKey; readonly value: Uint8Array }[]
  readonly replay: readonly StoredSlot[]
  readonly historyFrontier: HistoryFrontier
}

const most = 0xffff_ffff
const snapshotCodec: Codec<Snapshot> = struct<Snapshot>({
  version: constant(1),
  header: headerCodec,
  leaves: list(
    struct<{ key: StateKey; value: Uint8Array }>({ key: digest<StateKey>(), value: bytes(0, most) }),
    most,
  ),
  replay: list(struct<StoredSlot>({ slot: uint(), ids: bytes(0, most) }), most),
  historyFrontier: historyFrontierCodec,
})

/** The whole ledger as bytes; one ledger has one encoding. */
export function encodeLedgerSnapshot(ledger: Ledger): Uint8Array {
  return encode(snapshotCodec, {
    version: 1,
    header: ledger.header,
    leaves: [...entries(ledger.tree)].map(([key, value]) => ({ key, value })),
    replay: ledger.replay.stored(),
    historyFrontier: ledger.history,
  })
}

/**
 * The ledger in a snapshot, complete and consistent with its own header. Whether that header is certified, the caller
 * must judge. Refuses `malformed`, `too-large`, `storage-corrupt`.
 */
export function decodeLedgerSnapshot(snapshot: Uint8Array, maxBytes: number): Result<Ledger> {
  const decoded = decode(snapshotCodec, snapshot, maxBytes)
  if (!decoded.ok) return decoded
  const { leaves, ...parts } = decoded.value
  const keys = leaves.map(leaf => leaf.key)
  if (keys.some((key, i) => i > 0 && (keys[i - 1] as StateKey) >= key))
    return refuse('malformed', 'leaves: expected sorted and distinct keys')
  return restoreLedger({ ...parts, leaves: leaves.map(({ key, value }) => [key, value] as const) })
}

/** The history of the ledger's next block: every header up to and including its own. */
export function nextHistory(ledger: Ledger): ReturnType<HistoryTree['appendWithNodes']> {
  return ledger.history.appendWithNodes(hexToBytes(ledger.headerHash))
}
