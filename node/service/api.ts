/**
 * The HTTP API of a node (docs/FORMATS.md, section HTTP API): typed routes over a `ChainSource`, the same for every
 * label; a label without a service simply leaves its routes out.
 *
 * Chain objects travel as octets in their canonical encoding, what people read as JSON, errors as RFC 9457 problems.
 * Invariants: a body over its route's limit is refused while it is read; no input makes a handler throw anything but a
 * `MoteError`; nothing is logged per request.
 */

import type { AddressInfo } from 'node:net'
import type { TypeBoxTypeProvider } from '@fastify/type-provider-typebox'
import fastify, { type FastifyError, type FastifyInstance, type FastifyReply } from 'fastify'
import { Type } from 'typebox'
import { type Block, blockCodec } from '../../chain/block.ts'
import { type BlockLeaves, blockLeavesCodec } from '../../chain/block-leaves.ts'
import { DeviceId, GroupId, Height, isDigest, StateKey, TransactionId } from '../../chain/brands.ts'
import { decode, encode } from '../../chain/codec.ts'
import { certifiedHeaderCodec, stateAnswerCodec } from '../../chain/light-client.ts'
import { stateKeyOf } from '../../chain/records.ts'
import { MoteError } from '../../chain/result.ts'
import { maxTransactionBytes } from '../../chain/transaction.ts'
import { shareOf } from '../../client/address-shares.ts'
import {
  type ChainSource,
  encodeHeaderPage,
  groupAnswerCodec,
  type HistoryCursor,
  maxHeadersPerAnswer,
  maxTransactionsPerSubmission,
  type SubmitWait,
  submissionCodec,
  type TransactionStatus,
} from '../../client/chain-source.ts'
import { coordinationAddressesCodec } from '../../client/coordination-address.ts'
import { type HealthAnswer, liveness, readiness } from '../../client/health.ts'
import { type Problem, problemHeaders, problemOf } from '../../client/problem.ts'
import { Places } from '../network/rate-limit.ts'
import type { TransferReport } from './administration.ts'
import { json, limitRate, mustBeNoPage, mustBeOperator, octets } from './callers.ts'
import { compileSchemasLate } from './late-schemas.ts'
import { recordRoutes } from './record-routes.ts'

/** What a node serves over HTTP. */
export interface ApiParts {
  readonly source: ChainSource
  /** Undefined when the node can serve; else why not. */
  readonly readiness: () => MoteError | undefined
  /** What an operator should know of a node that serves: beside `ready` in `/readyz`. */
  readonly notices?: () => object
  /** Undefined while the process is sound. */
  readonly failure: () => MoteError | undefined
  /** JSON of one block, for nodes that keep blocks. */
  readonly block?: (height: Height | 'latest') => Promise<object>
  /** The same as a client proves it. */
  readonly blockContent?: (height: Height | 'latest') => Promise<Block>
  readonly blockLeaves?: (height: Height | 'latest') => Promise<BlockLeaves>
  /** Resolves when certified state here holds everything that was committed before; nodes that cannot say leave it out. */
  readonly barrier?: () => Promise<void>
  readonly onUnexpected: (error: Error) => void
  /** What one share of addresses may ask for each second (callers.ts). */
  readonly httpPerSecond: number
  /** Routes of one label alone. */
  readonly extend?: (app: FastifyInstance) => void
}

/** Largest body of any route that takes chain objects and names no limit of its own. */
const defaultBodyLimit = 64 * 1024
/** Answers under way when the API closes have this long to leave. */
const closeGraceMs = 500
const maxLongPollMs = 30_000
/** Long polls under way, in all and from one address, this machine's own among them. */
const maxPolls = 8_192
const maxPollsPerAddress = 2_048

const digest = Type.String({ pattern: '^[0-9a-f]{64}$' })
const height = Type.String({ pattern: '^(latest|0|[1-9][0-9]{0,14})$' })
const natural = Type.Integer({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER })
const wait = Type.Enum(['none', 'committed', 'certified'])
/** Up to 15 digits each, so that both are whole numbers. */
const historyQuery = Type.Object({
  before: Type.Optional(Type.String({ pattern: '^[0-9]{1,15}\\.[0-9]{1,15}$' })),
})
const waitQuery = Type.Object({ wait: Type.Optional(wait) })
const statusSchema = Type.Object(
  {
    id: Type.String(),
    status: Type.String(),
    height: Type.Optional(Type.Integer()),
    term: Type.Optional(Type.Integer()),
    index: Type.Optional(Type.Integer()),
    time: Type.Optional(Type.Integer()),
    code: Type.Optional(Type.String()),
    detail: Type.Optional(Type.String()),
  },
  { description: 'TransactionStatus' },
)
const consistency = Type.Optional(Type.Enum(['stale', 'linearizable']))
const readQuery = Type.Object({ consistency })
const byId = Type.Object({ id: digest })
const byHeight = Type.Object({ height })

/** The routes, not listening yet. */
export function createApi(parts: ApiParts): FastifyInstance {
  const app = fastify({
    bodyLimit: defaultBodyLimit,
    forceCloseConnections: 'idle',
    routerOptions: { maxParamLength: 128 },
    // Ends what dawdles over sending its request; long polls wait after theirs.
    requestTimeout: 30_000,
  }).withTypeProvider<TypeBoxTypeProvider>()
  compileSchemasLate(app)
  useProblems(app, parts.onUnexpected)
  limitRate(app, parts.httpPerSecond)
  app.addHook('onRequest', async request => mustBeNoPage(request))
  leaveBehindAtEnd(app)
  app.removeAllContentTypeParsers()
  app.addContentTypeParser(octets, { parseAs: 'buffer' }, (_request, body, done) => done(null, body))
  healthRoutes(app, parts)
  transactionRoutes(app, parts)
  headerRoutes(app, parts)
  stateRoutes(app, parts)
  parts.extend?.(app)
  return app
}

/**
 * What was open has its answer when the API closes; connections that stay longer are cut. Node would wait for one on which
 * nothing was asked yet, or half of something, for as long as its client likes.
 */
function leaveBehindAtEnd(app: FastifyInstance): void {
  app.addHook('preClose', async () => {
    const late = setTimeout(() => app.server.closeAllConnections(), closeGraceMs)
    app.server.once('close', () => clearTimeout(late))
  })
}

function withTypes(app: FastifyInstance) {
  return app.withTypeProvider<TypeBoxTypeProvider>()
}

function healthRoutes(routes: FastifyInstance, parts: ApiParts): void {
  const { source, barrier } = parts
  const app = withTypes(routes)
  app.get('/livez', async (_request, reply) => sendHealth(reply, liveness(parts.failure())))
  app.get('/readyz', async (_request, reply) =>
    sendHealth(reply, readiness(parts.readiness(), parts.notices?.())),
  )
  app.get('/v1/status', { schema: { querystring: readQuery } }, async request => {
    await before(request.query, barrier)
    return source.status()
  })
}

function sendHealth(reply: FastifyReply, { status, headers, body }: HealthAnswer): FastifyReply {
  return reply.code(status).headers(headers).send(body)
}

function transactionRoutes(routes: FastifyInstance, { source, barrier }: ApiParts): void {
  const app = withTypes(routes)
  const response = { 200: statusSchema, 202: statusSchema }
  app.post(
    '/v1/transactions',
    { bodyLimit: maxTransactionBytes, schema: { querystring: waitQuery, response } },
    async (request, reply) => {
      const status = await source.submit(bodyOf(request.body), waitOf(request.query.wait))
      return reply.code(isOpen(status) ? 202 : 200).send(status)
    },
  )
  app.post(
    '/v1/transactions/batch',
    {
      bodyLimit: maxTransactionsPerSubmission * (maxTransactionBytes + 8),
      schema: { querystring: waitQuery, response: { 200: Type.Array(statusSchema) } },
    },
    async request => {
      const batch = decode(submissionCodec, bodyOf(request.body))
      if (!batch.ok) throw new MoteError(batch.error.code, batch.error.detail)
      const wanted = waitOf(request.query.wait)
      return Promise.all(batch.value.map(transaction => source.submit(transaction, wanted)))
    },
  )
  app.get(
    '/v1/transactions/:id',
    { schema: { params: byId, querystring: readQuery, response: { 200: statusSchema } } },
    async request => {
      await before(request.query, barrier)
      return source.transactionStatus(TransactionId(request.params.id))
    },
  )
}

function headerRoutes(routes: FastifyInstance, { source, block, blockContent, blockLeaves }: ApiParts): void {
  const app = withTypes(routes)
  const range = Type.Object({
    from: natural,
    limit: Type.Optional(Type.Integer({ minimum: 1, maximum: 100_000 })),
  })
  const after = Type.Object({
    after: natural,
    timeoutMs: Type.Optional(Type.Integer({ minimum: 0, maximum: 3_600_000 })),
  })
  const polls = new Places<string>({ each: maxPollsPerAddress, all: maxPolls })
  app.get('/v1/headers', { schema: { querystring: range } }, async (request, reply) => {
    const { from, limit = maxHeadersPerAnswer } = request.query
    const headers = await source.headersFrom(Height(from), Math.min(limit, maxHeadersPerAnswer))
    return reply.type(octets).send(encodeHeaderPage(headers))
  })
  app.get('/v1/headers/wait', { schema: { querystring: after } }, async (request, reply) => {
    const { after, timeoutMs = maxLongPollMs } = request.query
    const header = await polls.within(shareOf(request.ip), async () =>
      source.waitForHeader(Height(after), Math.min(timeoutMs, maxLongPollMs)),
    )
    if (!header) return reply.code(204).send()
    return reply.type(octets).send(encode(certifiedHeaderCodec, header))
  })
  app.get('/v1/headers/:height', { schema: { params: byHeight } }, async (request, reply) => {
    const header = await source.certifiedHeader(heightOf(request.params.height))
    return reply.type(octets).send(encode(certifiedHeaderCodec, header))
  })
  if (block)
    app.get('/v1/blocks/:height', { schema: { params: byHeight } }, async request =>
      block(heightOf(request.params.height)),
    )
  if (blockContent)
    app.get('/v1/blocks/:height/content', { schema: { params: byHeight } }, async (request, reply) => {
      const content = await blockContent(heightOf(request.params.height))
      return reply.type(octets).send(Buffer.from(encode(blockCodec, content)))
    })
  if (blockLeaves)
    app.get('/v1/blocks/:height/leaves', { schema: { params: byHeight } }, async ({ params }, reply) =>
      reply.type(octets).send(encode(blockLeavesCodec, await blockLeaves(heightOf(params.height)))),
    )
}

function stateRoutes(routes: FastifyInstance, { source, barrier }: ApiParts): void {
  const app = withTypes(routes)
  const atHeight = Type.Object({ height: Type.Optional(natural), consistency })
  const optionalHeight = (height: number | undefined) => (height === undefined ? undefined : Height(height))
  app.get(
    '/v1/state/:key',
    { schema: { params: Type.Object({ key: digest }), querystring: atHeight } },
    async (request, reply) => {
      await before(request.query, barrier)
      const answer = await source.state(StateKey(request.params.key), optionalHeight(request.query.height))
      return reply.type(octets).send(encode(stateAnswerCodec, answer))
    },
  )
  app.get('/v1/devices/:id', { schema: { params: byId, querystring: atHeight } }, async (request, reply) => {
    await before(request.query, barrier)
    const key = stateKeyOf.identity(DeviceId(request.params.id))
    const answer = await source.state(key, optionalHeight(request.query.height))
    return reply.type(octets).send(encode(stateAnswerCodec, answer))
  })
  app.get(
    '/v1/devices/:id/transactions',
    { schema: { params: byId, querystring: historyQuery } },
    async request => source.deviceTransactions(DeviceId(request.params.id), cursorOf(request.query.before)),
  )
  recordRoutes(app, source)
  app.get('/v1/coordination', async (_request, reply) =>
    reply.type(octets).send(encode(coordinationAddressesCodec, await source.coordination())),
  )
  app.get('/v1/groups/:id', { schema: { params: byId, querystring: readQuery } }, async (request, reply) => {
    await before(request.query, barrier)
    return reply.type(octets).send(encode(groupAnswerCodec, await source.group(GroupId(request.params.id))))
  })
}

/** The octets of a request. Refuses, as `malformed`, one without any. */
export function bodyOf(body: unknown): Uint8Array {
  if (body instanceof Uint8Array && body.length > 0) return body
  throw new MoteError('malformed', `body: expected ${octets}, got nothing`)
}

/** What has to happen before a read: nothing, unless it is to be linearizable. */
async function before(
  { consistency }: { readonly consistency?: 'stale' | 'linearizable' },
  barrier: ApiParts['barrier'],
): Promise<void> {
  if (consistency !== 'linearizable') return
  if (!barrier)
    throw new MoteError('malformed', 'consistency: expected stale here; only full nodes know more')
  await barrier()
}

/** `HEIGHT.INDEX` of the last row that was shown. */
function cursorOf(before: string | undefined): HistoryCursor | undefined {
  if (before === undefined) return undefined
  const [height, index] = before.split('.').map(Number)
  return { height: Height(height ?? 0), index: index ?? 0 }
}

function waitOf(wait: SubmitWait | undefined): SubmitWait {
  return wait ?? 'certified'
}

function heightOf(text: string): Height | 'latest' {
  return text === 'latest' ? text : Height(Number(text))
}

/** The outcome is not known yet: 202 Accepted. */
function isOpen({ status }: TransactionStatus): boolean {
  return status === 'pending' || status === 'unknown'
}

/* Errors of the HTTP API as RFC 9457 problem documents, and what each of Fastify's own errors means in our table. */

/** Sends a problem document. */
function sendProblem(reply: FastifyReply, problem: Problem): FastifyReply {
  const known = reply.getHeader('retry-after')
  const headers = { ...problemHeaders(problem), ...(known !== undefined && { 'retry-after': known }) }
  return reply.code(problem.status).headers(headers).send(JSON.stringify(problem))
}

/** Fastify's own refusals keep their HTTP status and get the code that fits. */
function problemOfError(error: FastifyError | MoteError): Problem {
  if (error instanceof MoteError) return problemOf(error.code, error.detail)
  const status = error.statusCode ?? 500
  if (status === 413) return problemOf('too-large', error.message)
  if (status >= 400 && status < 500) return problemOf('malformed', error.message, status)
  // What an unexpected error says may hold anything: it goes to the log, not to the caller.
  return problemOf('internal', 'the request failed; the log of the node has the cause')
}

/** Makes every error and every unknown route a problem document. `onUnexpected` is told of what is a bug. */
export function useProblems(app: FastifyInstance, onUnexpected: (error: Error) => void): void {
  app.setErrorHandler((error: FastifyError | MoteError, _request, reply) => {
    const problem = problemOfError(error)
    if (problem.code === 'internal') onUnexpected(error)
    return sendProblem(reply, problem)
  })
  app.setNotFoundHandler((request, reply) =>
    sendProblem(
      reply,
      problemOf('not-found', `${request.method} ${request.url.slice(0, 200)}: no such route`),
    ),
  )
}

/* Where a node's interface listens. */

/** Listens, and gives the base URL. Throws `start-failed`: with the reason, and with what to do where another program has the port. */
export async function listenApi(
  app: FastifyInstance,
  { host, port }: { readonly host: string; readonly port: number },
): Promise<string> {
  try {
    await app.listen({ host, port })
  } catch (cause) {
    const taken = (cause as NodeJS.ErrnoException).code === 'EADDRINUSE'
    const reason = taken
      ? 'another program uses it; set another one under `api`, or end that program'
      : String(cause)
    throw new MoteError('start-failed', `api: cannot listen on ${host} port ${port}: ${reason}`, { cause })
  }
  return `http://${host}:${(app.server.address() as AddressInfo).port}`
}

/*
 * What an operator may ask of a node over HTTP, on the machine itself only and with the token of the node's directory
 * (client/operator-access.ts): `GET /v1/configuration` is the configuration that takes effect, and `POST /v1/transfer` transfers
 * a full node's leadership. Any other request is refused before its body is read.
 */

export interface AdminServices {
  /** `grantOperatorAccess`. */
  readonly token: string
  /** No secret is in it. */
  readonly configuration: object
  /** To the node that is named, or to the one that is furthest. Throws `no-leader`, `unreachable` or `timeout`. */
  readonly transfer?: (to: DeviceId | undefined) => Promise<TransferReport>
}

const bodyLimit = 1024

export function adminRoutes(app: FastifyInstance, { token, configuration, transfer }: AdminServices): void {
  app.register(async routes => {
    routes.addHook('onRequest', async request => mustBeOperator(request, token))
    routes.addContentTypeParser(
      json,
      { parseAs: 'string', bodyLimit },
      routes.getDefaultJsonParser('error', 'error'),
    )
    routes.get('/v1/configuration', async () => configuration)
    if (transfer)
      routes.post('/v1/transfer', { bodyLimit }, async request => transfer(targetOf(request.body)))
  })
}

/** `{"to": device id}`, `{}`, or nothing. */
function targetOf(body: unknown): DeviceId | undefined {
  const to = typeof body === 'object' && body !== null && 'to' in body ? body.to : undefined
  if (to === undefined) return undefined
  if (typeof to === 'string' && isDigest(to)) return DeviceId(to)
  throw new MoteError('malformed', `to: expected a device id, got ${JSON.stringify(to)}`)
}
