/**
 * What ties a message to its transaction, in memory and in bytes on the disk: until the outcome is there the whole transaction, and then how it
 * ended. And the sessions that ties belong to.
 */
import { createHash } from 'node:crypto'
import { receiptCodec } from '../../chain/block.ts'
import type { DeviceId, Height, Milliseconds, TransactionId } from '../../chain/brands.ts'
import {
  boolean,
  bytes,
  type Codec,
  constant,
  digest,
  encode,
  struct,
  text,
  uint,
  union,
} from '../../chain/codec.ts'
import { type ErrorCode, errorTable } from '../../chain/errors.ts'
import { bytesToHex, hexToBytes } from '../../chain/hex.ts'
import { MoteError } from '../../chain/result.ts'
import { maxTransactionBytes, type ParsedTransaction, parseTransaction } from '../../chain/transaction.ts'
import type { StoreChange } from '../../client/message-store.ts'
import { decodeStored } from '../../client/stored-value.ts'
import type { RecordOutcome } from './recorder.ts'

/** A message whose outcome is open. */
export interface OpenRecord {
  transaction: ParsedTransaction
  readonly ties: Set<Tie>
}

/** By which a message is found again. */
export interface Tie {
  readonly key: string
  /** Hexadecimal, of the message. */
  readonly digest: string
  /** 0: by its message id. */
  readonly qos: 0 | 1 | 2
  readonly at: Milliseconds
  /** Undefined once it has ended, and that is on the disk. */
  open: OpenRecord | undefined
  /** Undefined: it is tied by its message id. */
  readonly place: { readonly session: SessionTies; readonly packetIdentifier: number } | undefined
}

/** What a client has sent in one life of its session. */
export interface SessionTies {
  readonly hash: string
  /** Beginning of the client's name: a device's id, where clients are devices. */
  readonly owner: string
  readonly incarnation: string
  readonly isClean: boolean
  seenAt: Milliseconds
  readonly ties: Map<number, Tie>
}

/** Of a client's name: a device's id has as many. */
export const ownerCharacters = 64
/** Of what nobody repeats. */
export const openPrefix = 'open/'
/** Of the reason why a record was refused. */
const maxDetailBytes = 1_024
const formatVersion = 1 as const

type StoredState = { readonly type: 'open'; readonly transaction: Uint8Array } | RecordOutcome

interface StoredTie {
  readonly version: typeof formatVersion
  readonly digest: Uint8Array
  readonly qos: 0 | 1 | 2
  readonly at: Milliseconds
  readonly state: StoredState
}
type StateFields<K extends StoredState['type']> = Omit<Extract<StoredState, { type: K }>, 'type'>
const codes = Object.keys(errorTable).join('|')
const tieCodec: Codec<StoredTie> = struct<StoredTie>({
  version: constant(formatVersion),
  digest: bytes(32),
  qos: uint(2) as Codec<number> as Codec<0 | 1 | 2>,
  at: uint<Milliseconds>(),
  state: union<StoredState>({
    open: [1, struct<StateFields<'open'>>({ transaction: bytes(1, maxTransactionBytes) })],
    certified: [
      2,
      struct<StateFields<'certified'>>({
        transaction: digest<TransactionId>(),
        height: uint<Height>(),
        index: uint(0xffff),
        receipt: receiptCodec,
      }),
    ],
    refused: [
      3,
      struct<StateFields<'refused'>>({
        transaction: digest<TransactionId>(),
        code: text(64, new RegExp(`^(?:${codes})$`)) as Codec<string> as Codec<ErrorCode>,
        detail: text(maxDetailBytes),
      }),
    ],
  }),
})

interface StoredSession {
  readonly version: typeof formatVersion
  readonly owner: string
  readonly incarnation: string
  readonly isClean: boolean
  readonly seenAt: Milliseconds
}
const sessionCodec: Codec<StoredSession> = struct<StoredSession>({
  version: constant(formatVersion),
  owner: text(4 * ownerCharacters),
  incarnation: text(16),
  isClean: boolean,
  seenAt: uint<Milliseconds>(),
})

/** What became of a message so far: the transaction that is open, or how it ended. */
export type TieState = ParsedTransaction | RecordOutcome

/** The tie as it is written. */
export function changeOf({ key, digest, qos, at }: Tie, state: TieState): StoreChange {
  const stored = { version: formatVersion, digest: hexToBytes(digest), qos, at, state: storedState(state) }
  return { key, value: encode(tieCodec, stored) }
}

/** The tie when its message has ended: what nobody repeats need not be answered again. */
export function endOf(tie: Tie, outcome: RecordOutcome): StoreChange {
  return tie.key.startsWith(openPrefix) ? gone(tie.key) : changeOf(tie, outcome)
}

export function gone(key: string): StoreChange {
  return { key, value: undefined }
}

/** The session as it is written, without its ties. */
export function sessionChange({ hash, owner, incarnation, isClean, seenAt }: SessionTies): StoreChange {
  const stored = { version: formatVersion, owner, incarnation, isClean, seenAt }
  return { key: `session/${hash}`, value: encode(sessionCodec, stored) }
}

/** A session as it was written. Throws `storage-corrupt`. */
export function readSession(hash: string, value: Uint8Array): SessionTies {
  const { version: _, ...session } = decodeStored(sessionCodec, value, `records: session/${hash}`)
  return { ...session, hash, ties: new Map() }
}

/** A tie as it was written. Throws `storage-corrupt`. */
export function readTie(
  key: string,
  value: Uint8Array,
): { readonly tie: Omit<Tie, 'place' | 'open'>; readonly state: TieState } {
  const name = `records: ${key}`
  const { digest, qos, at, state } = decodeStored(tieCodec, value, name)
  const tie = { key, digest: bytesToHex(digest), qos, at }
  if (state.type !== 'open') return { tie, state }
  const parsed = parseTransaction(state.transaction)
  if (parsed.ok) return { tie, state: parsed.value }
  throw new MoteError('storage-corrupt', `${name}: ${parsed.error.detail}`)
}

/** Of any text, of one length. */
export function nameHash(name: string): string {
  return createHash('sha256').update(name, 'utf8').digest('hex')
}

/** Where an exchange is tied. */
export function exchangeKey({ hash }: SessionTies, packetIdentifier: number): string {
  return `exchange/${hash}/${packetIdentifier.toString(16).padStart(4, '0')}`
}

/** Where a message is tied that its device has named. */
export function messageKey(device: DeviceId, messageId: string): string {
  return `message/${device}/${nameHash(messageId)}`
}

/** Those in which nothing is open, then the others: a client that has no answer yet is the one that repeats itself. */
export function endedFirst(sessions: readonly SessionTies[]): readonly SessionTies[] {
  const isOpen = ({ ties }: SessionTies) => [...ties.values()].some(({ open }) => open)
  return [...sessions.filter(session => !isOpen(session)), ...sessions.filter(isOpen)]
}

function storedState(state: TieState): StoredState {
  if ('bytes' in state) return { type: 'open', transaction: state.bytes }
  return state.type === 'refused' ? { ...state, detail: shortened(state.detail) } : state
}

function shortened(detail: string): string {
  const bytesOfDetail = Buffer.from(detail, 'utf8')
  if (bytesOfDetail.length <= maxDetailBytes) return detail
  return bytesOfDetail
    .subarray(0, maxDetailBytes - 4)
    .toString('utf8')
    .replace(/\ufffd+$/, '')
}
