/**
 * What a gateway asks of the room `records/`: that a message becomes a transaction of the chain, once, and what became of it.
 *
 * Invariants
 * 1. What was accepted is on the disk: its transaction is in the queue, and before that an exchange was tied to it. A gateway that is killed
 *    goes on with it.
 * 2. A repeat of an exchange gets the transaction of the first time and its outcome.
 * 3. `certified` is proven: the transaction stands in a block under a certified header, with this receipt.
 *
 * An exchange is forgotten at its PUBREL (QoS 2), when its packet identifier is used anew (QoS 1: a PUBLISH without DUP), when a clean
 * CONNECT begins a new incarnation of the session, and when it is too long ago to be repeated, where that is known (`passed`).
 */
import { createHash } from 'node:crypto'
import type { Receipt } from '../../chain/block.ts'
import type { DeviceId, Height, TransactionId } from '../../chain/brands.ts'
import type { ErrorCode } from '../../chain/errors.ts'
import type { AttestedBody } from '../../chain/record-bodies.ts'
import type { Result } from '../../chain/result.ts'

export interface RecordRequest {
  /** Undefined for a message that is never repeated (QoS 0). */
  readonly exchange: Exchange | undefined
  /** Whose message it is. */
  readonly device: DeviceId
  /** What the device calls the message: with it, it is recorded once across clean sessions too. Of attested content only. */
  readonly messageId: string | undefined
  /** Attested: every `source` in it is the device. */
  readonly content:
    | { readonly type: 'attested'; readonly body: AttestedBody }
    | { readonly type: 'signed'; readonly transaction: Uint8Array }
}

/** One delivery of MQTT (MQTT 3.1.1, 4.3): PUBLISH until PUBACK, or until PUBREL. */
export interface Exchange {
  /** Whose session it is; up to 64 KiB. */
  readonly client: string
  /** As `incarnationOf` said. */
  readonly incarnation: string
  readonly packetIdentifier: number
  readonly qos: 1 | 2
  /** The DUP flag. */
  readonly isRepeat: boolean
  /** `exchangeDigest` of the message, 32 bytes. */
  readonly digest: Uint8Array
}

/**
 * How a connection begins, for the session of its client:
 * - `clean`: with a new one, which ends with the connection (MQTT 3.1.1, CleanSession 1);
 * - `new`: with a new one, which is kept (MQTT 5, Session Present 0 and a session expiry interval above 0);
 * - `kept`: with the one that is known, or a new one, which is kept (MQTT 3.1.1, CleanSession 0).
 */
export type SessionStart = 'clean' | 'new' | 'kept'

/** The life of a client's session: it begins with a clean CONNECT, or with one that found no session. */
export interface Incarnation {
  readonly incarnation: string
  /** Session Present of the CONNACK: it is an earlier connection's. */
  readonly isPresent: boolean
}

export interface Accepted {
  readonly transaction: TransactionId
  /**
   * Rejects with a `MoteError` that may pass (`timeout`: the chain is out of reach, `interrupted`: stopped). The message is kept and tried on;
   * whoever sent it is told nothing, and finds the outcome when it sends again.
   */
  readonly outcome: Promise<RecordOutcome>
}

export type RecordOutcome =
  | {
      readonly type: 'certified'
      /** Another one than was accepted if that one had expired. */
      readonly transaction: TransactionId
      readonly height: Height
      /** Place in the block. */
      readonly index: number
      readonly receipt: Receipt
    }
  /** For good: sent again, it would be refused again. */
  | {
      readonly type: 'refused'
      readonly transaction: TransactionId
      readonly code: ErrorCode
      readonly detail: string
    }

export interface Recorder {
  /**
   * Takes a message; one client's in the order in which they came. When it resolves, the message is on the disk.
   * Refuses `overloaded`, `rate-limited` (this device has too many whose outcome is open, or deliveries of this transaction), `too-large`, `malformed`, `unknown-version`, `kind-not-supported`, `wrong-chain`, `not-authorised` (signed by another
   * device, or of a kind or source that is not for devices), `expiry-too-far` (of what a device signed), `already-exists` (the message id is another message's).
   * Throws `storage-failed`, `unreachable` (of a queue elsewhere), `interrupted` (stopped, or the session has ended).
   */
  accept(request: RecordRequest): Promise<Result<Accepted>>
  /** Whether it has a transaction already, so that what it changed must not speak against it now. Throws `interrupted` (the session has ended). */
  isRepeat(request: RecordRequest): boolean
  /** PUBREL: the exchange is forgotten, on the disk when it resolves, which PUBCOMP waits for. Throws `storage-failed`. */
  released(client: string, packetIdentifier: number): Promise<void>
  /** What was tied in this session before the call before this one is forgotten: nobody repeats it any more. Throws `storage-failed`. */
  passed(client: string): Promise<void>
  /** At a CONNECT, before its CONNACK; or after it, where a broker that others wrote keeps the session. Throws `storage-failed`. */
  incarnationOf(client: string, start: SessionStart): Promise<Incarnation>
}

/** What tells a message from another one under the same packet identifier: 32 bytes. */
export function exchangeDigest(topicName: string, payload: Uint8Array): Uint8Array {
  const topic = Buffer.from(topicName, 'utf8')
  const length = Buffer.alloc(4)
  length.writeUInt32BE(topic.length)
  return createHash('sha256').update(length).update(topic).update(payload).digest()
}
