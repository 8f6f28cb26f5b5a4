/**
 * The values that travel in the frames of a node (docs/FORMATS.md has the byte tables): Raft messages and clocks, header
 * signatures, transactions on their way to the leader; and what comes back on a request stream, refusals among it.
 *
 * A Raft message does not say whom it is from: the transport knows. Entries of an append do not say their index:
 * they follow `prevLogIndex`.
 */
import type { DeviceId, Hash, Height, Milliseconds, Term, TransactionId } from '../../chain/brands.ts'
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
} from '../../chain/codec.ts'
import { type ErrorCode, errorTable } from '../../chain/errors.ts'
import { ok, type Refusal, type Result } from '../../chain/result.ts'
import { maxTransactionBytes } from '../../chain/transaction.ts'
import { maxEntriesPerMessage } from '../../consensus/message-check.ts'
import type { Entry } from '../../consensus/types.ts'
import {
  type ClockSample,
  configurationCodec,
  type PeerMessage,
  type RaftMessage,
  type RequestProtocol,
  type SignatureMessage,
  snapshotCodec,
  type TransactionRefusal,
} from '../ports.ts'
import { type AnswerLimit, type ProtocolName, protocols, type StreamProtocol } from './protocols.ts'

/* ---------------------------------------------------------------- answers of request protocols */

const maxDetailLength = 512
export const refusalFields = { code: text(64, /^[a-z0-9-]+$/), detail: text(maxDetailLength * 4) }

/** What comes back on a request stream: the protocol's own body, or a refusal. */
export type AnswerFrame =
  | { readonly type: 'body'; readonly body: Uint8Array }
  | { readonly type: 'refusal'; readonly code: string; readonly detail: string }

/** What an answer's frame adds to its body: two arrays, a number and the length. */
const answerFrameBytes = 8
const largestAnswerBytes = Math.max(...Object.values(protocols).map(({ maxAnswerBytes }) => maxAnswerBytes))

export const answerCodec: Codec<AnswerFrame> = union<AnswerFrame>({
  body: [1, struct({ body: bytes(0, largestAnswerBytes) })],
  refusal: [2, struct(refusalFields)],
})

/** Largest frame of an answer; one of hello has no frame of its own around it. */
export function maxAnswerFrameBytes(protocol: ProtocolName): AnswerLimit {
  return (protocols[protocol].maxAnswerBytes + answerFrameBytes) as AnswerLimit
}

/** The frame of an answer. A body over the limit becomes the refusal `too-large`: the asker could not take it. */
export function encodeAnswerFrame(protocol: RequestProtocol, answer: AnswerFrame): Uint8Array {
  const { maxAnswerBytes } = protocols[protocol]
  if (answer.type === 'refusal' || answer.body.length <= maxAnswerBytes) return encode(answerCodec, answer)
  const detail = `${protocol}: expected an answer of at most ${maxAnswerBytes} bytes, got ${answer.body.length}`
  return encode(answerCodec, { type: 'refusal', code: 'too-large', detail })
}

/** What is in a frame that `encodeAnswer` made. Refuses with `too-large` or `malformed`. */
export function decodeAnswerFrame(protocol: RequestProtocol, frame: Uint8Array): Result<AnswerFrame> {
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

/* ---------------------------------------------------------------- /mote/raft/1 */

type WithoutFrom<M> = M extends unknown ? Omit<M, 'from'> : never
/** A Raft message as it travels. */
export type RaftFrame = WithoutFrom<RaftMessage>
type AppendEntries = Extract<RaftFrame, { type: 'append-entries' }>
type EntryFrame = Pick<Entry, 'term' | 'type' | 'data' | 'configuration'>

const index = uint()
/** Of an acknowledgement (acknowledgements.ts). */
export const macBytes = 32
const term = uint()
/** Most bytes of entries that a node is configured to put into an append; leaves room in the frame for the rest. */
export const maxAppendBytes = 3 * 1024 * 1024

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
      mac: optional(bytes(macBytes)),
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

/** `transactions`, at least one, in parts that fit into a frame each. */
export function* forwardFrames(transactions: readonly Uint8Array[]): Generator<readonly Uint8Array[]> {
  let frame: Uint8Array[] = []
  let bytes = 0
  for (const transaction of transactions) {
    const full = bytes + transaction.length > maxForwardedBytes || frame.length >= maxForwardedTransactions
    if (frame.length > 0 && full) {
      yield frame
      frame = []
      bytes = 0
    }
    frame.push(transaction)
    bytes += transaction.length
  }
  yield frame
}

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

/** The message in a frame that came on such a stream; a Raft message is `from` whom the transport knows. Refuses with `malformed`. */
export function messageOf(protocol: StreamProtocol, frame: Uint8Array, from: DeviceId): Result<PeerMessage> {
  if (protocol === 'raft') {
    const decoded = decode(raftStreamCodec, frame)
    if (!decoded.ok) return decoded
    const { value } = decoded
    return ok(value.type === 'raft' ? { type: 'raft', message: { ...value.message, from } } : value)
  }
  if (protocol === 'forward') return decode(forwardCodec, frame)
  const signatures = decode(signaturesCodec, frame)
  return signatures.ok ? ok({ type: 'signatures', signatures: signatures.value }) : signatures
}

/* ---------------------------------------------------------------- clocks, on /mote/raft/1 */

/** A reading of a clock counts this long. */
export const clockSampleMaxAgeMs = 10_000
/** Most readings in one message: as many as there can be members. */
export const maxClockSamples = 256

export type ClocksFrame = Extract<PeerMessage, { type: 'clocks' }>

/** The kind of the frame; Raft's own are below. */
export const clocksKind = 16

export const clocksCodec: Codec<ClocksFrame> = union<ClocksFrame>({
  clocks: [
    clocksKind,
    struct({
      samples: list(
        struct<ClockSample>({
          id: digest<DeviceId>(),
          wall: uint<Milliseconds>(),
          ageMs: uint(clockSampleMaxAgeMs),
        }),
        maxClockSamples,
      ),
    }),
  ],
})
