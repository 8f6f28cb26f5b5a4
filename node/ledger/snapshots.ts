/**
 * Everything a full node does with snapshots, as its replica sees it: forgetting the log (compaction.ts), giving
 * its state to others, fetching theirs (snapshot-fetch.ts), and putting a fetched one in place.
 */
import type { DeviceId, Height } from '../../chain/brands.ts'
import { type Certificate, certificateCodec } from '../../chain/certificate.ts'
import { encode } from '../../chain/codec.ts'
import type { ConsenterSet } from '../../chain/consenters.ts'
import { headerCodec } from '../../chain/header.ts'
import type { SignatureVerifier } from '../../chain/keys.ts'
import { historyFrontierCodec } from '../../chain/ledger.ts'
import { trustedHeadOf } from '../../chain/light-client.ts'
import { assert, MoteError } from '../../chain/result.ts'
import { entries } from '../../chain/state-tree.ts'
import type { Configuration, Entry, SnapshotMeta } from '../../consensus/types.ts'
import type { Clock, Network, SnapshotState } from '../ports.ts'
import type { RecoveredChain } from './chain-recovery.ts'
import { Compaction, type CompactionLimits, isPlaceOf, placeOf } from './compaction.ts'
import type { Handovers } from './handovers.ts'
import { changesCodec, type LiveChain } from './live-chain.ts'
import { type FetchedSnapshot, SnapshotFetch, type SnapshotFetchLimits } from './snapshot-fetch.ts'
import { type CertifiedLedger, maxHandovers, SnapshotStream } from './snapshot-stream.ts'

export interface SnapshotsParts {
  readonly recovered: RecoveredChain
  readonly chain: LiveChain
  readonly network: Pick<Network, 'request'>
  readonly clock: Clock
  readonly verifier: SignatureVerifier
  readonly handovers: Handovers
  readonly log: (detail: object, message: string) => void
  readonly compaction: CompactionLimits
  readonly fetch: SnapshotFetchLimits
}

/** A fetched and verified snapshot that is to take the place of state and log. */
export interface VerifiedSnapshot {
  readonly state: SnapshotState
  readonly certificate: Certificate
  /** Sign what follows it. */
  readonly consenters: ConsenterSet
  /** Puts it in place of the state in memory; it is on disk. */
  install(): void
}

export class Snapshots {
  readonly #parts: SnapshotsParts
  readonly #compaction: Compaction
  readonly #server: SnapshotServer
  readonly #fetch: SnapshotFetch

  constructor(parts: SnapshotsParts) {
    this.#parts = parts
    const { recovered, chain, handovers, network, clock, verifier, log } = parts
    const { before, configuration, snapshot } = recovered.raft
    const start = {
      height: chain.height,
      meta: { lastIncludedIndex: before.index, lastIncludedTerm: before.term, configuration },
    }
    const places = [...recovered.earlier, recovered].map(({ ledger, configuration }) => ({
      height: ledger.header.height,
      meta: placeOf(ledger.header, configuration),
    }))
    this.#compaction = new Compaction(start, snapshot.lastIncludedIndex, parts.compaction, places)
    this.#server = new SnapshotServer({ chain, clock, handovers, compaction: this.#compaction })
    this.#fetch = new SnapshotFetch({
      network,
      clock,
      verifier,
      own: () => ({ height: chain.height, trusted: trustedHeadOf(chain.certified) }),
      onProgress: log,
      limits: parts.fetch,
    })
  }

  applied(entry: Entry, height: Height | undefined): void {
    this.#compaction.applied(entry, height)
  }

  /** The members at the place in the log of a block, while that is known. */
  configurationAt(height: number): Configuration | undefined {
    return this.#compaction.pointAt(height as Height)?.meta.configuration
  }

  due(): SnapshotMeta | undefined {
    const due = this.#compaction.due(this.#parts.chain.certifiedHeight, this.#server.floor)
    if (due) this.#parts.log({ index: due.lastIncludedIndex }, 'log compacted')
    return due
  }

  offer(): SnapshotMeta | undefined {
    return this.#server.offer()
  }

  keep(meta: SnapshotMeta): void {
    this.#server.keep(meta)
  }

  fetch(from: DeviceId, meta: SnapshotMeta, done: (fetched: boolean) => void): void {
    this.#fetch.begin(from, meta, done)
  }

  take(meta: SnapshotMeta): VerifiedSnapshot | undefined {
    const fetched = this.#fetch.take(meta)
    return fetched && this.#verified(fetched)
  }

  /** One chunk for a member that was offered a snapshot. Throws `height-not-available`. */
  chunk(from: DeviceId, lastIncludedIndex: number, index: number): Uint8Array {
    return this.#server.chunk(from, lastIncludedIndex, index)
  }

  stop(): void {
    this.#fetch.stop()
  }

  #verified({ meta, ledger, head, handovers }: FetchedSnapshot): VerifiedSnapshot {
    const { certificate, header, changes } = head
    const { chain, log } = this.#parts
    const { height } = header
    assert(certificate, 'snapshot: verified, but without a certificate')
    assert(isPlaceOf(meta, header), 'snapshot: verified, but at another place than its header names')
    return {
      certificate,
      consenters: ledger.parameters.consenters,
      state: {
        height,
        header: encode(headerCodec, header),
        changes: encode(changesCodec, changes),
        certificate: encode(certificateCodec, certificate),
        leaves: entries(ledger.tree),
        replay: ledger.replay.stored(),
        history: encode(historyFrontierCodec, ledger.history),
        handovers: this.#parts.handovers.adopt(handovers),
      },
      install: () => {
        this.#compaction.reset({ height, meta })
        chain.install(ledger, certificate, changes)
        log({ height, index: meta.lastIncludedIndex }, 'snapshot installed')
      },
    }
  }
}

/* ---------------------------------------------------------------- the side that offers */

/*
 * Snapshots on the side that has them: takes one at the newest certified height when a follower needs it, keeps its
 * ledger while somebody fetches, hands out chunks.
 *
 * Taking one costs nothing: ledgers are immutable and share what blocks did not change. One is kept at a time, until
 * nobody has asked for `keptMs`; the log from its place on is kept as long, so that whoever installs it can go on.
 */

export interface SnapshotServerParts {
  readonly chain: LiveChain
  readonly clock: Pick<Clock, 'steady'>
  readonly handovers: Handovers
  readonly compaction: Pick<Compaction, 'pointAt'>
}

/** A snapshot nobody asked for this long is let go. */
const keptMs = 30_000
/** Receivers at the same time; a further one takes the place of the oldest. */
const maxReceivers = 16

interface Kept {
  readonly meta: SnapshotMeta
  readonly source: CertifiedLedger
  readonly streams: Map<DeviceId, SnapshotStream>
  usedAt: number
}

export class SnapshotServer {
  readonly #parts: SnapshotServerParts
  #kept: Kept | undefined

  constructor(parts: SnapshotServerParts) {
    this.#parts = parts
  }

  /** The log must be kept from this index on. */
  get floor(): number {
    return this.#current()?.meta.lastIncludedIndex ?? Number.POSITIVE_INFINITY
  }

  /** A snapshot to offer: the one that is being fetched, or a new one. Undefined while there is no certified block to take it at. */
  offer(): SnapshotMeta | undefined {
    const current = this.#current()
    if (current) return current.meta
    const { chain, clock, compaction } = this.#parts
    const point = compaction.pointAt(chain.certifiedHeight)
    const source = point && this.#certifiedLedger()
    if (!source) return undefined
    assert(isPlaceOf(point.meta, source.ledger.header), 'snapshot: the block stands at another place')
    this.#kept = { meta: point.meta, source, streams: new Map(), usedAt: clock.steady() }
    return point.meta
  }

  /** A follower is being offered this snapshot. */
  keep(meta: SnapshotMeta): void {
    const current = this.#current()
    if (current?.meta.lastIncludedIndex === meta.lastIncludedIndex)
      current.usedAt = this.#parts.clock.steady()
  }

  /** One chunk. Throws `height-not-available` when the snapshot is not kept, or has no such chunk. */
  chunk(from: DeviceId, lastIncludedIndex: number, index: number): Uint8Array {
    const current = this.#current()
    if (current?.meta.lastIncludedIndex !== lastIncludedIndex)
      throw new MoteError('height-not-available', `snapshot ${lastIncludedIndex}: not kept (any more)`)
    current.usedAt = this.#parts.clock.steady()
    const chunk = streamFor(current, from).chunk(index)
    if (!chunk)
      throw new MoteError('height-not-available', `snapshot ${lastIncludedIndex}: has no chunk ${index}`)
    return chunk
  }

  #current(): Kept | undefined {
    if (this.#kept && this.#parts.clock.steady() - this.#kept.usedAt > keptMs) this.#kept = undefined
    return this.#kept
  }

  /** The newest certified ledger with all that proves it, if it is still in memory. */
  #certifiedLedger(): CertifiedLedger | undefined {
    const { chain, handovers } = this.#parts
    const { certificate, certifiedHeight } = chain
    const ledger = chain.at(certifiedHeight)
    const changes = chain.changesAt(certifiedHeight)
    if (!ledger || !certificate || !changes) return undefined
    const handover = handovers.provenAt(certifiedHeight)?.handover
    return {
      ledger,
      head: { header: ledger.header, certificate, handover, changes },
      handovers: handovers.newest(maxHandovers),
    }
  }
}

function streamFor({ streams, source }: Kept, receiver: DeviceId): SnapshotStream {
  const known = streams.get(receiver)
  if (known) return known
  if (streams.size >= maxReceivers)
    for (const oldest of streams.keys()) {
      streams.delete(oldest)
      break
    }
  const stream = new SnapshotStream(source)
  streams.set(receiver, stream)
  return stream
}
