/**
 * What is ordered (a proposal: the data of one Raft entry), and what its execution leaves behind (receipts, a block).
 * docs/FORMATS.md, section Blocks and receipts.
 *
 * A proposal's transactions are opaque here: bytes that do not parse get a receipt `malformed` and harm nobody.
 */
import type { DeviceId, GrantId, GroupId, Hash, KeyId, Milliseconds, TransactionId } from './brands.ts'
import {
  bytes,
  type Codec,
  constant,
  decode,
  decodeSharing,
  digest,
  list,
  malformed,
  oneOf,
  struct,
  uint,
  union,
} from './codec.ts'
import { type Header, headerCodec } from './header.ts'
import { maxBlockTransactions, maxTransactionBytes } from './limits.ts'
import { type RecordEvent, recordEventVariants } from './record-events.ts'
import { type IdentityStatus, identityStatusCodec } from './records.ts'
import { type Result, refuse } from './result.ts'
import {
  attestedSources,
  type Label,
  labelCodec,
  parseTransaction,
  type TransactionBody,
  type UnsignedTransaction,
} from './transaction.ts'

interface ProposalHead {
  readonly version: 1
  /** What a majority of the voters' clocks has reached, as the leader read them. Execution clamps it: time never turns back. */
  readonly time: Milliseconds
}

/** A heartbeat keeps headers fresh when nothing happens and has no transactions. */
export interface TransactionsProposal extends ProposalHead {
  readonly type: 'block' | 'heartbeat'
  /** Signed transactions as they came, in order. */
  readonly transactions: readonly Uint8Array[]
}

/**
 * Asks that the consenters on whom governance has decided take over after this block. It has no transactions: who follows
 * headers only must be able to check a handover by itself.
 */
export interface HandoverProposal extends ProposalHead {
  readonly type: 'handover'
  /** `signersHash` of the set that takes over. If the decision is another one by then, the block is a heartbeat. */
  readonly signersHash: Hash
}

export type BlockProposal = TransactionsProposal | HandoverProposal
export type ProposalType = BlockProposal['type']

/** How a transaction ended: 'ok', or the code of its refusal. */
export type ReceiptCode = keyof typeof receiptNumbers
export type RefusalCode = Exclude<ReceiptCode, 'ok'>

/** Wire numbers of receipt codes; never reused. */
export const receiptNumbers = {
  ok: 0,
  malformed: 1,
  'too-large': 2,
  'unknown-version': 3,
  'kind-not-supported': 4,
  'wrong-chain': 5,
  'transaction-expired': 6,
  'expiry-too-far': 7,
  duplicate: 8,
  overloaded: 9,
  'unknown-signer': 10,
  'signer-not-active': 11,
  'key-not-valid': 12,
  'bad-signature': 13,
  'not-authorised': 14,
  'unknown-subject': 15,
  'version-conflict': 16,
  'already-exists': 17,
  'invalid-state': 18,
  'limit-exceeded': 19,
  'grant-not-valid': 20,
  'label-not-allowed': 21,
  'possession-not-proven': 22,
  'challenge-expired': 23,
  'id-active': 24,
  'epoch-conflict': 25,
  'key-not-usable': 26,
  'contract-invalid': 27,
  'rule-violated': 28,
} as const

/** What changed, for indexes and for whoever follows the chain. */
export type ChainEvent =
  | { readonly type: 'grant.created'; readonly grant: GrantId }
  | {
      readonly type: 'identity.registered'
      readonly subject: DeviceId
      readonly label: Label
      readonly status: IdentityStatus
      readonly grant: GrantId
    }
  | { readonly type: 'identity.status'; readonly subject: DeviceId; readonly status: IdentityStatus }
  | { readonly type: 'key.added'; readonly subject: DeviceId; readonly key: KeyId }
  | { readonly type: 'key.ended'; readonly subject: DeviceId; readonly key: KeyId; readonly at: Milliseconds }
  | {
      readonly type: 'group.membership'
      readonly group: GroupId
      readonly membershipVersion: number
      readonly memberCount: number
    }
  | { readonly type: 'group.rekeyed'; readonly group: GroupId; readonly epoch: number }
  | { readonly type: 'identity.rights'; readonly subject: DeviceId; readonly version: number }
  | { readonly type: 'identity.credentials'; readonly subject: DeviceId; readonly version: number }
  | { readonly type: 'group.owner'; readonly group: GroupId; readonly owner: DeviceId }
  | {
      readonly type: 'consenters.approved'
      readonly authority: DeviceId
      /** `signersHash` of the set. */
      readonly target: Hash
      /** How many active authorities approve of it now, this one included. */
      readonly approvals: number
    }
  | { readonly type: 'consenters.decided'; readonly target: Hash; readonly parametersVersion: number }
  | RecordEvent

export interface Receipt {
  /** Of the payload; for bytes that do not parse, their hash under `mote/unreadable-transaction/1`. */
  readonly id: TransactionId
  readonly code: ReceiptCode
  readonly events: readonly ChainEvent[]
}

export interface Block {
  readonly header: Header
  readonly transactions: readonly Uint8Array[]
  readonly receipts: readonly Receipt[]
}

const transactionsCodec = list(bytes(0, maxTransactionBytes), maxBlockTransactions)

/** Wire numbers of proposal types; 4 is kept for recovery. */
const proposalTypeCodec = oneOf<ProposalType>({ block: 1, heartbeat: 2, handover: 3 })
const transactionsProposalCodec = struct<TransactionsProposal>({
  version: constant(1),
  type: proposalTypeCodec as Codec<TransactionsProposal['type']>,
  time: uint<Milliseconds>(),
  transactions: transactionsCodec,
})
const handoverProposalCodec = struct<HandoverProposal>({
  version: constant(1),
  type: proposalTypeCodec as Codec<'handover'>,
  time: uint<Milliseconds>(),
  signersHash: digest<Hash>(),
})

/** `[version, type, time, …]`: the type says what comes last. */
export const proposalCodec: Codec<BlockProposal> = {
  toWire: proposal =>
    proposal.type === 'handover'
      ? handoverProposalCodec.toWire(proposal)
      : transactionsProposalCodec.toWire(proposal),
  fromWire: (wire, path) => {
    if (!Array.isArray(wire) || wire.length !== 4) malformed(path, 'an array of 4', wire)
    const type = proposalTypeCodec.fromWire(wire[1], `${path}.type`)
    return (type === 'handover' ? handoverProposalCodec : transactionsProposalCodec).fromWire(wire, path)
  },
}

/**
 * The time of an encoded proposal, read off its first bytes without the transactions behind them; undefined for what does
 * not begin like one.
 */
export function proposalTime(data: Uint8Array): Milliseconds | undefined {
  const [array, version, type, first = 0] = data
  const isProposal = array === 0x94 && version === 1 && type !== undefined && type >= 1 && type <= 3
  if (!isProposal) return undefined
  const width = { 204: 2, 205: 3, 206: 5, 211: 9 }[first] ?? 1
  const time = decode(uint<Milliseconds>(), data.subarray(3, 3 + width))
  return time.ok ? time.value : undefined
}

/** Reads the data of a Raft entry. Refuses `malformed` and `too-large`; such an entry makes no block on any node. */
export function decodeProposal(data: Uint8Array): Result<BlockProposal> {
  const decoded = decodeSharing(proposalCodec, data)
  if (decoded.ok && decoded.value.type === 'heartbeat' && decoded.value.transactions.length > 0)
    return refuse('malformed', 'transactions: expected none in a heartbeat')
  return decoded
}

type Fields<K extends ChainEvent['type']> = Omit<Extract<ChainEvent, { type: K }>, 'type'>
const counter = uint(0xffff_ffff)
const eventCodec: Codec<ChainEvent> = union<ChainEvent>({
  'grant.created': [1, struct<Fields<'grant.created'>>({ grant: digest<GrantId>() })],
  'identity.registered': [
    2,
    struct<Fields<'identity.registered'>>({
      subject: digest<DeviceId>(),
      label: labelCodec,
      status: identityStatusCodec,
      grant: digest<GrantId>(),
    }),
  ],
  'identity.status': [
    3,
    struct<Fields<'identity.status'>>({ subject: digest<DeviceId>(), status: identityStatusCodec }),
  ],
  'key.added': [4, struct<Fields<'key.added'>>({ subject: digest<DeviceId>(), key: digest<KeyId>() })],
  'key.ended': [
    5,
    struct<Fields<'key.ended'>>({
      subject: digest<DeviceId>(),
      key: digest<KeyId>(),
      at: uint<Milliseconds>(),
    }),
  ],
  'group.membership': [
    6,
    struct<Fields<'group.membership'>>({
      group: digest<GroupId>(),
      membershipVersion: counter,
      memberCount: counter,
    }),
  ],
  'group.rekeyed': [7, struct<Fields<'group.rekeyed'>>({ group: digest<GroupId>(), epoch: counter })],
  'consenters.approved': [
    8,
    struct<Fields<'consenters.approved'>>({
      authority: digest<DeviceId>(),
      target: digest<Hash>(),
      approvals: counter,
    }),
  ],
  'consenters.decided': [
    9,
    struct<Fields<'consenters.decided'>>({ target: digest<Hash>(), parametersVersion: counter }),
  ],
  'identity.rights': [
    10,
    struct<Fields<'identity.rights'>>({ subject: digest<DeviceId>(), version: counter }),
  ],
  'identity.credentials': [
    12,
    struct<Fields<'identity.credentials'>>({ subject: digest<DeviceId>(), version: counter }),
  ],
  'group.owner': [11, struct<Fields<'group.owner'>>({ group: digest<GroupId>(), owner: digest<DeviceId>() })],
  ...recordEventVariants,
})

/** Events of one transaction: a revocation ends one membership per group, a batch has one for each record. */
const maxEvents = 128

export const receiptCodec: Codec<Receipt> = struct<Receipt>({
  id: digest<TransactionId>(),
  code: oneOf<ReceiptCode>(receiptNumbers),
  events: list(eventCodec, maxEvents),
})

/** The receipts of one block. */
export const receiptsCodec: Codec<readonly Receipt[]> = list(receiptCodec, maxBlockTransactions)

export const blockCodec: Codec<Block> = struct<Block>({
  header: headerCodec,
  transactions: transactionsCodec,
  receipts: receiptsCodec,
})

/** The devices whose history lists a transaction (Qiu A7): its signer, and whom it is about. */
export function devicesOf({ signer, body }: UnsignedTransaction): DeviceId[] {
  const about = [...aboutWhom(body), ...attestedSources(body)]
  return [...new Set([signer.deviceId, ...about])]
}

function aboutWhom(body: TransactionBody): readonly DeviceId[] {
  if ('subject' in body) return [body.subject]
  if ('members' in body) return body.members
  if ('owner' in body) return [body.from, body.owner]
  return 'target' in body ? body.target.consenters.map(({ id }) => id) : []
}

/** A transaction of a block and how it ended, for people and programs. Proof is the block's. */
export interface TransactionView {
  readonly id: TransactionId
  readonly index: number
  readonly kind: string
  /** Undefined for a transaction that cannot be read, whose kind is then `unreadable`. */
  readonly signer: DeviceId | undefined
  readonly code: ReceiptCode
}

/** One for each receipt of a block. */
export function transactionViews({
  transactions,
  receipts,
}: Pick<Block, 'transactions' | 'receipts'>): TransactionView[] {
  return receipts.map(({ id, code }, index) => {
    const parsed = parseTransaction(transactions[index] ?? new Uint8Array())
    if (!parsed.ok) return { id, index, kind: 'unreadable', signer: undefined, code }
    const { body, signer } = parsed.value.unsigned
    return { id, index, kind: body.type, signer: signer.deviceId, code }
  })
}
