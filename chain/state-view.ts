/**
 * Records read from a state and written over it while a block executes.
 *
 * Writes of a transaction are kept apart until `keep`; `discard` forgets them, so a failed transaction leaves nothing.
 * A record is decoded once for the bytes it is stored in and encoded once per block, however often it is read or changed.
 */
import type { ContractAddress, DeviceId, GrantId, GroupId, StateKey } from './brands.ts'
import { type Codec, decodeOwn, encode } from './codec.ts'
import type { CredentialsRecord } from './credentials.ts'
import {
  type ApprovalRecord,
  approvalCodec,
  type ChainParameters,
  type ContractRecord,
  type ContractStateRecord,
  contractRecordCodec,
  contractStateCodec,
  credentialsCodec,
  type GrantRecord,
  type GroupRecord,
  grantCodec,
  groupCodec,
  type IdentityRecord,
  identityCodec,
  membersCodec,
  membershipsCodec,
  parametersCodec,
  type ReadingRecord,
  readingCodec,
  rightsCodec,
  stateKeyOf,
  streamIdOf,
  type TopicRulesRecord,
  topicIdOf,
  topicRulesCodec,
} from './records.ts'
import { assert } from './result.ts'
import type { RightsRecord } from './rights.ts'
import { get, type StateTree } from './state-tree.ts'

/** The leaves of a state. */
export interface StateReader {
  get(key: StateKey): Uint8Array | undefined
}

export function readerOf(tree: StateTree): StateReader {
  return { get: key => get(tree, key) }
}

/** What stored bytes decode to: a memory of a pure function, keyed by the bytes' identity. */
const decodedValues = new WeakMap<Uint8Array, unknown>()

function decodeOnce<T>(codec: Codec<T>, value: Uint8Array): T {
  const known = decodedValues.get(value)
  if (known !== undefined) return known as T
  const decoded = decodeOwn(codec, value)
  decodedValues.set(value, decoded)
  return decoded
}

interface Write {
  readonly codec: Codec<unknown>
  readonly value: unknown
}

export class StateView {
  readonly #state: StateReader
  readonly #block = new Map<StateKey, Write>()
  readonly #transaction = new Map<StateKey, Write>()
  /** Asked for with every transaction; forgotten when they are written, or a write of them is discarded. */
  #parameters: ChainParameters | undefined

  constructor(state: StateReader) {
    this.#state = state
  }

  identity(id: DeviceId): IdentityRecord | undefined {
    return this.#read(stateKeyOf.identity(id), identityCodec)
  }

  group(id: GroupId): GroupRecord | undefined {
    return this.#read(stateKeyOf.group(id), groupCodec)
  }

  members(id: GroupId): readonly DeviceId[] {
    return this.#read(stateKeyOf.members(id), membersCodec) ?? []
  }

  memberships(id: DeviceId): readonly GroupId[] {
    return this.#read(stateKeyOf.memberships(id), membershipsCodec) ?? []
  }

  grant(id: GrantId): GrantRecord | undefined {
    return this.#read(stateKeyOf.grant(id), grantCodec)
  }

  parameters(): ChainParameters {
    this.#parameters ??= this.#read(stateKeyOf.parameters(), parametersCodec)
    assert(this.#parameters, 'every state has parameters: the genesis puts them there')
    return this.#parameters
  }

  approval(id: DeviceId): ApprovalRecord | undefined {
    return this.#read(stateKeyOf.approval(id), approvalCodec)
  }

  rights(id: DeviceId): RightsRecord | undefined {
    return this.#read(stateKeyOf.rights(id), rightsCodec)
  }

  credentials(id: DeviceId): CredentialsRecord | undefined {
    return this.#read(stateKeyOf.credentials(id), credentialsCodec)
  }

  contract(address: ContractAddress): ContractRecord | undefined {
    return this.#read(stateKeyOf.contract(address), contractRecordCodec)
  }

  contractState(address: ContractAddress): ContractStateRecord | undefined {
    return this.#read(stateKeyOf.contractState(address), contractStateCodec)
  }

  topicRules(topic: string): TopicRulesRecord | undefined {
    return this.#read(stateKeyOf.topic(topicIdOf(topic)), topicRulesCodec)
  }

  reading(stream: Parameters<typeof streamIdOf>[0]): ReadingRecord | undefined {
    return this.#read(stateKeyOf.reading(streamIdOf(stream)), readingCodec)
  }

  putContract(record: ContractRecord): void {
    this.#write(stateKeyOf.contract(record.address), contractRecordCodec, record)
  }

  putContractState(record: ContractStateRecord): void {
    this.#write(stateKeyOf.contractState(record.address), contractStateCodec, record)
  }

  putTopicRules(record: TopicRulesRecord): void {
    this.#write(stateKeyOf.topic(topicIdOf(record.topic)), topicRulesCodec, record)
  }

  putReading(record: ReadingRecord): void {
    this.#write(stateKeyOf.reading(streamIdOf(record)), readingCodec, record)
  }

  putIdentity(record: IdentityRecord): void {
    this.#write(stateKeyOf.identity(record.id), identityCodec, record)
  }

  putGroup(record: GroupRecord): void {
    this.#write(stateKeyOf.group(record.id), groupCodec, record)
  }

  putMembers(id: GroupId, members: readonly DeviceId[]): void {
    this.#write(stateKeyOf.members(id), membersCodec, members)
  }

  putMemberships(id: DeviceId, groups: readonly GroupId[]): void {
    this.#write(stateKeyOf.memberships(id), membershipsCodec, groups)
  }

  putGrant(record: GrantRecord): void {
    this.#write(stateKeyOf.grant(record.id), grantCodec, record)
  }

  putParameters(parameters: ChainParameters): void {
    this.#write(stateKeyOf.parameters(), parametersCodec, parameters)
    this.#parameters = undefined
  }

  putApproval(id: DeviceId, approval: ApprovalRecord): void {
    this.#write(stateKeyOf.approval(id), approvalCodec, approval)
  }

  putRights(record: RightsRecord): void {
    this.#write(stateKeyOf.rights(record.id), rightsCodec, record)
  }

  putCredentials(record: CredentialsRecord): void {
    this.#write(stateKeyOf.credentials(record.id), credentialsCodec, record)
  }

  /** The transaction succeeded: its writes belong to the block. */
  keep(): void {
    for (const [key, write] of this.#transaction) this.#block.set(key, write)
    this.#transaction.clear()
  }

  /** The transaction failed: its writes never were. */
  discard(): void {
    if (this.#transaction.has(stateKeyOf.parameters())) this.#parameters = undefined
    this.#transaction.clear()
  }

  /** Leaves that the kept transactions wrote. */
  get changeCount(): number {
    return this.#block.size
  }

  /** The block's writes in the order of their keys. */
  encodedWrites(): Map<StateKey, Uint8Array> {
    const sorted = [...this.#block].sort(([a], [b]) => (a < b ? -1 : 1))
    return new Map(
      sorted.map(([key, { codec, value }]) => {
        const encoded = encode(codec, value)
        decodedValues.set(encoded, value)
        return [key, encoded]
      }),
    )
  }

  #read<T>(key: StateKey, codec: Codec<T>): T | undefined {
    const write = this.#transaction.get(key) ?? this.#block.get(key)
    if (write) return write.value as T
    const stored = this.#state.get(key)
    return stored && decodeOnce(codec, stored)
  }

  #write<T>(key: StateKey, codec: Codec<T>, value: T): void {
    this.#transaction.set(key, { codec: codec as Codec<unknown>, value })
  }
}
