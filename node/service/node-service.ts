/**
 * What a full node answers, once: the HTTP API (api.ts) and `/mote/query/1` (node/network/requests.ts) are two thin servers of
 * this object, so that an answer does not depend on how one asked.
 *
 * Reads are at the newest certified height unless a height is named: what is committed only may not be proven yet.
 * A node that has diverged or failed answers nothing but its status.
 */

import {
  type Block,
  decodeProposal,
  type Receipt,
  receiptsCodec,
  type TransactionView,
  transactionViews,
} from '../../chain/block.ts'
import { type BlockLeaves, leavesOfBlock } from '../../chain/block-leaves.ts'
import { type DeviceId, type GroupId, Height, type StateKey, type TransactionId } from '../../chain/brands.ts'
import { type Certificate, certificateCodec } from '../../chain/certificate.ts'
import type { Codec } from '../../chain/codec.ts'
import { headerCodec, headerHash } from '../../chain/header.ts'
import type { CertifiedHeader, StateAnswer } from '../../chain/light-client.ts'
import { membersCodec, stateKeyOf } from '../../chain/records.ts'
import { MoteError } from '../../chain/result.ts'
import { get } from '../../chain/state-tree.ts'
import { typeOfKind } from '../../chain/transaction.ts'
import {
  type ChainSource,
  type DeviceTransaction,
  type GroupAnswer,
  type HistoryCursor,
  type ListedType,
  maxHeadersPerAnswer,
  maxHistoryPage,
  type NodeStatus,
  type RecordPage,
  type SubmitWait,
  type TransactionStatus,
} from '../../client/chain-source.ts'
import { blocksBehindMax } from '../../client/header-follower.ts'
import { decodeStored } from '../../client/stored-value.ts'
import type { Certifier } from '../ledger/certifier.ts'
import type { Handovers } from '../ledger/handovers.ts'
import { changesCodec, forgottenBlockCodec, type LiveChain } from '../ledger/live-chain.ts'
import type { NodeListener } from '../ledger/node-events.ts'
import type { Clock, Storage } from '../ports.ts'
import type { FullNodeStatus } from './administration.ts'
import { answerAt, type ListedState, recordPage } from './record-pages.ts'
import type { Submission } from './submission.ts'

/** A block for people and dashboards. Nothing in it is proof. */
export interface BlockView {
  readonly height: Height
  readonly headerHash: string
  readonly term: number
  readonly time: number
  readonly previousHash: string
  readonly stateRoot: string
  readonly certified: boolean
  readonly signatures: number
  readonly type: string
  readonly transactions: readonly TransactionView[]
}

export interface NodeServiceParts {
  readonly name: string
  readonly chain: LiveChain
  readonly storage: Storage
  readonly clock: Clock
  readonly submission: Submission
  readonly certifier: Pick<Certifier, 'heardHeight'>
  readonly handovers: Pick<Handovers, 'provenAt'>
  /** Signed addresses of coordination nodes, as they hold now. */
  readonly coordination: () => readonly Uint8Array[]
  readonly status: Pick<FullNodeStatus, 'now' | 'failure'>
  /** More committed blocks than this without a certificate, and the node is not ready. */
  readonly certificationLagMax: number
}

interface HeaderWaiter {
  readonly after: Height
  readonly resolve: (header: CertifiedHeader | undefined) => void
}

/** Changed keys that the headers of one answer list, unless its last few have more: about `maxHeaderPageBytes`. */
const maxKeysPerPage = 32_768
const headersReadAtOnce = 8
/** Callers that wait for a header at the same time: all that HTTP lets in, and all peers (api.ts, requests.ts). */
const maxWaiters = 16_384

export class NodeService implements ChainSource, NodeListener {
  readonly name: string
  readonly #parts: NodeServiceParts
  readonly #waiters = new Set<HeaderWaiter>()
  #newest: Promise<CertifiedHeader> | undefined
  #stopped = false
  #draining = false

  constructor(parts: NodeServiceParts) {
    this.name = parts.name
    this.#parts = parts
  }

  /** A block was certified: who waits for a header gets it. */
  certified({ height }: Certificate): void {
    this.#newest = undefined
    for (const waiter of this.#waiters) {
      if (height <= waiter.after) continue
      this.#waiters.delete(waiter)
      this.#newestHeader().then(waiter.resolve, () => waiter.resolve(undefined))
    }
  }

  /** The node is going to stop: it still answers, and asks to be left alone. */
  drain(): void {
    this.#draining = true
  }

  /** Ends every wait. */
  stop(): void {
    this.#stopped = true
    for (const waiter of this.#waiters) waiter.resolve(undefined)
    this.#waiters.clear()
  }

  /** Undefined when the node can serve; else why not. */
  readiness(): MoteError | undefined {
    const { failure } = this.#parts.status
    if (failure) return failure
    if (this.#stopped || this.#draining) return new MoteError('not-ready', 'the node is stopping')
    const { leader } = this.#parts.status.now()
    if (leader === undefined) return new MoteError('no-leader', 'no leader is known')
    return this.#lag()
  }

  #lag(): MoteError | undefined {
    const { height, certifiedHeight: certified } = this.#parts.chain
    const heard = this.#parts.certifier.heardHeight
    if (heard - height > blocksBehindMax)
      return new MoteError('not-ready', `chain: at height ${height}, expected ${heard}: catching up`)
    if (height - certified > this.#parts.certificationLagMax)
      return new MoteError('certification-lag', `height ${height}: certified up to ${certified}`)
    return undefined
  }

  async status(): Promise<NodeStatus> {
    return this.#parts.status.now()
  }

  async submit(bytes: Uint8Array, wait: SubmitWait): Promise<TransactionStatus> {
    this.#mustServe()
    return this.#parts.submission.submit(bytes, wait)
  }

  async transactionStatus(id: TransactionId): Promise<TransactionStatus> {
    this.#mustServe()
    return this.#parts.submission.status(id)
  }

  async certifiedHeader(height: Height | 'latest'): Promise<CertifiedHeader> {
    this.#mustServe()
    return height === 'latest' ? this.#newestHeader() : this.#header(height)
  }

  async headersFrom(from: Height, limit: number): Promise<readonly CertifiedHeader[]> {
    this.#mustServe()
    const last = Math.min(from + Math.min(limit, maxHeadersPerAnswer) - 1, this.#parts.chain.certifiedHeight)
    const headers: CertifiedHeader[] = []
    let keys = 0
    // Rows beyond the size of an answer (chain-source.ts) are not read.
    while (from + headers.length <= last && keys < maxKeysPerPage) {
      const next = from + headers.length
      const heights = Array.from({ length: Math.min(headersReadAtOnce, last - next + 1) }, (_, i) => next + i)
      for (const header of await Promise.all(heights.map(height => this.#header(Height(height))))) {
        headers.push(header)
        keys += header.changes.length
      }
    }
    return headers
  }

  waitForHeader(after: Height, timeoutMs: number): Promise<CertifiedHeader | undefined> {
    this.#mustServe()
    if (this.#parts.chain.certifiedHeight > after) return this.#newestHeader()
    if (this.#waiters.size >= maxWaiters)
      throw new MoteError('overloaded', `headers: expected at most ${maxWaiters} callers waiting`)
    return new Promise(resolve => {
      const waiter: HeaderWaiter = {
        after,
        resolve: header => {
          cancel()
          resolve(header)
        },
      }
      const cancel = this.#parts.clock.after(timeoutMs, () => {
        this.#waiters.delete(waiter)
        resolve(undefined)
      })
      this.#waiters.add(waiter)
    })
  }

  async state(key: StateKey, height?: Height): Promise<StateAnswer> {
    this.#mustServe()
    return (await this.#stateAt(key, height)).answer
  }

  async group(id: GroupId): Promise<GroupAnswer> {
    this.#mustServe()
    const { answer, members } = await this.#stateAt(stateKeyOf.group(id), undefined, stateKeyOf.members(id))
    return { group: answer, members: members ? decoded(membersCodec, members, 'members') : [] }
  }

  async records(type: ListedType, after?: StateKey): Promise<RecordPage> {
    this.#mustServe()
    return recordPage(await this.#certifiedLedger(), type, after)
  }

  async deviceTransactions(id: DeviceId, before?: HistoryCursor): Promise<readonly DeviceTransaction[]> {
    this.#mustServe()
    const rows = await this.#parts.storage.deviceTransactions(id, maxHistoryPage, before)
    return rows.map(row => ({
      id: row.id,
      height: row.height,
      index: row.index,
      kind: typeOfKind.get(row.kind) ?? String(row.kind),
    }))
  }

  async coordination(): Promise<readonly Uint8Array[]> {
    this.#mustServe()
    return this.#parts.coordination()
  }

  async receipts(height: Height): Promise<readonly Receipt[]> {
    this.#mustServe()
    const { storage, chain } = this.#parts
    // The newest ones may still be on their way to the disk.
    const stored = chain.answersOf(height)?.receipts ?? (await storage.receipts(height))
    if (!stored || height > chain.certifiedHeight) throw await this.#absence(height, 'height-not-available')
    return decoded(receiptsCodec, stored, 'receipts')
  }

  /** The block as a client proves it: header, transactions, receipts. Throws `not-found`, `forgotten`. */
  async blockContent(at: Height | 'latest'): Promise<Block> {
    this.#mustServe()
    return (await this.#block(this.#heightOf(at))).block
  }

  /** Throws `not-found` above the newest block, `forgotten`. */
  async block(at: Height | 'latest'): Promise<BlockView> {
    this.#mustServe()
    const { storage, chain } = this.#parts
    const height = this.#heightOf(at)
    const [{ block, type }, certificate] = await Promise.all([
      this.#block(height),
      storage.certificate(height),
    ])
    const { term, time, previousHash, stateRoot } = block.header
    const signed = certificate && decoded(certificateCodec, certificate, 'certificate')
    return {
      height,
      headerHash: headerHash(block.header),
      term,
      time,
      previousHash,
      stateRoot,
      certified: height <= chain.certifiedHeight,
      signatures: signed?.signatures.length ?? 0,
      type,
      transactions: transactionViews(block),
    }
  }

  /** The leaf hashes of a block, also of one that was forgotten. Throws `not-found`. */
  async blockLeaves(at: Height | 'latest'): Promise<BlockLeaves> {
    this.#mustServe()
    const height = this.#heightOf(at)
    try {
      return leavesOfBlock((await this.#block(height)).block)
    } catch (error) {
      const kept = isForgotten(error) && (await this.#parts.storage.forgotten(height))
      if (!kept) throw error
      return decoded(forgottenBlockCodec, kept, 'forgotten').leaves
    }
  }

  #heightOf(at: Height | 'latest'): Height {
    return at === 'latest' ? this.#parts.chain.certifiedHeight : at
  }

  async #block(height: Height): Promise<{ readonly block: Block; readonly type: BlockView['type'] }> {
    const { storage } = this.#parts
    const [header, data, receipts] = await Promise.all([
      storage.header(height),
      storage.block(height),
      storage.receipts(height),
    ])
    if (!header || !data || !receipts) throw await this.#absence(height, 'not-found')
    const proposal = decodeProposal(data)
    const block = {
      header: decoded(headerCodec, header, 'header'),
      transactions: proposal.ok && proposal.value.type !== 'handover' ? proposal.value.transactions : [],
      receipts: decoded(receiptsCodec, receipts, 'receipts'),
    }
    return { block, type: height === 0 ? 'genesis' : proposal.ok ? proposal.value.type : 'unreadable' }
  }

  /** Why a block is not here. */
  async #absence(height: Height, otherwise: 'not-found' | 'height-not-available'): Promise<MoteError> {
    const isForgotten = (await this.#parts.storage.forgotten(height)) !== undefined
    return isForgotten
      ? new MoteError('forgotten', `block ${height}: only its leaf hashes are kept here`)
      : new MoteError(otherwise, `block ${height}: not here`)
  }

  #mustServe(): void {
    const { failure } = this.#parts.status
    if (failure) throw failure
    if (this.#stopped) throw new MoteError('not-ready', 'the node is stopping')
  }

  /** Read once per certified block, however many ask. */
  #newestHeader(): Promise<CertifiedHeader> {
    const newest = this.#newest ?? this.#header(this.#parts.chain.certifiedHeight)
    this.#newest = newest
    return newest
  }

  async #header(height: Height): Promise<CertifiedHeader> {
    const { storage, chain, handovers } = this.#parts
    const proven = handovers.provenAt(height)
    if (proven) return proven
    // The newest ones may still be on their way to the disk.
    const recent = chain.answersOf(height)
    const newest = chain.certificate?.height === height ? chain.certificate : undefined
    const [header, changes, stored] = await Promise.all([
      recent?.header ?? storage.header(height),
      recent?.changes ?? storage.changes(height),
      newest ? undefined : storage.certificate(height),
    ])
    if (!header || !changes || height > chain.certifiedHeight)
      throw new MoteError('height-not-available', `header ${height}: not certified here`)
    return {
      header: decoded(headerCodec, header, 'header'),
      certificate: newest ?? (stored && decoded(certificateCodec, stored, 'certificate')),
      handover: undefined,
      changes: decoded(changesCodec, changes, 'changes'),
    }
  }

  async #stateAt(
    key: StateKey,
    height: Height | undefined,
    also?: StateKey,
  ): Promise<{ answer: StateAnswer; members: Uint8Array | undefined }> {
    const certified = await this.#certifiedLedger(height)
    const { tree } = certified.ledger
    return { answer: answerAt(certified, key, get(tree, key)), members: also && get(tree, also) }
  }

  /** The state at a certified height, the newest unless one is given. */
  async #certifiedLedger(height?: Height): Promise<ListedState> {
    const { chain, storage } = this.#parts
    const newest = chain.certificate
    const wanted = height ?? chain.certifiedHeight
    const ledger = chain.at(wanted)
    if (!ledger || wanted > chain.certifiedHeight)
      throw new MoteError('height-not-available', `height ${wanted}: its state is not kept here`)
    let certificate = newest?.height === wanted ? newest : undefined
    if (!certificate && wanted > 0) {
      const stored = await storage.certificate(wanted)
      if (!stored)
        throw new MoteError('height-not-available', `height ${wanted}: has no certificate of its own`)
      certificate = decoded(certificateCodec, stored, 'certificate')
    }
    return { ledger, certificate }
  }
}

function isForgotten(error: unknown): boolean {
  return error instanceof MoteError && error.code === 'forgotten'
}

function decoded<T>(codec: Codec<T>, bytes: Uint8Array, name: string): T {
  return decodeStored(codec, bytes, name, Number.MAX_SAFE_INTEGER)
}
