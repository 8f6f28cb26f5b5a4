/**
 * The chain of a full node in memory: the newest ledger, the recent ones that proofs are asked for, what recent blocks
 * wrote, and what became of recent transactions. Executes committed entries; storage keeps what it leaves behind, and of an old
 * block what is kept in its place.
 *
 * Invariants: `ledger` is the result of executing every applied entry in order; ledgers share what blocks did not
 * change, so keeping some costs little; the newest certified one is always kept, because proofs are made at it.
 */
import {
  decodeProposal,
  devicesOf,
  type ReceiptCode,
  receiptNumbers,
  receiptsCodec,
} from '../../chain/block.ts'
import { type BlockLeaves, blockLeavesCodec } from '../../chain/block-leaves.ts'
import {
  type Hash,
  Height,
  type LogIndex,
  type Milliseconds,
  type StateKey,
  type Term,
  type TransactionId,
} from '../../chain/brands.ts'
import type { Certificate } from '../../chain/certificate.ts'
import {
  type Codec,
  decodeOwn,
  digest,
  encode,
  encodedList,
  list,
  oneOf,
  optional,
  struct,
} from '../../chain/codec.ts'
import { type ConsenterSet, consenterSetCodec } from '../../chain/consenters.ts'
import {
  type ExecutedBlock as ChainBlock,
  type ExecutedTransaction,
  executeBlock,
} from '../../chain/execution.ts'
import { headerCodec } from '../../chain/header.ts'
import type { SignatureVerifier } from '../../chain/keys.ts'
import { historyFrontierCodec, type Ledger } from '../../chain/ledger.ts'
import { type CertifiedHeader, certifiedHeaderCodec, maxChangesPerBlock } from '../../chain/light-client.ts'
import { maxBlockTransactions } from '../../chain/limits.ts'
import { RecentMap } from '../../chain/recent-map.ts'
import { slotOf } from '../../chain/replay.ts'
import { get } from '../../chain/state-tree.ts'
import { bodies, type ParsedTransaction } from '../../chain/transaction.ts'
import type { BlockUndo, BlockWrite, Storage } from '../ports.ts'
import { stored } from '../storage/store-records.ts'
import { ExpectedTransactions } from './remembered-checks.ts'

/**
 * Rows in the histories of those who receive an epoch key, in one block. A re-key is short however large its group is, so
 * without a limit one member's re-keys could fill every full node's disk; beyond it only the signer's history has them.
 */
const maxReceiverRowsPerBlock = 16_384

/** Sorted state keys of one block, as they are stored. */
export const changesCodec: Codec<readonly StateKey[]> = list(digest<StateKey>(), maxChangesPerBlock)

/** What is stored of a handover. */
export interface HandoverRecord {
  /** The set that signs what follows. */
  readonly consenters: ConsenterSet
  /** The header of the handover block with both certificates; undefined until it has them. */
  readonly proven: CertifiedHeader | undefined
}

export const handoverCodec: Codec<HandoverRecord> = struct<HandoverRecord>({
  consenters: consenterSetCodec,
  proven: optional(certifiedHeaderCodec),
})

/** A handover as it is stored. */
export function encodeHandover({ consenters, proven }: HandoverRecord): Uint8Array {
  return encode(handoverCodec, { consenters, proven })
}

/** What execution did with one transaction of a block. */
export interface Outcome {
  readonly id: TransactionId
  readonly index: number
  readonly code: ReceiptCode
  /** False for a duplicate and for bytes whose id is not used up: the id's own outcome is another one. */
  readonly final: boolean
}

/** A block that this node has executed. */
export interface BlockToSign {
  readonly height: Height
  readonly term: Term
  readonly headerHash: Hash
  /** The set that signs what follows, if this is a handover block. */
  readonly handover?: ConsenterSet | undefined
}

/** An executed block and what it leaves behind. */
export interface Execution {
  readonly block: BlockToSign
  readonly time: Milliseconds
  readonly outcomes: readonly Outcome[]
  /** What counts for replay from this block on. */
  readonly executed: readonly ExecutedTransaction[]
  readonly write: BlockWrite
  /** What the block took the place of. */
  readonly replaced: Omit<BlockUndo, 'configuration' | 'configurationBelow'>
}

/** What others ask of a block, encoded: all that it leaves behind are dozens of objects for each transaction. */
export type BlockAnswers = Pick<BlockWrite, 'header' | 'changes' | 'receipts'>

/** Where in the Raft log an entry stands. */
export interface LogPlace {
  readonly term: Term
  readonly index: LogIndex
}

/** A transaction that was executed here lately. */
export interface RecentOutcome extends Outcome {
  readonly height: Height
  readonly term: Term
  readonly time: Milliseconds
}

export interface LiveChainLimits {
  /** Ledgers kept below the newest one, and answers on blocks: more than may be certified and not yet durable. */
  readonly ledgers: number
  /** Outcomes kept in memory: at most this many, and at least half as many; older ones are read from storage. */
  readonly outcomes: number
}

export const defaultLiveChainLimits: LiveChainLimits = { ledgers: 256, outcomes: 50_000 }

/** What a chain begins with (chain-recovery.ts). */
export interface ChainStart {
  readonly ledger: Ledger
  /** The state keys that its block wrote. */
  readonly changes: readonly StateKey[]
  /** Those below it that have no certificate above them yet, oldest first. */
  readonly earlier: readonly { readonly ledger: Ledger; readonly changes: readonly StateKey[] }[]
  /** The newest one for a block that is here. */
  readonly certificate: Certificate | undefined
}

export class LiveChain {
  readonly #verifier: SignatureVerifier
  readonly #limits: LiveChainLimits
  #ledger: Ledger
  readonly #recent = new Map<number, Ledger>()
  readonly #outcomes: RecentMap<TransactionId, RecentOutcome>
  readonly #expected = new ExpectedTransactions()
  /** Of the newest blocks that this process executed: they may be on their way to the disk. */
  readonly #answers = new Map<number, BlockAnswers>()
  /** Changes of the blocks that this chain began with, or of the last snapshot: this process did not execute them. */
  readonly #begun = new Map<Height, readonly StateKey[]>()
  #certificate: Certificate | undefined

  constructor(start: ChainStart, verifier: SignatureVerifier, limits: LiveChainLimits) {
    this.#ledger = start.ledger
    this.#verifier = verifier
    this.#limits = limits
    this.#outcomes = new RecentMap(Math.ceil(limits.outcomes / 2))
    for (const { ledger, changes } of [...start.earlier, start]) {
      this.#recent.set(ledger.header.height, ledger)
      this.#begun.set(ledger.header.height, changes)
    }
    if (start.certificate) this.adopt(start.certificate)
  }

  get ledger(): Ledger {
    return this.#ledger
  }

  get height(): Height {
    return this.#ledger.header.height
  }

  get time(): Milliseconds {
    return this.#ledger.header.time
  }

  /** The highest height that is certified. 0 stands for genesis, which needs no certificate. */
  get certifiedHeight(): Height {
    return this.#certificate?.height ?? Height(0)
  }

  /** The newest certificate for a block that was executed here. */
  get certificate(): Certificate | undefined {
    return this.#certificate
  }

  /** The ledger after the block at `height`, if it is kept. */
  at(height: Height): Ledger | undefined {
    return this.#recent.get(height)
  }

  /** The newest certified ledger; the genesis, or what this node began with, as long as there is none. */
  get certified(): Ledger {
    return this.at(this.certifiedHeight) ?? this.#ledger
  }

  outcomeOf(id: TransactionId): RecentOutcome | undefined {
    return this.#outcomes.get(id)
  }

  /** What one of the newest blocks left behind: the others' signatures can certify it before it is on this node's disk. */
  answersOf(height: Height): BlockAnswers | undefined {
    return this.#answers.get(height)
  }

  /** The keys that the block changed, if it is one of the newest, or one that this chain began with. */
  changesAt(height: Height): readonly StateKey[] | undefined {
    const answers = this.#answers.get(height)
    return answers ? decodeOwn(changesCodec, answers.changes) : this.#begun.get(height)
  }

  /** A block that was executed here is certified. */
  adopt(certificate: Certificate): void {
    this.#certificate = certificate
    this.#prune()
  }

  /** The ledger of a snapshot in place of the own one; `changes` are those of its block. */
  install(ledger: Ledger, certificate: Certificate, changes: readonly StateKey[]): void {
    const { height } = ledger.header
    this.#ledger = ledger
    this.#certificate = certificate
    this.#recent.clear()
    this.#recent.set(height, ledger)
    this.#answers.clear()
    this.#begun.clear()
    this.#begun.set(height, changes)
  }

  /** A transaction that was checked here: a block will have it, most likely. */
  expect(parsed: ParsedTransaction): void {
    this.#expected.remember(parsed)
  }

  execute(data: Uint8Array, { term, index }: LogPlace): Execution | undefined {
    const proposal = decodeProposal(data)
    if (!proposal.ok) return undefined
    const before = this.#ledger
    const result = executeBlock(before, {
      proposal: proposal.value,
      term,
      index,
      verify: this.#verifier,
      parse: wire => this.#expected.parse(wire),
    })
    const { height, time } = result.header
    this.#ledger = result.ledger
    this.#recent.set(height, result.ledger)
    this.#prune()
    const outcomes = outcomesOf(result)
    for (const outcome of outcomes)
      if (outcome.final) this.#outcomes.set(outcome.id, { ...outcome, height, term, time })
    const write = { ...blockWriteOf(result, data), ...this.#floors(result) }
    const { header, changes, receipts } = write
    this.#answers.set(height, { header, changes, receipts })
    this.#answers.delete(height - this.#limits.ledgers)
    return {
      block: { height, term, headerHash: result.headerHash, handover: result.handover },
      time,
      outcomes,
      executed: result.executed,
      write,
      replaced: replacedBy(before, result),
    }
  }

  /** What storage may forget: nothing that the newest certified ledger is made of. */
  #floors({ replayFloor }: ChainBlock): Pick<BlockWrite, 'replayFloor' | 'undoFloor'> {
    const height = this.certifiedHeight
    const certified = this.#recent.get(height)
    const slot = certified ? slotOf(certified.header.time) : 0
    return { replayFloor: Math.min(replayFloor, slot), undoFloor: Height(height + 1) }
  }

  /** Certification lags by little: a leader stops long before that is many ledgers. */
  #prune(): void {
    const floor = Math.min(this.certifiedHeight, this.height - this.#limits.ledgers)
    for (const height of this.#recent.keys()) {
      if (height >= floor) return
      this.#recent.delete(height)
    }
  }
}

function outcomesOf({ receipts, executed }: ChainBlock): Outcome[] {
  const final = new Set(executed.map(transaction => transaction.index))
  return receipts.map(({ id, code }, index) => ({ id, code, index, final: final.has(index) }))
}

/** What an executed block leaves in storage. `data` is its proposal as it was ordered. */
function blockWriteOf(result: ChainBlock, data: Uint8Array): BlockWrite {
  return {
    height: result.header.height,
    headerHash: result.headerHash,
    header: encode(headerCodec, result.header),
    changes: encode(changesCodec, result.changes),
    block: data,
    receipts: encodedList(result.encodedReceipts),
    transactions: transactionRowsOf(result.executed),
    leaves: result.writes,
    replay: result.replayAdded,
    replayFloor: result.replayFloor,
    history: encode(historyFrontierCodec, result.ledger.history),
    ...(result.handover && {
      handover: encodeHandover({ consenters: result.handover, proven: undefined }),
    }),
  }
}

function transactionRowsOf(executed: ChainBlock['executed']): BlockWrite['transactions'] {
  let left = maxReceiverRowsPerBlock
  return executed.map(({ index, parsed, receivers }) => {
    const about = devicesOf(parsed.unsigned)
    const listed = receivers.length <= left ? receivers : []
    left -= listed.length
    return {
      id: parsed.id,
      index,
      kind: bodies[parsed.unsigned.body.type][0],
      devices: [...new Set([...about, ...listed])],
    }
  })
}

function replacedBy(before: Ledger, { writes }: ChainBlock): Execution['replaced'] {
  return {
    leaves: [...writes.keys()].map(key => ({ key, value: get(before.tree, key) })),
    history: encode(historyFrontierCodec, before.history),
  }
}

/** What the genesis leaves in storage. */
export function genesisWriteOf(ledger: Ledger, leaves: ReadonlyMap<StateKey, Uint8Array>): BlockWrite {
  return {
    height: ledger.header.height,
    headerHash: ledger.headerHash,
    header: encode(headerCodec, ledger.header),
    changes: encode(changesCodec, [...leaves.keys()]),
    block: new Uint8Array(),
    receipts: encode(receiptsCodec, []),
    transactions: [],
    leaves,
    replay: new Map(),
    replayFloor: 0,
    history: encode(historyFrontierCodec, ledger.history),
  }
}

/*
 * What a full node keeps of a block whose transactions and receipts it has forgotten (retention.ts): the leaf hashes, which the header
 * proves, and how each transaction ended, so that who asks what became of one gets the same answer as before. Header, certificate, list
 * of changes and the rows by which transactions are found are kept as they are.
 */

export interface ForgottenBlock {
  readonly leaves: BlockLeaves
  /** One for each transaction; this node's word. */
  readonly codes: readonly ReceiptCode[]
}

export const forgottenBlockCodec: Codec<ForgottenBlock> = struct<ForgottenBlock>({
  leaves: blockLeavesCodec,
  codes: list(oneOf<ReceiptCode>(receiptNumbers), maxBlockTransactions),
})

/* What storage knows of transactions that the chain in memory has forgotten. */

type OutcomeStorage = Pick<Storage, 'transaction' | 'header' | 'receipts' | 'forgotten'>

/** The outcome that its receipt records. Rejects with `storage-corrupt`. */
export async function storedOutcome(
  storage: OutcomeStorage,
  id: TransactionId,
): Promise<RecentOutcome | undefined> {
  const place = await storage.transaction(id)
  if (!place) return undefined
  const { height } = place
  const [header, receipts] = await Promise.all([storage.header(height), storage.receipts(height)])
  // Asked for after the receipts: a block that is being forgotten has one or the other.
  const forgotten = receipts ? undefined : await storage.forgotten(height)
  if (!header || !(receipts ?? forgotten)) return undefined
  const { term, time } = stored(headerCodec, header, 'header')
  const codes = receipts
    ? stored(receiptsCodec, receipts, 'receipts').map(receipt => receipt.code)
    : stored(forgottenBlockCodec, forgotten, 'forgotten').codes
  const code = codes[place.index]
  return code && { id, ...place, code, final: true, term, time }
}
