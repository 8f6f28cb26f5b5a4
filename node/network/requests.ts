/**
 * Both ends of a request, made from its row in request-table.ts: `ask` encodes, sends and decodes the answer, and
 * `requestHandler` decodes, judges who asks, charges for it, and encodes the answer, each with the row's limits. Nothing
 * else takes the body of a request or of an answer apart. `askPeer` and `serveRequest` carry it over a link. Most rows make up
 * a chain source: `queryHandler` serves one, and `libp2pSource` is one.
 */
import type { Stream } from '@libp2p/interface'
import type { DeviceId, Height } from '../../chain/brands.ts'
import { type Codec, decode, encode } from '../../chain/codec.ts'
import type { CertifiedHeader } from '../../chain/light-client.ts'
import { Malformed } from '../../chain/messagepack.ts'
import { stateKeyOf } from '../../chain/records.ts'
import { MoteError, type Result } from '../../chain/result.ts'
import type { ChainSource } from '../../client/chain-source.ts'
import type { Caller, Clock, Network, OutgoingRequest, RequestHandler, RequestProtocol } from '../ports.ts'
import { maxHelloHandovers } from './hello.ts'
import type { PeerLink } from './peer-links.ts'
import { protocols } from './protocols.ts'
import { Places } from './rate-limit.ts'
import { maxWaitMs, queries, type RequestRow } from './request-table.ts'
import { Conversation } from './streams.ts'
import { type AnswerFrame, decodeAnswerFrame, encodeAnswerFrame, refusalFrame, refusalFrom } from './wire.ts'

/**
 * What `to` answers. Throws `unreachable`, `timeout`, `not-ready` (the answer would have to be believed, and the peer is
 * not confirmed), `too-large`, `bad-proof` for bytes that are no such answer, or the peer's refusal.
 */
export async function ask<Request, Answer>(
  network: Pick<Network, 'request'>,
  to: DeviceId,
  row: RequestRow<Request, Answer>,
  request: Request,
  timeoutMs: number,
): Promise<Answer> {
  const { protocol, of } = row
  const body = encodeRequest(row, request)
  const bytes = await network.request(to, { protocol, body, of }, timeoutMs)
  const answer = decode(row.answer, bytes, protocols[protocol].maxAnswerBytes)
  if (answer.ok) return answer.value
  // Too much is no lie: another node may say it in fewer bytes.
  const code = answer.error.code === 'too-large' ? 'too-large' : 'bad-proof'
  throw new MoteError(code, `${to}: ${protocol} ${row.name}: ${answer.error.detail}`)
}

/** The body of a request. */
export function encodeRequest<Request, Answer>(
  row: RequestRow<Request, Answer>,
  request: Request,
): Uint8Array {
  return encode(frameOf(row), request)
}

/** `[kind, fields]`. */
function frameOf<Request>({
  kind,
  request,
}: Pick<RequestRow<Request, never>, 'kind' | 'request'>): Codec<Request> {
  return {
    toWire: value => [kind, request.toWire(value)],
    fromWire: (wire, path) => {
      if (!Array.isArray(wire) || wire.length !== 2 || wire[0] !== kind)
        throw new Malformed(`${path}: expected a request of kind ${kind}`)
      return request.fromWire(wire[1], path)
    },
  }
}

/** A function for each row that this node serves. A thrown `MoteError` travels to the asker as a refusal. */
export type Handlers<Served> = {
  readonly [Name in keyof Served]: Served[Name] extends RequestRow<infer Request, infer Answer, infer From>
    ? (
        request: Request,
        caller: From extends 'confirmed' ? ConfirmedCaller : Caller,
      ) => Answer | Promise<Answer>
    : never
}

export interface ConfirmedCaller extends Caller {
  readonly deviceId: DeviceId
}

type MayAsk = (caller: Caller, row: Pick<RequestRow<never, never>, 'name'>) => MoteError | undefined

interface Received {
  readonly row: RequestRow<unknown, unknown>
  readonly handle: (request: unknown, caller: Caller) => unknown
  readonly request: unknown
}

/**
 * Serves these rows of one protocol; others of it are refused as `malformed`.
 * @param mayAsk what this node has against the caller, beyond what the rows say
 */
export function requestHandler<Served extends { readonly [Name in keyof Served]: unknown }>(
  rows: Served,
  handlers: Handlers<Served>,
  mayAsk: MayAsk = () => undefined,
): RequestHandler {
  const served = (Object.entries(rows) as [keyof Served, RequestRow<unknown, unknown>][]).map(
    ([name, row]) => ({
      row,
      handle: handlers[name] as Received['handle'],
    }),
  )
  const [first] = served
  const { maxFrameBytes, maxAnswerBytes } = protocols[(first as (typeof served)[number]).row.protocol]
  const codec: Codec<Received> = {
    toWire: () => null,
    fromWire: (wire, path) => {
      const kind: unknown = Array.isArray(wire) ? wire[0] : undefined
      const entry = served.find(({ row }) => row.kind === kind)
      if (!entry)
        throw new Malformed(
          `${path}: expected a request of kind ${served.map(({ row }) => row.kind).join(', ')}`,
        )
      return { ...entry, request: frameOf(entry.row).fromWire(wire, path) }
    },
  }
  return async (caller, body) => {
    const received = decode(codec, body, maxFrameBytes)
    const refusal = refusalOf(received, caller, mayAsk)
    caller.charge(received.ok ? costOf(received.value) : 1)
    if (!received.ok || refusal) throw refusal
    const { row, handle, request } = received.value
    const answer = await handle(request, caller)
    const bytes = row.encodeAnswer?.(answer) ?? encode(row.answer, answer)
    if (bytes.length > maxAnswerBytes)
      throw new MoteError(
        'too-large',
        `${row.protocol} ${row.name}: expected an answer of at most ${maxAnswerBytes} bytes, got ${bytes.length}`,
      )
    return bytes
  }
}

function costOf({ row, request }: Received): number {
  return row.costOf?.(request) ?? row.cost
}

/** Why a request is refused before its handler sees it; undefined if nothing speaks against it. */
function refusalOf(received: Result<Received>, caller: Caller, mayAsk: MayAsk): MoteError | undefined {
  if (!received.ok) return new MoteError(received.error.code, received.error.detail)
  const { from, protocol, name } = received.value.row
  if (from === 'anyone' || caller.deviceId !== undefined) return mayAsk(caller, received.value.row)
  return caller.isProven
    ? new MoteError('not-ready', `${protocol} ${name}: the record of this peer is not confirmed yet`)
    : new MoteError('hello-required', `${protocol} ${name}: prove an identity first`)
}

/*
 * How a request and its answer travel on a stream of a link. Every byte that comes in here is from outside; the worst that it
 * can do is to have its stream reset and its connection closed.
 */

export interface ServeOptions {
  readonly protocol: RequestProtocol
  readonly handler: RequestHandler
  readonly timeoutMs: number
  readonly clock: Clock
  readonly isCounted: (peer: DeviceId) => boolean
  /** A handler threw something that is not a `MoteError`. */
  readonly onHandlerFailure: (error: unknown) => void
}

/** Reads one request, answers it, ends the stream. Throws what the conversation throws. */
export async function serveRequest(stream: Stream, link: PeerLink, options: ServeOptions): Promise<void> {
  const { protocol, timeoutMs, clock } = options
  const { maxFrameBytes } = protocols[protocol]
  const conversation = new Conversation(stream, { maxFrameBytes, timeoutMs, clock })
  const body = await conversation.receive()
  conversation.send(encodeAnswerFrame(protocol, await answerRequest(body, link, options)))
  await conversation.finish()
}

async function answerRequest(body: Uint8Array, link: PeerLink, options: ServeOptions): Promise<AnswerFrame> {
  const { protocol, handler, isCounted, onHandlerFailure } = options
  try {
    const confirmed = link.confirmedFor(protocol)
    // A caller without a proven identity pays for each request, a peer pays the cost of the request.
    if (!confirmed) link.takeRequest(1)
    const caller = {
      deviceId: confirmed?.id,
      isProven: link.peer !== undefined,
      remoteAddress: link.remoteAddress,
      charge: (cost: number) => {
        if (confirmed && (protocol !== 'member' || isCounted(confirmed.id))) link.takeRequest(cost)
      },
    }
    return { type: 'body', body: await handler(caller, body) }
  } catch (error) {
    if (error instanceof MoteError) return { type: 'refusal', ...refusalFrame(error) }
    onHandlerFailure(error)
    return { type: 'refusal', code: 'internal', detail: `${protocol}: the request failed` }
  }
}

/**
 * The body of the peer's answer. Throws `unreachable`, `timeout`, `too-large`, `malformed`, or the refusal that the peer
 * answered with; `not-ready` where the answer would count for something and the peer is not confirmed (hello.ts).
 */
export async function askPeer(
  link: PeerLink,
  { protocol, body, of }: OutgoingRequest,
  limits: { readonly timeoutMs: number; readonly deadline: AbortSignal },
): Promise<Uint8Array> {
  const { timeoutMs, deadline } = limits
  if (!link.confirmedFor(protocol) && of === 'confirmed')
    throw new MoteError('not-ready', `${link.peer?.id}: its record is not confirmed at a fresh head yet`)
  let conversation: Conversation | undefined
  try {
    conversation = await link.converse(protocol, timeoutMs, deadline)
    conversation.send(body)
    const answer = decodeAnswerFrame(protocol, await conversation.receive())
    if (!answer.ok) {
      link.violation(`${protocol}: ${answer.error.detail}`)
      throw new MoteError(answer.error.code, answer.error.detail)
    }
    void conversation.finish()
    return bodyOf(answer.value)
  } catch (cause) {
    const failure = failureOf(cause, deadline, `${protocol} to ${link.peer?.id}`)
    conversation?.fail(failure)
    throw failure
  }
}

function bodyOf(answer: AnswerFrame): Uint8Array {
  if (answer.type === 'body') return answer.body
  const { code, detail } = refusalFrom(answer)
  throw new MoteError(code, detail)
}

function failureOf(cause: unknown, deadline: AbortSignal, what: string): MoteError {
  if (cause instanceof MoteError) return cause
  if (deadline.aborted) return new MoteError('timeout', `${what}: no answer in time`, { cause })
  return new MoteError('unreachable', `${what}: ${String(cause)}`, { cause })
}

/*
 * `/mote/query/1`: a chain source over libp2p, both ends (docs/FORMATS.md, libp2p protocols). `queryHandler` serves whatever
 * implements `ChainSource` inside a node; `libp2pSource` is the same port at the other end.
 */

type LatestHandovers = (count: number) => readonly CertifiedHeader[]

/** Waits of one peer at the same time: each is a place at the node for up to `maxWaitMs`. */
const maxWaitsPerPeer = 16

/** Answers queries from a source inside this process. */
export function queryHandler(source: ChainSource, latestHandovers: LatestHandovers): RequestHandler {
  const waits = new Places<DeviceId>({ each: maxWaitsPerPeer, all: Number.POSITIVE_INFINITY })
  return requestHandler(queries, {
    head: () => source.certifiedHeader('latest'),
    header: ({ height }) => source.certifiedHeader(height),
    headers: ({ from, limit }) => source.headersFrom(from, limit),
    receipts: ({ height }) => source.receipts(height),
    wait: ({ after, timeoutMs }, { deviceId }) =>
      waits.within(deviceId, async () => source.waitForHeader(after, timeoutMs)),
    state: ({ key, height }) => source.state(key, height),
    ownStatus: async ({ device }) => ({
      answer: await source.state(stateKeyOf.identity(device)),
      handovers: latestHandovers(maxHelloHandovers),
    }),
    group: ({ id }) => source.group(id),
    submit: ({ transaction, wait }) => source.submit(transaction, wait),
    transaction: ({ id }) => source.transactionStatus(id),
    status: () => source.status(),
    history: ({ device, before }) => source.deviceTransactions(device, before),
    records: ({ type, after }) => source.records(type, after),
    coordination: () => source.coordination(),
  })
}

export interface Libp2pSourceOptions {
  /** Deadline of a query that waits for nothing on the other side. Default 5 s. */
  readonly requestTimeoutMs?: number
  /** Deadline of a submission. Default 20 s. */
  readonly submitTimeoutMs?: number
}

/** The full node `id` as a chain source. The network must keep, or have, a connection to it. */
export function libp2pSource(
  network: Network,
  id: Parameters<Network['request']>[0],
  options: Libp2pSourceOptions = {},
): ChainSource {
  const { requestTimeoutMs = 5_000, submitTimeoutMs = 20_000 } = options
  const asked = <Request, Answer>(
    row: RequestRow<Request, Answer>,
    request: Request,
    timeoutMs = requestTimeoutMs,
  ): Promise<Answer> => {
    // Waiting for a connection is for those who have no other source.
    if (isConnected(network, id)) return ask(network, id, row, request, timeoutMs)
    return Promise.reject(new MoteError('unreachable', `${id}: not connected`))
  }

  return {
    name: id,
    status: () => asked(queries.status, {}),
    submit: (transaction, wait) => asked(queries.submit, { transaction, wait }, submitTimeoutMs),
    transactionStatus: transaction => asked(queries.transaction, { id: transaction }),
    certifiedHeader: height =>
      height === 'latest' ? asked(queries.head, {}) : asked(queries.header, { height }),
    headersFrom: (from, limit) => asked(queries.headers, { from, limit }),
    receipts: height => asked(queries.receipts, { height }),
    waitForHeader: async (after: Height, timeoutMs) => {
      const waitMs = Math.min(timeoutMs, maxWaitMs)
      return asked(queries.wait, { after, timeoutMs: waitMs }, waitMs + requestTimeoutMs)
    },
    state: (key, height) => asked(queries.state, { key, height }),
    group: group => asked(queries.group, { id: group }),
    deviceTransactions: (device, before) => asked(queries.history, { device, before }),
    records: (type, after) => asked(queries.records, { type, after }),
    coordination: () => asked(queries.coordination, {}),
  }
}

function isConnected(network: Network, id: DeviceId): boolean {
  return network.peers().some(peer => peer.id === id && peer.state === 'connected')
}
