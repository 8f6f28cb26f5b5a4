/**
 * From a data directory to the values a replica starts with. A fresh directory begins with the genesis.
 *
 * What is restored is checked against the roots in the newest stored header: damage stops the node here
 * (`storage-corrupt`), before it could sign anything.
 */
import { Height, type Milliseconds, type StateKey, Term } from '../../chain/brands.ts'
import { type Certificate, certificateCodec } from '../../chain/certificate.ts'
import { consentersOf, type GenesisDocument, genesisLedger, genesisState } from '../../chain/genesis.ts'
import { type Header, headerCodec, headerHash } from '../../chain/header.ts'
import {
  type HistoryFrontier,
  historyFrontierCodec,
  type Ledger,
  ledgerWith,
  restoreLedger,
} from '../../chain/ledger.ts'
import { restoreReplay, type StoredSlot, slotOf } from '../../chain/replay.ts'
import { MoteError } from '../../chain/result.ts'
import { type StateTree, update } from '../../chain/state-tree.ts'
import type { Configuration, Recovered } from '../../consensus/types.ts'
import type { RecoveredNode, Storage } from '../ports.ts'
import { corrupt, stored } from '../storage/store-records.ts'
import { isPlaceOf } from './compaction.ts'
import { Handovers, type PlacedHandover } from './handovers.ts'
import { type BlockToSign, changesCodec, genesisWriteOf, handoverCodec } from './live-chain.ts'

export interface RecoveredChain {
  readonly raft: Recovered
  readonly ledger: Ledger
  /** In force at the place in the log of its block; the applied entries behind it may have changed it since. */
  readonly configuration: Configuration
  /** Those below it that no certificate stands above yet, from the certified one on, oldest first. */
  readonly earlier: readonly EarlierLedger[]
  /** The state keys that the newest block wrote. */
  readonly changes: readonly StateKey[]
  /** The last index of a log that is being rebuilt from peers; 0 otherwise. */
  readonly rebuildUpTo: number
  readonly handovers: Handovers
  /** The highest certificate for a block that is here, and not above a handover that is not proven here. */
  readonly certificate: Certificate | undefined
  /** One for a block above that; it is judged when the block is executed. */
  readonly certificateAhead: Certificate | undefined
  /** Blocks above the certified height, in order: their signatures are to be made again. */
  readonly uncertified: readonly BlockToSign[]
}

/** Reads what is stored, or stores the genesis. Throws `storage-corrupt`, `storage-failed` or `wrong-chain`. */
export async function recoverChain(storage: Storage, genesis: GenesisDocument): Promise<RecoveredChain> {
  const found = (await storage.recover()) ?? (await initialise(storage, genesis))
  const ledger = found.height === 0 ? genesisLedger(genesis) : await restore(storage, found)
  const chainId = genesisLedger(genesis).header.chainId
  if (ledger.header.chainId !== chainId)
    throw new MoteError(
      'wrong-chain',
      `data directory: expected chain ${chainId}, got ${ledger.header.chainId}`,
    )
  const { hardState, snapshot, entries, before, configuration, applied } = found
  const handovers = new Handovers(consentersOf(genesis), await storedHandovers(storage))
  const certified = await certificates(storage, found.height, handovers)
  return {
    raft: { hardState, snapshot, entries, before, configuration, applied },
    ledger,
    changes: stored(changesCodec, await storage.changes(found.height), `changes ${found.height}`),
    rebuildUpTo: (await storage.rebuilding())?.upTo ?? 0,
    handovers,
    ...certified,
    configuration: await configurationAt(storage, found, ledger.header),
    earlier: await ledgersBelow(storage, ledger, certified.certificate?.height ?? Height(0)),
  }
}

async function initialise(storage: Storage, genesis: GenesisDocument): Promise<RecoveredNode> {
  const voters = genesis.consenters.map(consenter => consenter.id)
  const configuration: Configuration = { voters, votersOutgoing: [], learners: [] }
  await storage.initialise({
    configuration,
    block: genesisWriteOf(genesisLedger(genesis), genesisState(genesis)),
  })
  const rebuilding = await storage.rebuilding()
  return {
    hardState: rebuilding?.hardState ?? { currentTerm: 0, votedFor: null },
    snapshot: { lastIncludedIndex: 0, lastIncludedTerm: 0, configuration },
    configuration,
    applied: 0,
    before: { index: 0, term: 0 },
    entries: [],
    height: Height(0),
    history: new Uint8Array(),
  }
}

async function restore(storage: Storage, { height, history }: RecoveredNode): Promise<Ledger> {
  const header = stored(headerCodec, await storage.header(height), `header ${height}`)
  const ledger = restoreLedger({
    header,
    leaves: await collect(storage.leaves()),
    replay: await collect(storage.replay(slotOf(header.time as Milliseconds))),
    historyFrontier: stored(historyFrontierCodec, history, 'history'),
  })
  if (!ledger.ok) throw corrupt(ledger.error.detail)
  return ledger.value
}

/** Stored with the block; one that was not executed here (the genesis, that of a snapshot) stands where the log begins. */
async function configurationAt(
  storage: Storage,
  { snapshot, height }: RecoveredNode,
  header: Header,
): Promise<Configuration> {
  const undo = await storage.undo(height)
  if (undo) return undo.configuration
  if (!isPlaceOf(snapshot, header))
    throw corrupt(
      `block ${height}: expected its log to begin at ${header.index}, got ${snapshot.lastIncludedIndex}`,
    )
  return snapshot.configuration
}

async function storedHandovers(storage: Storage): Promise<PlacedHandover[]> {
  const rows = await collect(storage.handovers())
  return rows.map(({ height, record }) => ({
    height,
    ...stored(handoverCodec, record, `handover ${height}`),
  }))
}

async function certificates(
  storage: Storage,
  height: Height,
  handovers: Handovers,
): Promise<Pick<RecoveredChain, 'certificate' | 'certificateAhead' | 'uncertified'>> {
  const latest = await storage.latestCertificate()
  const found = latest && stored(certificateCodec, latest.certificate, `certificate ${latest.height}`)
  // A handover's proof is written just before its certificate, which may be lost.
  const [proven] = handovers.newest(1)
  const isLost = proven !== undefined && proven.header.height > (found?.height ?? 0)
  const newest = isLost ? proven.certificate : found
  const highest = Math.min(height, (handovers.unproven ?? Number.POSITIVE_INFINITY) - 1)
  const uncertified = (above: Height) => blocksAbove(storage, { above, to: height, handovers })
  if (newest && newest.height <= highest)
    return {
      certificate: newest,
      certificateAhead: undefined,
      uncertified: await uncertified(newest.height),
    }
  // Certificates are not synced one by one: one may have outlived the block that it is for.
  let certificate: Certificate | undefined
  for (let below = Height(highest); below > 0 && !certificate && newest; below = Height(below - 1)) {
    const bytes = await storage.certificate(below)
    certificate = bytes && stored(certificateCodec, bytes, `certificate ${below}`)
  }
  return {
    certificate,
    certificateAhead: newest,
    uncertified: await uncertified(certificate?.height ?? Height(0)),
  }
}

async function blocksAbove(
  storage: Storage,
  { above, to, handovers }: { above: Height; to: Height; handovers: Handovers },
): Promise<BlockToSign[]> {
  const blocks: BlockToSign[] = []
  for (let next = above + 1; next <= to; next++) {
    const height = Height(next)
    const header = stored(headerCodec, await storage.header(height), `header ${height}`)
    const { term } = header
    blocks.push({
      height,
      term: Term(term),
      headerHash: headerHash(header),
      handover: handovers.at(height),
    })
  }
  return blocks
}

async function collect<T>(items: AsyncIterable<T>): Promise<T[]> {
  const list: T[] = []
  for await (const item of items) list.push(item)
  return list
}

/* ---------------------------------------------------------------- blocks without a certificate */

/*
 * The ledgers below the newest one, down to the certified block: what a node that starts again with uncertified blocks needs
 * besides the state on disk, which is always the newest.
 *
 * Only a certified state can be offered as a snapshot, and only with one can a consenter that is behind the log execute and
 * sign what still lacks its signature: without these ledgers the certificate and the snapshot could wait for each other.
 *
 * Invariant: a ledger from here has the roots that its stored header names.
 */

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
