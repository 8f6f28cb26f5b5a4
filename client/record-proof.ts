/**
 * The proof of one record, to be kept and to be verified offline by whoever has the genesis (docs/FORMATS.md, "Record proof"): the signed
 * transaction and its receipt, their places under the roots of a header, and the way to that header from the genesis. A device cannot
 * deny what it signed, and nobody can make up a record, or alter one.
 */
import { type Block, type Receipt, receiptCodec } from '../chain/block.ts'
import { type BlockLeaves, leafPath, leavesOfBlock } from '../chain/block-leaves.ts'
import type { Hash, Height, Milliseconds, TransactionId } from '../chain/brands.ts'
import {
  bytes,
  type Codec,
  constant,
  decode,
  digest,
  encode,
  equalBytes,
  list,
  optional,
  struct,
  uint,
} from '../chain/codec.ts'
import { keyIdOf, type PublicKey, publicKeyCodec, type SignatureVerifier } from '../chain/keys.ts'
import { type CertifiedHeader, certifiedHeaderCodec } from '../chain/light-client.ts'
import { maxBatchRecords, maxTransactionBytes } from '../chain/limits.ts'
import { verifyMerkleProof } from '../chain/merkle.ts'
import type { RecordEvent } from '../chain/record-events.ts'
import { MoteError } from '../chain/result.ts'
import {
  type DeviceRecord,
  parsedSigningBytes,
  parseTransaction,
  type Qos,
  recordsOf,
  type TransactionSigner,
} from '../chain/transaction.ts'
import { type HeaderPath, maxUncertifiedRun, type PathTrust, verifyHeaderPath } from './header-path.ts'

/** A record that stands in a proven block. */
export interface PlacedRecord {
  readonly transaction: TransactionId
  /** Place of the record in its transaction. */
  readonly item: number
  readonly record: DeviceRecord
  readonly signer: TransactionSigner
  readonly device: RecordAdded['device']
  readonly attested: boolean
  /** By which it came, or what the device asked for. */
  readonly qos: Qos
  readonly height: Height
  /** Block time. */
  readonly time: Milliseconds
  /** What a contract decided about it, if it was asked to. */
  readonly decided: Extract<RecordEvent, { type: 'contract.decided' }> | undefined
}

type RecordAdded = Extract<RecordEvent, { type: 'record.added' }>

/** How a record is named: by its transaction, and in a batch by its place. */
export function recordIdText({ transaction, item }: Pick<PlacedRecord, 'transaction' | 'item'>): string {
  return item === 0 ? transaction : `${transaction}.${item}`
}

/** The records of a block's transaction that stand, by its receipt. */
export function placedRecords(
  header: Pick<Block['header'], 'height' | 'time'>,
  transaction: Uint8Array,
  receipt: Receipt,
): readonly PlacedRecord[] {
  const parsed = parseTransaction(transaction)
  // A receipt of a duplicate says nothing about the transaction with that id.
  if (!parsed.ok || parsed.value.id !== receipt.id || receipt.code !== 'ok') return []
  const { body, signer } = parsed.value.unsigned
  if (!('qos' in body)) return []
  const { qos } = body
  const records = recordsOf(body)
  const decided = receipt.events.find(event => event.type === 'contract.decided')
  return receipt.events.flatMap(event => {
    const record = event.type === 'record.added' ? records[event.item] : undefined
    if (event.type !== 'record.added' || !record) return []
    const { item, device, attested } = event
    const { height, time } = header
    return [{ transaction: receipt.id, item, record, signer, device, attested, qos, height, time, decided }]
  })
}

interface RecordProof extends HeaderPath {
  readonly version: 1
  readonly item: number
  readonly transaction: Uint8Array
  readonly receipt: Receipt
  /** Place of both in the block, and how many there are. */
  readonly index: number
  readonly size: number
  readonly transactionPath: readonly Hash[]
  readonly receiptPath: readonly Hash[]
  /** With which the transaction was signed; undefined if its owner's record does not list it any more. */
  readonly key: PublicKey | undefined
}

/** Handovers between a genesis and a record that a proof may walk. */
const maxProofHandovers = 128
/** A proof as a file. */
export const maxRecordProofBytes = 4 * 1024 * 1024
const maxPathLength = 53
const path: Codec<readonly Hash[]> = list(digest<Hash>(), maxPathLength)
const recordProofCodec: Codec<RecordProof> = struct<RecordProof>({
  version: constant(1),
  handovers: list(certifiedHeaderCodec, maxProofHandovers),
  run: list(certifiedHeaderCodec, maxUncertifiedRun, 1),
  item: uint(maxBatchRecords),
  transaction: bytes(1, maxTransactionBytes),
  receipt: receiptCodec,
  index: uint(0xffff),
  size: uint(0xffff),
  transactionPath: path,
  receiptPath: path,
  key: optional(publicKeyCodec),
})

/**
 * What is of a record alone, and cannot be had again where it was forgotten: with it and the leaf hashes of its block anybody proves it.
 */
export interface KeptRecord {
  readonly version: 1
  readonly height: Height
  readonly item: number
  readonly transaction: Uint8Array
  readonly receipt: Receipt
}

const keptRecordCodec: Codec<KeptRecord> = struct<KeptRecord>({
  version: constant(1),
  height: uint<Height>(),
  item: uint(maxBatchRecords),
  transaction: bytes(1, maxTransactionBytes),
  receipt: receiptCodec,
})
/** One as a file: a transaction, a receipt and some numbers. */
export const maxKeptRecordBytes = 40 * 1024

export function encodeKeptRecord(kept: KeptRecord): Uint8Array {
  return encode(keptRecordCodec, kept)
}

/** Throws `malformed`, `too-large`. */
export function decodeKeptRecord(kept: Uint8Array): KeptRecord {
  const read = decode(keptRecordCodec, kept, maxKeptRecordBytes)
  if (read.ok) return read.value
  throw new MoteError(read.error.code, `kept record: ${read.error.detail}`)
}

/** The proof of a record, in bytes to be kept, out of the leaf hashes of its block, to which the path leads. Throws `bad-proof` if it does not stand there. */
export function encodeRecordProof(
  { item, transaction, receipt }: Pick<KeptRecord, 'item' | 'transaction' | 'receipt'>,
  leaves: BlockLeaves,
  { handovers, run, key }: HeaderPath & { readonly key: PublicKey | undefined },
): Uint8Array {
  const own = leavesOfBlock({ transactions: [transaction], receipts: [receipt] })
  const isAt = (hashes: readonly Uint8Array[], i: number, [hash]: readonly Uint8Array[]) =>
    hash !== undefined && equalBytes(hashes[i] ?? new Uint8Array(0), hash)
  // A transaction may stand there twice; the second receipt is another one.
  const index = leaves.transactions.findIndex(
    (_, i) => isAt(leaves.transactions, i, own.transactions) && isAt(leaves.receipts, i, own.receipts),
  )
  if (index < 0) throw new MoteError('bad-proof', 'record: it does not stand in the block with this receipt')
  return encode(recordProofCodec, {
    version: 1,
    handovers: handovers.map(withoutChanges),
    run: run.map(withoutChanges),
    item,
    transaction,
    receipt,
    index,
    size: leaves.transactions.length,
    transactionPath: leafPath(leaves.transactions, index),
    receiptPath: leafPath(leaves.receipts, index),
    key,
  })
}

/** Which keys a block wrote is of no use here. */
function withoutChanges(entry: CertifiedHeader): CertifiedHeader {
  return { ...entry, changes: [] }
}

export interface VerifiedRecord extends PlacedRecord {
  /** Whether the signature was verified here; else only a quorum of the consenters says so, by the receipt. */
  readonly signatureVerified: boolean
}

/** The record that a proof is of. Throws `malformed`, `too-large`, `bad-proof`, `bad-signature`, `bad-header`, `bad-certificate`. */
export function verifyRecordProof(proof: Uint8Array, trust: PathTrust): VerifiedRecord {
  const read = decode(recordProofCodec, proof, maxRecordProofBytes)
  if (!read.ok) throw new MoteError(read.error.code, read.error.detail)
  const { transaction, receipt, item, index, size, transactionPath, receiptPath, key } = read.value
  const header = verifyHeaderPath(read.value, trust)
  const stands = (root: Hash, leaf: Uint8Array, siblings: readonly Hash[]) =>
    verifyMerkleProof(root, leaf, { index, size, path: siblings })
  if (!stands(header.transactionsRoot, transaction, transactionPath))
    throw new MoteError('bad-proof', 'transaction: does not stand in the block')
  if (!stands(header.receiptsRoot, encode(receiptCodec, receipt), receiptPath))
    throw new MoteError('bad-proof', 'receipt: does not stand in the block')
  const placed = placedRecords(header, transaction, receipt).find(each => each.item === item)
  if (!placed) throw new MoteError('bad-proof', 'record: the transaction recorded none at this place')
  return {
    ...placed,
    signatureVerified: key !== undefined && checkSignature(transaction, key, trust.verifier),
  }
}

/** True if it verifies. The key's id stands in what is signed, so that no other key can take its place. */
function checkSignature(transaction: Uint8Array, key: PublicKey, verifier: SignatureVerifier): boolean {
  const parsed = parseTransaction(transaction)
  if (!parsed.ok || keyIdOf(key) !== parsed.value.unsigned.signer.keyId)
    throw new MoteError('bad-proof', 'key: expected the one that the transaction names')
  if (!verifier.verify(key, parsedSigningBytes(parsed.value), parsed.value.signature))
    throw new MoteError('bad-signature', `signature: does not verify under ${keyIdOf(key)}`)
  return true
}
