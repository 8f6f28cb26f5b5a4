/** Payloads of the database's records (store-keys.ts numbers the kinds). Not seen by any other program. */

import type { ChainId, DeviceId, Hash, Height, StateKey, TransactionId } from '../../chain/brands.ts'
import {
  bytes,
  type Codec,
  constant,
  decode,
  digest,
  list,
  optional,
  struct,
  uint,
} from '../../chain/codec.ts'
import { MoteError } from '../../chain/result.ts'
import type { Entry, EntryType, HardState } from '../../consensus/types.ts'
import type { BlockUndo, StorageOwner } from '../ports.ts'
import { configurationCodec, nodeId } from '../raft-codecs.ts'
import { corrupt, describeKey, open } from './store-keys.ts'

export const hardStateCodec: Codec<HardState> = struct({ currentTerm: uint(), votedFor: nullable(nodeId) })
export const ownerCodec: Codec<StorageOwner & { readonly format: 1 }> = struct({
  format: constant(1),
  chainId: digest<ChainId>(),
  deviceId: digest<DeviceId>(),
})
/** The last index of the log: the commit point of a persist. Entries above it were never acknowledged. */
export const logTailCodec = struct<{ lastIndex: number }>({ lastIndex: uint() })
/** The log that was there before a rebuild ended at `upTo`. */
export const rebuildingCodec = struct<{ upTo: number }>({ upTo: uint() })
export const appliedCodec = struct<{ index: number; height: Height }>({
  index: uint(),
  height: uint<Height>(),
})
export const signedCodec = struct<{ headerHash: Hash }>({ headerHash: digest<Hash>() })
export const placeCodec = struct<{ height: Height; index: number }>({
  height: uint<Height>(),
  index: uint(),
})
export const deviceRowCodec = struct<{ id: TransactionId; kind: number }>({
  id: digest<TransactionId>(),
  kind: uint(),
})

const most = 0xffff_ffff
export const undoCodec: Codec<BlockUndo> = struct<BlockUndo>({
  configuration: configurationCodec,
  configurationBelow: configurationCodec,
  leaves: list(
    struct<BlockUndo['leaves'][number]>({ key: digest<StateKey>(), value: optional(bytes(0, most)) }),
    most,
  ),
  history: bytes(0, most),
})

function nullable<T>(item: Codec<T>): Codec<T | null> {
  const inner = optional(item)
  return {
    toWire: value => inner.toWire(value ?? undefined),
    fromWire: (wire, path) => inner.fromWire(wire, path) ?? null,
  }
}

/** The value of a stored record; `storage-corrupt` when the checksum or the form is wrong. */
export function openRecord<T>(codec: Codec<T>, key: Uint8Array, value: Uint8Array): T {
  const result = decode(codec, open(key, value), Number.MAX_SAFE_INTEGER)
  if (!result.ok) throw corrupt(`${describeKey(key)}: ${result.error.detail}`)
  return result.value
}

/** The value of a record that must be there; `storage-corrupt` when it is missing or does not decode. */
export function stored<T>(codec: Codec<T>, bytes: Uint8Array | undefined, name: string): T {
  if (!bytes) throw corrupt(`${name}: the record is missing`)
  const value = decode(codec, bytes, Number.MAX_SAFE_INTEGER)
  if (!value.ok) throw corrupt(`${name}: ${value.error.detail}`)
  return value.value
}

const entryTypes: readonly EntryType[] = ['command', 'noop', 'configuration']
const entryHeadBytes = 9

/** Head of a stored log entry: u64be term, u8 type. The data follows; the index is in the key. */
export function entryHead(entry: Entry): Uint8Array {
  const head = Buffer.allocUnsafe(entryHeadBytes)
  head.writeBigUInt64BE(BigInt(entry.term), 0)
  head[8] = entryTypes.indexOf(entry.type)
  return head
}

/** A stored log entry. */
export function openEntry(index: number, key: Uint8Array, value: Uint8Array): Entry {
  const payload = open(key, value)
  const type = entryTypes[payload[8] ?? -1]
  if (payload.length < entryHeadBytes || !type) throw corrupt(`${describeKey(key)}: not a log entry`)
  const term = Number(new DataView(payload.buffer, payload.byteOffset).getBigUint64(0))
  const data = payload.subarray(entryHeadBytes)
  if (type !== 'configuration') return { index, term, type, data }
  const configuration = decode(configurationCodec, data)
  if (!configuration.ok) throw corrupt(`${describeKey(key)}: ${configuration.error.detail}`)
  return { index, term, type, data: new Uint8Array(), configuration: configuration.value }
}

/** Refuses a directory of another chain or device with `wrong-chain`. */
export function checkOwner(found: StorageOwner, expected: StorageOwner): void {
  if (found.chainId !== expected.chainId)
    throw new MoteError(
      'wrong-chain',
      `data directory: expected chain ${expected.chainId}, got ${found.chainId}`,
    )
  if (found.deviceId !== expected.deviceId)
    throw new MoteError(
      'wrong-chain',
      `data directory: expected device ${expected.deviceId}, got ${found.deviceId}`,
    )
}
