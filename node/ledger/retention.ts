/**
 * Retention: what a full node forgets of old blocks, if its configuration says so. Below `blocks` certified ones, and older than
 * `ageMs`, the transactions and receipts of a block are dropped, and the leaf hashes of both trees kept in their place
 * (`ForgottenBlock`; docs/decisions/0039-retention.md).
 *
 * Nothing that the node needs is lost: its state is that of the newest block, a peer that is behind gets log entries or a snapshot of a
 * certified height, replay protection and state are kept apart, a restart reads headers only.
 *
 * Invariants
 * 1. Only what is covered by a certificate that this node has is forgotten.
 * 2. What is kept has the roots of the stored header: a block that was rewritten here is found now, and ends the node as damage does.
 * 3. In steps of bounded size with pauses between them, in order of height: below the lowest block that is here everything is forgotten.
 */

import { decodeProposal, receiptsCodec } from '../../chain/block.ts'
import { foreignLeaves, leavesOfBlock } from '../../chain/block-leaves.ts'
import { Height } from '../../chain/brands.ts'
import { encode } from '../../chain/codec.ts'
import { headerCodec } from '../../chain/header.ts'
import { MoteError } from '../../chain/result.ts'
import type { Clock, Storage } from '../ports.ts'
import { corrupt, stored } from '../storage/store-records.ts'
import { forgottenBlockCodec, type LiveChain } from './live-chain.ts'
import type { NodeEvents, NodeListener } from './node-events.ts'

export interface RetentionLimits {
  /** Certified blocks that are kept whole. */
  readonly blocks: number | 'all'
  /** The same by block time, if that is more: a gateway that comes back finds the outcomes and decisions that it still has to pass on. */
  readonly ageMs: number
}

export const defaultRetentionLimits: RetentionLimits = { blocks: 'all', ageMs: 86_400_000 }

/** Blocks forgotten in one step, and bytes of them unless one alone has more: some milliseconds of work. */
const maxBlocksPerStep = 64
const maxBytesPerStep = 256 * 1024
const pauseMs = 50
/** Forgotten bytes after which the disk is to give the room back: LevelDB else does so when it comes by these files, which may be never. */
const maxUnreclaimedBytes = 8 * 1024 * 1024

export interface RetentionParts {
  readonly chain: Pick<LiveChain, 'certifiedHeight' | 'certified'>
  readonly storage: Pick<Storage, 'header' | 'block' | 'receipts' | 'blockAtOrAbove' | 'forget'>
  readonly clock: Pick<Clock, 'after'>
  readonly events: Pick<NodeEvents, 'fault'>
  readonly limits: RetentionLimits
}

export class Retention implements NodeListener {
  readonly #parts: RetentionParts
  /** Everything below is forgotten, or was never here. */
  #next = Height(1)
  /** The block at `#next` is not old enough before block time reaches this. */
  #youngUntil = 0
  /** Forgotten since the room was given back; after a start there may be some from before. */
  #unreclaimed = 0
  #isBusy = false
  #stopped = false

  constructor(parts: RetentionParts) {
    this.#parts = parts
  }

  /** A block was certified: another one may be old enough. */
  certified(): void {
    if (this.#isBusy || this.#stopped || !this.#mayBeDue()) return
    this.#isBusy = true
    this.#step().then(
      () => {
        // The next step finds out whether there is more to do.
        this.#parts.clock.after(pauseMs, () => {
          this.#isBusy = false
          this.certified()
        })
      },
      (error: unknown) => {
        this.#stopped = true
        // A disk that refuses, or that is closed, says so to those who cannot do without it.
        if (error instanceof MoteError && error.code === 'storage-corrupt') this.#parts.events.fault(error)
      },
    )
  }

  stop(): void {
    this.#stopped = true
  }

  /** The highest block that there need not be, by number. */
  get #ceiling(): number {
    const { chain, limits } = this.#parts
    return limits.blocks === 'all' ? 0 : chain.certifiedHeight - limits.blocks
  }

  #mayBeDue(): boolean {
    return this.#next <= this.#ceiling && this.#parts.chain.certified.header.time >= this.#youngUntil
  }

  async #step(): Promise<void> {
    const { storage } = this.#parts
    const rows: (readonly [Height, Uint8Array])[] = []
    let bytes = 0
    while (rows.length < maxBlocksPerStep && bytes < maxBytesPerStep && this.#mayBeDue()) {
      const found = await this.#read(this.#next)
      if (found === 'young') break
      if (!found) {
        // Forgotten by an earlier process, or skipped by a snapshot; or on its way to the disk, and then there is none above it.
        const above = await storage.blockAtOrAbove(this.#next)
        if (above === undefined) break
        this.#next = above
        continue
      }
      rows.push([this.#next, found.kept])
      bytes += found.bytes
      this.#next = Height(this.#next + 1)
    }
    if (rows.length === 0) return
    this.#unreclaimed += bytes
    const reclaims = this.#unreclaimed >= maxUnreclaimedBytes
    if (reclaims) this.#unreclaimed = 0
    await storage.forget(rows, reclaims)
  }

  /** What to keep of a block; undefined if it is not here. Throws `storage-corrupt`. */
  async #read(height: Height): Promise<{ kept: Uint8Array; bytes: number } | 'young' | undefined> {
    const { storage, chain, limits } = this.#parts
    const [data, receiptBytes] = await Promise.all([storage.block(height), storage.receipts(height)])
    if (!data || !receiptBytes) return undefined
    const header = stored(headerCodec, await storage.header(height), `header ${height}`)
    if (header.time + limits.ageMs > chain.certified.header.time) {
      this.#youngUntil = header.time + limits.ageMs
      return 'young'
    }
    const proposal = decodeProposal(data)
    if (!proposal.ok) throw corrupt(`block ${height}: ${proposal.error.detail}`)
    const transactions = proposal.value.type === 'handover' ? [] : proposal.value.transactions
    const receipts = stored(receiptsCodec, receiptBytes, `receipts ${height}`)
    const leaves = leavesOfBlock({ transactions, receipts })
    const [foreign] = foreignLeaves(header, leaves)
    if (foreign) throw corrupt(`block ${height}: ${foreign}: other ones than the header names`)
    const kept = encode(forgottenBlockCodec, { leaves, codes: receipts.map(({ code }) => code) })
    return { kept, bytes: data.length + receiptBytes.length }
  }
}
