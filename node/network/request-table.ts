/**
 * Every request that one node makes of another, one row each: what it carries either way, who may ask it, of whom its
 * answer may be taken, what it costs. Client stub and server (requests.ts), the tables of docs/FORMATS.md and the rows of
 * docs/LIMITS.md follow from it, and nothing of the kind is decided anywhere else.
 *
 * On the wire a request is `[kind, its fields]`; its answer has a frame of its own (wire.ts).
 */
import { receiptsCodec } from '../../chain/block.ts'
import type {
  DeviceId,
  GroupId,
  Hash,
  Height,
  Milliseconds,
  StateKey,
  TransactionId,
} from '../../chain/brands.ts'
import { bytes, type Codec, digest, list, oneOf, optional, struct, text, uint } from '../../chain/codec.ts'
import { signatureBytes } from '../../chain/keys.ts'
import {
  type CertifiedHeader,
  certifiedHeaderCodec,
  type StateAnswer,
  stateAnswerCodec,
} from '../../chain/light-client.ts'
import { Malformed } from '../../chain/messagepack.ts'
import { maxTransactionBytes } from '../../chain/transaction.ts'
import {
  type DeviceTransaction,
  encodeHeaderPage,
  groupAnswerCodec,
  type HistoryCursor,
  headerListCodec,
  isDeviceTransactions,
  isNodeStatus,
  isTransactionStatus,
  type ListedType,
  maxHeadersPerAnswer,
  type NodeStatus,
  recordPageCodec,
  type SubmitWait,
  type TransactionStatus,
} from '../../client/chain-source.ts'
import { coordinationAddressesCodec } from '../../client/coordination-address.ts'
import { assignmentCodec, maxAddressBytes, maxJoinMessageBytes } from '../../client/join-messages.ts'
import type { Acknowledgement, HeaderSignature, RequestProtocol } from '../ports.ts'
import { maxHelloHandovers } from './hello.ts'
import { protocols } from './protocols.ts'
import { macBytes } from './wire.ts'

/** Whoever has connected, or only a peer whose identity is proven and known to stand (hello.ts). */
export type Asker = 'anyone' | 'confirmed'

/** One request. */
export interface RequestRow<Request, Answer, From extends Asker = Asker> {
  readonly protocol: RequestProtocol
  readonly name: string
  /** Number on the wire. */
  readonly kind: number
  readonly request: Codec<Request>
  readonly answer: Codec<Answer>
  /** The bytes of an answer, where `encode` of its codec would not do. */
  readonly encodeAnswer?: (answer: Answer) => Uint8Array
  /** Who may ask. */
  readonly from: From
  /** Of whom an answer may be taken: of anyone where it proves itself, else of a peer whose identity is known to stand. */
  readonly of: Asker
  /**
   * In units of reading one record, out of what a proven peer may ask (protocols.ts). A node that
   * catches up with 5,000 headers needs some tens of pages; one that follows, one unit for each block.
   */
  readonly cost: number
  /** Of a request that asks for less than it may: at most `cost`. */
  costOf?(request: Request): number
}

const rowsOf =
  (protocol: RequestProtocol) =>
  <Request, Answer, From extends Asker>(
    kind: number,
    name: string,
    shapes: Pick<RequestRow<Request, Answer>, 'request' | 'answer' | 'encodeAnswer'>,
    rights: Pick<RequestRow<Request, Answer, From>, 'from' | 'of' | 'cost' | 'costOf'>,
  ): RequestRow<Request, Answer, From> => ({ protocol, kind, name, ...shapes, ...rights })

/** Requests whose answers carry their own proof, open to callers that are not known yet. */
const open = { from: 'anyone', of: 'anyone' } as const
/** Requests whose answers carry their own proof, for peers. */
const proven = { from: 'confirmed', of: 'anyone' } as const
/** The word of a peer. */
const trusted = { from: 'confirmed', of: 'confirmed' } as const

/* ---------------------------------------------------------------- shapes of their own */

/** No fields. */
const empty = struct<Readonly<Record<never, never>>>({})

/** No answer but that it was taken. */
const taken: Codec<void> = {
  toWire: () => null,
  fromWire: (wire, path) => {
    if (wire !== null) throw new Malformed(`${path}: expected nil`)
  },
}

/** UTF-8 JSON in a byte string, for people's statuses: nothing in it is proof. */
function json<T>(holds: (value: unknown) => boolean): Codec<T> {
  const text = bytes(0, protocols.query.maxAnswerBytes)
  return {
    toWire: value => text.toWire(Buffer.from(JSON.stringify(value), 'utf8')),
    fromWire: (wire, path) => {
      const value = parsed(text.fromWire(wire, path), path)
      if (!holds(value)) throw new Malformed(`${path}: the answer lacks documented fields`)
      return value as T
    },
  }
}

function parsed(bytes: Uint8Array, path: string): unknown {
  try {
    return JSON.parse(Buffer.from(bytes).toString('utf8'))
  } catch {
    throw new Malformed(`${path}: expected JSON`)
  }
}

/** One's own record, for who is not admitted yet and so cannot follow the chain to the consenters that signed it. */
export interface OwnStatus {
  readonly answer: StateAnswer
  /** The latest changes of the consenters, ascending. */
  readonly handovers: readonly CertifiedHeader[]
}

const ownStatusCodec: Codec<OwnStatus> = struct<OwnStatus>({
  answer: stateAnswerCodec,
  handovers: list(certifiedHeaderCodec, maxHelloHandovers),
})

/** What one full node can show of another (member-server.ts). */
export interface AmnesiaEvidence {
  /** The highest header it signed, as far as known here. */
  readonly signed: HeaderSignature | undefined
  /** The newest place of the log that it acknowledged here. */
  readonly acknowledged: Acknowledgement | undefined
}

const amnesiaEvidenceCodec: Codec<AmnesiaEvidence> = struct<AmnesiaEvidence>({
  signed: optional(
    struct<HeaderSignature>({
      incarnation: uint(),
      height: uint<Height>(),
      headerHash: digest<Hash>(),
      signature: bytes(signatureBytes),
    }),
  ),
  acknowledged: optional(struct<Acknowledgement>({ term: uint(), index: uint(), mac: bytes(macBytes) })),
})

/** A full node tells a coordination node that it lives. Who it is, hello has proven. */
export interface Heartbeat {
  /** Multiaddrs it listens on. */
  readonly addresses: readonly string[]
  /** Base URL of its HTTP API. */
  readonly api: string
  readonly height: Height
  readonly certifiedHeight: Height
  /** Addresses and API as the node signs them, for those whom it is to serve (client/coordination-address.ts). */
  readonly signed: Uint8Array
  /** Lightweight nodes it serves. */
  readonly clients: number
  readonly maxClients: number
  readonly time: Milliseconds
}

const heartbeatCodec: Codec<Heartbeat> = struct<Heartbeat>({
  addresses: list(text(256), 8),
  api: text(256, /^(https?:\/\/[!-~]*)?$/),
  height: uint<Height>(),
  certifiedHeight: uint<Height>(),
  signed: bytes(1, maxAddressBytes),
  clients: uint(),
  maxClients: uint(),
  time: uint<Milliseconds>(),
})

/** Longest wait for news in one query: shorter than an answer may take (protocols.ts). */
export const maxWaitMs = 25_000

/* ---------------------------------------------------------------- the table */

const pageCost = 20

/** Of so many headers: who follows a busy chain asks for few at a time, and pays for few. */
export function costOfHeaders(limit: number): number {
  return Math.max(1, Math.ceil((limit * pageCost) / maxHeadersPerAnswer))
}

const query = rowsOf('query')
const member = rowsOf('member')
const registry = rowsOf('registry')

/** `/mote/query/1`: the reads and the submission of the HTTP API. */
export const queries = {
  head: query(1, 'head', { request: empty, answer: certifiedHeaderCodec }, { ...open, cost: 1 }),
  /** At least one header if there is one, and no more than fit `maxHeaderPageBytes`. */
  headers: query(
    2,
    'headers',
    {
      request: struct<{ readonly from: Height; readonly limit: number }>({
        from: uint<Height>(),
        limit: uint(maxHeadersPerAnswer),
      }),
      answer: headerListCodec,
      encodeAnswer: encodeHeaderPage,
    },
    {
      ...proven,
      cost: pageCost,
      costOf: ({ limit }) => costOfHeaders(limit),
    },
  ),
  /** At the latest certified height unless one is given. */
  state: query(
    3,
    'state',
    {
      request: struct<{ readonly key: StateKey; readonly height: Height | undefined }>({
        key: digest<StateKey>(),
        height: optional(uint<Height>()),
      }),
      answer: stateAnswerCodec,
    },
    { ...proven, cost: 2 },
  ),
  /** A signature to verify, and room in every log. */
  submit: query(
    4,
    'submit',
    {
      request: struct<{ readonly transaction: Uint8Array; readonly wait: SubmitWait }>({
        transaction: bytes(1, maxTransactionBytes),
        wait: oneOf({ none: 0, committed: 1, certified: 2 }),
      }),
      answer: json<TransactionStatus>(isTransactionStatus),
    },
    { ...trusted, cost: 5 },
  ),
  transaction: query(
    5,
    'transaction',
    {
      request: struct<{ readonly id: TransactionId }>({ id: digest<TransactionId>() }),
      answer: json<TransactionStatus>(isTransactionStatus),
    },
    { ...trusted, cost: 1 },
  ),
  /** How a device learns that it was admitted. */
  ownStatus: query(
    6,
    'own-status',
    {
      request: struct<{ readonly device: DeviceId }>({ device: digest<DeviceId>() }),
      answer: ownStatusCodec,
    },
    { ...open, cost: 2 },
  ),
  /** The newest header once it is higher than `after`; nil when the time is over. */
  wait: query(
    7,
    'wait',
    {
      request: struct<{ readonly after: Height; readonly timeoutMs: number }>({
        after: uint<Height>(),
        timeoutMs: uint(maxWaitMs),
      }),
      answer: optional(certifiedHeaderCodec),
    },
    { ...proven, cost: 1 },
  ),
  /** Its certificate may be absent. */
  header: query(
    8,
    'header',
    {
      request: struct<{ readonly height: Height }>({ height: uint<Height>() }),
      answer: certifiedHeaderCodec,
    },
    { ...proven, cost: 1 },
  ),
  group: query(
    9,
    'group',
    { request: struct<{ readonly id: GroupId }>({ id: digest<GroupId>() }), answer: groupAnswerCodec },
    { ...proven, cost: 10 },
  ),
  status: query(
    10,
    'status',
    { request: empty, answer: json<NodeStatus>(isNodeStatus) },
    { ...trusted, cost: 1 },
  ),
  history: query(
    11,
    'history',
    {
      request: struct<{ readonly device: DeviceId; readonly before: HistoryCursor | undefined }>({
        device: digest<DeviceId>(),
        before: optional(struct<HistoryCursor>({ height: uint<Height>(), index: uint() })),
      }),
      answer: json<readonly DeviceTransaction[]>(isDeviceTransactions),
    },
    { ...trusted, cost: 20 },
  ),
  /** A page of identities, groups or contracts, each with its proof. Looks at `maxLeavesPerPage` leaves at most (record-pages.ts). */
  records: query(
    13,
    'records',
    {
      request: struct<{ readonly type: ListedType; readonly after: StateKey | undefined }>({
        type: oneOf<ListedType>({ identity: 1, group: 2, contract: 3 }),
        after: optional(digest<StateKey>()),
      }),
      answer: recordPageCodec,
    },
    { ...proven, cost: pageCost },
  ),
  /** Of one block. */
  receipts: query(
    14,
    'receipts',
    {
      request: struct<{ readonly height: Height }>({ height: uint<Height>() }),
      answer: receiptsCodec,
    },
    { ...proven, cost: pageCost },
  ),
  coordination: query(
    12,
    'coordination',
    { request: empty, answer: coordinationAddressesCodec },
    { ...open, cost: 1 },
  ),
} as const

/** `/mote/join/1`: join messages (client/join-messages.ts), the same bytes as `POST /v1/join` takes. */
export const joining = {
  message: rowsOf('join')(
    1,
    'message',
    { request: bytes(1, maxJoinMessageBytes), answer: bytes(1, maxJoinMessageBytes) },
    { from: 'anyone' as const, of: 'confirmed', cost: 1 },
  ),
} as const

/** `/mote/member/1`: what the full nodes that keep one chain ask of each other, beside Raft messages and signatures. Of voters it is not counted. */
export const memberRequests = {
  /** One chunk of a snapshot that the asked node offered (snapshot-stream.ts). */
  snapshot: member(
    1,
    'snapshot',
    {
      request: struct<{ readonly lastIncludedIndex: number; readonly chunk: number }>({
        lastIncludedIndex: uint(),
        chunk: uint(),
      }),
      answer: bytes(1, protocols.member.maxAnswerBytes),
    },
    { ...trusted, cost: 20 },
  ),
  /** What the asked node remembers of the asker (member-server.ts). */
  amnesiaCheck: member(
    2,
    'amnesia-check',
    { request: empty, answer: amnesiaEvidenceCodec },
    { ...trusted, cost: 10 },
  ),
  /** The index that a linearizable read must have seen. Refused with `no-leader`. */
  read: member(
    3,
    'read',
    { request: empty, answer: struct<{ readonly index: number }>({ index: uint() }) },
    { ...trusted, cost: 1 },
  ),
} as const

/** `/mote/registry/1`: who lives, where, and who serves whom. */
export const registryReports = {
  /** To a coordination node, from a full node. */
  heartbeat: registry(1, 'heartbeat', { request: heartbeatCodec, answer: taken }, { ...trusted, cost: 1 }),
  /** To a full node: the signed address of the coordination node that sends it. */
  address: registry(
    2,
    'address',
    { request: bytes(1, maxAddressBytes), answer: taken },
    { ...trusted, cost: 1 },
  ),
  /** To a lightweight node: who serves it from now on. */
  assignment: registry(3, 'assignment', { request: assignmentCodec, answer: taken }, { ...trusted, cost: 1 }),
} as const
