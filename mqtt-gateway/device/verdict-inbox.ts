/**
 * Brings the gateway's verdicts to who waits for them, by message id (docs/FORMATS.md, "MQTT topics").
 *
 * A verdict is the gateway's word and nothing more: it tells the sender whether to send again, never whom to trust.
 */

import { Type } from 'typebox'
import { Value } from 'typebox/value'
import type { DeviceId } from '../../chain/brands.ts'
import { type ErrorCode, errorTable } from '../../chain/errors.ts'
import { MoteError } from '../../chain/result.ts'
import { Deadline } from '../../client/deadline.ts'
import { topics } from '../protocol/topics.ts'
import type { MqttConnection } from './mqtt-connection.ts'

/** What the gateway said about one message. */
export interface GatewayVerdict {
  /** Null if there was no message to judge: its recipient's key could not be used. */
  readonly messageId: string | null
  readonly verdict: 'Check' | 'Error'
  /** Of a message that is not refused: given to all who should get it, or waiting for one of them. */
  readonly delivery?: 'relayed' | 'kept'
  /** Of a transaction that called a contract: what that decided, or `failed: ` and why. */
  readonly decision?: string
  readonly code?: ErrorCode
  readonly reason?: string
  /** Height and age of the trust data it was decided on. */
  readonly height: number
  readonly ageMs: number
}

const verdictSchema = Type.Object({
  messageId: Type.Union([Type.String(), Type.Null()]),
  verdict: Type.Union([Type.Literal('Check'), Type.Literal('Error')]),
  delivery: Type.Optional(Type.Union([Type.Literal('relayed'), Type.Literal('kept')])),
  decision: Type.Optional(Type.String()),
  code: Type.Optional(Type.String()),
  reason: Type.Optional(Type.String()),
  height: Type.Number(),
  ageMs: Type.Number(),
})

export class VerdictInbox {
  readonly #timeoutMs: number
  readonly #waiting = new Map<string, PromiseWithResolvers<GatewayVerdict>>()

  private constructor(timeoutMs: number) {
    this.#timeoutMs = timeoutMs
  }

  static async open(connection: MqttConnection, device: DeviceId, timeoutMs: number): Promise<VerdictInbox> {
    const inbox = new VerdictInbox(timeoutMs)
    connection.onMessage(({ topicName, payload }) => {
      if (topicName === topics.verdict(device)) inbox.#take(payload)
    })
    void connection.ended.then(reason => inbox.#fail(reason))
    await connection.subscribe(topics.verdict(device))
    return inbox
  }

  /** By a message id, or the nonce of a vote. Call before publishing. Rejects with `timeout`, or with the reason for which the connection ended. */
  expect(messageId: string): Promise<GatewayVerdict> {
    const waiting = Promise.withResolvers<GatewayVerdict>()
    this.#waiting.set(messageId, waiting)
    const late = () => new MoteError('timeout', `gateway: no verdict within ${this.#timeoutMs} ms`)
    const verdict = new Deadline(this.#timeoutMs)
      .within(waiting.promise, late)
      .finally(() => this.#waiting.delete(messageId))
    // The publishing caller may fail first and never await this.
    verdict.catch(() => {})
    return verdict
  }

  #take(payload: Uint8Array): void {
    let parsed: unknown
    try {
      parsed = JSON.parse(Buffer.from(payload).toString('utf8'))
    } catch {
      return
    }
    if (!Value.Check(verdictSchema, parsed) || parsed.messageId === null) return
    const { messageId, verdict, delivery, decision, code, reason, height, ageMs } = parsed
    this.#waiting.get(messageId)?.resolve({
      messageId,
      verdict,
      ...(delivery !== undefined && { delivery }),
      ...(decision !== undefined && { decision }),
      ...(code !== undefined && { code: code in errorTable ? (code as ErrorCode) : 'internal' }),
      ...(reason !== undefined && { reason }),
      height,
      ageMs,
    })
  }

  #fail(reason: MoteError): void {
    for (const { reject } of this.#waiting.values()) reject(reason)
  }
}
