/**
 * The records of a node's database: their keys, checksums and payloads. Every kind is numbered once, and numbers are never
 * reused. Not seen by any other program.
 *
 * A key is one byte (the number) and fixed-size parts in big-endian order, so that keys of one kind sort by
 * their parts. A value is a CRC-32 (IEEE, 4 bytes) over key and payload, then the payload: a record that was
 * damaged, or that turned up under another key, does not open, and the node is told (`watchCorruption`).
 * docs/decisions/0005-storage.md has the same table.
 */
import { crc32 } from 'node:zlib'
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
import { writeU64be } from '../../chain/hashing.ts'
import { bytesToHex, writeHex } from '../../chain/hex.ts'
import { MoteError } from '../../chain/result.ts'
import type { Entry, EntryType, HardState } from '../../consensus/types.ts'
import { type BlockUndo, configurationCodec, nodeId, type Storage } from '../ports.ts'
import type { KeyRange } from './byte-store.ts'

export const recordKinds = {
  owner: 0,
  hardState: 1,
  snapshot: 2,
  logTail: 3,
  applied: 4,
  configuration: 5,
  history: 6,
  rebuilding: 7,
  entry: 16,
  header: 17,
  changes: 18,
  block: 19,
  receipts: 20,
  certificate: 21,
  signed: 22,
  transaction: 23,
  deviceTransaction: 24,
  leaf: 25,
  replay: 26,
  handover: 27,
  undo: 28,
  forgotten: 29,
} as const

export type RecordKind = keyof typeof recordKinds

/** A part of a key: a natural number (8 bytes) or a digest (32 bytes). */
export type KeyPart = number | string

/** The key of a record of this kind. */
export function storeKey(kind: RecordKind, ...parts: readonly KeyPart[]): Uint8Array {
  const key = Buffer.alloc(1 + parts.reduce<number>((size, part) => size + partSize(part), 0))
  key[0] = recordKinds[kind]
  let offset = 1
  for (const part of parts) {
    if (typeof part === 'number') writeU64be(part, key, offset)
    else writeHex(part, key, offset)
    offset += partSize(part)
  }
  return key
}

function partSize(part: KeyPart): number {
  return typeof part === 'number' ? 8 : part.length / 2
}

/** The number at `offset` of a key. */
export function numberInKey(key: Uint8Array, offset: number): number {
  return Number(new DataView(key.buffer, key.byteOffset, key.byteLength).getBigUint64(offset))
}

/** The digest at `offset` of a key. */
export function digestInKey(key: Uint8Array, offset: number): string {
  return bytesToHex(key.subarray(offset, offset + 32))
}

/** Every key of one kind that starts with `prefix`. */
export function rangeOf(kind: RecordKind, ...prefix: readonly KeyPart[]): KeyRange {
  const from = storeKey(kind, ...prefix)
  return { from, to: successor(from) }
}

/** The first key after every key that starts with `prefix`. Kinds end far below 255, so there always is one. */
function successor(prefix: Uint8Array): Uint8Array {
  let end = prefix.length
  while (prefix[end - 1] === 0xff) end--
  const next = Uint8Array.from(prefix.subarray(0, end))
  next[end - 1] = (next[end - 1] ?? 0) + 1
  return next
}

const checksumBytes = 4

/** The stored value of a payload given in pieces. */
export function seal(key: Uint8Array, ...pieces: readonly Uint8Array[]): Uint8Array {
  const value = Buffer.allocUnsafe(
    checksumBytes + pieces.reduce<number>((size, piece) => size + piece.length, 0),
  )
  let offset = checksumBytes
  for (const piece of pieces) {
    value.set(piece, offset)
    offset += piece.length
  }
  value.writeUInt32BE(crc32(value.subarray(checksumBytes), crc32(key)), 0)
  return value
}

/** The payload of a stored value. Throws `storage-corrupt` when its checksum does not fit key and payload. */
export function open(key: Uint8Array, value: Uint8Array): Uint8Array {
  if (value.length < checksumBytes) throw corrupt(`${describeKey(key)}: shorter than its checksum`)
  // A plain view, whatever kind of buffer the store hands out.
  const payload = new Uint8Array(value.buffer, value.byteOffset + checksumBytes, value.length - checksumBytes)
  if (new DataView(value.buffer, value.byteOffset).getUint32(0) !== crc32(payload, crc32(key)))
    throw corrupt(`${describeKey(key)}: the checksum does not fit`)
  return payload
}

/** How an operator learns what is broken and what to do. */
export function corrupt(detail: string): MoteError {
  return new MoteError(
    'storage-corrupt',
    `${detail}; stop this node and run "mote node rebuild --config FILE", which lets it fetch everything from its peers (docs/OPERATIONS.md)`,
  )
}

/** A key for people: `entry 17`. */
export function describeKey(key: Uint8Array): string {
  const kind = Object.entries(recordKinds).find(([, number]) => number === key[0])?.[0] ?? `kind ${key[0]}`
  if (key.length === 9 || key.length === 17)
    return [kind, ...[1, 9].filter(at => at < key.length).map(at => numberInKey(key, at))].join(' ')
  return key.length > 1 ? `${kind} ${bytesToHex(key.subarray(1))}` : kind
}

/* ---------------------------------------------------------------- payloads */

/** Whose data a directory holds; opening it for another chain or device is refused with `wrong-chain`. */
export interface StorageOwner {
  readonly chainId: ChainId
  readonly deviceId: DeviceId
}

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

/*
 * Storage that tells when a record turns out to be damaged, whoever asked for it: a node whose committed range does not
 * check must stop, and not merely fail one request.
 */

export function watchCorruption(storage: Storage, onCorrupt: (error: MoteError) => void): Storage {
  const report = (error: unknown) => {
    if (error instanceof MoteError && error.code === 'storage-corrupt') onCorrupt(error)
  }
  return new Proxy(storage, {
    get(target, name) {
      const member: unknown = Reflect.get(target, name)
      if (typeof member !== 'function') return member
      return (...args: unknown[]) => {
        const result: unknown = member.apply(target, args)
        if (result instanceof Promise) result.catch(report)
        return isIterable(result) ? watched(result, report) : result
      }
    },
  })
}

function isIterable(value: unknown): value is AsyncIterable<unknown> {
  return typeof value === 'object' && value !== null && Symbol.asyncIterator in value
}

/** The same items. A read that fails half-way is reported as any other. */
async function* watched<T>(items: AsyncIterable<T>, report: (error: unknown) => void): AsyncGenerator<T> {
  try {
    yield* items
  } catch (error) {
    report(error)
    throw error
  }
}
