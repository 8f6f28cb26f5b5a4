/**
 * The libp2p protocols of a node and what each may carry (docs/FORMATS.md, "libp2p protocols"); and every bound and time-out
 * of the libp2p adapter, named.
 *
 * Long-lived, one frame per message, one stream per direction: raft, certify, forward (wire.ts). One request frame, one
 * answer frame, then the stream ends: query, join, member, registry (request-table.ts). Hello is in hello.ts.
 */
import type { RequestProtocol } from '../ports.ts'

export type StreamProtocol = 'raft' | 'certify' | 'forward'
export type ProtocolName = StreamProtocol | RequestProtocol | 'hello'

/** Largest frame towards who serves: a request, or a message of a long-lived stream. */
export type RequestLimit = number & { readonly limitOf: 'request' }
/** Largest body of an answer. Another type than `RequestLimit`: neither can stand for the other. */
export type AnswerLimit = number & { readonly limitOf: 'answer' }

export interface Protocol {
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

function protocol(id: string, { frame, answer, streams }: RowLimits): Protocol {
  return {
    id,
    maxFrameBytes: frame as RequestLimit,
    maxAnswerBytes: answer as AnswerLimit,
    maxStreams: streams,
  }
}

export const protocols: { readonly [K in ProtocolName]: Protocol } = {
  hello: protocol('/mote/hello/1', { frame: mebibyte, answer: mebibyte, streams: 1 }),
  raft: protocol('/mote/raft/1', { frame: 4 * mebibyte, answer: 0, streams: 2 }),
  certify: protocol('/mote/certify/1', { frame: 256 * kibibyte, answer: 0, streams: 2 }),
  forward: protocol('/mote/forward/1', { frame: 2 * mebibyte, answer: 0, streams: 2 }),
  query: protocol('/mote/query/1', { frame: 32 * kibibyte, answer: 4 * mebibyte, streams: 32 }),
  join: protocol('/mote/join/1', { frame: 64 * kibibyte, answer: 64 * kibibyte, streams: 4 }),
  member: protocol('/mote/member/1', { frame: kibibyte, answer: 4 * mebibyte, streams: 16 }),
  registry: protocol('/mote/registry/1', { frame: 64 * kibibyte, answer: 64 * kibibyte, streams: 4 }),
}

/* Every bound and time-out of the libp2p adapter, named. Times in milliseconds. */

export interface NetworkLimits {
  /** Connections that have proven who they are. */
  readonly maxConnections: number
  /** Of those, how many only full nodes may have. */
  readonly keptForFullNodes: number
  /** Connections whose peer has not proven an identity. */
  readonly maxUnprovenConnections: number
  /** Of those, how many from one address. */
  readonly maxUnprovenPerAddress: number
  /** Connections of one proven device; a further one closes the oldest. */
  readonly maxConnectionsPerDevice: number
  /** New connections per second from one address. */
  readonly maxNewConnectionsPerSecond: number
  /** Connections between TCP and the end of the Noise and Yamux negotiation. */
  readonly maxPendingConnections: number
  /** Of those, how many from one address. */
  readonly maxPendingPerAddress: number
  /** How long that negotiation may take. */
  readonly upgradeTimeoutMs: number
  /** How long a peer that proved nothing may stay (a device that joins). */
  readonly unprovenLifetimeMs: number
  readonly dialTimeoutMs: number
  readonly helloTimeoutMs: number
  /** How long a request may take to arrive, and its answer to leave. */
  readonly serveTimeoutMs: number
  /** Bytes that wait for one stream to a peer. */
  readonly maxQueuedBytes: number
  /** Malformed frames after which a connection is closed. */
  readonly maxViolations: number
  /** Requests of an unproven connection. */
  readonly unprovenBurst: number
  readonly unprovenPerSecond: number
  /** What the requests of a proven peer may cost, over all its connections (request-table.ts). */
  readonly provenBurst: number
  readonly provenPerSecond: number
  /** The same of a lightweight node, which only reads; at once, what it may ask in `lightBurstSeconds` (peer-links.ts). */
  readonly lightPerSecond: number
  /** The same over HTTP, of one share of addresses; at once, what it may ask in `httpBurstSeconds` (node/service/callers.ts). */
  readonly httpPerSecond: number
  /** What the frames of a full node that is no voter may cost, a unit for each 256 bytes begun. */
  readonly frameBurst: number
  readonly framesPerSecond: number
  /** Requests and frames over these rates after which a connection is closed. */
  readonly maxExcess: number
  /** Pause before the second attempt to reach a peer; doubles up to the maximum, half of it random. */
  readonly retryDelayMs: number
  readonly retryDelayMsMax: number
}

export const defaultNetworkLimits: NetworkLimits = {
  maxConnections: 512,
  keptForFullNodes: 64,
  maxUnprovenConnections: 64,
  maxUnprovenPerAddress: 32,
  maxConnectionsPerDevice: 3,
  maxNewConnectionsPerSecond: 50,
  maxPendingConnections: 64,
  maxPendingPerAddress: 32,
  upgradeTimeoutMs: 5_000,
  unprovenLifetimeMs: 60_000,
  dialTimeoutMs: 5_000,
  helloTimeoutMs: 5_000,
  serveTimeoutMs: 30_000,
  maxQueuedBytes: 16 * 1024 * 1024,
  maxViolations: 3,
  unprovenBurst: 20,
  unprovenPerSecond: 5,
  provenBurst: 2_000,
  provenPerSecond: 500,
  lightPerSecond: 200,
  httpPerSecond: 1_000,
  frameBurst: 20_000,
  framesPerSecond: 2_000,
  maxExcess: 1_000,
  retryDelayMs: 100,
  retryDelayMsMax: 3_000,
}
