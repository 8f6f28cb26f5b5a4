/**
 * The gateway's small HTTP API: `/livez` (the process answers), `/readyz` (it would relay: fresh trust data),
 * `/v1/status`. Read-only; answers have the form of a node's (docs/FORMATS.md, HTTP API), errors are RFC 9457 problems.
 */
import { once } from 'node:events'
import { createServer, type ServerResponse } from 'node:http'
import { type ErrorCode, errorTable } from '../chain/errors.ts'
import type { MoteError } from '../chain/result.ts'
import type { ListenAddress } from './config.ts'

export interface StatusSource {
  /** Undefined while a message that is valid would be relayed; else why not. */
  readonly readiness: () => MoteError | undefined
  readonly status: () => object
}

export interface StatusFace {
  readonly address: ListenAddress
  close(): Promise<void>
}

/** Time a client has to send its request. */
const requestTimeoutMs = 5_000

export async function openStatusFace(address: ListenAddress, source: StatusSource): Promise<StatusFace> {
  const server = createServer({ requestTimeout: requestTimeoutMs, keepAliveTimeout: requestTimeoutMs })
  server.on('request', (request, response) => {
    const { pathname } = new URL(request.url ?? '/', 'http://gateway')
    if (request.method !== 'GET') problem(response, 405, 'not-found', 'method: expected GET')
    else if (pathname === '/livez') json(response, 200, { status: 'alive' })
    else if (pathname === '/readyz') ready(response, source.readiness())
    else if (pathname === '/v1/status') json(response, 200, source.status())
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

function ready(response: ServerResponse, missing: MoteError | undefined): void {
  if (missing) problem(response, 503, missing.code, missing.detail)
  else json(response, 200, { status: 'ready' })
}

function json(response: ServerResponse, status: number, body: object, type = 'application/json'): void {
  response.writeHead(status, { 'content-type': type, 'cache-control': 'no-store' })
  response.end(`${JSON.stringify(body)}\n`)
}

function problem(response: ServerResponse, status: number, code: ErrorCode, detail: string): void {
  const body = { type: `urn:mote:error:${code}`, title: errorTable[code].sentence, status, detail, code }
  json(response, status, body, 'application/problem+json')
}
