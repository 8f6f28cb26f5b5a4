/**
 * From a data directory to the values a replica starts with. A fresh directory begins with the genesis.
 *
 * What is restored is checked against the roots in the newest stored header: damage stops the node here
 * (`storage-corrupt`), before it could sign anything.
 */
import { Height, type Milliseconds, type StateKey, Term } from '../chain/brands.ts'
import { type Certificate, certificateCodec } from '../chain/certificate.ts'
import { consentersOf, type GenesisDocument, genesisLedger, genesisState } from '../chain/genesis.ts'
import { type Header, headerCodec, headerHash } from '../chain/header.ts'
import { historyFrontierCodec, type Ledger, restoreLedger } from '../chain/ledger.ts'
import { slotOf } from '../chain/replay.ts'
import { MoteError } from '../chain/result.ts'
import type { Configuration, Recovered } from '../consensus/types.ts'
import type { ExecutedBlock } from './certifier-parts.ts'
import { isPlaceOf } from './compaction.ts'
import { Handovers, handoverCodec, type PlacedHandover } from './handovers.ts'
import { changesCodec, genesisWriteOf } from './live-chain.ts'
import type { RecoveredNode, Storage } from './ports.ts'
import { corrupt } from './store-keys.ts'
import { stored } from './store-records.ts'
import { type EarlierLedger, ledgersBelow } from './uncertified-blocks.ts'

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
  readonly uncertified: readonly ExecutedBlock[]
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
): Promise<ExecutedBlock[]> {
  const blocks: ExecutedBlock[] = []
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
