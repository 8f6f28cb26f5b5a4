/** Errors of the HTTP API as RFC 9457 problem documents, and what each of Fastify's own errors means in our table. */
import type { FastifyError, FastifyInstance, FastifyReply } from 'fastify'
import { MoteError } from '../chain/result.ts'
import { type Problem, problemHeaders, problemOf } from '../client/problem.ts'

/** Sends a problem document. */
function sendProblem(reply: FastifyReply, problem: Problem): FastifyReply {
  return reply.code(problem.status).headers(problemHeaders(problem)).send(JSON.stringify(problem))
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
