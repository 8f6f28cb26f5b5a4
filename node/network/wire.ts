/**
 * The values that travel on the long-lived streams of a node (docs/FORMATS.md has the byte tables): Raft messages and
 * clocks, header signatures, transactions on their way to the leader.
 *
 * A Raft message does not say whom it is from: the transport knows. Entries of an append do not say their index:
 * they follow `prevLogIndex`.
 */
import type { DeviceId, Hash, Height, Milliseconds, Term, TransactionId } from '../../chain/brands.ts'
import {
  boolean,
  bytes,
  type Codec,
  digest,
  encode,
  list,
  oneOf,
  optional,
  struct,
  uint,
  union,
} from '../../chain/codec.ts'
import { maxTransactionBytes } from '../../chain/transaction.ts'
import { maxEntriesPerMessage } from '../../consensus/message-check.ts'
import type { Entry, Message } from '../../consensus/types.ts'
import type { ClockSample, PeerMessage, SignatureMessage, TransactionRefusal } from '../ports.ts'
import { configurationCodec, snapshotCodec } from '../raft-codecs.ts'
import { refusalFields } from './answer-frame.ts'
import { protocols, type StreamProtocol } from './protocols.ts'

/* ---------------------------------------------------------------- /mote/raft/1 */

type WithoutFrom<M> = M extends unknown ? Omit<M, 'from'> : never
/** A Raft message as it travels. */
export type RaftFrame = WithoutFrom<Message>
type AppendEntries = Extract<RaftFrame, { type: 'append-entries' }>
type EntryFrame = Pick<Entry, 'term' | 'type' | 'data' | 'configuration'>

const index = uint()
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

/* ---------------------------------------------------------------- clocks, on /mote/raft/1 */

/* Clocks on `/mote/raft/1`, beside heartbeats and their answers (docs/FORMATS.md). */

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
