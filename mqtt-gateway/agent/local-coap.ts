/**
 * The local CoAP port of an agent (RFC 7252 over UDP on a loopback address): PUT on `/a/b` is a message on topic `a/b`, answered 2.04
 * when it is on the disk; GET is the last value that came out on it; GET with Observe (RFC 7641) goes on with the next ones.
 *
 * The library's server is kept from what it does not bound: a datagram is judged before it is given to it (one that is
 * no request, over 1,152 bytes, in blocks, through a proxy, or while its first copy is still worked on), and observers are counted.
 * A value that is observed is the newest state, as RFC 7641 has it, and no queue: who must get each message takes it over MQTT.
 */
import { createSocket, type RemoteInfo, type Socket } from 'node:dgram'
import { once } from 'node:events'
import { createServer, type IncomingMessage, type OutgoingMessage, type Server } from 'coap'
import { generate, type ParsedPacket, parse } from 'coap-packet'
import type { ErrorCode } from '../../chain/errors.ts'
import { RecentMap } from '../../chain/recent-map.ts'
import { MoteError, type Refusal, type Result } from '../../chain/result.ts'
import type { LocalMessage } from './local-client.ts'
import { requireLoopback } from './local-mqtt.ts'

/** Largest datagram (RFC 7252, section 4.6). */
const maxDatagramBytes = 1152
/** Of what an application is told of a refusal. */
const maxDiagnosticBytes = 256
/** Observers of all topics. */
const maxObservers = 256
/** Topics whose last value is kept at least; twice as many at most. */
const maxLastValues = 256
/** Requests that are worked on. */
const maxRequestsAtOnce = 256
/** Answers that are kept for requests that come twice. */
const maxAnswerCacheBytes = 1024 * 1024

/** Options that are refused: Block2, Block1, Proxy-Uri, Proxy-Scheme. */
const refusedOptions: readonly unknown[] = [
  'Block1',
  'Block2',
  'Q-Block1',
  'Q-Block2',
  'Proxy-Uri',
  'Proxy-Scheme',
]

export interface LocalCoapOptions {
  readonly address: { readonly host: string; readonly port: number }
  readonly accept: (message: LocalMessage) => Promise<Result<unknown>>
  readonly onSubscribed: () => void
  readonly onRefused: (reason: Refusal) => void
}

/** The parts of a response that observes. */
interface Observation {
  readonly topicName: string
  readonly response: OutgoingMessage
}

export class LocalCoap {
  readonly #options: LocalCoapOptions
  readonly #socket: Socket
  readonly #server: Server
  readonly #observations = new Set<Observation>()
  readonly #lastValues = new RecentMap<string, Uint8Array>(maxLastValues)
  readonly #working = new Set<string>()

  constructor(options: LocalCoapOptions) {
    requireLoopback(options.address.host, 'coap.host')
    this.#options = options
    this.#socket = createSocket(options.address.host.includes(':') ? 'udp6' : 'udp4')
    this.#server = createServer({ cacheSize: maxAnswerCacheBytes })
    this.#server.on('request', (request: IncomingMessage, response: OutgoingMessage) => {
      void this.#serve(request, response)
    })
    this.#server.on('error', () => {})
  }

  /** Throws `in-use`, `start-failed`. */
  async listen(): Promise<{ readonly host: string; readonly port: number }> {
    const { host, port } = this.#options.address
    this.#socket.bind(port, host)
    try {
      await once(this.#socket, 'listening')
    } catch (cause) {
      const { code, message } = cause as NodeJS.ErrnoException
      throw new MoteError(code === 'EADDRINUSE' ? 'in-use' : 'start-failed', `coap: ${message}`, { cause })
    }
    this.#server.listen(this.#socket as never)
    const [handle] = this.#socket.listeners('message') as ((datagram: Buffer, from: RemoteInfo) => void)[]
    this.#socket.removeAllListeners('message')
    this.#socket.on('message', (datagram, from) => {
      if (this.#isServed(datagram, from)) handle?.(datagram, from)
    })
    return { host, port: this.#socket.address().port }
  }

  /** Keeps a value as the last one of its topic, and notifies its observers. True if there is one. */
  deliver({ topicName, payload }: LocalMessage): boolean {
    this.#lastValues.set(topicName, payload)
    const observing = [...this.#observations].filter(observation => observation.topicName === topicName)
    for (const { response } of observing) response.write(Buffer.from(payload))
    return observing.length > 0
  }

  close(): void {
    for (const { response } of this.#observations) response.end()
    this.#server.close()
    this.#socket.close()
  }

  /** Whether the library's server gets a datagram. What is refused gets its answer here. */
  #isServed(datagram: Buffer, from: RemoteInfo): boolean {
    let packet: ParsedPacket
    try {
      if (datagram.length > maxDatagramBytes) return false
      packet = parse(datagram)
    } catch {
      return false
    }
    if (!packet.code.startsWith('0.') || packet.code === '0.00') return packet.ack || packet.reset
    if (packet.options.some(({ name }) => refusedOptions.includes(name))) {
      // 4.13 Request Entity Too Large, as RFC 7959 (section 2.9.3) has it for blocks that are not taken.
      this.#answer(packet, from, '4.13')
      return false
    }
    const isFull = this.#working.size >= maxRequestsAtOnce
    if (isFull) this.#answer(packet, from, '5.03')
    return !isFull && !this.#working.has(requestName(packet.messageId, from))
  }

  #answer(
    { messageId, token, confirmable }: ParsedPacket,
    { port, address }: RemoteInfo,
    code: string,
  ): void {
    this.#socket.send(generate({ code, messageId, token, ack: confirmable }), port, address)
  }

  async #serve(request: IncomingMessage, response: OutgoingMessage): Promise<void> {
    const name = requestName(request._packet.messageId ?? 0, request.rsinfo)
    response.on('error', () => {})
    this.#working.add(name)
    try {
      await this.#respond(request, response)
    } catch {
      respond(response, '5.00')
    } finally {
      this.#working.delete(name)
    }
  }

  async #respond(request: IncomingMessage, response: OutgoingMessage): Promise<void> {
    const topicName = topicOf(request)
    if (topicName === undefined) return respond(response, '4.00')
    switch (request.method) {
      case 'PUT':
      case 'POST': {
        const accepted = await this.#options.accept({ topicName, payload: Uint8Array.from(request.payload) })
        if (accepted.ok) return respond(response, '2.04')
        const { code, detail } = accepted.error
        this.#options.onRefused(accepted.error)
        // A diagnostic payload (RFC 7252, section 5.5.2).
        return respond(response, codeOf(code), Buffer.from(`${code}: ${detail}`.slice(0, maxDiagnosticBytes)))
      }
      case 'GET':
        return request.headers.Observe === 0
          ? this.#observe(topicName, response)
          : this.#get(topicName, response)
      default:
        return respond(response, '4.05')
    }
  }

  #get(topicName: string, response: OutgoingMessage): void {
    const value = this.#lastValues.get(topicName)
    respond(response, value ? '2.05' : '4.04', value)
  }

  #observe(topicName: string, response: OutgoingMessage): void {
    if (this.#observations.size >= maxObservers) {
      respond(response, '5.03')
      return
    }
    const observation = { topicName, response }
    this.#observations.add(observation)
    response.once('finish', () => this.#observations.delete(observation))
    response.write(Buffer.from(this.#lastValues.get(topicName) ?? new Uint8Array()))
    this.#options.onSubscribed()
  }
}

function respond(response: OutgoingMessage, code: string, payload?: Uint8Array): void {
  // Of an observation: the code of its one answer.
  response.statusCode = code
  response.end(payload && Buffer.from(payload))
}

/** A request by its message id and its sender: a copy that comes while the first is worked on gets no answer of its own. */
function requestName(
  messageId: number,
  { address, port }: { readonly address: string; readonly port: number },
): string {
  return `${address} ${port} ${messageId}`
}

/** The path as a topic; undefined for one that could be none. */
function topicOf({ _packet: packet }: IncomingMessage): string | undefined {
  const levels = (packet.options ?? []).flatMap(({ name, value }) =>
    name === 'Uri-Path' ? [Buffer.from(value as Buffer).toString('utf8')] : [],
  )
  const isTopic = levels.length > 0 && levels.every(level => level !== '' && !/[+#/\0\ufffd]/.test(level))
  return isTopic ? levels.join('/') : undefined
}

/** RFC 7252, section 5.9; RFC 8132, section 2.3.2. */
function codeOf(code: ErrorCode): string {
  switch (code) {
    case 'topic-not-allowed':
    case 'not-found':
      return '4.04'
    case 'too-large':
      return '4.13'
    case 'malformed':
      return '4.00'
    case 'rule-violated':
      return '4.22'
    case 'overloaded':
      return '5.03'
    default:
      return '5.00'
  }
}
