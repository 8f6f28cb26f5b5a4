/**
 * A ledger: everything the execution of the next block depends on, as one immutable value, and its snapshot
 * (docs/FORMATS.md, section Ledger snapshot).
 *
 * Invariant: the roots in `header` are those of `tree`, `replay` and `history`, where `history` holds the hashes of the
 * headers before `header`. A ledger that is restored is checked against them.
 */
import { concatBytes } from '@noble/hashes/utils.js'
import type { Hash, StateKey } from './brands.ts'
import { bytes, type Codec, constant, decode, digest, encode, list, struct, uint } from './codec.ts'
import { type Header, headerCodec, headerHash } from './header.ts'
import { bytesToHex, hexToBytes } from './hex.ts'
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

interface Snapshot {
  readonly version: 1
  readonly header: Header
  /** For each leaf, ascending by key: key ‖ u32be length ‖ value. */
  readonly leaves: Uint8Array
  readonly replay: readonly StoredSlot[]
  readonly historyFrontier: HistoryFrontier
}

const most = 0xffff_ffff
/** A key and the length of its value. */
const leafHeadBytes = 36
const snapshotCodec: Codec<Snapshot> = struct<Snapshot>({
  version: constant(1),
  header: headerCodec,
  leaves: bytes(0, most),
  replay: list(struct<StoredSlot>({ slot: uint(), ids: bytes(0, most) }), most),
  historyFrontier: historyFrontierCodec,
})

/** The whole ledger as bytes; one ledger has one encoding. */
export function encodeLedgerSnapshot(ledger: Ledger): Uint8Array {
  return encode(snapshotCodec, {
    version: 1,
    header: ledger.header,
    leaves: joinLeaves(entries(ledger.tree)),
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
  const leaves = splitLeaves(decoded.value.leaves)
  return leaves.ok ? restoreLedger({ ...decoded.value, leaves: leaves.value }) : leaves
}

function joinLeaves(leaves: Iterable<readonly [StateKey, Uint8Array]>): Uint8Array {
  const parts: Uint8Array[] = []
  for (const [key, value] of leaves) {
    const length = new Uint8Array(4)
    new DataView(length.buffer).setUint32(0, value.length)
    parts.push(hexToBytes(key), length, value)
  }
  return concatBytes(...parts)
}

function splitLeaves(joined: Uint8Array): Result<Map<StateKey, Uint8Array>> {
  const view = new DataView(joined.buffer, joined.byteOffset, joined.length)
  const leaves = new Map<StateKey, Uint8Array>()
  let previous = ''
  let offset = 0
  while (offset < joined.length) {
    const start = offset + leafHeadBytes
    if (start > joined.length) return refuse('malformed', 'leaves: end within the head of a leaf')
    const key = bytesToHex(joined.subarray(offset, offset + 32)) as StateKey
    const end = start + view.getUint32(start - 4)
    if (end > joined.length) return refuse('malformed', `leaf ${key}: longer than what is left`)
    if (key <= previous) return refuse('malformed', 'leaves: expected sorted and distinct keys')
    leaves.set(key, joined.slice(start, end))
    previous = key
    offset = end
  }
  return ok(leaves)
}

/** The history of the ledger's next block: every header up to and including its own. */
export function nextHistory(ledger: Ledger): ReturnType<HistoryTree['appendWithNodes']> {
  return ledger.history.appendWithNodes(hexToBytes(ledger.headerHash))
}
