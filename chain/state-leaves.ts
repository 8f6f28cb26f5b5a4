/**
 * What all leaves of the state have in common: the number of their record type, how a value begins with it, and the key that a leaf lies at
 * (docs/FORMATS.md, section Records).
 */
import type { StateKey } from './brands.ts'
import { type Codec, malformed, type Wire } from './codec.ts'
import { hashHex } from './hashing.ts'
import { hexToBytes } from './hex.ts'

const recordTypes = {
  identity: 1,
  group: 2,
  members: 3,
  memberships: 4,
  grant: 5,
  parameters: 6,
  approval: 7,
  rights: 8,
  credentials: 9,
  contract: 10,
  contractState: 11,
  topic: 12,
  reading: 13,
} as const

export type RecordType = keyof typeof recordTypes

/** `[record type, format 1, value]`. */
export function leaf<T>(type: RecordType, codec: Codec<T>): Codec<T> {
  const number = recordTypes[type]
  return {
    toWire: value => [number, 1, codec.toWire(value)],
    fromWire: (wire, path) =>
      Array.isArray(wire) && wire.length === 3 && wire[0] === number && wire[1] === 1
        ? codec.fromWire(wire[2], path)
        : malformed(path, `[${number}, 1, ${type}]`, wire as Wire),
  }
}

/** Whether a leaf holds a record of this type, by how it begins: `[record type, …`, three items. */
export function isRecordOf(type: RecordType, leafValue: Uint8Array): boolean {
  return leafValue[0] === 0x93 && leafValue[1] === recordTypes[type]
}

/** Hash of the record type and of what the leaf is about: 32 bytes as hexadecimal digits, or nothing. */
export function stateKey(type: RecordType, id = ''): StateKey {
  return hashHex('mote/state-key/1', Uint8Array.of(recordTypes[type]), hexToBytes(id)) as string as StateKey
}
