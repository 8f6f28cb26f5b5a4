/**
 * A device's question to the chain through the gateway, and its own check of the answer: the gateway may refuse or
 * stay silent, but not lie (docs/FORMATS.md, "MQTT topics").
 */

import { randomBytes } from 'node:crypto'
import type {
  ContractAddress,
  DeviceId,
  GroupId,
  Height,
  Milliseconds,
  StateKey,
} from '../../chain/brands.ts'
import { type Codec, decode, equalBytes } from '../../chain/codec.ts'
import { type ErrorCode, errorTable } from '../../chain/errors.ts'
import type { SignatureVerifier } from '../../chain/keys.ts'
import { stateAnswerCodec, type TrustedHead, verifyStateAnswer } from '../../chain/light-client.ts'
import {
  type ChainParameters,
  type ContractRecord,
  type ContractStateRecord,
  contractRecordCodec,
  contractStateCodec,
  groupCodec,
  type IdentityRecord,
  identityCodec,
  isMemberListOf,
  parametersCodec,
  stateKeyOf,
} from '../../chain/records.ts'
import { MoteError, ok, type Result, refuse } from '../../chain/result.ts'
import { contractAnswerCodec, groupAnswerCodec, recordPageCodec } from '../../client/chain-source.ts'
import { Deadline } from '../../client/deadline.ts'
import {
  type Change,
  encodeQuestion,
  encodeWatch,
  parseChange,
  parseProofAnswer,
  type WatchedSubject,
} from '../protocol/question.ts'
import { topics } from '../protocol/topics.ts'
import type { Subject, TrustedGroup } from '../protocol/trust.ts'
import type { MqttConnection } from './mqtt-connection.ts'

export interface GatewayAsker {
  readonly connection: MqttConnection
  /** Whose connection it is. */
  readonly device: DeviceId
  readonly timeoutMs: number
}

/** The encoded proof that the gateway answers with, not verified. Throws the gateway's refusal, `timeout`. */
export async function askGateway(
  { connection, device, timeoutMs }: GatewayAsker,
  subject: Subject,
): Promise<Uint8Array> {
  const nonce = Uint8Array.from(randomBytes(16))
  const { promise, resolve, reject } = Promise.withResolvers<Uint8Array>()
  promise.catch(() => {})
  const stop = connection.onMessage(({ topicName, payload }) => {
    const refusal = topicName === topics.error(device) ? refusalOf(payload, nonce) : undefined
    if (refusal) reject(refusal)
    const answer = topicName === topics.answer(device) ? parseProofAnswer(payload) : undefined
    if (answer?.ok && equalBytes(answer.value.nonce, nonce)) resolve(answer.value.proof)
  })
  const asked = async (): Promise<Uint8Array> => {
    await Promise.all([topics.answer, topics.error].map(topic => connection.subscribe(topic(device))))
    await connection.publish(topics.ask(device), encodeQuestion(nonce, subject))
    return promise
  }
  const late = () => new MoteError('timeout', `gateway: no answer within ${timeoutMs} ms`)
  return new Deadline(timeoutMs).within(asked(), late).finally(stop)
}

/** The refusal of the question with this nonce, if that is what was published on the error topic. */
function refusalOf(payload: Uint8Array, nonce: Uint8Array): MoteError | undefined {
  try {
    const { messageId, code, reason } = JSON.parse(Buffer.from(payload).toString('utf8')) as Record<
      string,
      unknown
    >
    if (messageId !== Buffer.from(nonce).toString('hex')) return undefined
    const known =
      typeof code === 'string' && Object.hasOwn(errorTable, code) ? (code as ErrorCode) : 'internal'
    return new MoteError(known, `gateway: ${String(reason).slice(0, 500)}`)
  } catch {
    return undefined
  }
}

/** Watches these records from now on, in place of what this connection watched before; `onChange` gets each change, its proof not verified. Returns how to stop listening. */
export async function watchRecords(
  { connection, device }: GatewayAsker,
  subjects: readonly WatchedSubject[],
  onChange: (change: Change) => void,
): Promise<() => void> {
  const stop = connection.onMessage(({ topicName, payload }) => {
    const change = topicName === topics.change(device) ? parseChange(payload) : undefined
    if (change?.ok) onChange(change.value)
  })
  await connection.subscribe(topics.change(device))
  await connection.publish(topics.watch(device), encodeWatch(subjects))
  return stop
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
  const verified = verifiedValue(trusted, stateKeyOf.identity(id), proof, verifier)
  if (!verified.ok) return verified
  const { value, height, time } = verified.value
  if (value === undefined) return ok({ record: undefined, height, time })
  const record = decode(identityCodec, value)
  return record.ok ? ok({ record: record.value, height, time }) : record
}

/** How the chain was at the newest height that the gateway had: its parameters, the height and its time. Refuses as `verifyDeviceAnswer`. */
export function verifyChainAnswer(
  trusted: TrustedHead,
  proof: Uint8Array,
  verifier: SignatureVerifier,
): Result<{ readonly parameters: ChainParameters; readonly height: Height; readonly time: Milliseconds }> {
  const verified = verifiedValue(trusted, stateKeyOf.parameters(), proof, verifier)
  if (!verified.ok) return verified
  const { value, height, time } = verified.value
  if (value === undefined) return refuse('bad-proof', 'chain: no chain is without parameters')
  const parameters = decode(parametersCodec, value)
  return parameters.ok ? ok({ parameters: parameters.value, height, time }) : parameters
}

/** A group with its members, complete; undefined if it is proven absent. Refuses as `verifyDeviceAnswer`. */
export function verifyGroupAnswer(
  trusted: TrustedHead,
  id: GroupId,
  proof: Uint8Array,
  verifier: SignatureVerifier,
): Result<TrustedGroup | undefined> {
  const answer = decode(groupAnswerCodec, proof)
  if (!answer.ok) return answer
  const { group, members } = answer.value
  const verified = verifyStateAnswer(trusted, stateKeyOf.group(id), group, verifier)
  if (!verified.ok) return verified
  if (verified.value.value === undefined) return ok(undefined)
  const record = decode(groupCodec, verified.value.value)
  if (!record.ok) return record
  return isMemberListOf(record.value, members)
    ? ok({ record: record.value, members })
    : refuse('bad-proof', 'members: expected the list that the record counts and hashes')
}

/** A page of the node list: each record proven, that none is left out the gateway's word. Refuses as `verifyDeviceAnswer`. */
export function verifyDevicesAnswer(
  trusted: TrustedHead,
  after: StateKey | undefined,
  proof: Uint8Array,
  verifier: SignatureVerifier,
): Result<{ readonly records: readonly IdentityRecord[]; readonly next: StateKey | undefined }> {
  const page = decode(recordPageCodec, proof)
  if (!page.ok) return page
  const { answers, next } = page.value
  const records: IdentityRecord[] = []
  let last = after
  for (const answer of answers) {
    const record =
      answer.value && decode<IdentityRecord>(identityCodec as Codec<IdentityRecord>, answer.value)
    if (!record?.ok) return record ?? refuse('bad-proof', 'devices: lists what is not there')
    const key = stateKeyOf.identity(record.value.id)
    const verified = verifyStateAnswer(trusted, key, answer, verifier)
    if (!verified.ok) return verified
    if (last !== undefined && key <= last) return refuse('bad-proof', 'devices: expected ascending keys')
    records.push(record.value)
    last = key
  }
  if (next !== undefined && last !== undefined && next < last)
    return refuse('bad-proof', 'devices: expected ascending keys')
  return ok({ records, next })
}

/** What certified state said of a contract, and then of what it remembers. */
export interface ProvenContract {
  readonly record: ContractRecord
  readonly state: ContractStateRecord
  /** Of the state. */
  readonly height: Height
  readonly time: Milliseconds
}

/** A contract and its state; undefined if there is proven to be none at the address. Refuses as `verifyDeviceAnswer`. */
export function verifyContractAnswer(
  trusted: TrustedHead,
  address: ContractAddress,
  proof: Uint8Array,
  verifier: SignatureVerifier,
): Result<ProvenContract | undefined> {
  const answer = decode(contractAnswerCodec, proof)
  if (!answer.ok) return answer
  const contract = verifyStateAnswer(trusted, stateKeyOf.contract(address), answer.value.contract, verifier)
  if (!contract.ok) return contract
  const { state: stateAnswer } = answer.value
  const remembered = verifyStateAnswer(trusted, stateKeyOf.contractState(address), stateAnswer, verifier)
  if (!remembered.ok) return remembered
  const { value, height, time } = remembered.value
  if (contract.value.value === undefined) return ok(undefined)
  if (value === undefined) return refuse('bad-proof', 'state: no contract is without one; it was read before')
  const record = decode(contractRecordCodec, contract.value.value)
  if (!record.ok) return record
  const state = decode(contractStateCodec, value)
  return state.ok ? ok({ record: record.value, state: state.value, height, time }) : state
}

function verifiedValue(trusted: TrustedHead, key: StateKey, proof: Uint8Array, verifier: SignatureVerifier) {
  const answer = decode(stateAnswerCodec, proof)
  return answer.ok ? verifyStateAnswer(trusted, key, answer.value, verifier) : answer
}
