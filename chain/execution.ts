/**
 * Execution: a committed proposal on a ledger gives the next ledger, its header and its receipts.
 *
 * Invariants
 * 1. A pure function of (ledger, proposal, term, index): every full node derives the same header from the same log.
 * 2. Total: no bytes in a proposal make it throw. Bytes that do not parse get a receipt `malformed`.
 * 3. A failed transaction leaves no write, only its receipt; but from its signature on it counts for replay.
 * 4. Only a handover block changes who signs the next header, to a set that governance decided on; it has no transactions.
 * 5. Block time never goes back and never jumps more than a day, whatever a proposal says.
 *
 * Who may ask is judged in admission.ts, what each kind does in execute-*.ts.
 */
import { type Author, authenticate, authorise, type Surroundings, type Verification } from './admission.ts'
import { type BlockProposal, type ChainEvent, type Receipt, type RefusalCode, receiptCodec } from './block.ts'
import {
  type DeviceId,
  type Hash,
  Height,
  type LogIndex,
  Milliseconds,
  type StateKey,
  type Term,
  type TransactionId,
} from './brands.ts'

import { encodePassing } from './codec.ts'
import { type ConsenterSet, signersHash } from './consenters.ts'
import { executeAction, executeDeploy, executeGuard, executeRetire } from './execute-contracts.ts'
import { executeCredentials } from './execute-credentials.ts'
import { executeConsenters, executeHandover } from './execute-governance.ts'
import {
  executeGroupAdd,
  executeGroupCreate,
  executeGroupOwner,
  executeGroupRekey,
  executeGroupRemove,
} from './execute-group.ts'
import { executeGrant, executeRegister, executeRights, executeStatus } from './execute-identity.ts'
import { executeKeyAdd, executeKeyRevoke, executeKeyRotate } from './execute-key.ts'
import { executeRecords } from './execute-records.ts'
import type { ExecutionContext } from './execution-context.ts'
import { hashHex } from './hashing.ts'
import { changesHash, type Header, headerHash } from './header.ts'
import type { SignatureVerifier } from './keys.ts'
import { executionVersion, type Ledger, nextHistory } from './ledger.ts'
import {
  maxBlockReceiptBytes,
  maxBlockSteps,
  maxBlockTimeStepMs,
  maxReceiptBytes,
  maxTransactionChanges,
  maxTransactionSteps,
} from './limits.ts'
import { merkleRoot } from './merkle.ts'
import type { ExecutionResult } from './outcome.ts'
import { authoritiesHash } from './records.ts'
import { ReplayDraft } from './replay.ts'
import { assert, assertNever, ok, type Result } from './result.ts'
import { rootOf, update } from './state-tree.ts'
import { readerOf, StateView } from './state-view.ts'
import { type ParsedTransaction, parseTransaction, recordsOf } from './transaction.ts'

export interface BlockInput {
  readonly proposal: BlockProposal
  /** Term of the log entry. */
  readonly term: Term
  /** Index of the log entry: above that of every earlier block. */
  readonly index: LogIndex
  /** 'skip' is for a log that this node has executed and verified before. */
  readonly verify: Verification
  /** `parseTransaction`, or a memory of it. */
  readonly parse?: typeof parseTransaction
}

/** A transaction that its signer really signed, and how it ended. Its place in the block never changes again. */
export interface ExecutedTransaction {
  readonly index: number
  readonly parsed: ParsedTransaction
  readonly receipt: Receipt
  /** Of a re-key that succeeded: the members, whom the new epoch key is for. */
  readonly receivers: readonly DeviceId[]
}

export interface ExecutedBlock {
  readonly ledger: Ledger
  readonly header: Header
  readonly headerHash: Hash
  /** The set that takes over after this block, if it is a handover block. */
  readonly handover: ConsenterSet | undefined
  /** One for each transaction of the proposal, in order. */
  readonly receipts: readonly Receipt[]
  /** The same, encoded one by one: the leaves of `receiptsRoot`. */
  readonly encodedReceipts: readonly Uint8Array[]
  /**
   * The transactions that count for replay: an index by id lists these and no others. A receipt of a duplicate, or of bytes
   * whose signature does not verify, says nothing about the transaction with that id.
   */
  readonly executed: readonly ExecutedTransaction[]
  /** Sorted keys of the leaves that the block wrote. */
  readonly changes: readonly StateKey[]
  readonly writes: ReadonlyMap<StateKey, Uint8Array | null>
  /** Ids remembered by this block, by expiry slot, 32 bytes each in order: what `restoreLedger` wants back. */
  readonly replayAdded: ReadonlyMap<number, Uint8Array>
  /** Slots below are over and can be forgotten. */
  readonly replayFloor: number
}

/** A proposal's time as block time: from the parent's time to a day later. */
export function clampBlockTime(time: Milliseconds, parent: Milliseconds): Milliseconds {
  return Milliseconds(Math.min(Math.max(time, parent), parent + maxBlockTimeStepMs))
}

/** Executes a committed proposal. Throws only if the ledger asks for rules this program does not have. */
export function executeBlock(ledger: Ledger, input: BlockInput): ExecutedBlock {
  const needed = ledger.parameters.executionVersion
  assert(
    needed === executionVersion,
    `execution version: this program has ${executionVersion}, the chain needs ${needed}`,
  )
  const { proposal } = input
  const parent = ledger.header
  const time = clampBlockTime(proposal.time, parent.time)
  const height = Height(parent.height + 1)
  const view = new StateView(readerOf(ledger.tree))
  const replay = new ReplayDraft(ledger.replay, time)
  const context: ExecutionContext = {
    chainId: parent.chainId,
    time,
    height,
    view,
    remembered: replay,
    verification: input.verify,
    steps: { used: 0 },
  }
  const transactions = proposal.type === 'block' ? proposal.transactions : []
  const parse = input.parse ?? parseTransaction
  const { receipts, encodedReceipts, executed } = executeTransactions(context, replay, transactions, parse)
  const handover = proposal.type === 'handover' ? executeHandover(view, proposal.signersHash) : undefined
  const writes = view.encodedWrites()
  const changes = [...writes.keys()]
  const parameters = view.parameters()
  const tree = update(ledger.tree, writes)
  const slots = replay.finish()
  const history = nextHistory(ledger)
  const header: Header = {
    version: 1,
    chainId: parent.chainId,
    incarnation: parent.incarnation,
    height,
    term: input.term,
    index: input.index,
    time,
    previousHash: ledger.headerHash,
    transactionsRoot: merkleRoot(transactions),
    receiptsRoot: merkleRoot(encodedReceipts),
    stateRoot: rootOf(tree),
    replayRoot: slots.root,
    changesHash: changesHash(changes),
    historyRoot: history.root(),
    signersHash: parent.nextSignersHash,
    nextSignersHash: signersHash(parameters.consenters),
    authoritiesHash: authoritiesHash(parameters),
    executionVersion,
  }
  const hash = headerHash(header)
  return {
    ledger: { header, headerHash: hash, tree, replay: slots, history, parameters },
    header,
    headerHash: hash,
    handover,
    receipts,
    encodedReceipts,
    executed,
    changes,
    writes,
    replayAdded: replay.added(),
    replayFloor: replay.floor,
  }
}

/**
 * Whether a mempool should take a transaction: what execution would say of everything but the records themselves, at block
 * time `now`. Writes nothing. A transaction that passes can still fail when it is executed.
 */
export function checkTransaction(
  ledger: Ledger,
  parsed: ParsedTransaction,
  now: Milliseconds,
  verifier: SignatureVerifier,
): Result<void> {
  const around: Surroundings = {
    chainId: ledger.header.chainId,
    time: clampBlockTime(now, ledger.header.time),
    view: new StateView(readerOf(ledger.tree)),
    remembered: ledger.replay,
    verification: verifier,
  }
  const author = authenticate(around, parsed)
  if (!author.ok) return author
  const authorised = authorise(around, parsed, author.value)
  return authorised.ok ? ok(undefined) : authorised
}

function executeTransactions(
  context: ExecutionContext,
  replay: ReplayDraft,
  transactions: readonly Uint8Array[],
  parse: typeof parseTransaction,
): Pick<ExecutedBlock, 'receipts' | 'encodedReceipts' | 'executed'> {
  const { blockBytes, blockChanges, blockTransactions } = context.view.parameters().limits
  const receipts: Receipt[] = []
  const encodedReceipts: Uint8Array[] = []
  const executed: ExecutedTransaction[] = []
  let size = 0
  let receiptBytes = 0
  const settle = (receipt: Receipt) => {
    const encoded = encodePassing(receiptCodec, receipt)
    receipts.push(receipt)
    encodedReceipts.push(encoded)
    receiptBytes += encoded.length
  }
  for (const [index, wire] of transactions.entries()) {
    size += wire.length
    const parsed = parse(wire)
    if (!parsed.ok) {
      settle(failure(unreadableId(wire), parsed.error.code as RefusalCode))
    } else if (
      index >= blockTransactions ||
      size > blockBytes ||
      context.view.changeCount + maxTransactionChanges > blockChanges ||
      context.steps.used + maxTransactionSteps > maxBlockSteps ||
      receiptBytes + maxReceiptBytes > maxBlockReceiptBytes
    ) {
      settle(failure(parsed.value.id, 'overloaded'))
    } else {
      const author = authenticate(context, parsed.value)
      if (author.ok) {
        const receipt = executeAuthentic(context, parsed.value, author.value)
        replay.add(parsed.value.id, parsed.value.unsigned.expiry)
        executed.push({
          index,
          parsed: parsed.value,
          receipt,
          receivers: receiversOf(context, parsed.value, receipt),
        })
        settle(receipt)
      } else settle(failure(parsed.value.id, author.error.code))
    }
  }
  return { receipts, encodedReceipts, executed }
}

/** The members as they are right after the transaction: a later one of the same block may change them. */
function receiversOf(
  { view }: ExecutionContext,
  { unsigned: { body } }: ParsedTransaction,
  { code }: Receipt,
): readonly DeviceId[] {
  return code === 'ok' && body.type === 'group.rekey' ? view.members(body.group) : []
}

function unreadableId(wire: Uint8Array): TransactionId {
  return hashHex('mote/unreadable-transaction/1', wire) as string as TransactionId
}

function failure(id: TransactionId, code: RefusalCode, events: readonly ChainEvent[] = []): Receipt {
  return { id, code, events }
}

function executeAuthentic(context: ExecutionContext, parsed: ParsedTransaction, author: Author): Receipt {
  const authorised = authorise(context, parsed, author)
  const outcome = authorised.ok ? executeBody(context, parsed, author) : authorised
  if (!outcome.ok) {
    context.view.discard()
    return failure(parsed.id, outcome.error.code, outcome.error.events)
  }
  context.view.keep()
  return { id: parsed.id, code: 'ok', events: outcome.value }
}

function executeBody(
  context: ExecutionContext,
  parsed: ParsedTransaction,
  author: Author,
): ExecutionResult<readonly ChainEvent[]> {
  const { body, signer } = parsed.unsigned
  if (body.type === 'identity.register') return executeRegister(context, body, signer.deviceId)
  assert(author.type === 'identity', 'only a newcomer has no record, and the table lets it register only')
  const { record } = author
  switch (body.type) {
    case 'identity.grant':
      return executeGrant(context, body, record)
    case 'identity.suspend':
    case 'identity.revoke':
      return executeStatus(context, body)
    case 'identity.rights':
      return executeRights(context, body)
    case 'identity.credentials':
      return executeCredentials(context, body)
    case 'key.add':
      return executeKeyAdd(context, body, record)
    case 'key.rotate':
      return executeKeyRotate(context, body, record)
    case 'key.revoke':
      return executeKeyRevoke(context, body, record)
    case 'group.create':
      return executeGroupCreate(context, body, record)
    case 'group.add':
      return executeGroupAdd(context, body)
    case 'group.remove':
      return executeGroupRemove(context, body)
    case 'group.rekey':
      return executeGroupRekey(context, body)
    case 'group.owner':
      return executeGroupOwner(context, body)
    case 'governance.consenters':
      return executeConsenters(context, body, record)
    case 'record.one':
    case 'record.batch':
      return executeRecords(context, recordsOf(body), record)
    case 'contract.action':
      return executeAction(context, body, record)
    case 'contract.deploy':
      return executeDeploy(context, body, record)
    case 'contract.retire':
      return executeRetire(context, body)
    case 'contract.guard':
      return executeGuard(context, body)
    default:
      return assertNever(body)
  }
}
