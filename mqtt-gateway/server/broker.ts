/**
 * The port between the gateway and an MQTT broker. Embedded aedes is one adapter (aedes-broker.ts); the other attaches to a broker that
 * others wrote (attached-broker.ts). test/contract/broker.ts is the contract as a test.
 *
 * The contract, which the gateway's guarantees rest on:
 * - `published` is called with one client's messages in the order in which they arrived, and the next one only when
 *   the promise of the one before has settled. Where that gave an outcome for later, the next ones are judged meanwhile;
 * - the embedded broker acknowledges a message only after its outcome is `acknowledge`, and one client's in the order in which they
 *   arrived [MQTT-4.6.0-2, MQTT-4.6.0-3]. One that others wrote has acknowledged by then: what has no verdict is sent again by the device;
 * - an `exchange` names the delivery: a repeat of it has the same client, incarnation and packet identifier. PUBCOMP waits for
 *   `released`. The exchanges with a broker that others wrote are the gateway's own with it, not the device's;
 * - what subscribers get of the gateway's topics is what the gateway publishes, and nothing that a device publishes;
 * - a repeat of a QoS 2 message whose PUBLISH was acknowledged (PUBREC) does not come to `published` again;
 * - who publishes faster than it may is read more slowly, and loses nothing by it; at a broker that others wrote what it has no room for has
 *   no verdict;
 * - `close` as outcome: the message may pass later, so the client keeps it. The embedded broker ends the connection without an
 *   acknowledgement; elsewhere the verdict alone says so;
 * - neither a publisher nor `publish` waits for a subscriber: what a slow one has not taken waits in a bounded queue, and
 *   over its bounds the slow one is cut, or loses messages.
 */
import type { Milliseconds } from '../../chain/brands.ts'
import { type ErrorCode, errorTable } from '../../chain/errors.ts'
import type { PublicKey } from '../../chain/keys.ts'
import type { Qos } from '../../chain/record-bodies.ts'
import type { Refusal, Result } from '../../chain/result.ts'
import type { SessionStart } from '../records/recorder.ts'

/** One connection of an authenticated client. */
export interface BrokerSession {
  readonly clientId: string
  /** Whose connection it is: what all of them may publish in a second is one limit. */
  readonly device: string
}

/** What a client's X.509 certificate says; that the client holds its key has been shown by the TLS handshake. */
export interface ClientCertificate {
  /** The common name of its subject; undefined for none or several. */
  readonly commonName: string | undefined
  /** Undefined for a kind of key that the chain does not have. */
  readonly key: PublicKey | undefined
  readonly notBefore: Milliseconds
  readonly notAfter: Milliseconds
}

/** What a CONNECT says, and where it came from. */
export interface Login {
  readonly clientId: string
  readonly username: string
  /** Undefined for a client that shows a certificate instead. */
  readonly password: string | undefined
  readonly certificate?: ClientCertificate | undefined
  /** Nobody else can read this connection: it comes from this machine, or by TLS. */
  readonly isPrivate: boolean
  /** The IPv4 address, or the first 64 bits of the IPv6 address; '' where a broker hides it. */
  readonly address: string
  /** The broker has checked by itself whose account this is: there is no password to look at. */
  readonly isAccount?: boolean
  /** A refusal for good has to be as of now: what waits for this session is lost by it. */
  readonly asOfNow?: boolean
}

/** The delivery that a message came in (MQTT 3.1.1, section 4.3). */
export interface MessageExchange {
  /** Whose session it belongs to. */
  readonly client: string
  /** The life of that session, as `incarnationOf` said. */
  readonly incarnation: string
  readonly packetIdentifier: number
  readonly qos: 1 | 2
  /** DUP. */
  readonly isRepeat: boolean
}

export interface IncomingMessage {
  readonly topicName: string
  readonly payload: Uint8Array
  /** By which it came to the gateway. */
  readonly qos: Qos
  /** Where its publisher wants the answer, and with what (MQTT 5, section 4.10). */
  readonly reply?: ReplyWish
  /** Undefined at QoS 0, and of a will. */
  readonly exchange?: MessageExchange | undefined
  /** Whether its connection has ended and its sender, which has no acknowledgement, sends it again on the next one. Never, if undefined. */
  readonly isOver?: () => boolean
  /** The broker has acknowledged it, and nobody sends it again: a refusal for good has to be as of now (as-of-now.ts). */
  readonly asOfNow?: boolean
}

export interface ReplyWish {
  readonly responseTopic: string | undefined
  readonly correlationData: Uint8Array | undefined
}

/** What the gateway answers to a message: take it from the client's hands, or make the client keep it. */
export type PublishOutcome = 'acknowledge' | 'close'

/** The outcome, or that it will be there later. */
export type PublishAnswer = PublishOutcome | LaterOutcome

export interface LaterOutcome {
  /** False if the gateway does not have the message on its disk, and needs it again. Never rejects. */
  readonly kept: Promise<boolean>
  readonly later: Promise<PublishOutcome>
}

/** What the gateway answers to a subscription: SUBACK with a QoS, with 0x80, or the end of the connection, to be tried again. */
export type SubscribeOutcome = 'grant' | 'refuse' | 'close'

export interface BrokerHandlers {
  /**
   * Called before CONNACK. A refusal's code decides the CONNACK return code. The session it gives is the one that the
   * other handlers get, the very object, for this connection and no other.
   */
  readonly authenticate: (login: Login) => Promise<Result<BrokerSession>>
  /** Told of a CONNECT that the broker itself refuses, and why: `assertion-invalid`, `limit-exceeded`, `overloaded`. */
  readonly turnedAway: (login: Login, refusal: Refusal) => void
  readonly published: (session: BrokerSession, message: IncomingMessage) => Promise<PublishAnswer>
  /** PUBREL: the client will not repeat the exchange of QoS 2 any more. */
  readonly released: (client: string, packetIdentifier: number) => Promise<void>
  /** Said now and then by who knows how much its client may repeat: what was tied in its session before the last time is repeated no more. */
  readonly passed: (client: string) => Promise<void>
  /**
   * Asked before CONNACK, once the client is authenticated: which life of its session begins or goes on. Of the gateway's own sessions with
   * a broker that others wrote, after CONNACK.
   */
  readonly incarnationOf: (client: string, start: SessionStart) => Promise<string>
  /**
   * The will of a connection that ended without DISCONNECT (MQTT 3.1.1, section 3.1.2.5); `closed` may have been called for it. Not called
   * for connections that end because the broker closes.
   */
  readonly will: (session: BrokerSession, message: IncomingMessage) => Promise<void>
  /** Judges a subscription; must not reject. */
  readonly maySubscribe: (session: BrokerSession, topicFilter: string) => Promise<SubscribeOutcome>
  /** Told when a granted subscription is in force: what is published from now on comes to the client. */
  readonly subscribed: (session: BrokerSession, topicFilter: string) => void
  /** Whether a message that matches a client's subscription may go to this client now. */
  readonly mayReceive: (session: BrokerSession, topicName: string) => boolean
  /** Told why the broker ends the connection of a session: `too-slow`, `malformed`. */
  readonly cut: (session: BrokerSession, refusal: Refusal) => void
  /** Called once for every session that `authenticate` gave, when its connection is gone. */
  readonly closed: (session: BrokerSession) => void
}

export interface OutgoingMessage {
  readonly topicName: string
  readonly payload: Uint8Array
  /** By which it is published; 1 if undefined. A subscription may lower it. */
  readonly qos?: Qos
  /** Replaces the retained message of the topic. */
  readonly retain: boolean
  readonly about?: MessageAbout
}

/** What is said beside the payload, where the broker speaks MQTT 5. */
export interface MessageAbout {
  readonly contentType?: string
  /** Nobody needs it later. */
  readonly lifetimeMs?: number
  readonly correlationData?: Uint8Array | undefined
  /** Of a refusal. */
  readonly code?: ErrorCode | undefined
  readonly reason?: string | undefined
}

export interface BrokerAddress {
  readonly host: string
  readonly port: number
}

/** Where a broker listens. */
export interface Listening extends BrokerAddress {
  /** Where it does so for TLS, if it does. */
  readonly secure?: BrokerAddress
}

export interface Broker {
  listen(): Promise<Listening>
  /** Resolves when the message is in every subscriber's queue, or at the broker. QoS 1. Throws `unreachable` where that is elsewhere. */
  publish(message: OutgoingMessage): Promise<void>
  /** Ends a client's connection now, if it has one; at a broker that hides connections all those of the client's device. */
  disconnect(clientId: string): void
  /** Connections that are authenticated; at a broker that hides connections the devices that have one. */
  readonly connections: number
  /** Takes nothing more, lets the messages that are being decided end and be acknowledged, within a bounded time, and ends every connection. */
  close(): Promise<void>
}

/**
 * True for a refusal that is this gateway's state and not the client's or the message's, a full node that lies to it included: the
 * client should keep the message, or come again.
 */
export function mayPassLater(code: ErrorCode): boolean {
  const { http } = errorTable[code]
  return http >= 502
}

/** Makes a broker that calls these handlers. */
export type BrokerFactory = (handlers: BrokerHandlers) => Broker
