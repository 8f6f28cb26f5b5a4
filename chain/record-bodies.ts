/**
 * What a transaction can say about records and contracts: its variants, their numbers on the wire, and their codecs (docs/FORMATS.md,
 * "Transactions").
 *
 * A record holds what a device reported twice: `payload`, the bytes as they came, which nobody here reads, and `values`, named single
 * values that whoever signed took out of them. Execution reads values only.
 */
import type { ContractAddress, DeviceId, Milliseconds } from './brands.ts'
import { ascending, bytes, type Codec, digest, list, optional, struct, text, uint, union } from './codec.ts'
import { recordTopicCodec } from './contracts/contract.ts'
import { maxContractBytes } from './contracts/contract-limits.ts'
import { valueNameCodec } from './contracts/expression.ts'
import {
  maxBatchRecords,
  maxGuardsPerTopic,
  maxMessageIdBytes,
  maxRecordPayloadBytes,
  maxRecordValues,
} from './limits.ts'
import { type Scalar, scalarCodec } from './scalars.ts'

/** The quality of service of MQTT (MQTT 3.1.1, section 4.3) by which a message came: at most once, at least once, exactly once. */
export type Qos = 0 | 1 | 2

export interface RecordValue {
  readonly name: string
  readonly value: Scalar
}

/** What a device reported. */
export interface DeviceRecord {
  /** Undefined: the signer itself. Else the device for which a gateway attests that it said so. */
  readonly source: DeviceId | undefined
  readonly topic: string
  /** As received, up to 8 KiB. */
  readonly payload: Uint8Array
  /** In ascending order of their names, each once. */
  readonly values: readonly RecordValue[]
  /** When the device says that it measured. A claim. */
  readonly claimedTime: Milliseconds | undefined
  /** What the device calls the message. A claim. */
  readonly messageId: string | undefined
}

/** How what a device reports has come. */
interface Requested {
  /**
   * Of what a gateway attests: the QoS by which it came to the gateway. Else what the device asks for; 1 where there is no MQTT. A decision is
   * published by it; and at 0 nobody has told the device that its record stands.
   */
  readonly qos: Qos
}
interface RecordOneBody extends Requested {
  readonly type: 'record.one'
  readonly record: DeviceRecord
}
/** Each stands or falls by itself. */
interface RecordBatchBody extends Requested {
  readonly type: 'record.batch'
  readonly records: readonly DeviceRecord[]
}

/** What a contract is given: the values of a record that is made with it, or values alone. */
export type ActionInput =
  | { readonly type: 'record'; readonly record: DeviceRecord }
  | {
      readonly type: 'call'
      /** As in a record. */
      readonly source: DeviceId | undefined
      readonly values: readonly RecordValue[]
    }

export interface ContractActionBody extends Requested {
  readonly type: 'contract.action'
  readonly contract: ContractAddress
  readonly input: ActionInput
  /** Where the decision is to be published, if at all; the contract lists where it may. */
  readonly publishTopic: string | undefined
}
/** An authority puts a contract on the chain; its address is the hash of the bytes. */
export interface ContractDeployBody {
  readonly type: 'contract.deploy'
  readonly contract: Uint8Array
}
/** It decides nothing any more, and is never deployed again. */
export interface ContractRetireBody {
  readonly type: 'contract.retire'
  readonly contract: ContractAddress
}
/** Which contracts guard a topic: the whole list, so none takes them away. */
export interface ContractGuardBody {
  readonly type: 'contract.guard'
  readonly topic: string
  /** Of the topic's guards; 0 where there are none yet. */
  readonly expectedVersion: number
  /** Ascending. */
  readonly guards: readonly ContractAddress[]
}

export type RecordBody =
  | RecordOneBody
  | RecordBatchBody
  | ContractActionBody
  | ContractDeployBody
  | ContractRetireBody
  | ContractGuardBody

/** What a device says itself: under its own signature, or under that of a gateway which attests it. */
export const reportKinds = ['record.one', 'record.batch', 'contract.action'] as const
export type ReportBody = Extract<RecordBody, { type: (typeof reportKinds)[number] }>
/** What a gateway attests of one message. */
export type AttestedBody = Exclude<ReportBody, { type: 'record.batch' }>

/** Values of a record or a call. */
export const recordValuesCodec: Codec<readonly RecordValue[]> = ascending(
  list(struct<RecordValue>({ name: valueNameCodec, value: scalarCodec }), maxRecordValues),
  ({ name }) => name,
)
/** Addresses of the guards of a topic. */
export const guardsCodec: Codec<readonly ContractAddress[]> = ascending(
  list(digest<ContractAddress>(), maxGuardsPerTopic),
  address => address,
)
const source = optional(digest<DeviceId>())
/** 0, 1 or 2. */
export const qosCodec = uint(2) as Codec<number> as Codec<Qos>
const messageIdPattern = /^[\x20-\x7e]+$/
/** Whether a device may call a message so: 1 to 64 printable ASCII characters. */
export function isMessageId(name: string): boolean {
  return name.length <= maxMessageIdBytes && messageIdPattern.test(name)
}

const deviceRecordCodec: Codec<DeviceRecord> = struct<DeviceRecord>({
  source,
  topic: recordTopicCodec,
  payload: bytes(0, maxRecordPayloadBytes),
  values: recordValuesCodec,
  claimedTime: optional(uint<Milliseconds>()),
  messageId: optional(text(maxMessageIdBytes, messageIdPattern)),
})

type Fields<K extends RecordBody['type']> = Omit<Extract<RecordBody, { type: K }>, 'type'>
type InputFields<K extends ActionInput['type']> = Omit<Extract<ActionInput, { type: K }>, 'type'>

/** Number and codec of the fields, by kind. */
export const recordBodies: {
  readonly [K in RecordBody['type']]: readonly [kind: number, fields: Codec<Fields<K>>]
} = {
  'record.one': [80, struct<Fields<'record.one'>>({ record: deviceRecordCodec, qos: qosCodec })],
  'record.batch': [
    81,
    struct<Fields<'record.batch'>>({
      records: list(deviceRecordCodec, maxBatchRecords, 1),
      qos: qosCodec,
    }),
  ],
  'contract.deploy': [96, struct<Fields<'contract.deploy'>>({ contract: bytes(1, maxContractBytes) })],
  'contract.retire': [97, struct<Fields<'contract.retire'>>({ contract: digest<ContractAddress>() })],
  'contract.action': [
    98,
    struct<Fields<'contract.action'>>({
      contract: digest<ContractAddress>(),
      input: union<ActionInput>({
        record: [1, struct<InputFields<'record'>>({ record: deviceRecordCodec })],
        call: [2, struct<InputFields<'call'>>({ source, values: recordValuesCodec })],
      }),
      publishTopic: optional(recordTopicCodec),
      qos: qosCodec,
    }),
  ],
  'contract.guard': [
    99,
    struct<Fields<'contract.guard'>>({
      topic: recordTopicCodec,
      expectedVersion: uint(0xffff_ffff),
      guards: guardsCodec,
    }),
  ],
}
