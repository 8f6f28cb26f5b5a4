/**
 * The HTTP face that every label shares: fastify with refusals as RFC 9457 problems, our codec as
 * `application/octet-stream`, and the two questions of an orchestrator. Routes are added by api.ts, lightweight-api.ts
 * and coordination-api.ts.
 *
 * Limits: a body of 64 KiB, 30 s to send a request, so that slow or endless requests cost little.
 */
import Fastify, { type FastifyInstance, type FastifyReply, type FastifyRequest } from 'fastify'
import { type Codec, encode } from '../chain/codec.ts'
import { type ErrorCode, errorTable } from '../chain/errors.ts'
import { MoteError } from '../chain/result.ts'

export const octetStream = 'application/octet-stream'
const problemJson = 'application/problem+json'
const bodyLimitBytes = 64 * 1024
const requestTimeoutMs = 30_000

export interface HttpServerParts {
  /** Why the node is not ready to serve; undefined if it is. */
  readonly readiness: () => MoteError | undefined
  /** Told of failures that are not refusals. */
  readonly onInternalError: (
    error: unknown,
    request: { readonly method: string; readonly url: string },
  ) => void
}

/** A server with error handling and `/livez`, `/readyz`; not listening yet. */
export function createHttpServer({ readiness, onInternalError }: HttpServerParts): FastifyInstance {
  const server = Fastify({
    logger: false,
    bodyLimit: bodyLimitBytes,
    requestTimeout: requestTimeoutMs,
    forceCloseConnections: 'idle',
    routerOptions: { maxParamLength: 128 },
  })
  server.removeAllContentTypeParsers()
  server.addContentTypeParser(octetStream, { parseAs: 'buffer' }, (_request, body, done) => done(null, body))
  server.setErrorHandler((error, request, reply) => {
    const refusal = refusalOf(error)
    if (refusal.code === 'internal') onInternalError(error, { method: request.method, url: request.url })
    return sendProblem(reply, refusal)
  })
  server.setNotFoundHandler((request, reply) =>
    sendProblem(reply, new MoteError('not-found', `${request.method} ${request.url}: no such resource`)),
  )
  server.get('/livez', () => ({ status: 'ok' }))
  server.get('/readyz', (_request, reply) => {
    const reason = readiness()
    return reason ? sendProblem(reply, reason) : reply.send({ status: 'ok' })
  })
  return server
}

/** Listens and returns the base URL. Throws `start-failed`. */
export async function listen(
  server: FastifyInstance,
  { host, port }: { readonly host: string; readonly port: number },
): Promise<string> {
  try {
    return await server.listen({ host, port })
  } catch (cause) {
    throw new MoteError('start-failed', `api: cannot listen on ${host} port ${port}`, { cause })
  }
}

/** An answer in our codec. */
export function sendValue<T>(reply: FastifyReply, codec: Codec<T>, value: T): FastifyReply {
  return reply.type(octetStream).send(Buffer.from(encode(codec, value)))
}

/** The bytes of a request body. Throws `malformed` when there are none. */
export function bodyOf(request: FastifyRequest): Uint8Array {
  if (request.body instanceof Uint8Array) return Uint8Array.from(request.body)
  throw new MoteError('malformed', `body: expected ${octetStream}`)
}

/** A problem document (RFC 9457) with the refusal's stable code. */
function sendProblem(reply: FastifyReply, { code, detail }: MoteError): FastifyReply {
  const { http: status, sentence: title } = errorTable[code]
  return reply
    .code(status)
    .type(problemJson)
    .send(JSON.stringify({ type: `urn:motechain:error:${code}`, title, status, detail, code }))
}

/** Codes of fastify's own refusals, by HTTP status. */
const codeByStatus: ReadonlyMap<number, ErrorCode> = new Map([
  [400, 'malformed'],
  [404, 'not-found'],
  [408, 'timeout'],
  [413, 'too-large'],
  [415, 'malformed'],
])

function refusalOf(error: unknown): MoteError {
  if (error instanceof MoteError) return error
  const { statusCode, message } = error as { statusCode?: number; message?: string }
  const code = statusCode === undefined ? undefined : codeByStatus.get(statusCode)
  if (code) return new MoteError(code, message ?? 'request: not understood')
  return new MoteError('internal', 'the request failed; the log has the cause')
}
