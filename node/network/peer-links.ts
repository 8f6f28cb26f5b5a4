/**
 * The open connections of a node: what is known of the other end of each (`PeerLink`), what is taken of it on long-lived streams
 * (`takeFrames`), and all of them by connection and by the device that proved itself (`PeerLinks`).
 *
 * Every byte that comes in is from outside; the worst that it can do is to have its stream reset and its connection closed.
 */
import type { Connection, Stream } from '@libp2p/interface'
import type { DeviceId } from '../../chain/brands.ts'
import { MoteError, type Refusal } from '../../chain/result.ts'
import { AddressShares, shareOf } from '../../client/address-shares.ts'
import type { Clock, NetworkEvents } from '../ports.ts'
import type { ProvenPeer } from './hello.ts'
import { transportKeyOf, updateWindowByHalves } from './libp2p-host.ts'
import { type NetworkLimits, type ProtocolName, protocols, type StreamProtocol } from './protocols.ts'
import { RateLimit, RateLimits } from './rate-limit.ts'
import { Conversation, FrameReader, OutboundStream } from './streams.ts'
import { maxAnswerFrameBytes, messageOf } from './wire.ts'

/** A frame of a long-lived stream costs one unit for each begun part of this size: about a transaction. */
const frameUnitBytes = 256
/** How long a frame that is not urgent waits for another one to the same peer, and how many wait at most. */
const companyWaitMs = 10
const maxWaitingFrames = 16
/** What a lightweight node may ask for at once: what its rate gives in so many seconds. */
const lightBurstSeconds = 5

export interface PeerLinkOptions {
  readonly limits: NetworkLimits
  readonly clock: Clock
  /** A stream to this peer ended; frames may be lost. */
  readonly onStreamLost: (link: PeerLink, reason: string) => void
  /** The peer broke the protocol once more; `closing` when that was once too often. */
  readonly onViolation: (link: PeerLink, reason: string, closing: boolean) => void
}

/** What those who keep the chain cannot do without. */
const voterProtocols: ReadonlySet<ProtocolName> = new Set(['raft', 'certify', 'member'])

/**
 * One libp2p connection and what is known of its other end: who it proved to be, whether it took our proof, how
 * often it broke the protocol. Its long-lived streams are opened ahead (`prepare`) or when first used, and again after a
 * loss.
 */
export class PeerLink {
  readonly connection: Connection
  /** Ed25519 key that Noise has proven; undefined for another kind of key. */
  readonly transportKey: Uint8Array | undefined
  readonly #options: PeerLinkOptions
  readonly #streams = new Map<StreamProtocol, OutboundStream>()
  readonly #requests: RateLimit
  /** In order of `send`: what leaves soon. */
  #waiting: { readonly protocol: StreamProtocol; readonly payload: Uint8Array }[] = []
  #violations = 0
  #excess = 0
  /** Set when the peer's hello has passed, confirmed or not. */
  peer: ProvenPeer | undefined
  /** Shared by all connections of the peer. */
  budgets: PeerBudgets | undefined
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

  /** A peer whose record is known to stand. */
  get confirmed(): ProvenPeer | undefined {
    return this.peer?.confirmed ? this.peer : undefined
  }

  /** Who may ask and say on this protocol what needs an identity: of a voter that is suspended or revoked, what voters need. */
  confirmedFor(protocol: ProtocolName): ProvenPeer | undefined {
    const { confirmed } = this
    return confirmed?.record.status === 'active' || voterProtocols.has(protocol) ? confirmed : undefined
  }

  get remoteAddress(): string {
    return this.connection.remoteAddr.toString()
  }

  /** Whose share of what is limited by address it is. */
  get share(): string {
    return shareOf(this.remoteAddress)
  }

  get open(): boolean {
    return this.connection.status === 'open'
  }

  /** Hello has passed both ways. */
  get ready(): boolean {
    return this.open && this.accepted && this.peer !== undefined
  }

  /** Sends a frame. One that leaves `soon` waits for company, `companyWaitMs` at most. */
  send(protocol: StreamProtocol, payload: Uint8Array, leaves: 'now' | 'soon' = 'now'): void {
    this.#waiting.push({ protocol, payload })
    if (leaves === 'now' || this.#waiting.length > maxWaitingFrames) this.#sendWaiting()
    else if (this.#waiting.length === 1)
      this.#options.clock.after(companyWaitMs, () => {
        if (this.open) this.#sendWaiting()
      })
  }

  #sendWaiting(): void {
    const waiting = this.#waiting
    this.#waiting = []
    for (const { protocol, payload } of waiting) this.#stream(protocol).send(payload)
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

  /** Another connection to the same peer is used from now on. What waits is lost with the streams, whose loss is told. */
  supersede(): void {
    this.#waiting = []
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
    const budget = this.confirmed ? this.budgets?.requests : undefined
    const [limit, price] = budget ? [budget, cost] : [this.#requests, 1]
    if (limit.take(price)) return
    this.#exceeds('requests')
    throw new MoteError('rate-limited', `requests: again in ${limit.waitMs(price)} ms`)
  }

  /** Takes a frame of a long-lived stream, by its length, from what the peer may send. False: it is to be dropped. */
  takeFrame(bytes: number): boolean {
    if (this.budgets?.frames.take(Math.ceil(bytes / frameUnitBytes))) return true
    this.#exceeds('frames')
    return false
  }

  /** To be refused is cheap, but not free: who goes on and on is cut off. */
  #exceeds(what: string): void {
    this.#excess++
    if (this.#excess === this.#options.limits.maxExcess) this.violation(`${what}: over the quota`, 'close')
  }

  /** Counts a malformed frame or a stream that is not allowed; too many close the connection, or this one if it says so. */
  violation(reason: string, effect?: 'close'): void {
    this.#violations++
    const closing = effect === 'close' || this.#violations >= this.#options.limits.maxViolations
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

/** Where the frames of a stream go. */
type FrameEvents = Pick<NetworkEvents, 'message' | 'isCounted'>

/** Takes the frames of a long-lived stream, from a proven full node only: nobody else has anything to say on one. */
export function takeFrames(
  protocol: StreamProtocol,
  stream: Stream,
  link: PeerLink,
  events: FrameEvents,
): void {
  const sender = () => link.confirmedFor(protocol)?.id
  const refuse = () => stream.abort(new MoteError('hello-required', `${protocol}: hello comes first`))
  if (!sender()) {
    refuse()
    // A peer that is not confirmed yet cannot know that.
    if (!link.peer) link.violation(`${protocol}: before hello`)
    return
  }
  if (link.peer?.record.label !== 'full') {
    link.violation(`${protocol}: expected a full node, got a ${link.peer?.record.label} one`, 'close')
    return
  }
  updateWindowByHalves(stream)
  const reader = new FrameReader(protocols[protocol].maxFrameBytes)
  const take = (chunk: Uint8Array): Refusal | undefined => {
    const from = sender()
    if (!from) {
      refuse()
      return undefined
    }
    const frames = reader.push(chunk)
    if (!frames.ok) return frames.error
    for (const frame of frames.value) {
      if (events.isCounted(from) && !link.takeFrame(frame.length)) continue
      const message = messageOf(protocol, frame, from)
      if (!message.ok) return message.error
      events.message(from, message.value)
    }
    return undefined
  }
  stream.addEventListener('message', ({ data }) => {
    if (stream.status !== 'open') return
    for (const chunk of data instanceof Uint8Array ? [data] : data) {
      const refusal = take(chunk)
      if (!refusal) continue
      stream.abort(new MoteError(refusal.code, refusal.detail))
      link.violation(`${protocol}: ${refusal.detail}`)
      return
    }
  })
  // The other end only writes; this end has nothing to say.
  stream.addEventListener('remoteCloseWrite', () => void stream.close().catch(() => {}))
}

/** What one device may ask and send, over all its connections and beyond them. */
export interface PeerBudgets {
  readonly requests: RateLimit
  readonly frames: RateLimit
}

/** Every open connection of a node, by its id and by the device that proved itself on it. */
export class PeerLinks {
  readonly #options: PeerLinkOptions
  readonly #byConnection = new Map<string, PeerLink>()
  /** The newest last. The last ready one carries what is sent. */
  readonly #byDevice = new Map<DeviceId, PeerLink[]>()
  readonly #waiting = new Set<() => void>()
  /** Dialled by others, who have proven nothing. */
  readonly #unproven: AddressShares<PeerLink>
  readonly #requests: RateLimits<DeviceId>
  readonly #requestsOfLight: RateLimits<DeviceId>
  readonly #frames: RateLimits<DeviceId>

  constructor(options: PeerLinkOptions) {
    this.#options = options
    const { limits, clock } = options
    const { maxUnprovenConnections: all, maxUnprovenPerAddress: perAddress } = limits
    this.#unproven = new AddressShares({ perAddress, all }, link =>
      link.abort(new MoteError('rate-limited', 'too many connections that proved no identity')),
    )
    this.#requests = new RateLimits({ burst: limits.provenBurst, perSecond: limits.provenPerSecond }, clock)
    const { lightPerSecond: perSecond } = limits
    this.#requestsOfLight = new RateLimits({ burst: lightBurstSeconds * perSecond, perSecond }, clock)
    this.#frames = new RateLimits({ burst: limits.frameBurst, perSecond: limits.framesPerSecond }, clock)
  }

  /** The link of a connection; a new one if it is open and not known yet. */
  of(connection: Connection): PeerLink | undefined {
    const known = this.#byConnection.get(connection.id)
    if (known || connection.status !== 'open') return known
    const link = new PeerLink(connection, this.#options)
    this.#byConnection.set(connection.id, link)
    return link
  }

  remove(connection: Connection): PeerLink | undefined {
    const link = this.#byConnection.get(connection.id)
    this.#byConnection.delete(connection.id)
    if (link) this.#unproven.remove(link)
    if (!link?.peer) return link
    const others = this.all(link.peer.id).filter(other => other !== link)
    if (others.length > 0) this.#byDevice.set(link.peer.id, others)
    else this.#byDevice.delete(link.peer.id)
    return link
  }

  /** Counts a link among those that proved nothing, until it has, or is gone. The oldest may have to go. */
  unproven(link: PeerLink): void {
    this.#unproven.add(link, link.share)
  }

  /** From here on requests and streams on this link are this device's. Gives all links of the device, oldest first. */
  prove(link: PeerLink, peer: ProvenPeer): readonly PeerLink[] {
    link.peer = peer
    this.#unproven.remove(link)
    const requests = peer.record.label === 'lightweight' ? this.#requestsOfLight : this.#requests
    link.budgets = { requests: requests.of(peer.id), frames: this.#frames.of(peer.id) }
    const links = [...this.all(peer.id).filter(other => other !== link), link]
    this.#byDevice.set(peer.id, links)
    return links
  }

  all(id: DeviceId): readonly PeerLink[] {
    return this.#byDevice.get(id) ?? []
  }

  /** Where messages to this device go: hello has passed both ways. */
  ready(id: DeviceId): PeerLink | undefined {
    return this.#byDevice.get(id)?.findLast(link => link.ready)
  }

  /** Where requests to this device go: it has proven itself, whether or not it took our proof. */
  proven(id: DeviceId): PeerLink | undefined {
    return this.ready(id) ?? this.#byDevice.get(id)?.findLast(link => link.open)
  }

  /** Devices with a connection on which they are not confirmed. */
  unconfirmed(): readonly DeviceId[] {
    return [...this.#byDevice].flatMap(([id, links]) =>
      links.some(link => link.open && !link.confirmed) ? [id] : [],
    )
  }

  /** Wakes who waits for a link that can be used. */
  changed(): void {
    for (const wake of this.#waiting) wake()
  }

  /** Resolves with the next `changed`, or when the signal fires. */
  async nextChange(until: AbortSignal): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>()
    this.#waiting.add(resolve)
    until.addEventListener('abort', () => resolve(), { once: true })
    await promise
    this.#waiting.delete(resolve)
  }

  devices(): Iterable<DeviceId> {
    return this.#byDevice.keys()
  }

  /** Full nodes have room that nobody else takes: consensus is theirs. */
  hasRoom({ record }: ProvenPeer): boolean {
    if (record.label === 'full') return true
    const { maxConnections, keptForFullNodes } = this.#options.limits
    const others = [...this.#byConnection.values()].filter(({ peer }) => peer && peer.record.label !== 'full')
    return others.length < maxConnections - keptForFullNodes
  }
}
