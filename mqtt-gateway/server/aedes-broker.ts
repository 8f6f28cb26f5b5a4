/**
 * The embedded broker: aedes 1.2 (MQTT 3.1 and 3.1.1) behind the broker port (docs/decisions/0011-aedes.md).
 *
 * What aedes does by itself would break the port's contract in seven places, mended here:
 * - it calls an asynchronous `authorizePublish` for several messages of a client at once, and they finish in any order:
 *   client-messages.ts has them one after another;
 * - it acknowledges QoS 1 before it persists or delivers: everything that must come first happens inside
 *   `authorizePublish`, where the gateway decides and relays;
 * - it would pass the client's own message on: the message is emptied and moved to a topic that nobody can subscribe to;
 * - it asks `authorizePublish` again for a repeat of a QoS 2 message: qos2-receipts.ts has the first outcome;
 * - it tells nobody of a PUBREL: aedes-releases.ts;
 * - it sends by a higher QoS than was subscribed to: aedes-subscribers.ts;
 * - a publisher waits for the slowest subscriber: outgoing-queues.ts.
 *
 * What a client sends is judged, and slowed, before aedes sees it (client-input.ts): aedes takes 43 sequences that break a rule of MQTT.
 *
 * Bounded: connections, packet size, messages of a client that are decided, its rate, subscriptions, keep-alive, time to CONNECT, time a
 * slow reader may block. To aedes sessions are always clean, so nothing accumulates for who is not there. What a session that is not clean has
 * beyond that is its exchanges (`incarnationOf`): no subscription and no message to the client, so Session Present stays 0
 * [MQTT-3.2.2-3], and a client subscribes again. It sends again what was not acknowledged all the same [MQTT-4.4.0-1].
 */
import type { Socket } from 'node:net'
import { TLSSocket } from 'node:tls'
import { Aedes, type AuthenticateError, type Client, type PublishPacket } from 'aedes'
import { assert, type Refusal } from '../../chain/result.ts'
import { type ShareLimits, shareOf } from '../../client/address-shares.ts'
import { Deadline } from '../../client/deadline.ts'
import { maxPasswordCharacters } from '../protocol/assertion.ts'
import { unknownLevel } from '../protocol/packet-rules.ts'
import { hearReleases } from './aedes-releases.ts'
import { AedesSubscribers } from './aedes-subscribers.ts'
import type {
  Broker,
  BrokerAddress,
  BrokerFactory,
  BrokerHandlers,
  BrokerSession,
  IncomingMessage,
  Listening,
  Login,
  OutgoingMessage,
  PublishAnswer,
  SubscribeOutcome,
} from './broker.ts'
import { ClientInput, type InputLimits } from './client-input.ts'
import { ClientMessages } from './client-messages.ts'
import { authenticateError } from './connack.ts'
import { DeviceRates, type PublishRate } from './device-rates.ts'
import { clientCertificateOf, isLoopback, Listeners, type SecureListener } from './listeners.ts'
import { type OutgoingLimits, OutgoingQueues } from './outgoing-queues.ts'
import { Qos2Receipts } from './qos2-receipts.ts'
import { type ConnectionPlace, UnprovenConnections } from './unproven-connections.ts'

export interface AedesLimits {
  /** Largest MQTT packet of a client that is connected, in bytes. */
  readonly packetBytesMax: number
  /** Connections of devices. */
  readonly connectionsMax: number
  /** Connections that have not proven whose they are. */
  readonly unproven: ShareLimits
  readonly subscriptionsPerClientMax: number
  /** What may be under decision for one client; more is not read from it until then. */
  readonly input: InputLimits
  /** What a device may publish in a second; more is read later. */
  readonly rate: PublishRate
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

/** Time for the messages that are being decided, and for what is written, when the broker closes. */
const drainMs = 3_000
/** Turns of the event loop in which aedes acknowledges what it was told to: of QoS 2 it takes a few. */
const acknowledgementTurns = 20

/** What CONNECT says, and what came of it: until the last of the client's messages is decided, its will after its connection included. */
interface ClientState {
  /** In seconds. aedes would refuse by a code that MQTT 3.1.1 does not have, and tell nobody. */
  readonly keepAlive: number
  /** CleanSession, as the client wants it. */
  readonly isClean: boolean
  /** aedes hands the same object in when one fires. */
  readonly will: object | undefined
  readonly messages: ClientMessages
  /** Undefined until it is authenticated. */
  session: BrokerSession | undefined
  incarnation: string
}

/** A connection, before and after it is known whose it is. */
interface Connection {
  readonly place: ConnectionPlace
  readonly input: ClientInput
}

/** Where to listen: without TLS, and with it where that is wanted. */
export interface AedesAddress extends BrokerAddress {
  readonly secure?: SecureListener | undefined
}

export function aedesBroker(address: AedesAddress, limits: AedesLimits): BrokerFactory {
  return handlers => new AedesBroker(address, limits, handlers)
}

/** CONNACK: unacceptable protocol version (section 3.2.2.3). */
const unacceptableVersion = Uint8Array.of(0x20, 2, 0, 1)

class AedesBroker implements Broker {
  readonly #limits: AedesLimits
  readonly #handlers: BrokerHandlers
  readonly #aedes: Aedes
  readonly #listeners: Listeners
  readonly #connections = new Map<Client, Connection>()
  readonly #states = new WeakMap<Client, ClientState>()
  readonly #clients = new Map<string, Client>()
  readonly #outgoing: OutgoingQueues
  readonly #rates: DeviceRates
  readonly #receipts = new Qos2Receipts()
  readonly #subscribers = new AedesSubscribers()
  #isClosing = false

  constructor({ host, port, secure }: AedesAddress, limits: AedesLimits, handlers: BrokerHandlers) {
    this.#limits = limits
    this.#handlers = handlers
    this.#outgoing = new OutgoingQueues(limits.outgoing)
    this.#rates = new DeviceRates(limits.rate)
    this.#aedes = new Aedes({
      concurrency: 1000,
      queueLimit: limits.input.messages,
      maxInflightInbound: limits.input.messages,
      maxClientsIdLength: 64,
      connectTimeout: limits.connectTimeoutMs,
      preConnect: (client, packet, done) => {
        const { keepalive: keepAlive = 0, will, clean: isClean = true } = packet
        packet.clean = true
        this.#states.set(client, {
          keepAlive,
          will,
          isClean,
          messages: new ClientMessages(),
          session: undefined,
          incarnation: '',
        })
        done(null, true)
      },
      authenticate: (client, username, password, done) =>
        this.#authenticate(client, username, password?.toString('utf8')).then(
          refusal => done(refusal ?? null, refusal === undefined),
          () => done(authenticateError('internal'), false),
        ),
      authorizePublish: (client, packet, done) => {
        void this.#judge(client, packet).then(failure => done(failure ?? null))
      },
      authorizeSubscribe: (client, subscription, done) => {
        void this.#judgeSubscription(client, subscription.topic).then(outcome =>
          outcome === 'close'
            ? done(new Error('not subscribed: try again later'))
            : done(null, outcome === 'grant' ? subscription : null),
        )
      },
      authorizeForward: (client, packet) => {
        const session = this.#states.get(client)?.session
        const isAllowed = session && this.#handlers.mayReceive(session, packet.topic)
        return isAllowed ? this.#subscribers.asSubscribed(client, packet) : null
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
    this.#aedes.on('clientDisconnect', client => {
      if (this.#clients.get(client.id) === client) this.#clients.delete(client.id)
    })
    this.#listeners = new Listeners({
      plain: { host, port },
      secure,
      socketsMax: limits.connectionsMax + limits.unproven.all,
      handshakeTimeoutMs: limits.connectTimeoutMs,
      unproven: new UnprovenConnections(limits.unproven),
      onConnection: (socket, place) => this.#accept(socket, place),
    })
  }

  get connections(): number {
    return this.#clients.size
  }

  async listen(): Promise<Listening> {
    await this.#aedes.listen()
    hearReleases(this.#aedes, async (clientId, packetIdentifier) => {
      this.#receipts.released(clientId, packetIdentifier)
      await this.#handlers.released(clientId, packetIdentifier)
    })
    return this.#listeners.listen()
  }

  publish({ topicName, payload, qos = 1, retain }: OutgoingMessage): Promise<void> {
    const { promise, resolve, reject } = Promise.withResolvers<void>()
    this.#aedes.publish(
      { cmd: 'publish', topic: topicName, payload: viewOf(payload), qos, retain, dup: false },
      error => (error ? reject(error) : resolve()),
    )
    return promise
  }

  disconnect(clientId: string): void {
    this.#clients.get(clientId)?.close()
  }

  async close(): Promise<void> {
    this.#isClosing = true
    this.#listeners.refuse()
    for (const { input } of this.#connections.values()) input.stop()
    await new Deadline(drainMs).race(this.#drain())
    const { promise, resolve } = Promise.withResolvers<void>()
    this.#aedes.close(resolve)
    await promise
    await this.#listeners.close()
    this.#outgoing.close()
  }

  /** Resolves when every message that was read is decided, and what clients are told of it is sent. */
  async #drain(): Promise<void> {
    const clients = [...this.#clients.values()]
    await Promise.all(clients.map(client => this.#states.get(client)?.messages.idle()))
    for (let turn = 0; turn < acknowledgementTurns; turn++)
      await new Promise(resolve => setImmediate(resolve))
    await Promise.all(clients.map(({ conn }) => sent(conn)))
  }

  #accept(socket: Socket, place: ConnectionPlace): void {
    const client = this.#aedes.handle(socket)
    this.#outgoing.watch(socket, detail => this.#cut(client, { code: 'too-slow', detail }))
    const { packetBytesMax, subscriptionsPerClientMax: filters } = this.#limits
    const input = new ClientInput(socket, {
      packets: {
        connectBytes: maxConnectPacketBytes,
        publishBytes: () => (client.connected ? packetBytesMax : maxConnectPacketBytes),
        hasQos2: () => this.#subscribers.hasQos2(client),
        filters,
      },
      limits: this.#limits.input,
      onViolation: violation => {
        if (violation === unknownLevel && !client.connected) this.#refuseVersion(socket)
        else this.#cut(client, { code: 'malformed', detail: `packet: ${violation}` })
      },
    })
    this.#connections.set(client, { place, input })
    socket.once('close', () => this.#connections.delete(client))
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
    const { conn } = client
    const { remoteAddress = '' } = conn as Socket
    const certificate = conn instanceof TLSSocket ? clientCertificateOf(conn) : undefined
    const login: Login = {
      clientId: client.id,
      username: username ?? '',
      password,
      certificate,
      address: shareOf(remoteAddress),
      isPrivate: conn instanceof TLSSocket || isLoopback(remoteAddress),
    }
    const turnAway = (code: 'assertion-invalid' | 'limit-exceeded' | 'overloaded', detail: string) => {
      this.#handlers.turnedAway(login, { code, detail })
      return authenticateError(code)
    }
    const state = this.#states.get(client)
    assert(state, 'preConnect comes before authenticate')
    const [keepAlive, keepAliveMax] = [state.keepAlive, this.#limits.keepAliveSecondsMax]
    if (keepAlive < 1 || keepAlive > keepAliveMax)
      return turnAway('limit-exceeded', `keep-alive: expected 1 to ${keepAliveMax} s, got ${keepAlive}`)
    if ((password === undefined && !certificate) || (password?.length ?? 0) > maxPasswordCharacters)
      return turnAway(
        'assertion-invalid',
        `password: expected 1 to ${maxPasswordCharacters} characters, or a client certificate by TLS`,
      )
    if (this.#isClosing) return turnAway('overloaded', 'gateway: it is stopping')
    const { connectionsMax } = this.#limits
    // Who takes over its own older connection needs no further place.
    if (this.#clients.size >= connectionsMax && !this.#clients.has(client.id))
      return turnAway('overloaded', `connections: expected at most ${connectionsMax} of devices`)
    const result = await this.#handlers.authenticate(login)
    if (!result.ok) return authenticateError(result.error.code)
    const session = result.value
    const connection = this.#connections.get(client)
    connection?.place.prove()
    connection?.input.countFor(this.#rates.of(session.device))
    try {
      state.incarnation = await this.#handlers.incarnationOf(client.id, state.isClean ? 'clean' : 'kept')
    } catch {
      this.#handlers.closed(session)
      return authenticateError('not-ready')
    }
    state.session = session
    // Not aedes' event: it does not come for a connection that ends while it is being authenticated.
    if (client.conn.destroyed) this.#handlers.closed(session)
    else client.conn.once('close', () => this.#handlers.closed(session))
    return undefined
  }

  /** Why a message, or the will of a connection that broke, is not acknowledged; undefined if it is. */
  async #judge(client: Client | null, packet: PublishPacket): Promise<Error | undefined> {
    const state = client ? this.#states.get(client) : undefined
    if (!client || !state?.session) return new Error('no session')
    const { messages, session, will } = state
    const { topic: topicName, qos, payload } = packet
    const message = { topicName, payload: Uint8Array.from(payload as Buffer), qos }
    try {
      if (packet === will) {
        await messages.afterwards(() => this.#fire(session, message))
        return undefined
      }
      const outcome = await messages.judge(() => this.#published(client, state, session, packet, message))
      return outcome === 'acknowledge' ? undefined : new Error('not acknowledged: try again later')
    } catch (cause) {
      return new Error('not acknowledged: internal error', { cause })
    } finally {
      // What aedes passes on.
      Object.assign(packet, { topic: consumedTopic, payload: Buffer.alloc(0), retain: false })
      if (packet !== will) this.#connections.get(client)?.input.decided()
    }
  }

  #published(
    connection: Client,
    { incarnation, isClean }: ClientState,
    session: BrokerSession,
    { qos, dup: isRepeat, messageId: packetIdentifier }: PublishPacket,
    message: IncomingMessage,
  ): Promise<PublishAnswer> {
    if (qos === 0 || packetIdentifier === undefined) return this.#handlers.published(session, message)
    const client = connection.id
    const exchange = { client, incarnation, packetIdentifier, qos, isRepeat }
    // At QoS 2 its repeat shares the outcome. Who opened a clean session keeps nothing to send again.
    const isOver = () => qos === 1 && !isClean && (connection.closed || connection.conn.destroyed)
    const judge = () => this.#handlers.published(session, { ...message, exchange, isOver })
    return qos === 1
      ? judge()
      : this.#receipts.once({ clientId: client, incarnation, packetIdentifier, isRepeat, message }, judge)
  }

  /** A device is not gone because the broker closes. */
  async #fire(session: BrokerSession, message: IncomingMessage): Promise<void> {
    if (!this.#isClosing) await this.#handlers.will(session, message)
  }

  async #judgeSubscription(client: Client, topicFilter: string): Promise<SubscribeOutcome> {
    const session = this.#states.get(client)?.session
    if (session === undefined) return 'refuse'
    const outcome = await this.#handlers.maySubscribe(session, topicFilter)
    const isFull = this.#subscribers.countOf(client) >= this.#limits.subscriptionsPerClientMax
    return outcome === 'grant' && (isFull || topicFilter.startsWith('$')) ? 'refuse' : outcome
  }
}

/** The same bytes: a message for all members of a group is in memory once. */
function viewOf({ buffer, byteOffset, length }: Uint8Array): Buffer {
  return Buffer.from(buffer, byteOffset, length)
}

/** Ends the stream; resolves when all that was written is sent, or can not be. */
function sent(stream: Client['conn']): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>()
  if (stream.destroyed) resolve()
  stream.once('close', resolve).end(resolve)
  return promise
}
