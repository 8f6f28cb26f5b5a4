/**
 * `/mote/query/1`: a chain source over libp2p, both ends (docs/FORMATS.md, libp2p protocols).
 *
 * `queryHandler` serves whatever implements `ChainSource` inside a node; `libp2pSource` is the same port at the other
 * end. What an unproven caller may ask, wire.ts says; the rest is `hello-required`.
 */
import type { DeviceId, Height } from '../chain/brands.ts'
import { type Codec, encode, list, struct } from '../chain/codec.ts'
import {
  type CertifiedHeader,
  certifiedHeaderCodec,
  type StateAnswer,
  stateAnswerCodec,
} from '../chain/light-client.ts'
import { stateKeyOf } from '../chain/records.ts'
import { assertNever, MoteError } from '../chain/result.ts'
import {
  type ChainSource,
  type DeviceTransaction,
  encodeHeaderPage,
  groupAnswerCodec,
  headerListCodec,
  isDeviceTransactions,
  isNodeStatus,
  isTransactionStatus,
  type NodeStatus,
  type TransactionStatus,
} from '../client/chain-source.ts'
import { coordinationAddressesCodec } from '../client/coordination-address.ts'
import { maxHelloHandovers } from './hello.ts'
import type { Network, RequestHandler } from './ports.ts'
import { openToUnproven } from './query-rights.ts'
import { decodeAnswer, decodeRequest, maxWaitMs, type Query, queryCodec } from './wire.ts'

/** One's own record, for who is not admitted yet and so cannot follow the chain to the consenters that signed it. */
export interface OwnStatus {
  readonly answer: StateAnswer
  /** The latest changes of the consenters, ascending. */
  readonly handovers: readonly CertifiedHeader[]
}

export const ownStatusCodec: Codec<OwnStatus> = struct<OwnStatus>({
  answer: stateAnswerCodec,
  handovers: list(certifiedHeaderCodec, maxHelloHandovers),
})

/** Answers queries from a source inside this process. */
export function queryHandler(source: ChainSource, latestHandovers: LatestHandovers): RequestHandler {
  return async (caller, body) => {
    const query = decodeRequest('query', queryCodec, body)
    if (!query.ok) throw new MoteError(query.error.code, query.error.detail)
    if (caller.deviceId === undefined && !openToUnproven(query.value))
      throw new MoteError('hello-required', `query ${query.value.type}: prove an identity first`)
    return answer(source, query.value, latestHandovers)
  }
}

type LatestHandovers = (count: number) => readonly CertifiedHeader[]

async function answer(
  source: ChainSource,
  query: Query,
  latestHandovers: LatestHandovers,
): Promise<Uint8Array> {
  switch (query.type) {
    case 'head':
      return encode(certifiedHeaderCodec, await source.certifiedHeader('latest'))
    case 'header':
      return encode(certifiedHeaderCodec, await source.certifiedHeader(query.height))
    case 'headers':
      return encodeHeaderPage(await source.headersFrom(query.from, query.limit))
    case 'wait': {
      const news = await source.waitForHeader(query.after, query.timeoutMs)
      return news ? encode(certifiedHeaderCodec, news) : new Uint8Array(0)
    }
    case 'state':
      return encode(stateAnswerCodec, await source.state(query.key, query.height))
    case 'own-status':
      return encode(ownStatusCodec, {
        answer: await source.state(stateKeyOf.identity(query.device)),
        handovers: latestHandovers(maxHelloHandovers),
      })
    case 'group':
      return encode(groupAnswerCodec, await source.group(query.id))
    case 'submit':
      return json(await source.submit(query.transaction, query.wait))
    case 'transaction':
      return json(await source.transactionStatus(query.id))
    case 'status':
      return json(await source.status())
    case 'history':
      return json(await source.deviceTransactions(query.device, query.before))
    case 'coordination':
      return encode(coordinationAddressesCodec, await source.coordination())
    default:
      return assertNever(query)
  }
}

function json(value: unknown): Uint8Array {
  return Buffer.from(JSON.stringify(value), 'utf8')
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
  const ask = async (query: Query, timeoutMs = requestTimeoutMs) => {
    // Waiting for a connection is for those who have no other source.
    if (!isConnected(network, id)) throw new MoteError('unreachable', `${id}: not connected`)
    return network.request(id, 'query', encode(queryCodec, query), timeoutMs)
  }
  const value = async <T>(codec: Codec<T>, query: Query) => decoded(id, codec, await ask(query))
  const parsed = async <T>(query: Query, check: (value: unknown) => boolean, timeoutMs?: number) =>
    parse<T>(id, await ask(query, timeoutMs), check)

  return {
    name: id,
    status: () => parsed<NodeStatus>({ type: 'status' }, isNodeStatus),
    submit: (transaction, wait) =>
      parsed<TransactionStatus>({ type: 'submit', transaction, wait }, isTransactionStatus, submitTimeoutMs),
    transactionStatus: transaction =>
      parsed<TransactionStatus>({ type: 'transaction', id: transaction }, isTransactionStatus),
    certifiedHeader: height =>
      value(certifiedHeaderCodec, height === 'latest' ? { type: 'head' } : { type: 'header', height }),
    headersFrom: (from, limit) => value(headerListCodec, { type: 'headers', from, limit }),
    waitForHeader: async (after: Height, timeoutMs) => {
      const waitMs = Math.min(timeoutMs, maxWaitMs)
      const bytes = await ask({ type: 'wait', after, timeoutMs: waitMs }, waitMs + requestTimeoutMs)
      return bytes.length === 0 ? undefined : decoded(id, certifiedHeaderCodec, bytes)
    },
    state: (key, height) => value(stateAnswerCodec, { type: 'state', key, height }),
    group: group => value(groupAnswerCodec, { type: 'group', id: group }),
    deviceTransactions: (device, before) =>
      parsed<readonly DeviceTransaction[]>({ type: 'history', device, before }, isDeviceTransactions),
    coordination: () => value(coordinationAddressesCodec, { type: 'coordination' }),
  }
}

function isConnected(network: Network, id: DeviceId): boolean {
  return network.peers().some(peer => peer.id === id && peer.state === 'connected')
}

function decoded<T>(id: string, codec: Codec<T>, bytes: Uint8Array): T {
  const result = decodeAnswer('query', codec, bytes)
  if (result.ok) return result.value
  // Too much is no lie: another node may say it in fewer bytes.
  const code = result.error.code === 'too-large' ? 'too-large' : 'bad-proof'
  throw new MoteError(code, `${id}: ${result.error.detail}`)
}

function parse<T>(id: string, bytes: Uint8Array, check: (value: unknown) => boolean): T {
  let value: unknown
  try {
    value = JSON.parse(Buffer.from(bytes).toString('utf8'))
  } catch (cause) {
    throw new MoteError('bad-proof', `${id}: expected JSON`, { cause })
  }
  if (!check(value)) throw new MoteError('bad-proof', `${id}: the answer lacks documented fields`)
  return value as T
}
