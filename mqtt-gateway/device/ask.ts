/**
 * A device's question to the chain through the gateway, and its own check of the answer: the gateway may refuse or
 * stay silent, but not lie (docs/FORMATS.md, "MQTT topics").
 */

import { randomBytes } from 'node:crypto'
import type { DeviceId, Height, Milliseconds } from '../../chain/brands.ts'
import { decode, equalBytes } from '../../chain/codec.ts'
import type { SignatureVerifier } from '../../chain/keys.ts'
import { stateAnswerCodec, type TrustedHead, verifyStateAnswer } from '../../chain/light-client.ts'
import { type IdentityRecord, identityCodec, stateKeyOf } from '../../chain/records.ts'
import { MoteError, ok, type Result } from '../../chain/result.ts'
import { Deadline } from '../../client/deadline.ts'
import { encodeQuestion, parseProofAnswer } from '../protocol/question.ts'
import { topics } from '../protocol/topics.ts'
import type { Subject } from '../protocol/trust.ts'
import type { MqttConnection } from './mqtt-connection.ts'

export interface GatewayAsker {
  readonly connection: MqttConnection
  /** Whose connection it is. */
  readonly device: DeviceId
  readonly timeoutMs: number
}

/** The encoded proof that the gateway answers with, not verified. Throws `timeout`. */
export async function askGateway(
  { connection, device, timeoutMs }: GatewayAsker,
  subject: Subject,
): Promise<Uint8Array> {
  const nonce = Uint8Array.from(randomBytes(16))
  const { promise, resolve } = Promise.withResolvers<Uint8Array>()
  const stop = connection.onMessage(({ topicName, payload }) => {
    const answer = topicName === topics.answer(device) ? parseProofAnswer(payload) : undefined
    if (answer?.ok && equalBytes(answer.value.nonce, nonce)) resolve(answer.value.proof)
  })
  const asked = async (): Promise<Uint8Array> => {
    await connection.subscribe(topics.answer(device))
    await connection.publish(topics.ask(device), encodeQuestion(nonce, subject))
    return promise
  }
  const late = () => new MoteError('timeout', `gateway: no answer within ${timeoutMs} ms`)
  return new Deadline(timeoutMs).within(asked(), late).finally(stop)
}

/** What certified state said of a device. */
export interface ProvenDevice {
  /** Undefined: proven absent. */
  readonly record: IdentityRecord | undefined
  readonly height: Height
  readonly time: Milliseconds
}

/** Judges an answer about a device from a trusted head. Refuses `malformed`, `bad-proof`, `bad-certificate`. */
export function verifyDeviceAnswer(
  trusted: TrustedHead,
  id: DeviceId,
  proof: Uint8Array,
  verifier: SignatureVerifier,
): Result<ProvenDevice> {
  const answer = decode(stateAnswerCodec, proof)
  if (!answer.ok) return answer
  const verified = verifyStateAnswer(trusted, stateKeyOf.identity(id), answer.value, verifier)
  if (!verified.ok) return verified
  const { value, height, time } = verified.value
  if (value === undefined) return ok({ record: undefined, height, time })
  const record = decode(identityCodec, value)
  return record.ok ? ok({ record: record.value, height, time }) : record
}
