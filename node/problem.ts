/** Errors of the HTTP API as RFC 9457 problem documents, and what each of Fastify's own errors means in our table. */
import type { FastifyError, FastifyInstance, FastifyReply } from 'fastify'
import { type ErrorCode, errorTable } from '../chain/errors.ts'
import { MoteError } from '../chain/result.ts'

export interface Problem {
  readonly type: string
  readonly title: string
  readonly status: number
  readonly detail: string
  readonly code: ErrorCode
}

/** Seconds after which a refused request may be worth another try. */
const retryAfterSeconds = '1'

/** The problem document for a code (RFC 9457, section 3.1); `status` defaults to the table's. */
export function problemOf(code: ErrorCode, detail: string, status: number = errorTable[code].http): Problem {
  return { type: `urn:mote:error:${code}`, title: errorTable[code].sentence, status, detail, code }
}

/** Sends a problem document. */
export function sendProblem(reply: FastifyReply, problem: Problem): FastifyReply {
  if (problem.status === 429 || problem.status === 503) reply.header('retry-after', retryAfterSeconds)
  return reply.code(problem.status).type('application/problem+json').send(JSON.stringify(problem))
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
