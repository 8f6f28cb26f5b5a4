/**
 * A full node of a simulated chain as its clients outside of it see it: the port behind which HTTP sits in production, with answers that are late, lost
 * or refused. Only what gateways ask for is served.
 */

import { MoteError } from '../../chain/result.ts'
import type { ChainSource, RequestOptions } from '../../client/chain-source.ts'
import type { LedgerNode } from '../../node/ledger-node.ts'
import type { Host, Site } from './host.ts'
import { callNode } from './node-calls.ts'
import type { SeededRandom } from './random.ts'
import type { SimulatedActor } from './timeline.ts'

/** As those of client/http-source.ts. */
const requestTimeoutMs = 5_000
const submitTimeoutMs = 20_000

export interface NodeSourceParts {
  readonly site: Site
  readonly random: SeededRandom
  readonly caller: SimulatedActor & { readonly boundary: () => void }
  /** Told of what leaves. */
  readonly onSubmit: (transaction: Uint8Array) => void
}

export type NodeSource = Pick<
  ChainSource,
  | 'name'
  | 'status'
  | 'submit'
  | 'submitAll'
  | 'transactionStatus'
  | 'certifiedHeader'
  | 'headersFrom'
  | 'receipts'
  | 'waitForHeader'
  | 'state'
>

export function nodeSource(host: Host, parts: NodeSourceParts): ChainSource {
  const { site, caller } = parts
  const ask = <T>(
    label: string,
    work: (service: LedgerNode['service']) => Promise<T>,
    options: RequestOptions | undefined,
    timeoutMs = requestTimeoutMs,
  ): Promise<T> => {
    const { promise, resolve, reject } = Promise.withResolvers<T>()
    caller.boundary()
    if (!caller.alive) return promise
    const stop = () => reject(new MoteError('interrupted', `${host.name}: stopped`))
    if (options?.signal?.aborted) stop()
    options?.signal?.addEventListener('abort', stop, { once: true })
    const { lossChance } = site.network.faults
    const call = {
      label: `${caller.name}: ${label}`,
      work: ({ service }: LedgerNode) => work(service),
      timeoutMs,
      caller,
      lossChance,
    }
    callNode(parts, host, call, answer => {
      options?.signal?.removeEventListener('abort', stop)
      if (answer === 'timeout')
        reject(new MoteError('timeout', `${host.name}: no answer within ${timeoutMs} ms`))
      else if ('error' in answer) reject(asOnTheWire(answer.error))
      else resolve(answer.ok)
    })
    return promise
  }
  const source: NodeSource = {
    name: host.name,
    status: options => ask('status', service => service.status(), options),
    submit: (bytes, wait, options) => {
      parts.onSubmit(bytes)
      return ask('submit', service => service.submit(bytes, wait), options, submitTimeoutMs)
    },
    submitAll: (transactions, wait, options) => {
      for (const bytes of transactions) parts.onSubmit(bytes)
      const work = (service: LedgerNode['service']) =>
        Promise.all(transactions.map(bytes => service.submit(bytes, wait)))
      return ask(`submit ${transactions.length}`, work, options, submitTimeoutMs)
    },
    transactionStatus: (id, options) => ask('outcome', service => service.transactionStatus(id), options),
    certifiedHeader: (height, options) => ask('header', service => service.certifiedHeader(height), options),
    headersFrom: (from, limit, options) =>
      ask('headers', service => service.headersFrom(from, limit), options),
    receipts: (height, options) => ask('receipts', service => service.receipts(height), options),
    waitForHeader: (after, timeoutMs, options) =>
      ask('news', service => service.waitForHeader(after, timeoutMs), options, timeoutMs + requestTimeoutMs),
    state: (key, height, options) => ask('state', service => service.state(key, height), options),
  }
  return source as ChainSource
}

/** A program error of a node is one answer of many to its clients. */
function asOnTheWire(error: unknown): MoteError {
  return error instanceof MoteError ? error : new MoteError('internal', String(error))
}
