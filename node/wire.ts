/**
 * The libp2p protocols of a node and the values that travel on them (docs/FORMATS.md has the byte tables).
 *
 * Long-lived, one frame per message, one stream per direction: `/mote/raft/1`, `/mote/certify/1`.
 * One request frame, one answer frame, then the stream ends: `/mote/query/1`, `/mote/join/1`, `/mote/registry/1`,
 * `/mote/member/1` (member-protocol.ts).
 * `/mote/hello/1` is in hello.ts; the bodies of join are the same bytes as `POST /v1/join` takes.
 *
 * A Raft message does not say whom it is from: the transport knows. Entries of an append do not say their index:
 * they follow `prevLogIndex`.
 */
import type {
  DeviceId,
  GroupId,
  Hash,
  Height,
  Milliseconds,
  StateKey,
  Term,
  TransactionId,
} from '../chain/brands.ts'
import {
  boolean,
  bytes,
  type Codec,
  decode,
  digest,
  encode,
  list,
  oneOf,
  optional,
  struct,
  text,
  uint,
  union,
} from '../chain/codec.ts'
import { type ErrorCode, errorTable } from '../chain/errors.ts'
import type { Refusal, Result } from '../chain/result.ts'
import { maxTransactionBytes } from '../chain/transaction.ts'
import { type HistoryCursor, maxHeadersPerAnswer } from '../client/chain-source.ts'
import { maxEntriesPerMessage } from '../consensus/message-check.ts'
import type { Entry, Message } from '../consensus/types.ts'
import { type ClocksFrame, clocksCodec, clocksKind } from './clock-frame.ts'
import type { PeerMessage, RequestProtocol, SignatureMessage, TransactionRefusal } from './ports.ts'
import { configurationCodec, snapshotCodec } from './store-records.ts'

export type StreamProtocol = 'raft' | 'certify' | 'forward'
export type ProtocolName = StreamProtocol | RequestProtocol | 'hello'

/** Largest frame towards who serves: a request, or a message of a long-lived stream. */
export type RequestLimit = number & { readonly limitOf: 'request' }
/** Largest body of an answer. Another type than `RequestLimit`: neither can stand for the other. */
export type AnswerLimit = number & { readonly limitOf: 'answer' }

interface ProtocolRow {
  readonly id: string
  readonly maxFrameBytes: RequestLimit
  /** 0 where nothing is answered. */
  readonly maxAnswerBytes: AnswerLimit
  /** Streams of this protocol that one connection may have open in one direction. */
  readonly maxStreams: number
}

const kibibyte = 1024
const mebibyte = 1024 * kibibyte

interface RowLimits {
  readonly frame: number
  readonly answer: number
  readonly streams: number
}

function row(id: string, { frame, answer, streams }: RowLimits): ProtocolRow {
  return {
    id,
    maxFrameBytes: frame as RequestLimit,
    maxAnswerBytes: answer as AnswerLimit,
    maxStreams: streams,
  }
}

export const protocols: { readonly [K in ProtocolName]: ProtocolRow } = {
  hello: row('/mote/hello/1', { frame: mebibyte, answer: mebibyte, streams: 1 }),
  raft: row('/mote/raft/1', { frame: 4 * mebibyte, answer: 0, streams: 2 }),
  certify: row('/mote/certify/1', { frame: 256 * kibibyte, answer: 0, streams: 2 }),
  forward: row('/mote/forward/1', { frame: 2 * mebibyte, answer: 0, streams: 2 }),
  query: row('/mote/query/1', { frame: 32 * kibibyte, answer: 4 * mebibyte, streams: 32 }),
  join: row('/mote/join/1', { frame: 64 * kibibyte, answer: 64 * kibibyte, streams: 4 }),
  member: row('/mote/member/1', { frame: kibibyte, answer: 4 * mebibyte, streams: 16 }),
  registry: row('/mote/registry/1', { frame: 64 * kibibyte, answer: 64 * kibibyte, streams: 4 }),
}

/** The value of a request's body. Refuses with `too-large` or `malformed`. */
export function decodeRequest<T>(protocol: RequestProtocol, codec: Codec<T>, body: Uint8Array): Result<T> {
  return decode(codec, body, protocols[protocol].maxFrameBytes)
}

/** The value of an answer's body. Refuses with `too-large` or `malformed`. */
export function decodeAnswer<T>(protocol: RequestProtocol, codec: Codec<T>, body: Uint8Array): Result<T> {
  return decode(codec, body, protocols[protocol].maxAnswerBytes)
}

/* ---------------------------------------------------------------- /mote/raft/1 */

type WithoutFrom<M> = M extends unknown ? Omit<M, 'from'> : never
/** A Raft message as it travels. */
export type RaftFrame = WithoutFrom<Message>
type AppendEntries = Extract<RaftFrame, { type: 'append-entries' }>
type EntryFrame = Pick<Entry, 'term' | 'type' | 'data' | 'configuration'>

const index = uint()
const term = uint()
/** Most bytes of entries that a node is configured to put into an append; leaves room in the frame for the rest. */
export const maxAppendBytes = 3 * mebibyte

const entryFrameCodec: Codec<EntryFrame> = struct({
  term,
  type: oneOf({ command: 1, noop: 2, configuration: 3 }),
  data: bytes(0, protocols.raft.maxFrameBytes),
  configuration: optional(configurationCodec),
}) as Codec<EntryFrame>

const appendFieldsCodec = struct<
  Omit<AppendEntries, 'type' | 'entries'> & { entries: readonly EntryFrame[] }
>({
  term,
  prevLogIndex: index,
  prevLogTerm: term,
  leaderCommit: index,
  readContext: uint(),
  entries: list(entryFrameCodec, maxEntriesPerMessage),
})

const appendCodec: Codec<Omit<AppendEntries, 'type'>> = {
  toWire: appendFieldsCodec.toWire,
  fromWire: (wire, path) => {
    const append = appendFieldsCodec.fromWire(wire, path)
    return {
      ...append,
      entries: append.entries.map((entry, i) => indexed(entry, append.prevLogIndex + 1 + i)),
    }
  },
}

function indexed({ term, type, data, configuration }: EntryFrame, index: number): Entry {
  return configuration === undefined
    ? { index, term, type, data }
    : { index, term, type, data, configuration }
}

export const raftCodec: Codec<RaftFrame> = union<RaftFrame>({
  'request-vote': [
    1,
    struct({
      term,
      lastLogIndex: index,
      lastLogTerm: term,
      preVote: boolean,
      leadershipTransfer: boolean,
    }),
  ],
  vote: [2, struct({ term, voteGranted: boolean, preVote: boolean })],
  'append-entries': [3, appendCodec],
  'append-response': [
    4,
    struct({
      term,
      success: boolean,
      prevLogIndex: index,
      matchIndex: index,
      conflictIndex: index,
      conflictTerm: term,
      readContext: uint(),
      full: boolean,
    }),
  ],
  'install-snapshot': [5, struct({ term, snapshot: snapshotCodec })],
  'snapshot-response': [6, struct({ term, lastIncludedIndex: index, success: boolean })],
  'timeout-now': [7, struct({ term })],
  heard: [8, struct({ term, readContext: uint() })],
})

/** What one frame of `/mote/raft/1` carries: a Raft message, or clocks, which travel beside heartbeats and answers. */
export type RaftStreamFrame = { readonly type: 'raft'; readonly message: RaftFrame } | ClocksFrame

export const raftStreamCodec: Codec<RaftStreamFrame> = {
  toWire: frame => (frame.type === 'raft' ? raftCodec.toWire(frame.message) : clocksCodec.toWire(frame)),
  fromWire: (wire, path) =>
    Array.isArray(wire) && wire[0] === clocksKind
      ? clocksCodec.fromWire(wire, path)
      : { type: 'raft', message: raftCodec.fromWire(wire, path) },
}

/* ---------------------------------------------------------------- /mote/certify/1 */

/** More header signatures than one frame carries. */
export const maxSignaturesPerFrame = 1024

export const signaturesCodec: Codec<readonly SignatureMessage[]> = list(
  struct<SignatureMessage>({
    incarnation: uint(),
    height: uint<Height>(),
    term: uint<Term>(),
    headerHash: digest<Hash>(),
    signature: bytes(64),
  }),
  maxSignaturesPerFrame,
  1,
)

/* ---------------------------------------------------------------- /mote/forward/1 */

/** Most transactions, or refusals, of one frame. */
export const maxForwardedTransactions = 4096
/** Most bytes of the transactions of one frame; leaves room for the encoding. */
export const maxForwardedBytes = 1024 * 1024

/** Transactions on their way to the leader, and what it refused. */
export type ForwardFrame = Extract<PeerMessage, { type: 'transactions' | 'refusals' }>

const maxDetailLength = 512
export const refusalFields = { code: text(64, /^[a-z0-9-]+$/), detail: text(maxDetailLength * 4) }

export const forwardCodec: Codec<ForwardFrame> = union<ForwardFrame>({
  transactions: [
    1,
    struct({ transactions: list(bytes(1, maxTransactionBytes), maxForwardedTransactions, 1) }),
  ],
  refusals: [
    2,
    struct({
      refusals: list(
        struct<TransactionRefusal>({ id: digest<TransactionId>(), ...refusalFields }),
        maxForwardedTransactions,
        1,
      ),
    }),
  ],
})

/** The stream that a message travels on, and its bytes. */
export function framed(message: PeerMessage): {
  readonly protocol: StreamProtocol
  readonly payload: Uint8Array
} {
  switch (message.type) {
    case 'raft':
    case 'clocks':
      return { protocol: 'raft', payload: encode(raftStreamCodec, message) }
    case 'signatures':
      return { protocol: 'certify', payload: encode(signaturesCodec, message.signatures) }
    default:
      return { protocol: 'forward', payload: encode(forwardCodec, message) }
  }
}

/* ---------------------------------------------------------------- answers of request protocols */

/** What comes back on a request stream: the protocol's own body, or a refusal. */
export type Answer =
  | { readonly type: 'body'; readonly body: Uint8Array }
  | { readonly type: 'refusal'; readonly code: string; readonly detail: string }

/** What an answer's frame adds to its body: two arrays, a number and the length. */
const answerFrameBytes = 8
const largestAnswerBytes = Math.max(...Object.values(protocols).map(({ maxAnswerBytes }) => maxAnswerBytes))

export const answerCodec: Codec<Answer> = union<Answer>({
  body: [1, struct({ body: bytes(0, largestAnswerBytes) })],
  refusal: [2, struct(refusalFields)],
})

/** Largest frame of an answer; one of hello has no frame of its own around it. */
export function maxAnswerFrameBytes(protocol: ProtocolName): AnswerLimit {
  return (protocols[protocol].maxAnswerBytes + answerFrameBytes) as AnswerLimit
}

/** The frame of an answer. A body over the limit becomes the refusal `too-large`: the asker could not take it. */
export function encodeAnswer(protocol: RequestProtocol, answer: Answer): Uint8Array {
  const { maxAnswerBytes } = protocols[protocol]
  if (answer.type === 'refusal' || answer.body.length <= maxAnswerBytes) return encode(answerCodec, answer)
  const detail = `${protocol}: expected an answer of at most ${maxAnswerBytes} bytes, got ${answer.body.length}`
  return encode(answerCodec, { type: 'refusal', code: 'too-large', detail })
}

/** What is in a frame that `encodeAnswer` made. Refuses with `too-large` or `malformed`. */
export function decodeAnswerFrame(protocol: RequestProtocol, frame: Uint8Array): Result<Answer> {
  return decode(answerCodec, frame, maxAnswerFrameBytes(protocol))
}

/** A refusal as it is sent: the detail is cut to what a frame takes. */
export function refusalFrame({ code, detail }: Refusal): Refusal {
  return { code, detail: detail.slice(0, maxDetailLength) }
}

/** A peer's refusal; a code that this version does not know is `internal`. */
export function refusalFrom({ code, detail }: { code: string; detail: string }): Refusal {
  return Object.hasOwn(errorTable, code)
    ? { code: code as ErrorCode, detail }
    : { code: 'internal', detail: `${code}: ${detail}` }
}

/* ---------------------------------------------------------------- /mote/query/1 */

/** Longest wait for news in one query: shorter than an answer may take (network-limits.ts). */
export const maxWaitMs = 25_000

/** The reads and the submission of the HTTP API, over libp2p. An answer's body is the codec that the comment names. */
export type Query =
  /** `certifiedHeaderCodec`. Answered before hello. */
  | { readonly type: 'head' }
  /** List of `certifiedHeaderCodec`. */
  | { readonly type: 'headers'; readonly from: Height; readonly limit: number }
  /** `stateAnswerCodec`, at the latest certified height unless one is given. */
  | { readonly type: 'state'; readonly key: StateKey; readonly height: Height | undefined }
  /** UTF-8 JSON of the transaction's status. */
  | {
      readonly type: 'submit'
      readonly transaction: Uint8Array
      readonly wait: 'none' | 'committed' | 'certified'
    }
  /** UTF-8 JSON of the transaction's status. */
  | { readonly type: 'transaction'; readonly id: TransactionId }
  /** `ownStatusCodec`, of one's own identity: how a device learns that it was admitted. Answered before hello. */
  | { readonly type: 'own-status'; readonly device: DeviceId }
  /** `certifiedHeaderCodec` of the newest header once it is higher than `after`; empty when the time is over. */
  | { readonly type: 'wait'; readonly after: Height; readonly timeoutMs: number }
  /** `certifiedHeaderCodec`, its certificate possibly absent. */
  | { readonly type: 'header'; readonly height: Height }
  /** `groupAnswerCodec`. */
  | { readonly type: 'group'; readonly id: GroupId }
  /** UTF-8 JSON of the node's status. */
  | { readonly type: 'status' }
  /** UTF-8 JSON of a page of the transactions that touched a device. */
  | { readonly type: 'history'; readonly device: DeviceId; readonly before: HistoryCursor | undefined }
  /** `coordinationAddressesCodec`. Answered before hello. */
  | { readonly type: 'coordination' }

export const queryCodec: Codec<Query> = union<Query>({
  head: [1, struct({})],
  headers: [2, struct({ from: uint<Height>(), limit: uint(maxHeadersPerAnswer) })],
  state: [3, struct({ key: digest<StateKey>(), height: optional(uint<Height>()) })],
  submit: [
    4,
    struct({
      transaction: bytes(1, maxTransactionBytes),
      wait: oneOf({ none: 0, committed: 1, certified: 2 }),
    }),
  ],
  transaction: [5, struct({ id: digest<TransactionId>() })],
  'own-status': [6, struct({ device: digest<DeviceId>() })],
  wait: [7, struct({ after: uint<Height>(), timeoutMs: uint(maxWaitMs) })],
  header: [8, struct({ height: uint<Height>() })],
  group: [9, struct({ id: digest<GroupId>() })],
  status: [10, struct({})],
  history: [
    11,
    struct({
      device: digest<DeviceId>(),
      before: optional(struct<HistoryCursor>({ height: uint<Height>(), index: uint() })),
    }),
  ],
  coordination: [12, struct({})],
})

/* ---------------------------------------------------------------- /mote/registry/1 */

/** A full node tells a coordination node that it lives. Who it is, hello has proven. The answer's body is empty. */
export interface Heartbeat {
  /** Multiaddrs it listens on. */
  readonly addresses: readonly string[]
  /** Base URL of its HTTP API. */
  readonly api: string
  readonly height: Height
  readonly certifiedHeight: Height
  /** Lightweight nodes it serves. */
  readonly clients: number
  readonly maxClients: number
  readonly time: Milliseconds
}

export const heartbeatCodec: Codec<Heartbeat> = struct({
  addresses: list(text(256), 8),
  api: text(256, /^(https?:\/\/[!-~]*)?$/),
  height: uint<Height>(),
  certifiedHeight: uint<Height>(),
  clients: uint(),
  maxClients: uint(),
  time: uint<Milliseconds>(),
})
