/**
 * The port between the gateway and an MQTT broker. Embedded aedes is one adapter (aedes-broker.ts); a broker that
 * runs elsewhere would be another.
 *
 * The contract, which the gateway's guarantees rest on:
 * - `published` is called with one client's messages in the order in which they arrived, and the next one only when
 *   the promise of the one before has settled;
 * - a message is acknowledged only after `published` has resolved with `acknowledge`, and the broker itself passes
 *   nothing on that a client published: what subscribers get is what the gateway publishes;
 * - a repeat of a QoS 2 message whose PUBLISH was acknowledged (PUBREC) does not come to `published` again;
 * - who publishes faster than it may is read more slowly, and loses nothing by it;
 * - `close` as outcome ends the connection without an acknowledgement, so the client may send again later;
 * - neither a publisher nor `publish` waits for a subscriber: what a slow one has not taken waits in a bounded queue, and
 *   over its bounds the slow one is cut.
 */
import type { Milliseconds } from '../../chain/brands.ts'
import { type ErrorCode, errorTable } from '../../chain/errors.ts'
import type { PublicKey } from '../../chain/keys.ts'
import type { Refusal, Result } from '../../chain/result.ts'

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
  /** The IPv4 address, or the first 64 bits of the IPv6 address. */
  readonly address: string
}

export interface IncomingMessage {
  readonly topicName: string
  readonly payload: Uint8Array
}

/** What the gateway answers to a message: take it from the client's hands, or make the client keep it. */
export type PublishOutcome = 'acknowledge' | 'close'

/** What the gateway answers to a subscription: SUBACK with a QoS, with 0x80, or the end of the connection, to be tried again. */
export type SubscribeOutcome = 'grant' | 'refuse' | 'close'

export interface BrokerHandlers {
  /**
   * Called before CONNACK. A refusal's code decides the CONNACK return code. The session it gives is the one that the
   * other handlers get, the very object, for this connection and no other.
   */
  readonly authenticate: (login: Login) => Promise<Result<BrokerSession>>
  /** Told of a CONNECT that the broker itself refuses, and why: `assertion-invalid`, `overloaded`. */
  readonly turnedAway: (login: Login, refusal: Refusal) => void
  readonly published: (session: BrokerSession, message: IncomingMessage) => Promise<PublishOutcome>
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
  /** Replaces the retained message of the topic. */
  readonly retain: boolean
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
  /** Resolves when the message is in every subscriber's queue. QoS 1. */
  publish(message: OutgoingMessage): Promise<void>
  /** Ends a client's connection now, if it has one. */
  disconnect(clientId: string): void
  /** Connections that are authenticated. */
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
