/**
 * The gateway's small HTTP API: `/livez` (the process answers), `/readyz` (it would relay: fresh trust data),
 * `/v1/status`. Read-only; answers have the form of a node's (docs/FORMATS.md, HTTP API), errors are RFC 9457 problems.
 */
import { once } from 'node:events'
import { createServer, type ServerResponse } from 'node:http'
import type { ErrorCode } from '../../chain/errors.ts'
import type { MoteError } from '../../chain/result.ts'
import type { ListenAddress } from '../../client/configuration-file.ts'
import { liveness, readiness } from '../../client/health.ts'
import { problemHeaders, problemOf } from '../../client/problem.ts'

export interface StatusSource {
  /** Undefined while a message that is valid would be relayed; else why not. */
  readonly readiness: () => MoteError | undefined
  readonly status: () => object
}

export interface StatusServer {
  readonly address: ListenAddress
  close(): Promise<void>
}

/** Time a client has to send its request. */
const requestTimeoutMs = 5_000

export async function openStatusServer(address: ListenAddress, source: StatusSource): Promise<StatusServer> {
  const server = createServer({ requestTimeout: requestTimeoutMs, keepAliveTimeout: requestTimeoutMs })
  server.on('request', (request, response) => {
    // Not `new URL`, which throws on what a client may well send.
    const [pathname] = (request.url ?? '').split('?')
    if (request.method !== 'GET') problem(response, 405, 'not-found', 'method: expected GET')
    else if (pathname === '/livez') send(response, liveness(undefined))
    else if (pathname === '/readyz') send(response, readiness(source.readiness()))
    else if (pathname === '/v1/status') send(response, statusAnswer(source.status()))
    else problem(response, 404, 'not-found', 'path: expected /livez, /readyz or /v1/status')
  })
  server.listen(address.port, address.host)
  await once(server, 'listening')
  const bound = server.address()
  return {
    address: typeof bound === 'object' && bound ? { host: address.host, port: bound.port } : address,
    close: async () => {
      const closed = once(server, 'close')
      server.close()
      server.closeAllConnections()
      await closed
    },
  }
}

interface Answer {
  readonly status: number
  readonly headers: Readonly<Record<string, string>>
  readonly body: string
}

function send(response: ServerResponse, { status, headers, body }: Answer): void {
  response.writeHead(status, headers)
  response.end(body)
}

function statusAnswer(status: object): Answer {
  const headers = { 'content-type': 'application/json; charset=utf-8', 'cache-control': 'no-store' }
  return { status: 200, headers, body: JSON.stringify(status) }
}

function problem(response: ServerResponse, status: number, code: ErrorCode, detail: string): void {
  const document = problemOf(code, detail, status)
  send(response, { status, headers: problemHeaders(document), body: JSON.stringify(document) })
}
