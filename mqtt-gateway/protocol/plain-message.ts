/**
 * The JSON message of a plain client (Altaş D2; docs/FORMATS.md, "Messages of plain clients"), and what it is on the chain:
 *
 *   Payload, no valid Address       a record (registry message, Altaş D3)
 *   Payload and Address             a record that a contract decides about (action message, Altaş D4)
 *   Address without Payload         a call: the contract decides, nothing is recorded
 *
 * The record has the bytes of `Payload` as they stood in the message. Whoever reads them and the values beside must find the same, so a name that
 * stands twice where names mean something is refused: in the message, in `MessageContent`, in `Values`, and on the first level of a
 * `Payload` that is an object.
 *
 * Pure: who may send it is judged elsewhere.
 */
import { type ContractAddress, type DeviceId, isDigest, type Milliseconds } from '../../chain/brands.ts'
import { encode } from '../../chain/codec.ts'
import { isRecordTopic } from '../../chain/contracts/contract.ts'
import { maxMessageIdBytes, maxRecordPayloadBytes, maxTransactionBytes } from '../../chain/limits.ts'
import {
  type AttestedBody,
  isMessageId,
  type Qos,
  type RecordValue,
  recordBodies,
} from '../../chain/record-bodies.ts'
import { MoteError, ok, type Result, refusalOf } from '../../chain/result.ts'
import type { DeviceRecord } from '../../chain/transaction.ts'
import { jsonMembers } from '../../client/json-members.ts'
import { valuesOfCall, valuesOfPayload } from '../../client/record-values.ts'

/** Largest message of a plain client, in bytes: no larger than the record that it may become. */
export const maxPlainMessageBytes = maxRecordPayloadBytes

/** Room in a transaction for everything but its body: ids, nonce, expiry, signature. */
const transactionFrameBytes = 512

export interface PlainMessage {
  /** What it is on the chain; a gateway signs it for the device. */
  readonly body: AttestedBody
  /** What the device calls it. */
  readonly messageId: string | undefined
}

export interface PlainInput {
  /** Whose connection it came on. */
  readonly device: DeviceId
  /** The topic of the record, if the message names no other. */
  readonly topic: string
  readonly payload: Uint8Array
  /** By which it came. */
  readonly qos: Qos
}

const messageFields = ['Payload', 'Topic', 'MessageContent', 'Timestamp', 'MessageId'] as const
const contentFields = ['Address', 'Values', 'Publish_Topic'] as const

/** A value as it was parsed, and its text. */
interface JsonValue {
  readonly value: unknown
  readonly text: string
}
type Fields<Name extends string> = ReadonlyMap<Name, JsonValue>

/** Reads a message. Refuses `malformed`, `too-large`. */
export function parsePlainMessage(input: PlainInput): Result<PlainMessage> {
  try {
    const message = plainMessage(input)
    requireRoom(message.body)
    return ok(message)
  } catch (error) {
    if (error instanceof MoteError) return { ok: false, error: refusalOf(error) }
    throw error
  }
}

function plainMessage({ device, topic, payload, qos }: PlainInput): PlainMessage {
  const fields = fieldsOf('message', jsonOf('message', textOf(payload)), messageFields)
  const { address, values, publishTopic } = contentOf(fields.get('MessageContent'))
  const named = topicOf('Topic', fields.get('Topic')?.value)
  const claimedTime = timeOf(fields.get('Timestamp')?.value)
  const messageId = messageIdOf(fields.get('MessageId')?.value)
  const reported = fields.get('Payload')
  if (!reported) {
    if (address === undefined)
      throw malformed('message', 'Payload, or MessageContent with an Address', 'neither')
    const input = { type: 'call', source: device, values: values ?? [] } as const
    return { body: { type: 'contract.action', contract: address, input, publishTopic, qos }, messageId }
  }
  const record: DeviceRecord = {
    source: device,
    topic: named ?? requireTopic('topic', topic),
    payload: new TextEncoder().encode(reported.text),
    values: values ?? payloadValues(reported),
    claimedTime,
    messageId,
  }
  if (address === undefined) return { body: { type: 'record.one', record, qos }, messageId }
  const input = { type: 'record', record } as const
  return { body: { type: 'contract.action', contract: address, input, publishTopic, qos }, messageId }
}

/** What is recorded has the texts of a payload twice, as they stand and as values. */
function requireRoom(body: AttestedBody): void {
  const bytes = bodyBytes(body)
  const most = maxTransactionBytes - transactionFrameBytes
  if (bytes > most)
    throw new MoteError('too-large', `message: expected at most ${most} bytes as a record, got ${bytes}`)
}

function bodyBytes(body: AttestedBody): number {
  if (body.type === 'record.one') return encode(recordBodies['record.one'][1], body).length
  return encode(recordBodies['contract.action'][1], body).length
}

interface Content {
  /** Undefined for none, and for what can be none. */
  readonly address: ContractAddress | undefined
  /** Undefined: the payload's. */
  readonly values: readonly RecordValue[] | undefined
  readonly publishTopic: string | undefined
}

const noContent: Content = { address: undefined, values: undefined, publishTopic: undefined }

/** An object, the text of one, or nothing: an empty text, an empty object or null. */
function contentOf(given: JsonValue | undefined): Content {
  if (!given || given.value === null || given.value === '') return noContent
  const content = typeof given.value === 'string' ? jsonOf('MessageContent', given.value) : given
  const fields = fieldsOf('MessageContent', content, contentFields)
  const address = fields.get('Address')?.value
  const values = fields.get('Values')
  return {
    address: typeof address === 'string' && isDigest(address) ? (address as ContractAddress) : undefined,
    values: values && callValues(values),
    publishTopic: topicOf('Publish_Topic', fields.get('Publish_Topic')?.value),
  }
}

function callValues(given: JsonValue): readonly RecordValue[] {
  const values = valuesOfCall(given.value)
  requireUnique('Values', given.text)
  return values
}

function payloadValues({ value, text }: JsonValue): readonly RecordValue[] {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return []
  requireUnique('Payload', text)
  return valuesOfPayload(value)
}

function textOf(payload: Uint8Array): string {
  if (payload.length > maxPlainMessageBytes)
    throw new MoteError(
      'too-large',
      `message: expected at most ${maxPlainMessageBytes} bytes, got ${payload.length}`,
    )
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(payload)
  } catch {
    throw malformed('message', 'UTF-8', 'other bytes')
  }
}

function jsonOf(where: string, text: string): JsonValue {
  try {
    return { value: JSON.parse(text) as unknown, text }
  } catch {
    throw malformed(where, 'JSON', 'other text')
  }
}

function fieldsOf<Name extends string>(
  where: string,
  { value, text }: JsonValue,
  names: readonly Name[],
): Fields<Name> {
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    throw malformed(where, 'an object', Array.isArray(value) ? 'a list' : typeof value)
  const fields = new Map<Name, JsonValue>()
  for (const member of requireUnique(where, text)) {
    const name = names.find(each => each === member.name)
    if (name === undefined) throw malformed(where, names.join(', '), quoted(member.name))
    fields.set(name, { value: (value as Record<string, unknown>)[name], text: member.text })
  }
  return fields
}

function requireUnique(where: string, text: string) {
  const members = jsonMembers(text)
  const names = new Set<string>()
  for (const { name } of members) {
    if (names.has(name)) throw malformed(where, 'each name once', `${quoted(name)} twice`)
    names.add(name)
  }
  return members
}

function topicOf(where: string, value: unknown): string | undefined {
  return value === undefined ? undefined : requireTopic(where, value)
}

function requireTopic(where: string, value: unknown): string {
  if (typeof value === 'string' && isRecordTopic(value)) return value
  throw malformed(where, '1 to 128 printable ASCII characters without + and #', shown(value))
}

function timeOf(value: unknown): Milliseconds | undefined {
  if (value === undefined) return undefined
  if (Number.isSafeInteger(value) && (value as number) >= 0) return ((value as number) || 0) as Milliseconds
  throw malformed('Timestamp', 'milliseconds since 1970', shown(value))
}

function messageIdOf(value: unknown): string | undefined {
  if (value === undefined) return undefined
  if (typeof value === 'string' && isMessageId(value)) return value
  throw malformed('MessageId', `1 to ${maxMessageIdBytes} printable ASCII characters`, shown(value))
}

function shown(value: unknown): string {
  return typeof value === 'string' ? quoted(value) : typeof value === 'number' ? String(value) : typeof value
}

/** What a stranger has written, as logs and refusals show it. */
function quoted(text: string): string {
  return `'${text.slice(0, 64).replace(/[^ -~]/g, '?')}'`
}

function malformed(where: string, expected: string, got: string): MoteError {
  return new MoteError('malformed', `${where}: expected ${expected}, got ${got}`)
}
