/**
 * Records read from a state and written over it while a block executes.
 *
 * Writes of a transaction are kept apart until `keep`; `discard` forgets them, so a failed transaction leaves nothing.
 * A record is decoded once for the bytes it is stored in and encoded once per block, however often it is read or changed.
 */
import type { DeviceId, GrantId, GroupId, StateKey } from './brands.ts'
import { type Codec, decodeOwn, encode } from './codec.ts'
import {
  type ChainParameters,
  type GrantRecord,
  type GroupRecord,
  grantCodec,
  groupCodec,
  type IdentityRecord,
  identityCodec,
  membersCodec,
  membershipsCodec,
  parametersCodec,
  stateKeyOf,
} from './records.ts'
import { assert } from './result.ts'
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
  /** State keys computed so far: each is a hash, and one transaction asks for the same ones several times. */
  readonly #keys = new Map<string, StateKey>()

  constructor(state: StateReader) {
    this.#state = state
  }

  identity(id: DeviceId): IdentityRecord | undefined {
    return this.#read(this.#key('identity', id), identityCodec)
  }

  group(id: GroupId): GroupRecord | undefined {
    return this.#read(this.#key('group', id), groupCodec)
  }

  members(id: GroupId): readonly DeviceId[] {
    return this.#read(this.#key('members', id), membersCodec) ?? []
  }

  memberships(id: DeviceId): readonly GroupId[] {
    return this.#read(this.#key('memberships', id), membershipsCodec) ?? []
  }

  grant(id: GrantId): GrantRecord | undefined {
    return this.#read(this.#key('grant', id), grantCodec)
  }

  parameters(): ChainParameters {
    const parameters = this.#read(stateKeyOf.parameters(), parametersCodec)
    assert(parameters, 'every state has parameters: the genesis puts them there')
    return parameters
  }

  putIdentity(record: IdentityRecord): void {
    this.#write(this.#key('identity', record.id), identityCodec, record)
  }

  putGroup(record: GroupRecord): void {
    this.#write(this.#key('group', record.id), groupCodec, record)
  }

  putMembers(id: GroupId, members: readonly DeviceId[]): void {
    this.#write(this.#key('members', id), membersCodec, members)
  }

  putMemberships(id: DeviceId, groups: readonly GroupId[]): void {
    this.#write(this.#key('memberships', id), membershipsCodec, groups)
  }

  putGrant(record: GrantRecord): void {
    this.#write(this.#key('grant', record.id), grantCodec, record)
  }

  /** The transaction succeeded: its writes belong to the block. */
  keep(): void {
    for (const [key, write] of this.#transaction) this.#block.set(key, write)
    this.#transaction.clear()
  }

  /** The transaction failed: its writes never were. */
  discard(): void {
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

  #key<T extends 'identity' | 'group' | 'members' | 'memberships' | 'grant'>(
    type: T,
    id: Parameters<(typeof stateKeyOf)[T]>[0],
  ): StateKey {
    const name = `${type} ${id}`
    const known = this.#keys.get(name)
    if (known) return known
    const key = (stateKeyOf[type] as (id: unknown) => StateKey)(id)
    this.#keys.set(name, key)
    return key
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
