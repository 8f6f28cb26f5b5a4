/**
 * The `Network` port over libp2p: TCP, Noise, Yamux, framed streams (docs/FORMATS.md, "libp2p protocols").
 *
 * Invariants
 * 1. Raft messages, signatures and registry requests are taken only from a peer whose hello has passed; query and
 *    join handlers see who asks and refuse what needs an identity.
 * 2. A message is attributed to the device that the connection's transport key proved, never to what it says.
 * 3. Per peer and kind, messages arrive in the order of `send` or not at all; a gap is reported as `unreachable`.
 * 4. Whatever arrives, nothing throws and memory stays within the limits: a malformed frame resets its
 *    stream and is counted, too many close the connection.
 */
import type { Connection, Libp2p, Stream } from '@libp2p/interface'
import { multiaddr } from '@multiformats/multiaddr'
import type { DeviceId } from '../../chain/brands.ts'
import { assert, MoteError, type Refusal } from '../../chain/result.ts'
import { Deadline } from '../../client/deadline.ts'
import type { Logger } from '../../client/log.ts'
import type {
  Clock,
  Network,
  NetworkEvents,
  OutgoingRequest,
  PeerAddress,
  PeerMessage,
  PeerStatus,
  RequestHandler,
  RequestProtocol,
} from '../ports.ts'
import { answerHello, type IdentityProvider, judgeAgain, type ProvenPeer, sayHello } from './hello.ts'
import { createHost, Dialler, TurnSends } from './libp2p-host.ts'
import { type PeerLink, PeerLinks, takeFrames } from './peer-links.ts'
import { type NetworkLimits, protocols, type StreamProtocol } from './protocols.ts'
import { askPeer, serveRequest } from './requests.ts'
import { Conversation } from './streams.ts'
import { framed } from './wire.ts'

/** What the adapter needs of a logger. */
export type NetworkLog = Pick<Logger, 'debug' | 'info' | 'warn' | 'error'>

export interface Libp2pNetworkOptions {
  /** IP address to listen on, and a port (0: any). */
  readonly host: string
  readonly port: number
  /** Ed25519 seed of the transport key, 32 bytes. */
  readonly transportSeed: Uint8Array
  readonly identities: IdentityProvider
  readonly clock: Clock
  readonly log: NetworkLog
  readonly limits: NetworkLimits
  /** A peer's hello has passed, and its record is not known to stand. */
  readonly onUnconfirmed?: (peer: DeviceId) => void
  /** Opened to every full node as soon as it is connected. */
  readonly streamsAhead?: readonly StreamProtocol[]
  /** A peer that was dialled did not take our proof. Its word, not a fact. */
  readonly onRefused?: (peer: DeviceId) => void
  /** From 0 (inclusive) to 1 (exclusive); spreads reconnections. */
  readonly random?: () => number
}

/** What happened since the start, for metrics. */
export interface NetworkCounters {
  readonly malformedFrames: number
  readonly refusedHellos: number
  readonly droppedMessages: number
}

interface KeptPeer {
  readonly address: string
  readonly dialler: Dialler
}

/** Of two peers that dial each other, the one with the larger id waits this long. */
const yieldingDelayMs = 200

export class Libp2pNetwork implements Network {
  readonly #options: Libp2pNetworkOptions
  readonly #limits: NetworkLimits
  readonly #handlers = new Map<RequestProtocol, RequestHandler>()
  readonly #links: PeerLinks
  readonly #kept = new Map<DeviceId, KeptPeer>()
  readonly #lossReported = new Set<DeviceId>()
  readonly #counters = { malformedFrames: 0, refusedHellos: 0, droppedMessages: 0 }
  readonly #sends = new TurnSends()
  #host: Libp2p | undefined
  #events: NetworkEvents | undefined
  #stopped = false

  constructor(options: Libp2pNetworkOptions) {
    this.#options = options
    this.#limits = options.limits
    this.#links = new PeerLinks({
      limits: this.#limits,
      clock: options.clock,
      onStreamLost: (link, reason) => link.peer && this.#reportLoss(link.peer.id, reason),
      onViolation: (link, reason, closing) => {
        this.#counters.malformedFrames++
        const detail = { peer: link.peer?.id, address: link.remoteAddress, reason, closing }
        options.log.warn(detail, 'protocol violation')
      },
    })
  }

  get counters(): NetworkCounters {
    return { ...this.#counters }
  }

  handle(protocol: RequestProtocol, handler: RequestHandler): void {
    assert(!this.#handlers.has(protocol) && !this.#host, `handle(${protocol}): once, before start`)
    this.#handlers.set(protocol, handler)
  }

  /** Throws `start-failed` when it cannot listen. */
  async start(events: NetworkEvents): Promise<void> {
    assert(!this.#host, 'start comes once')
    this.#events = events
    const { host, port, transportSeed } = this.#options
    const node = await createHost({ host, port, transportSeed, limits: this.#limits, sends: this.#sends })
    this.#host = node
    node.addEventListener('connection:open', ({ detail }) => this.#onConnection(detail))
    node.addEventListener('connection:close', ({ detail }) => this.#onConnectionClosed(detail))
    await this.#registerProtocols(node)
    try {
      await node.start()
    } catch (cause) {
      throw new MoteError('start-failed', `p2p: cannot listen on ${host} port ${port}`, { cause })
    }
    for (const { dialler } of this.#kept.values()) dialler.disconnected()
  }

  async stop(): Promise<void> {
    this.#stopped = true
    for (const { dialler } of this.#kept.values()) dialler.stop()
    this.#links.changed()
    await this.#host?.stop()
  }

  send(to: DeviceId, message: PeerMessage, leaves?: 'now' | 'soon'): void {
    const link = this.#links.ready(to)
    if (!link) {
      this.#reportLoss(to, 'not connected')
      return
    }
    this.#lossReported.delete(to)
    const { protocol, payload } = framed(message)
    if (payload.length > protocols[protocol].maxFrameBytes) {
      const detail = { to, protocol, bytes: payload.length }
      this.#options.log.error(detail, 'message over the frame limit; not sent')
      this.#reportLoss(to, 'message over the frame limit')
    } else link.send(protocol, payload, leaves)
  }

  flush(): void {
    this.#sends.flush()
  }

  async request(to: DeviceId, request: OutgoingRequest, timeoutMs: number): Promise<Uint8Array> {
    const deadline = AbortSignal.timeout(timeoutMs)
    // Queries have other peers to go to; who is asked for more than a proof is waited for.
    const isEnough = (link: PeerLink) =>
      request.protocol === 'query' || link.confirmedFor(request.protocol) !== undefined
    const link = await this.#awaitLink(to, isEnough, deadline)
    return askPeer(link, request, { timeoutMs, deadline })
  }

  keep({ id, address }: PeerAddress): void {
    const earlier = this.#kept.get(id)
    if (earlier?.address === address) return
    earlier?.dialler.stop()
    const { clock, log, random = Math.random } = this.#options
    const dialler = new Dialler({
      clock,
      random,
      firstDelayMs: id > this.#options.identities.deviceId ? 0 : yieldingDelayMs,
      retryDelayMs: this.#limits.retryDelayMs,
      retryDelayMsMax: this.#limits.retryDelayMsMax,
      connect: signal => this.#dial(id, address, signal),
      isConnected: () => this.#links.proven(id) !== undefined,
      onFailure: (error, attempt) =>
        log.debug({ peer: id, address, attempt, error: String(error) }, 'not reached'),
    })
    this.#kept.set(id, { address, dialler })
    if (this.#host && !this.#stopped && !this.#links.proven(id)) dialler.disconnected()
  }

  forget(id: DeviceId): void {
    this.#kept.get(id)?.dialler.stop()
    this.#kept.delete(id)
  }

  recheck(id: DeviceId): void {
    for (const link of this.#links.all(id)) {
      if (!link.peer) continue
      const judged = judgeAgain(this.#options.identities, link.peer)
      if (judged.ok) this.#links.prove(link, judged.value)
      else link.abort(this.#refusal(link, judged.error))
    }
    this.#links.changed()
  }

  /** Peers with a connection whose record is not known to stand. */
  unconfirmed(): readonly DeviceId[] {
    return this.#links.unconfirmed()
  }

  /** Closes connections whose other end did not take this node's proof; dialled again, they begin with the newer one. */
  greetAgain(): void {
    for (const id of [...this.#links.devices()])
      for (const link of this.#links.all(id))
        if (!link.accepted) link.close(new MoteError('hello-required', 'there is a newer proof to show'))
  }

  peers(): readonly PeerStatus[] {
    return [...new Set([...this.#kept.keys(), ...this.#links.devices()])].map(id => ({
      id,
      state: this.#links.ready(id) ? 'connected' : 'disconnected',
      address: this.#kept.get(id)?.address ?? this.#links.proven(id)?.remoteAddress,
    }))
  }

  addresses(): readonly string[] {
    return this.#host?.getMultiaddrs().map(String) ?? []
  }

  /* -------------------------------------------------------------- connections */

  #onConnection(connection: Connection): void {
    const link = this.#links.of(connection)
    if (!link || connection.direction === 'outbound') return
    this.#links.unproven(link)
    this.#options.clock.after(this.#limits.unprovenLifetimeMs, () => {
      if (!link.peer) link.abort(new MoteError('hello-required', 'no identity proven in time'))
    })
  }

  #onConnectionClosed(connection: Connection): void {
    const link = this.#links.remove(connection)
    const id = link?.peer?.id
    if (!link || !id) return
    if (link.accepted && !this.#links.ready(id)) {
      this.#reportLoss(id, 'disconnected')
      this.#options.log.info({ peer: id }, 'peer disconnected')
      this.#events?.peer(id, 'disconnected')
    }
    if (!this.#links.proven(id)) this.#kept.get(id)?.dialler.disconnected()
  }

  /** Dials and says hello. Resolves when the peer has proven to be `id`. */
  async #dial(id: DeviceId, address: string, stopping: AbortSignal): Promise<void> {
    const host = this.#host
    if (!host || this.#stopped || this.#links.proven(id)) return
    const { signal } = new Deadline(this.#limits.dialTimeoutMs, { signal: stopping })
    const connection = await host.dial(multiaddr(address), { signal })
    const link = this.#links.of(connection)
    // With a peer id in the address an existing connection may come back; its own hello is under way.
    if (!link || link.peer || connection.direction === 'inbound') return
    await this.#hello(link, id, stopping)
  }

  async #hello(link: PeerLink, expected: DeviceId, signal: AbortSignal): Promise<void> {
    const { identities } = this.#options
    const conversation = await link.converse('hello', this.#limits.helloTimeoutMs, signal)
    const shown = identities.ownProof()
    const outcome = await sayHello(conversation, { identities, link, expected }).catch((error: MoteError) => {
      link.close(error)
      if (error.code === 'hello-refused') this.#options.onRefused?.(expected)
      throw error
    })
    if (!outcome.judged.ok) throw this.#refuse(link, outcome.judged.error)
    this.#admit(link, outcome.judged.value, outcome.accepted)
    // A better proof that came meanwhile is shown on a new connection.
    if (!outcome.accepted && identities.ownProof() !== shown) this.greetAgain()
  }

  async #onHello(stream: Stream, link: PeerLink): Promise<void> {
    const { identities, clock } = this.#options
    const { helloTimeoutMs } = this.#limits
    const { maxFrameBytes } = protocols.hello
    const conversation = new Conversation(stream, { maxFrameBytes, timeoutMs: helloTimeoutMs, clock })
    if (link.peer || link.connection.direction === 'outbound') {
      link.violation('hello: only the side that dialled says it, once')
      conversation.fail(new MoteError('malformed', 'hello: not expected'))
      return
    }
    const outcome = await answerHello(conversation, {
      identities,
      link,
      onProven: peer => this.#prove(link, peer),
    })
    if (outcome.judged.ok) this.#admit(link, outcome.judged.value, outcome.accepted)
    else if (outcome.judged.error.code !== 'hello-required') this.#refuse(link, outcome.judged.error)
  }

  /** Closes after the verdict has left. */
  #refuse(link: PeerLink, refusal: Refusal): MoteError {
    const error = this.#refusal(link, refusal)
    link.close(error)
    return error
  }

  #refusal(link: PeerLink, { code, detail }: Refusal): MoteError {
    this.#counters.refusedHellos++
    this.#options.log.warn({ peer: link.peer?.id, address: link.remoteAddress, code, detail }, 'peer refused')
    return new MoteError(code, detail)
  }

  #prove(link: PeerLink, peer: ProvenPeer): void {
    if (link.peer || !link.open) return
    if (!this.#links.hasRoom(peer)) {
      link.close(new MoteError('overloaded', 'connections: no room'))
      return
    }
    const links = this.#links.prove(link, peer)
    if (links.length > this.#limits.maxConnectionsPerDevice)
      links[0]?.close(new MoteError('limit-exceeded', 'too many connections of one device'))
  }

  /** Hello is over; `accepted` if our own passed too. */
  #admit(link: PeerLink, peer: ProvenPeer, accepted: boolean): void {
    if (!link.open) return
    const before = this.#links.ready(peer.id)
    this.#prove(link, peer)
    link.accepted = accepted
    this.#kept.get(peer.id)?.dialler.connected()
    this.#links.changed()
    if (!link.confirmed) this.#options.onUnconfirmed?.(peer.id)
    if (!accepted) return
    before?.supersede()
    // Followers have nothing to say to one another until they need each other's votes: that must not wait.
    if (peer.record.label === 'full')
      for (const protocol of this.#options.streamsAhead ?? []) link.prepare(protocol)
    this.#lossReported.delete(peer.id)
    if (before) return
    this.#options.log.info({ peer: peer.id, address: link.remoteAddress }, 'peer connected')
    this.#events?.peer(peer.id, 'connected')
  }

  /** A link to the peer that is enough. Only a peer that is kept is waited for. */
  async #awaitLink(
    id: DeviceId,
    isEnough: (link: PeerLink) => boolean,
    deadline: AbortSignal,
  ): Promise<PeerLink> {
    let link = this.#links.proven(id)
    while (!(link && isEnough(link)) && this.#kept.has(id) && !this.#stopped && !deadline.aborted) {
      await this.#links.nextChange(deadline)
      link = this.#links.proven(id)
    }
    if (link && isEnough(link)) return link
    if (link) throw new MoteError('not-ready', `${id}: not confirmed at a fresh head yet`)
    throw new MoteError('unreachable', `${id}: not connected`)
  }

  #reportLoss(id: DeviceId, reason: string): void {
    this.#counters.droppedMessages++
    if (this.#stopped || this.#lossReported.has(id)) return
    this.#lossReported.add(id)
    this.#options.log.debug({ peer: id, reason }, 'messages lost')
    this.#events?.unreachable(id)
  }

  async #registerProtocols(host: Libp2p): Promise<void> {
    const serve = (
      name: keyof typeof protocols,
      take: (stream: Stream, link: PeerLink) => Promise<void> | void,
    ) =>
      host.handle(
        protocols[name].id,
        (stream, connection) => {
          const link = this.#links.of(connection)
          if (!link) stream.abort(new Error('the connection is closing'))
          else Promise.resolve(take(stream, link)).catch(error => this.#onServeFailure(link, name, error))
        },
        { maxInboundStreams: protocols[name].maxStreams, maxOutboundStreams: protocols[name].maxStreams },
      )
    await serve('hello', (stream, link) => this.#onHello(stream, link))
    const isCounted = (peer: DeviceId) => this.#events?.isCounted(peer) ?? true
    const message: NetworkEvents['message'] = (from, message) => this.#events?.message(from, message)
    for (const protocol of ['raft', 'certify', 'forward'] as const)
      await serve(protocol, (stream, link) => takeFrames(protocol, stream, link, { message, isCounted }))
    const { clock, log } = this.#options
    for (const [protocol, handler] of this.#handlers) {
      const onHandlerFailure = (error: unknown) =>
        log.error({ protocol, error: String(error) }, 'request failed')
      const { serveTimeoutMs: timeoutMs } = this.#limits
      const options = { protocol, handler, timeoutMs, clock, isCounted, onHandlerFailure }
      await serve(protocol, (stream, link) => serveRequest(stream, link, options))
    }
  }

  #onServeFailure(link: PeerLink, protocol: string, error: unknown): void {
    const code = error instanceof MoteError ? error.code : 'internal'
    if (code === 'malformed' || code === 'too-large') link.violation(`${protocol}: ${String(error)}`)
    else
      this.#options.log.debug(
        { address: link.remoteAddress, protocol, error: String(error) },
        'stream failed',
      )
  }
}
