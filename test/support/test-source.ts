/** A full node that serves a `TestChain`, and lies on demand. */

import type { Block, Receipt } from '../../chain/block.ts'
import { type BlockLeaves, leavesOfBlock } from '../../chain/block-leaves.ts'
import {
  type ChainId,
  type DeviceId,
  type GroupId,
  Height,
  type StateKey,
  type TransactionId,
} from '../../chain/brands.ts'
import type { Certificate } from '../../chain/certificate.ts'
import type { Ledger } from '../../chain/ledger.ts'
import type { CertifiedHeader, StateAnswer } from '../../chain/light-client.ts'
import { MoteError } from '../../chain/result.ts'
import { parseTransaction } from '../../chain/transaction.ts'
import type {
  ChainSource,
  DeviceTransaction,
  GroupAnswer,
  ListedType,
  NodeStatus,
  RecordPage,
  TransactionStatus,
} from '../../client/chain-source.ts'
import type { IdentityKeys } from '../../client/key-directory.ts'
import { recordPage } from '../../node/service/record-pages.ts'

/** What a `TestChain` is to its sources. */
interface ServableChain {
  readonly chainId: ChainId
  readonly fullNodes: readonly IdentityKeys[]
  readonly ledger: Ledger
  readonly height: Height
  at(height: number): { readonly certificate: Certificate | undefined; readonly ledger: Ledger }
  append(transactions: readonly Uint8Array[]): readonly Receipt[]
  served(height: number): CertifiedHeader
  block(height: number): Block
  answer(key: StateKey, height: number): StateAnswer
  groupAnswer(id: GroupId, height: number): GroupAnswer
  transactionStatus(id: TransactionId): TransactionStatus
  deviceTransactions(id: DeviceId): readonly DeviceTransaction[]
  news(timeoutMs: number, signal?: AbortSignal): Promise<void>
}

/** A full node of a `TestChain`. Its hooks turn it into a broken or lying one. */
export class TestSource implements ChainSource {
  readonly name: string
  readonly chain: ServableChain
  /** Requests that arrived, by method. */
  readonly asked = new Map<string, number>()
  /** Every request fails with this. */
  failure: MoteError | undefined
  /** It has seen no block above this. */
  frozenAt: number = Number.POSITIVE_INFINITY
  /** Of blocks up to this height it has the leaf hashes only. */
  forgottenUpTo = 0
  /** State is answered as of this height, although headers go on: how a revocation is withheld. */
  stateFrozenAt: number | undefined
  tamperState: (answer: StateAnswer) => StateAnswer = answer => answer
  tamperGroup: (answer: GroupAnswer) => GroupAnswer = answer => answer
  tamperPage: (page: RecordPage) => RecordPage = page => page
  tamperHeader: (header: CertifiedHeader) => CertifiedHeader = header => header
  tamperBlock: (block: Block) => Block = block => block
  tamperReceipts: (receipts: readonly Receipt[]) => readonly Receipt[] = receipts => receipts
  tamperLeaves: (leaves: BlockLeaves) => BlockLeaves = leaves => leaves
  tamperStatus: (status: TransactionStatus) => TransactionStatus = status => status
  /** Runs after a state answer was made and before it arrives. */
  beforeStateArrives: () => Promise<void> | void = () => {}

  constructor(chain: ServableChain, name: string) {
    this.chain = chain
    this.name = name
  }

  async status(): Promise<NodeStatus> {
    this.#ask('status')
    const { header } = this.chain.ledger
    return {
      name: this.name,
      id: this.chain.fullNodes[0]!.id,
      label: 'full',
      chainId: this.chain.chainId,
      role: 'leader',
      term: 1,
      leader: undefined,
      height: header.height,
      certifiedHeight: this.#certifiedHeight(),
      lag: 0,
      time: header.time,
      pid: 1,
      api: '',
      addresses: [],
    }
  }

  async submit(bytes: Uint8Array): Promise<TransactionStatus> {
    this.#ask('submit')
    const parsed = parseTransaction(bytes)
    if (!parsed.ok) throw new MoteError(parsed.error.code, parsed.error.detail)
    const before = this.chain.transactionStatus(parsed.value.id)
    if (before.status !== 'unknown') return before
    const [receipt] = this.chain.append([bytes])
    const status = this.chain.transactionStatus(parsed.value.id)
    if (status.status !== 'unknown' || !receipt || receipt.code === 'ok') return status
    return { id: parsed.value.id, status: 'refused', code: receipt.code }
  }

  async transactionStatus(id: TransactionId): Promise<TransactionStatus> {
    this.#ask('transactionStatus')
    return this.tamperStatus(this.chain.transactionStatus(id))
  }

  async block(height: Height): Promise<Block> {
    this.#ask('block')
    if (height <= this.forgottenUpTo)
      throw new MoteError('forgotten', `block ${height}: only its leaf hashes are kept here`)
    return this.tamperBlock(this.chain.block(height))
  }

  async receipts(height: Height): Promise<readonly Receipt[]> {
    this.#ask('receipts')
    if (height <= this.forgottenUpTo)
      throw new MoteError('forgotten', `block ${height}: only its leaf hashes are kept here`)
    return this.tamperReceipts(this.chain.block(height).receipts)
  }

  async blockLeaves(height: Height): Promise<BlockLeaves> {
    this.#ask('blockLeaves')
    return this.tamperLeaves(leavesOfBlock(this.chain.block(height)))
  }

  async certifiedHeader(height: Height | 'latest'): Promise<CertifiedHeader> {
    this.#ask('certifiedHeader')
    return this.tamperHeader(this.chain.served(height === 'latest' ? this.#certifiedHeight() : height))
  }

  async headersFrom(from: Height, limit: number): Promise<readonly CertifiedHeader[]> {
    this.#ask('headersFrom')
    const to = Math.min(from + limit - 1, this.#certifiedHeight())
    const headers: CertifiedHeader[] = []
    for (let height = from as number; height <= to; height++)
      headers.push(this.tamperHeader(this.chain.served(height)))
    return headers
  }

  async waitForHeader(
    after: Height,
    timeoutMs: number,
    options: { readonly signal?: AbortSignal } = {},
  ): Promise<CertifiedHeader | undefined> {
    this.#ask('waitForHeader')
    if (this.#certifiedHeight() <= after) await this.chain.news(timeoutMs, options.signal)
    this.#ask('waitForHeader')
    const height = this.#certifiedHeight()
    return height > after ? this.tamperHeader(this.chain.served(height)) : undefined
  }

  async state(key: StateKey, height?: Height): Promise<StateAnswer> {
    this.#ask('state')
    const answer = this.tamperState(this.chain.answer(key, height ?? this.#stateHeight()))
    await this.beforeStateArrives()
    return answer
  }

  async group(id: GroupId): Promise<GroupAnswer> {
    this.#ask('group')
    const answer = this.chain.groupAnswer(id, this.#stateHeight())
    return this.tamperGroup({ ...answer, group: this.tamperState(answer.group) })
  }

  async records(type: ListedType, after?: StateKey): Promise<RecordPage> {
    this.#ask('records')
    return this.tamperPage(recordPage(this.chain.at(this.#stateHeight()), type, after))
  }

  /** Signed addresses, as a test puts them here. */
  addresses: readonly Uint8Array[] = []

  async coordination(): Promise<readonly Uint8Array[]> {
    this.#ask('coordination')
    return this.addresses
  }

  async deviceTransactions(id: DeviceId): Promise<readonly DeviceTransaction[]> {
    this.#ask('deviceTransactions')
    return this.chain.deviceTransactions(id)
  }

  #ask(method: string): void {
    this.asked.set(method, (this.asked.get(method) ?? 0) + 1)
    if (this.failure) throw this.failure
  }

  #certifiedHeight(): Height {
    let height = Math.min(this.chain.height, this.frozenAt)
    while (height > 0 && !this.chain.at(height).certificate) height--
    return Height(height)
  }

  #stateHeight(): number {
    return Math.min(this.#certifiedHeight(), this.stateFrozenAt ?? Number.POSITIVE_INFINITY)
  }
}
