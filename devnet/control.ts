/**
 * The control socket of a devnet: one JSON object per line each way, over a Unix socket of mode 0600.
 *
 * A request is `{"command": …}`; the answer is `{"ok":true,"value":…}` or `{"ok":false,"code":…,"detail":…}`, in the
 * order of the requests. Lines, connections and waiting requests are bounded.
 */

import { chmodSync, rmSync } from 'node:fs'
import { createConnection, createServer, type Server, type Socket } from 'node:net'
import { type ErrorCode, errorTable } from '../chain/errors.ts'
import { MoteError } from '../chain/result.ts'
import { OrderedQueue } from '../client/ordered-queue.ts'
import { type LinkChange, linkChange } from './link-faults.ts'
import { isClockOffset } from './shifted-clock.ts'

/** The signals that a fault may send to a child. */
export type FaultSignal = 'SIGKILL' | 'SIGSTOP' | 'SIGCONT' | 'SIGTERM'

export type ControlRequest =
  | { readonly command: 'ping' }
  | { readonly command: 'status' }
  /** Stops every child and the supervisor; the answer comes when all are gone. */
  | { readonly command: 'down' }
  | { readonly command: 'signal'; readonly node: string; readonly signal: FaultSignal }
  /** Starts an identity that joined, by the configuration in its directory; from then on it is a node like the others. */
  | { readonly command: 'run'; readonly node: string }
  /** Stops the node if it runs, starts it, and answers when it has answered a query. */
  | { readonly command: 'restart'; readonly node: string }
  /** Shifts the wall clock of a node or the gateway against the machine's. */
  | { readonly command: 'clock'; readonly node: string; readonly offsetMs: number }
  /** Changes the faults of links; answers with all that are in force. */
  | { readonly command: 'links'; readonly change: LinkChange }
  /** Stops the node, moves its data away, starts it, and answers whether it came up without. */
  | { readonly command: 'wipe'; readonly node: string }
  /** Puts back what the last `wipe` moved away, and starts the node. */
  | { readonly command: 'unwipe'; readonly node: string }

type ControlAnswer =
  | { readonly ok: true; readonly value: unknown }
  | { readonly ok: false; readonly code: ErrorCode; readonly detail: string }

const maxRequestBytes = 64 * 1024
const maxControlConnections = 32
const maxWaitingPerConnection = 16

/** Listens at `path` and answers with `handle`. Close the server to end it; the socket file goes with it. */
export async function serveControl(
  path: string,
  handle: (request: ControlRequest) => Promise<unknown>,
): Promise<Server> {
  rmSync(path, { force: true })
  const server = createServer(socket => serveConnection(socket, handle))
  server.maxConnections = maxControlConnections
  const previous = process.umask(0o177)
  try {
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject)
      server.listen(path, resolve)
    })
  } finally {
    process.umask(previous)
  }
  chmodSync(path, 0o600)
  return server
}

function serveConnection(socket: Socket, handle: (request: ControlRequest) => Promise<unknown>): void {
  let buffered = ''
  const requests = new OrderedQueue()
  const refuse = (detail: string): void => {
    socket.end(line({ ok: false, code: 'malformed', detail }))
  }
  socket.setEncoding('utf8')
  socket.on('error', () => socket.destroy())
  socket.on('data', (text: string) => {
    buffered += text
    const lines = buffered.split('\n')
    buffered = lines.pop() ?? ''
    if (buffered.length > maxRequestBytes || requests.length + lines.length > maxWaitingPerConnection) {
      refuse('request: too long, or too many at once')
      return
    }
    for (const text of lines) {
      void requests.run(async () => {
        const answer = await answerTo(text, handle)
        if (socket.writable) socket.write(line(answer))
      })
    }
  })
}

async function answerTo(
  text: string,
  handle: (request: ControlRequest) => Promise<unknown>,
): Promise<ControlAnswer> {
  try {
    const request = parseRequest(text)
    return { ok: true, value: (await handle(request)) ?? null }
  } catch (error) {
    if (error instanceof MoteError) return { ok: false, code: error.code, detail: error.detail }
    return { ok: false, code: 'internal', detail: error instanceof Error ? error.message : String(error) }
  }
}

const faultSignals: readonly string[] = ['SIGKILL', 'SIGSTOP', 'SIGCONT', 'SIGTERM'] satisfies FaultSignal[]

/** Reads one request. Throws `malformed`. */
export function parseRequest(text: string): ControlRequest {
  let value: { command?: unknown; node?: unknown; signal?: unknown; offsetMs?: unknown; change?: unknown }
  try {
    value = JSON.parse(text) as typeof value
  } catch (cause) {
    throw new MoteError('malformed', 'request: expected JSON', { cause })
  }
  const { command, node, signal, offsetMs, change } = value ?? {}
  if (command === 'ping' || command === 'status' || command === 'down') return { command }
  if (command === 'links') return { command, change: linkChange(change) }
  if (typeof node !== 'string')
    throw new MoteError('malformed', 'request: expected a known command and a node')
  if (command === 'run') return { command, node: nodeName(node) }
  if (command === 'restart' || command === 'wipe' || command === 'unwipe') return { command, node }
  if (command === 'clock' && isClockOffset(offsetMs)) return { command, node, offsetMs }
  if (command === 'signal' && typeof signal === 'string' && faultSignals.includes(signal))
    return { command, node, signal: signal as FaultSignal }
  throw new MoteError('malformed', 'request: expected a known command, and its signal or offset')
}

/** A name that becomes part of a path. */
function nodeName(text: string): string {
  if (/^[a-zA-Z0-9][a-zA-Z0-9._-]{0,63}$/.test(text)) return text
  throw new MoteError('malformed', 'request: expected the name of a node')
}

function line(answer: ControlAnswer | ControlRequest): string {
  return `${JSON.stringify(answer)}\n`
}

/** Asks the supervisor at `path`. Throws its refusal, `not-running` if nobody listens there, `timeout` at the signal. */
export async function askControl(
  path: string,
  request: ControlRequest,
  signal?: AbortSignal,
): Promise<unknown> {
  const answer = JSON.parse(await exchange(path, line(request), signal)) as ControlAnswer
  if (answer.ok) return answer.value
  throw new MoteError(answer.code in errorTable ? answer.code : 'internal', answer.detail)
}

/** Sends one line and resolves to the first line that comes back. */
function exchange(path: string, text: string, signal: AbortSignal | undefined): Promise<string> {
  const { promise, resolve, reject } = Promise.withResolvers<string>()
  const socket = createConnection(path)
  const stop = (): void => reject(new MoteError('timeout', 'the supervisor did not answer in time'))
  if (signal?.aborted) stop()
  signal?.addEventListener('abort', stop, { once: true })
  let received = ''
  socket.setEncoding('utf8')
  socket.on('connect', () => socket.write(text))
  socket.on('data', (chunk: string) => {
    received += chunk
    const end = received.indexOf('\n')
    if (end >= 0) resolve(received.slice(0, end))
  })
  socket.on('error', cause => reject(new MoteError('not-running', `${path}: no devnet runs here`, { cause })))
  socket.on('close', () => reject(new MoteError('not-running', `${path}: the supervisor hung up`)))
  return promise.finally(() => {
    signal?.removeEventListener('abort', stop)
    socket.destroy()
  })
}
