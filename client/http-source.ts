/**
 * A chain source over the HTTP API of a node (docs/FORMATS.md, section HTTP API).
 *
 * Connections are kept alive by the platform's `fetch`. Every request has a deadline and every answer a size limit,
 * so that a node which hangs or floods costs a bounded wait and bounded memory.
 */

import { receiptsCodec } from '../chain/block.ts'
import { blockLeavesCodec } from '../chain/block-leaves.ts'
import { type Codec, decode, encode } from '../chain/codec.ts'
import { type ErrorCode, errorTable } from '../chain/errors.ts'
import {
  type CertifiedHeader,
  certifiedHeaderCodec,
  type StateAnswer,
  stateAnswerCodec,
} from '../chain/light-client.ts'
import { MoteError } from '../chain/result.ts'
import {
  type ChainSource,
  type DeviceTransaction,
  type GroupAnswer,
  groupAnswerCodec,
  headerListCodec,
  isDeviceTransactions,
  isNodeStatus,
  isTransactionStatus,
  type NodeStatus,
  type RequestOptions,
  recordPageCodec,
  type SubmitWait,
  submissionCodec,
  type TransactionStatus,
} from './chain-source.ts'
import { coordinationAddressesCodec } from './coordination-address.ts'
import { Deadline } from './deadline.ts'

/** Largest answer that is read: 8 MiB. It holds a page of headers, and the largest header that a chain can have. */
const maxAnswerBytes = 8 * 1024 * 1024

export interface HttpSourceOptions {
  /** Deadline of a request that does not wait for anything on the other side. Default 5 s. */
  readonly requestTimeoutMs?: number
  /** Deadline of a submission that waits until the transaction is certified. Default 20 s. */
  readonly submitTimeoutMs?: number
}

interface Request {
  readonly path: string
  readonly timeoutMs: number
  readonly signal: AbortSignal | undefined
  readonly body?: Uint8Array
}

/** A source at `baseUrl`, `http://127.0.0.1:4100` say. */
export function httpSource(baseUrl: string, options: HttpSourceOptions = {}): ChainSource {
  const base = baseUrl.replace(/\/+$/, '')
  const requestTimeoutMs = options.requestTimeoutMs ?? 5_000
  const submitTimeoutMs = options.submitTimeoutMs ?? 20_000

  const get = (path: string, request: RequestOptions | undefined, timeoutMs = requestTimeoutMs) =>
    exchange(base, { path, timeoutMs, signal: request?.signal })
  const getJson = async <T>(path: string, check: (value: unknown) => boolean, request?: RequestOptions) =>
    jsonOf<T>(base, await get(path, request), check)
  const getValue = async <T>(path: string, codec: Codec<T>, request?: RequestOptions) =>
    decodedOf(base, codec, (await get(path, request)).body)

  const post = <T>(
    path: string,
    body: Uint8Array,
    check: (value: unknown) => boolean,
    request?: RequestOptions,
  ) =>
    exchange(base, { path, timeoutMs: submitTimeoutMs, signal: request?.signal, body }).then(answer =>
      jsonOf<T>(base, answer, check),
    )

  return {
    name: base,
    status: request => getJson<NodeStatus>('/v1/status', isNodeStatus, request),
    submit: (bytes, wait, request) =>
      post<TransactionStatus>(`/v1/transactions?wait=${wait}`, bytes, isTransactionStatus, request),
    submitAll: (transactions, wait: SubmitWait, request) =>
      post<readonly TransactionStatus[]>(
        `/v1/transactions/batch?wait=${wait}`,
        encode(submissionCodec, transactions),
        value =>
          Array.isArray(value) && value.length === transactions.length && value.every(isTransactionStatus),
        request,
      ),
    transactionStatus: (id, request) => getJson(`/v1/transactions/${id}`, isTransactionStatus, request),
    certifiedHeader: (height, request) => getValue(`/v1/headers/${height}`, certifiedHeaderCodec, request),
    headersFrom: (from, limit, request) =>
      getValue(`/v1/headers?from=${from}&limit=${limit}`, headerListCodec, request),
    receipts: (height, request) => getValue(`/v1/blocks/${height}/receipts`, receiptsCodec, request),
    blockLeaves: (height, request) =>
      getValue(`/v1/blocks/${height}/leaves`, blockLeavesCodec, request).catch((error: unknown) => {
        // After a snapshot a node lacks the blocks that it skipped, and a lightweight one has none: another one is asked.
        if (error instanceof MoteError && error.code === 'not-found')
          throw new MoteError('height-not-available', `${base}: ${error.detail}`)
        throw error
      }),
    waitForHeader: async (after, timeoutMs, request): Promise<CertifiedHeader | undefined> => {
      const path = `/v1/headers/wait?after=${after}&timeoutMs=${timeoutMs}`
      const answer = await get(path, request, timeoutMs + requestTimeoutMs)
      return answer.status === 204 ? undefined : decodedOf(base, certifiedHeaderCodec, answer.body)
    },
    state: (key, height, request): Promise<StateAnswer> =>
      getValue(
        `/v1/state/${key}${height === undefined ? '' : `?height=${height}`}`,
        stateAnswerCodec,
        request,
      ),
    group: (id, request): Promise<GroupAnswer> => getValue(`/v1/groups/${id}`, groupAnswerCodec, request),
    records: (type, after, request) =>
      getValue(
        `/v1/records/${type}${after === undefined ? '' : `?after=${after}`}`,
        recordPageCodec,
        request,
      ),
    deviceTransactions: (id, before, request) =>
      getJson<readonly DeviceTransaction[]>(
        `/v1/devices/${id}/transactions${before ? `?before=${before.height}.${before.index}` : ''}`,
        isDeviceTransactions,
        request,
      ),
    coordination: request => getValue('/v1/coordination', coordinationAddressesCodec, request),
  }
}

interface Answer {
  readonly status: number
  readonly body: Uint8Array
}

/** One request and its whole answer; every failure as a `MoteError`. */
export async function exchange(base: string, request: Request): Promise<Answer> {
  const deadline = new Deadline(request.timeoutMs, { signal: request.signal })
  const { signal } = deadline
  try {
    const response = await fetch(base + request.path, {
      signal,
      ...(request.body && {
        method: 'POST',
        body: Uint8Array.from(request.body),
        headers: { 'content-type': 'application/octet-stream' },
      }),
    })
    const body = await readLimited(response)
    if (!response.ok) throw refusalOf(base, response.status, body)
    return { status: response.status, body }
  } catch (cause) {
    if (cause instanceof MoteError) throw cause
    if (request.signal?.aborted) throw new MoteError('interrupted', `${base}: stopped`, { cause })
    if (deadline.isOver)
      throw new MoteError('timeout', `${base}: no answer within ${request.timeoutMs} ms`, { cause })
    throw new MoteError('unreachable', `${base}: ${reasonOf(cause)}`, { cause })
  }
}

function reasonOf(cause: unknown): string {
  const inner = cause instanceof Error ? (cause.cause ?? cause) : cause
  const { code, message } = inner as { code?: unknown; message?: unknown }
  return String(code ?? message ?? inner)
}

async function readLimited(response: Response): Promise<Uint8Array> {
  const chunks: Uint8Array[] = []
  let length = 0
  for await (const chunk of response.body ?? []) {
    length += chunk.length
    if (length > maxAnswerBytes)
      throw new MoteError('too-large', `answer: expected at most ${maxAnswerBytes} bytes`)
    chunks.push(chunk)
  }
  return Buffer.concat(chunks)
}

/** The refusal in an RFC 9457 problem; an answer of another form counts as a node that does not work. */
function refusalOf(base: string, status: number, body: Uint8Array): MoteError {
  try {
    const { code, detail } = JSON.parse(Buffer.from(body).toString('utf8')) as Record<string, unknown>
    if (typeof code === 'string' && Object.hasOwn(errorTable, code))
      return new MoteError(code as ErrorCode, typeof detail === 'string' ? detail : `${base}: refused`)
  } catch {
    // Not JSON: a proxy or another program answers at this address.
  }
  return new MoteError('unreachable', `${base}: answered ${status} without a problem document`)
}

function decodedOf<T>(base: string, codec: Codec<T>, body: Uint8Array): T {
  const decoded = decode(codec, body, maxAnswerBytes)
  if (decoded.ok) return decoded.value
  throw new MoteError('bad-proof', `${base}: ${decoded.error.detail}`)
}

function jsonOf<T>(base: string, answer: Answer, check: (value: unknown) => boolean): T {
  let value: unknown
  try {
    value = JSON.parse(Buffer.from(answer.body).toString('utf8'))
  } catch (cause) {
    throw new MoteError('bad-proof', `${base}: expected JSON`, { cause })
  }
  if (!check(value)) throw new MoteError('bad-proof', `${base}: the answer lacks documented fields`)
  return value as T
}
