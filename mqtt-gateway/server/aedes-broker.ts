/**
 * The embedded broker: aedes 1.2 (MQTT 3.1 and 3.1.1) behind the broker port (docs/decisions/0011-aedes.md).
 *
 * What aedes does by itself would break the port's contract in four places, mended here:
 * - it calls an asynchronous `authorizePublish` for several messages of a client at once, and they finish in any
 *   order: a queue per client runs them one after another;
 * - it acknowledges QoS 1 before it persists or delivers: everything that must come first happens inside
 *   `authorizePublish`, where the gateway decides and relays;
 * - it would pass the client's own message on: the message is emptied and moved to a topic that nobody can
 *X * What a client sends is judged before aedes sees it (packet-rules.ts): aedes takes 43 sequences that break a rule of MQTT.
 *
 * Bounded: connections, packet size, queued messages per client, subscriptions, keep-alive, time to CONNECT, time a
 * slow reader may block. Sessions are always clean and wills are dropped, so nothing accumulates for who is not there.
 */
import { once } from 'node:events'
import { createServer, type Server, type Socket } from 'node:net'
import { Aedes, type AuthenticateError, type Client, type PublishPacket } from 'aedes'
import type { ErrorCode } from '../../chain/errors.ts'
import type { Refusal } from '../../chain/result.ts'
import { type ShareLimits, shareOf } from '../../client/address-shares.ts'
import { OrderedQueue } from '../../client/ordered-queue.ts'
import { maxPasswordCharacters } from '../protocol/assertion.ts'
import { PacketFraming } from '../protocol/packet-framing.ts'
import { unknownLevel } from '../protocol/packet-rules.ts'
import {
  type Broker,
  type BrokerAddress,
  type BrokerFactory,
  type BrokerHandlers,
  type BrokerSession,
  mayPassLater,
  type OutgoingMessage,
  type SubscribeOutcome,
} from './broker.ts'
import { type OutgoingLimits, OutgoingQueues } from './outgoing-queues.ts'
import { type ConnectionPlace, UnprovenConnections } from './unproven-connections.ts'

export interface AedesLimits {
  /** Largest MQTT packet of a client that is connected, in bytes. */
  readonly packetBytesMax: number
  /** Connections of devices. */
  readonly connectionsMax: number
  /** Connections that have not proven whose they are. */
  readonly unproven: ShareLimits
  readonly subscriptionsPerClientMax: number
  /** Messages of one client that wait for their decision; more close the connection. */
  readonly queuedPerClientMax: number
  /** Longest keep-alive that a client may ask for, in seconds. 0 (never) is refused. */
  readonly keepAliveSecondsMax: number
  /** Time from connection to CONNECT. */
  readonly connectTimeoutMs: number
  /** What may wait for subscribers that read slowly. */
  readonly outgoing: OutgoingLimits
}

/** Largest packet before CONNACK: CONNECT with client id, username and password. */
const maxConnectPacketBytes = 2048
/** Where acknowledged messages end: `$` topics match no wildcard [MQTT-4.7.2-1], and no filter may begin with `$`. */
const consumedTopic = '$mote/consumed'

/** Return code of SUBACK for a filter that is not granted (MQTT 3.1.1, section 3.9.3). */
const subscriptionFailure = 128
/** Return codes of CONNACK (MQTT 3.1.1, section 3.2.2.3). */
const connackCodes = { unavailable: 3, badCredentials: 4, notAuthorized: 5 } as const

interface ClientState {
  readonly queue: OrderedQueue
  readonly session: BrokerSession
}

export function aedesBroker(address: BrokerAddress, limits: AedesLimits): BrokerFactory {
  return handlers => new AedesBroker(address, limits, handlers)
}

/** CONNACK: unacceptable protocol version (section 3.2.2.3). */
const unacceptableVersion = Uint8Array.of(0x20, 2, 0, 1)

class AedesBroker implements Broker {
  readonly #address: BrokerAddress
  readonly #limits: AedesLimits
  readonly #handlers: BrokerHandlers
  readonly #aedes: Aedes
  readonly #server: Server
  readonly #states = new WeakMap<Client, ClientState>()
  readonly #clients = new Map<string, Client>()
  readonly #sockets = new Set<Socket>()
  readonly #outgoing: OutgoingQueues
  readonly #unproven: UnprovenConnections
  readonly #places = new WeakMap<Client, ConnectionPlace>()

  constructor(address: BrokerAddress, limits: AedesLimits, handlers: BrokerHandlers) {
    this.#address = address
    this.#limits = limits
    this.#handlers = handlers
    this.#outgoing = new OutgoingQueues(limits.outgoing)
    this.#unproven = new UnprovenConnections(limits.unproven)
    this.#aedes = new Aedes({
      concurrency: 1000,
      queueLimit: limits.queuedPerClientMax,
      maxClientsIdLength: 64,
      keepaliveLimit: limits.keepAliveSecondsMax,
      connectTimeout: limits.connectTimeoutMs,
      preConnect: (_client, packet, done) => {
        packet.clean = true
        delete packet.will
        done(null, true)
      },
      authenticate: (client, username, password, done) =>
        this.#authenticate(client, username, password?.toString('utf8')).then(
          refusal => done(refusal ?? null, refusal === undefined),
          () => done(authenticateError('internal'), false),
        ),
      authorizePublish: (client, packet, done) => this.#authorizePublish(client, packet, done),
      authorizeSubscribe: (client, subscription, done) => {
        void this.#judgeSubscription(client, subscription.topic).then(outcome =>
          outcome === 'close'
            ? done(new Error('not subscribed: try again later'))
            : done(null, outcome === 'grant' ? subscription : null),
        )
      },
      authorizeForward: (client, packet) => {
        const session = this.#states.get(client)?.session
        return session && this.#handlers.mayReceive(session, packet.topic) ? packet : null
      },
    })
    // A peer's mistake ends its own connection; there is nothing else to do about it.
    this.#aedes.on('clientError', () => {})
    this.#aedes.on('connectionError', () => {})
    this.#aedes.on('client', client => this.#clients.set(client.id, client))
    this.#aedes.on('subscribe', (subscriptions, client) => {
      const session = this.#states.get(client)?.session
      for (const { topic, qos } of session ? subscriptions : [])
        if (session && Number(qos) !== subscriptionFailure) this.#handlers.subscribed(session, topic)
    })
    this.#aedes.on('clientDisconnect', client => this.#disconnected(client))
    this.#server = createServer(socket => this.#accept(socket))
    this.#server.maxConnections = limits.connectionsMax + limits.unproven.all
  }

  get connections(): number {
    return this.#clients.size
  }

  async listen(): Promise<BrokerAddress> {
    await this.#aedes.listen()
    this.#server.listen(this.#address.port, this.#address.host)
    await once(this.#server, 'listening')
    const bound = this.#server.address()
    return typeof bound === 'object' && bound ? { host: this.#address.host, port: bound.port } : this.#address
  }

  publish({ topicName, payload, retain }: OutgoingMessage): Promise<void> {
    const { promise, resolve, reject } = Promise.withResolvers<void>()
    this.#aedes.publish(
      { cmd: 'publish', topic: topicName, payload: viewOf(payload), qos: 1, retain, dup: false },
      error => (error ? reject(error) : resolve()),
    )
    return promise
  }

  disconnect(clientId: string): void {
    this.#clients.get(clientId)?.close()
  }

  async close(): Promise<void> {
    const closed = this.#server.listening ? once(this.#server, 'close') : undefined
    this.#server.close()
    const { promise, resolve } = Promise.withResolvers<void>()
    this.#aedes.close(resolve)
    await promise
    for (const socket of this.#sockets) socket.destroy()
    this.#outgoing.close()
    await closed
  }

  #accept(socket: Socket): void {
    const place = this.#unproven.add(shareOf(socket.remoteAddress ?? ''), () => socket.destroy())
    this.#sockets.add(socket)
    socket.once('close', () => {
      this.#sockets.delete(socket)
      place.end()
    })
    const client = this.#aedes.handle(socket)
    this.#places.set(client, place)
    this.#outgoing.watch(socket, detail => this.#cut(client, { code: 'too-slow', detail }))
    const framing = new PacketFraming({
      connectBytes: maxConnectPacketBytes,
      publishBytes: () => (client.connected ? this.#limits.packetBytesMax : maxConnectPacketBytes),
      filters: this.#limits.subscriptionsPerClientMax,
    })
    // aedes takes its input by `conn.read(null)` only: the one place where a packet is seen before it is kept, without
    // another stream and its buffer between.
    const read = socket.read.bind(socket)
    socket.read = size => {
      const chunk: Buffer | null = read(size)
      const violation = chunk === null ? undefined : framing.accept(chunk)
      if (violation === undefined) return chunk
      if (violation === unknownLevel && !client.connected) this.#refuseVersion(socket)
      else this.#cut(client, { code: 'malformed', detail: `packet: ${violation}` })
      return null
    }
  }

  /** The one packet of a wrong form that is answered [MQTT-3.1.2-2]. */
  #refuseVersion(socket: Socket): void {
    socket.write(unacceptableVersion)
    socket.destroySoon()
  }

  #cut(client: Client, refusal: Refusal): void {
    const session = this.#states.get(client)?.session
    if (session) this.#handlers.cut(session, refusal)
    client.conn.destroy()
  }

  async #authenticate(
    client: Client,
    username: string | undefined,
    password: string | undefined,
  ): Promise<AuthenticateError | undefined> {
    const { remoteAddress = '' } = client.conn as Socket
    const [address, isPrivate] = [shareOf(remoteAddress), isLoopback(remoteAddress)]
    const login = {
      clientId: client.id,
      username: username ?? '',
      password: password ?? '',
      address,
      isPrivate,
    }
    const turnAway = (code: 'assertion-invalid' | 'overloaded', detail: string) => {
      this.#handlers.turnedAway(login, { code, detail })
      return authenticateError(code)
    }
    if (username === undefined || password === undefined || password.length > maxPasswordCharacters)
      return turnAway(
        'assertion-invalid',
        `password: expected a user name and 1 to ${maxPasswordCharacters} characters`,
      )
    const { connectionsMax } = this.#limits
    // Who takes over its own older connection needs no further place.
    if (this.#clients.size >= connectionsMax && !this.#clients.has(client.id))
      return turnAway('overloaded', `connections: expected at most ${connectionsMax} of devices`)
    const result = await this.#handlers.authenticate(login)
    if (!result.ok) return authenticateError(result.error.code)
    const session = result.value
    this.#places.get(client)?.prove()
    this.#states.set(client, { queue: new OrderedQueue(), session })
    // Not aedes' event: it does not come for a connection that ends while it is being authenticated.
    if (client.conn.destroyed) this.#handlers.closed(session)
    else client.conn.once('close', () => this.#handlers.closed(session))
    return undefined
  }

  #authorizePublish(
    client: Client | null,
    packet: PublishPacket,
    done: (error?: Error | null) => void,
  ): void {
    const state = client ? this.#states.get(client) : undefined
    if (!state || state.queue.length >= this.#limits.queuedPerClientMax) {
      done(new Error(state ? 'too many messages in flight' : 'no session'))
      return
    }
    const { queue, session } = state
    const message = { topicName: packet.topic, payload: Uint8Array.from(packet.payload as Buffer) }
    void queue.run(async () => {
      try {
        const outcome = await this.#handlers.published(session, message)
        packet.topic = consumedTopic
        packet.payload = Buffer.alloc(0)
        packet.retain = false
        done(outcome === 'acknowledge' ? null : new Error('not acknowledged: try again later'))
      } catch (cause) {
        done(new Error('not acknowledged: internal error', { cause }))
      }
    })
  }

  async #judgeSubscription(client: Client, topicFilter: string): Promise<SubscribeOutcome> {
    const session = this.#states.get(client)?.session
    if (session === undefined) return 'refuse'
    const outcome = await this.#handlers.maySubscribe(session, topicFilter)
    // aedes keeps the accepted filters in this record; its types do not show it.
    const { subscriptions } = client as unknown as { subscriptions: Record<string, unknown> }
    const isFull = Object.keys(subscriptions).length >= this.#limits.subscriptionsPerClientMax
    return outcome === 'grant' && (isFull || topicFilter.startsWith('$')) ? 'refuse' : outcome
  }

  #disconnected(client: Client): void {
    if (this.#clients.get(client.id) === client) this.#clients.delete(client.id)
  }
}

/** The same bytes: a message for all members of a group is in memory once. */
function viewOf({ buffer, byteOffset, length }: Uint8Array): Buffer {
  return Buffer.from(buffer, byteOffset, length)
}

function authenticateError(code: ErrorCode): AuthenticateError {
  const forged = badCredentials.includes(code)
  const returnCode =
    mayPassLater(code) || code === 'internal'
      ? connackCodes.unavailable
      : forged
        ? connackCodes.badCredentials
        : connackCodes.notAuthorized
  return Object.assign(new Error(code), { returnCode })
}

const badCredentials: readonly ErrorCode[] = [
  'assertion-invalid',
  'assertion-used',
  'bad-signature',
  'credential-invalid',
]

/** IPv4 addresses of this machine, also where they are written as IPv6, and that of IPv6. */
function isLoopback(address: string): boolean {
  return /^(?:::ffff:)?127\./.test(address) || address === '::1'
}
