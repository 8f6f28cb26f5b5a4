/**
 * One libp2p connection and what is known of its other end: who it proved to be, whether it took our proof, how
 * often it broke the protocol. Its long-lived streams are opened ahead (`prepare`) or when first used, and again after a
 * loss.
 */
import type { Connection } from '@libp2p/interface'
import { MoteError } from '../../chain/result.ts'
import type { Clock } from '../ports.ts'
import { maxAnswerFrameBytes } from './answer-frame.ts'
import { Conversation } from './conversation.ts'
import type { ProvenPeer } from './hello.ts'
import { transportKeyOf } from './libp2p-host.ts'
import type { NetworkLimits } from './network-limits.ts'
import { OutboundStream } from './outbound-stream.ts'
import { type ProtocolName, protocols, type StreamProtocol } from './protocols.ts'
import { RateLimit } from './rate-limit.ts'

export interface PeerLinkOptions {
  readonly limits: NetworkLimits
  readonly clock: Clock
  /** A stream to this peer ended; frames may be lost. */
  readonly onStreamLost: (link: PeerLink, reason: string) => void
  /** The peer broke the protocol once more; `closing` when that was once too often. */
  readonly onViolation: (link: PeerLink, reason: string, closing: boolean) => void
}

export class PeerLink {
  readonly connection: Connection
  /** Ed25519 key that Noise has proven; undefined for another kind of key. */
  readonly transportKey: Uint8Array | undefined
  readonly #options: PeerLinkOptions
  readonly #streams = new Map<StreamProtocol, OutboundStream>()
  readonly #requests: RateLimit
  #violations = 0
  /** Set when the peer's hello has passed, confirmed or not. */
  peer: ProvenPeer | undefined
  /** Shared by all connections of the peer. */
  budget: RateLimit | undefined
  /** Our hello has passed at the peer. */
  accepted = false

  constructor(connection: Connection, options: PeerLinkOptions) {
    this.connection = connection
    this.transportKey = transportKeyOf(connection.remotePeer)
    this.#options = options
    const { unprovenBurst, unprovenPerSecond } = options.limits
    this.#requests = new RateLimit({ burst: unprovenBurst, perSecond: unprovenPerSecond }, options.clock)
  }

  get id(): string {
    return this.connection.id
  }

  /** Who may ask and say what needs an identity: a peer whose record is known to stand. */
  get confirmed(): ProvenPeer | undefined {
    return this.peer?.confirmed ? this.peer : undefined
  }

  get remoteAddress(): string {
    return this.connection.remoteAddr.toString()
  }

  /** The address without port and peer id: what limits per address count. */
  get remoteHost(): string {
    return this.remoteAddress.split('/').slice(0, 3).join('/')
  }

  get open(): boolean {
    return this.connection.status === 'open'
  }

  /** Hello has passed both ways. */
  get ready(): boolean {
    return this.open && this.accepted && this.peer !== undefined
  }

  send(protocol: StreamProtocol, payload: Uint8Array): void {
    this.#stream(protocol).send(payload)
  }

  /** Opens a stream ahead of its first message, which would otherwise wait for the round trips of the negotiation. */
  prepare(protocol: StreamProtocol): void {
    this.#stream(protocol)
  }

  #stream(protocol: StreamProtocol): OutboundStream {
    let stream = this.#streams.get(protocol)
    if (!stream || stream.over) {
      stream = new OutboundStream(this.connection.newStream(protocols[protocol].id), {
        maxQueuedBytes: this.#options.limits.maxQueuedBytes,
        onLost: reason => this.#options.onStreamLost(this, `${protocol}: ${reason}`),
      })
      this.#streams.set(protocol, stream)
    }
    return stream
  }

  /** Another connection to the same peer is used from now on. */
  supersede(): void {
    for (const stream of this.#streams.values()) stream.abort('a newer connection is used')
    this.#streams.clear()
  }

  /** A new exchange, opened by us. */
  async converse(protocol: ProtocolName, timeoutMs: number, signal: AbortSignal): Promise<Conversation> {
    const stream = await this.connection.newStream(protocols[protocol].id, { signal })
    const maxFrameBytes = maxAnswerFrameBytes(protocol)
    return new Conversation(stream, { maxFrameBytes, timeoutMs, clock: this.#options.clock })
  }

  /**
   * Takes a request from what the peer may ask: of that of its device, by cost; one by one while it is not confirmed.
   * Throws `rate-limited` with the time to wait.
   */
  takeRequest(cost: number): void {
    const budget = this.confirmed ? this.budget : undefined
    const [limit, price] = budget ? [budget, cost] : [this.#requests, 1]
    if (limit.take(price)) return
    throw new MoteError('rate-limited', `requests: again in ${limit.waitMs(price)} ms`)
  }

  /** Counts a malformed frame or a stream that is not allowed; too many close the connection. */
  violation(reason: string): void {
    this.#violations++
    const closing = this.#violations >= this.#options.limits.maxViolations
    this.#options.onViolation(this, reason, closing)
    if (closing) this.connection.abort(new Error(`protocol violations: ${reason}`))
  }

  /** Closes after what was sent; at once if that takes too long. */
  close(reason: MoteError): void {
    this.connection.close().catch(() => this.connection.abort(reason))
  }

  /** Closes at once; nothing more is taken from the peer. */
  abort(reason: MoteError): void {
    if (this.open) this.connection.abort(reason)
  }
}
