/**
 * `/mote/query/1`: a chain source over libp2p, both ends (docs/FORMATS.md, libp2p protocols). `queryHandler` serves whatever
 * implements `ChainSource` inside a node; `libp2pSource` is the same port at the other end.
 */
import type { DeviceId, Height } from '../../chain/brands.ts'
import type { CertifiedHeader } from '../../chain/light-client.ts'
import { stateKeyOf } from '../../chain/records.ts'
import { MoteError } from '../../chain/result.ts'
import type { ChainSource } from '../../client/chain-source.ts'
import type { Network, RequestHandler } from '../ports.ts'
import { maxHelloHandovers } from './hello.ts'
import { Places } from './rate-limit.ts'
import { maxWaitMs, queries, type RequestRow } from './request-table.ts'
import { ask, requestHandler } from './requests.ts'

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
