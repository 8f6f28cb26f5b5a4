/**
 * What the state holds of contracts and of what devices report: a leaf for each contract, for what it remembers, for each topic that has
 * guards or readers, and for the last reading of each device on a topic that a contract reads (docs/FORMATS.md, section Records).
 *
 * Records themselves are no leaves: they stand in blocks.
 */
import { utf8ToBytes } from '@noble/hashes/utils.js'
import type { ContractAddress, DeviceId, Hash, Height, Milliseconds } from './brands.ts'
import { boolean, type Codec, digest, list, optional, struct, uint } from './codec.ts'
import { type Contract, contractCodec, recordTopicCodec } from './contracts/contract.ts'
import { maxContractSteps, maxStateVariables } from './contracts/contract-limits.ts'
import type { ContractValue } from './contracts/evaluate.ts'
import { hashHex } from './hashing.ts'
import { hexToBytes } from './hex.ts'
import { guardsCodec, type RecordValue, recordValuesCodec } from './record-bodies.ts'
import { type Scalar, scalarCodec } from './scalars.ts'
import { leaf } from './state-leaves.ts'

/** `topicIdOf` a topic. */
export type TopicId = Hash & { readonly idOf: 'topic' }
/** `streamIdOf` a device's readings on a topic. */
export type StreamId = Hash & { readonly idOf: 'stream' }

export interface ContractRecord {
  readonly address: ContractAddress
  readonly contract: Contract
  /** What a run costs at most. */
  readonly steps: number
  readonly deployer: DeviceId
  readonly deployedAt: Height
  /** From this block on it decides nothing. */
  readonly retiredAt: Height | undefined
  /** Topics that it guards. */
  readonly guarded: number
}

/** What a contract remembers. */
export interface ContractStateRecord {
  readonly address: ContractAddress
  /** Counts the decisions; 1 for the first. */
  readonly version: number
  /** In the order of the declarations. */
  readonly values: readonly ContractValue[]
  readonly updatedAt: Height
}

export interface TopicRulesRecord {
  readonly topic: string
  /** Counts the changes of the guards. */
  readonly version: number
  /** Addresses, ascending. */
  readonly guards: readonly ContractAddress[]
  /** Contracts that read the topic: as long as there are any, last readings are kept. */
  readonly readers: number
}

export interface ReadingRecord {
  readonly device: DeviceId
  readonly topic: string
  /** By a gateway, or signed by the device. */
  readonly attested: boolean
  readonly values: readonly RecordValue[]
  /** Block time of the record. */
  readonly time: Milliseconds
  readonly height: Height
}

const counter = uint(0xffff_ffff)
const height = uint<Height>()

export const contractRecordCodec: Codec<ContractRecord> = leaf(
  'contract',
  struct<ContractRecord>({
    address: digest<ContractAddress>(),
    contract: contractCodec,
    steps: uint(maxContractSteps),
    deployer: digest<DeviceId>(),
    deployedAt: height,
    retiredAt: optional(height),
    guarded: counter,
  }),
)

export const contractStateCodec: Codec<ContractStateRecord> = leaf(
  'contractState',
  struct<ContractStateRecord>({
    address: digest<ContractAddress>(),
    version: counter,
    values: list(scalarCodec as Codec<Scalar> as Codec<ContractValue>, maxStateVariables),
    updatedAt: height,
  }),
)

export const topicRulesCodec: Codec<TopicRulesRecord> = leaf(
  'topic',
  struct<TopicRulesRecord>({
    topic: recordTopicCodec,
    version: counter,
    guards: guardsCodec,
    readers: counter,
  }),
)

export const readingCodec: Codec<ReadingRecord> = leaf(
  'reading',
  struct<ReadingRecord>({
    device: digest<DeviceId>(),
    topic: recordTopicCodec,
    attested: boolean,
    values: recordValuesCodec,
    time: uint<Milliseconds>(),
    height,
  }),
)

/** What names a topic in the state. */
export function topicIdOf(topic: string): TopicId {
  return hashHex('mote/topic/1', utf8ToBytes(topic)) as TopicId
}

/** What names the readings of a device on a topic: those it signed, or those that a gateway attests. */
export function streamIdOf(stream: {
  readonly device: DeviceId
  readonly topic: string
  readonly attested: boolean
}): StreamId {
  const { device, topic, attested } = stream
  return hashHex(
    'mote/stream/1',
    hexToBytes(device),
    Uint8Array.of(attested ? 1 : 0),
    utf8ToBytes(topic),
  ) as StreamId
}
