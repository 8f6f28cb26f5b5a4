/**
 * What a block says of a transaction, by its receipts; or where every node has forgotten those (node/ledger/retention.ts), by the hashes of its
 * leaves, which its header proves: a receipt that can be guessed is known by its hash. What a contract decided, and which rule refused a record,
 * cannot be guessed.
 */
import { type Receipt, type ReceiptCode, receiptCodec, receiptNumbers } from '../../chain/block.ts'
import type { BlockLeaves } from '../../chain/block-leaves.ts'
import type { Height } from '../../chain/brands.ts'
import { encode } from '../../chain/codec.ts'
import { bytesToHex } from '../../chain/hex.ts'
import { merkleLeaf } from '../../chain/merkle.ts'
import { type ParsedTransaction, recordsOf } from '../../chain/transaction.ts'

/** How a transaction ended, and where it stands. */
export interface Executed {
  readonly height: Height
  readonly index: number
  readonly receipt: Receipt
}

/**
 * With these a transaction was not executed, and its id is as unused as before: it may stand in a block as often as somebody puts it there,
 * with a signature that does not verify, say (chain/execution.ts). With `signer-not-active` it was, and with `key-not-valid` it may have been: its
 * signature did verify, and its device or key had come to an end by then (chain/admission.ts). Then nothing is executed after it.
 */
const notExecuted: ReadonlySet<ReceiptCode> = new Set<ReceiptCode>([
  'malformed',
  'too-large',
  'unknown-version',
  'kind-not-supported',
  'wrong-chain',
  'transaction-expired',
  'expiry-too-far',
  'duplicate',
  'overloaded',
  'unknown-signer',
  'bad-signature',
])

/** Whether the transaction was executed, with success or without: its id is used up then, and the receipt final. */
export function isExecuted({ code }: Receipt): boolean {
  return !notExecuted.has(code)
}

/** The one execution of this id in a block, if it is there: whatever comes after it is a duplicate. */
export function executionIn(
  receipts: readonly Receipt[],
  { id }: Pick<ParsedTransaction, 'id'>,
  height: Height,
): Executed | undefined {
  const index = receipts.findLastIndex(receipt => receipt.id === id && isExecuted(receipt))
  const receipt = receipts[index]
  return receipt && { height, index, receipt }
}

/**
 * The same from the leaf hashes of the block. With its place alone: it was executed there, since each receipt that says otherwise can be guessed,
 * and its own cannot. Undefined: these very bytes do not stand there, or were not executed.
 */
export function executionInLeaves(
  transaction: ParsedTransaction,
  { transactions, receipts }: BlockLeaves,
  height: Height,
): Executed | { readonly index: number; readonly receipt: undefined } | undefined {
  const indexes = new Map(receipts.map((hash, index) => [bytesToHex(hash), index]))
  const placed = guesses(transaction).flatMap(receipt => {
    const index = indexes.get(leafOf(receipt))
    return index === undefined ? [] : [{ height, index, receipt }]
  })
  const told = placed.toSorted((a, b) => a.index - b.index).findLast(({ receipt }) => isExecuted(receipt))
  if (told) return told
  const own = bytesToHex(merkleLeaf(transaction.bytes))
  const others = new Set(placed.map(({ receipt }) => leafOf(receipt)))
  const index = transactions.findIndex((hash, place) => {
    const receipt = receipts[place]
    return bytesToHex(hash) === own && receipt !== undefined && !others.has(bytesToHex(receipt))
  })
  return index < 0 ? undefined : { index, receipt: undefined }
}

/** Receipts that a transaction may have had: each error that says nothing besides its code, and records that stand all of them. */
function guesses({ id, unsigned: { body, signer } }: ParsedTransaction): readonly Receipt[] {
  const codes = (Object.keys(receiptNumbers) as ReceiptCode[]).filter(code => code !== 'ok')
  const errors = codes.map((code): Receipt => ({ id, code, events: [] }))
  if (body.type !== 'record.one' && body.type !== 'record.batch') return errors
  const events = recordsOf(body).map(({ source }, item) => ({
    type: 'record.added' as const,
    item,
    device: source ?? signer.deviceId,
    attested: source !== undefined,
  }))
  return [{ id, code: 'ok', events }, ...errors]
}

function leafOf(receipt: Receipt): string {
  return bytesToHex(merkleLeaf(encode(receiptCodec, receipt)))
}
