/**
 * Where a client reads the chain from and hands transactions to: the port behind which HTTP, libp2p and tests sit
 * (docs/ARCHITECTURE.md).
 *
 * Nothing a source says is believed: bytes come out decoded but unverified, and `HeaderFollower` and
 * `VerifiedChain` judge them. Methods throw `MoteError`: the code of the other side's refusal, `unreachable` or
 * `timeout` when there was none, `bad-proof` when the answer has not even the documented form.
 */
import type { Receipt } from '../chain/block.ts'
import type { BlockLeaves } from '../chain/block-leaves.ts'
import type {
  DeviceId,
  GroupId,
  Height,
  Milliseconds,
  StateKey,
  Term,
  TransactionId,
} from '../chain/brands.ts'
import { isDigest } from '../chain/brands.ts'
import { bytes, type Codec, digest, encode, encodedList, list, optional, struct } from '../chain/codec.ts'
import { type ErrorCode, errorTable } from '../chain/errors.ts'
import {
  type CertifiedHeader,
  certifiedHeaderCodec,
  type StateAnswer,
  stateAnswerCodec,
} from '../chain/light-client.ts'
import { maxGroupMembers, maxTransactionBytes } from '../chain/limits.ts'

/** How long `submit` waits before it answers. */
export type SubmitWait = 'certified' | 'committed' | 'none'

/** What is known of a transaction (docs/FORMATS.md, HTTP API). */
export interface TransactionStatus {
  readonly id: TransactionId
  /**
   * `unknown`: send the same bytes again. `pending`: may revert. `committed`: final within an incarnation.
   * `certified`: what acknowledgements wait for. `invalid`: final, not executed. `refused`: this node would not
   * take it; `code` says whether a retry helps.
   */
  readonly status: 'unknown' | 'pending' | 'committed' | 'certified' | 'invalid' | 'refused'
  readonly height?: Height
  readonly term?: Term
  readonly index?: number
  readonly time?: Milliseconds
  readonly code?: ErrorCode
  readonly detail?: string
}

/** What a node says of itself. Advice: only certified headers are proof of anything. */
export interface NodeStatus {
  readonly name: string
  readonly id: DeviceId
  readonly label: string
  readonly chainId: string
  readonly role: string
  readonly term: number
  readonly leader: string | undefined
  readonly height: number
  readonly certifiedHeight: number
  readonly lag: number
  readonly time: number
  readonly pid: number
  readonly api: string
  readonly addresses: readonly string[]
  readonly peers?: readonly unknown[]
  /** Of a lightweight node: the full node that serves it now; undefined while none does. */
  readonly servedBy?: DeviceId | undefined
  /** What a change of the consenters waits for, or that one is under way. */
  readonly change?: string | undefined
  /** Members whose clocks are wrong, and by how much: ahead if positive. */
  readonly oddClocks?: readonly { readonly id: DeviceId; readonly offsetMs: number }[]
}

/** A place in the chain: what is at or above it was shown already. */
export interface HistoryCursor {
  readonly height: Height
  readonly index: number
}

/** One transaction that touched a device. */
export interface DeviceTransaction extends HistoryCursor {
  readonly id: TransactionId
  readonly kind: string
}

/** A group's leaf with its proof, and the whole member list, which the leaf's count and root prove complete. */
export interface GroupAnswer {
  readonly group: StateAnswer
  /** Sorted; empty when the group is absent. */
  readonly members: readonly DeviceId[]
}

export const groupAnswerCodec: Codec<GroupAnswer> = struct<GroupAnswer>({
  group: stateAnswerCodec,
  members: list(digest<DeviceId>(), maxGroupMembers),
})

/** A contract and what it remembers, each with its proof. Between the two the state may have moved. */
export interface ContractAnswer {
  readonly contract: StateAnswer
  readonly state: StateAnswer
}

export const contractAnswerCodec: Codec<ContractAnswer> = struct<ContractAnswer>({
  contract: stateAnswerCodec,
  state: stateAnswerCodec,
})

/** What can be listed: identities are the papers' node list, groups their topic list (Hsu-Lu, Tables 1 and 2); and contracts. */
export type ListedType = 'identity' | 'group' | 'contract'

/**
 * Leaves of one type with their proofs, ascending by state key. Each proves itself; that none was left out is the source's word.
 */
export interface RecordPage {
  readonly answers: readonly StateAnswer[]
  /** Where to go on: above this key; undefined at the end. */
  readonly next: StateKey | undefined
}

/** Records in one page, at most. */
export const maxRecordsPerPage = 64
/** Their bytes, unless one alone has more: a page fits an answer over MQTT. */
export const maxRecordPageBytes = 120 * 1024

export const recordPageCodec: Codec<RecordPage> = struct<RecordPage>({
  answers: list(stateAnswerCodec, maxRecordsPerPage),
  next: optional(digest<StateKey>()),
})

/** Headers in one answer of `headersFrom`, at most. */
export const maxHeadersPerAnswer = 512
/** Bytes of such an answer, unless its first header alone is larger: a slow link carries it within a request's deadline. */
export const maxHeaderPageBytes = 1024 * 1024

/** Rows of a device's history in one answer, at most. */
export const maxHistoryPage = 1_000

/** Several headers in order. */
export const headerListCodec: Codec<readonly CertifiedHeader[]> = list(
  certifiedHeaderCodec,
  maxHeadersPerAnswer,
)

/** Transactions that are submitted together, at most. */
export const maxTransactionsPerSubmission = 256
/** A list of signed transactions, as they are on the wire. */
export const submissionCodec: Codec<readonly Uint8Array[]> = list(
  bytes(1, maxTransactionBytes),
  maxTransactionsPerSubmission,
  1,
)

/** The first of these headers, in the encoding of `headerListCodec`: as many as fit, and at least one if there is one. */
export function encodeHeaderPage(headers: readonly CertifiedHeader[]): Uint8Array {
  const page: Uint8Array[] = []
  let size = 0
  for (const header of headers) {
    const encoded = encode(certifiedHeaderCodec, header)
    if (page.length > 0 && size + encoded.length > maxHeaderPageBytes) break
    page.push(encoded)
    size += encoded.length
  }
  return encodedList(page)
}

/** Stops a request: a timeout, or the end of the program. */
export interface RequestOptions {
  readonly signal?: AbortSignal
}

export interface ChainSource {
  /** For messages and logs: an address, say. */
  readonly name: string
  status(options?: RequestOptions): Promise<NodeStatus>
  /** @param bytes one signed transaction; sending the same bytes again is always safe */
  submit(bytes: Uint8Array, wait: SubmitWait, options?: RequestOptions): Promise<TransactionStatus>
  /** The same with several, which the source takes in their order; one status for each. Absent where they have to go one by one. */
  submitAll?(
    transactions: readonly Uint8Array[],
    wait: SubmitWait,
    options?: RequestOptions,
  ): Promise<readonly TransactionStatus[]>
  transactionStatus(id: TransactionId, options?: RequestOptions): Promise<TransactionStatus>
  /** The newest certified header, or the one at a height (whose certificate may be absent: gaps are legal). */
  certifiedHeader(height: Height | 'latest', options?: RequestOptions): Promise<CertifiedHeader>
  /** Headers in order from height `from`, at most `limit`; fewer at the end or where the source cuts the page. */
  headersFrom(from: Height, limit: number, options?: RequestOptions): Promise<readonly CertifiedHeader[]>
  /** What became of the transactions of a block, one each, in order. Throws `height-not-available` or `forgotten` where the block is not kept. */
  receipts(height: Height, options?: RequestOptions): Promise<readonly Receipt[]>
  /** Leaf hashes of a block, also of one that is forgotten. Absent where blocks are not passed on. Throws `height-not-available`. */
  blockLeaves?(height: Height, options?: RequestOptions): Promise<BlockLeaves>
  /** The newest certified header as soon as it is higher than `after`; undefined when the time is over. */
  waitForHeader(
    after: Height,
    timeoutMs: number,
    options?: RequestOptions,
  ): Promise<CertifiedHeader | undefined>
  /** A leaf or its absence with a proof, at the newest certified height of the source unless one is given. */
  state(key: StateKey, height?: Height, options?: RequestOptions): Promise<StateAnswer>
  /** A group's leaf with a proof, and its whole member list. */
  group(id: GroupId, options?: RequestOptions): Promise<GroupAnswer>
  /** A page of what there is of one type: above `after`, if given. A page may have no answers and not be the last. */
  records(type: ListedType, after?: StateKey, options?: RequestOptions): Promise<RecordPage>
  /** A page of a device's history, the newest first: below `before`, if given. An empty page is the end. */
  deviceTransactions(
    id: DeviceId,
    before?: HistoryCursor,
    options?: RequestOptions,
  ): Promise<readonly DeviceTransaction[]>
  /** Signed addresses of the coordination nodes that the source knows (coordination-address.ts). */
  coordination(options?: RequestOptions): Promise<readonly Uint8Array[]>
}

/**
 * A choice of sources. An operation runs against one of them, its own verification included, so that an answer
 * that is refused costs the source that gave it, and the next one is asked.
 */
export interface SourcePool {
  /** Sources to choose from, those included that are not asked at present. */
  readonly size: number
  attempt<T>(operation: (source: ChainSource) => Promise<T>): Promise<T>
  /** Runs it against another source than this one, if there is one, and never minds its failure. */
  compare<T>(source: ChainSource, operation: (other: ChainSource) => Promise<T>): Promise<T | undefined>
}

const transactionStates = new Set(['unknown', 'pending', 'committed', 'certified', 'invalid', 'refused'])

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null
}

/** Whether JSON from outside has the fields of a `TransactionStatus`. */
export function isTransactionStatus(value: unknown): boolean {
  if (!isRecord(value)) return false
  const { id, status, code } = value
  return (
    typeof id === 'string' &&
    isDigest(id) &&
    transactionStates.has(String(status)) &&
    (code === undefined || Object.hasOwn(errorTable, String(code)))
  )
}

/** Whether JSON from outside has the fields of a `NodeStatus`. */
export function isNodeStatus(value: unknown): boolean {
  if (!isRecord(value)) return false
  const texts = ['name', 'id', 'label', 'chainId', 'role', 'api']
  const numbers = ['term', 'height', 'certifiedHeight', 'lag', 'time', 'pid']
  return (
    texts.every(field => typeof value[field] === 'string') &&
    numbers.every(field => Number.isFinite(value[field])) &&
    (value['servedBy'] === undefined || isDigest(String(value['servedBy']))) &&
    Array.isArray(value['addresses'])
  )
}

/** Whether JSON from outside is a list of `DeviceTransaction`. */
export function isDeviceTransactions(value: unknown): boolean {
  return (
    Array.isArray(value) &&
    value.every(
      item =>
        isRecord(item) &&
        isDigest(String(item['id'])) &&
        Number.isSafeInteger(item['height']) &&
        Number.isSafeInteger(item['index']),
    )
  )
}
