/**
 * A device asks the gateway for a record and verifies the answer itself, so that it need not trust the gateway
 * either (docs/FORMATS.md, "MQTT topics"): question on `ask`, answer on `answer`, told apart by a nonce.
 */
import type { ContractAddress, DeviceId, GroupId, StateKey } from '../../chain/brands.ts'
import {
  bytes,
  type Codec,
  constant,
  decode,
  digest,
  encode,
  list,
  optional,
  struct,
  union,
} from '../../chain/codec.ts'
import type { Result } from '../../chain/result.ts'
import type { Subject } from './trust.ts'

const formatVersion = 1 as const

export interface Question {
  readonly version: typeof formatVersion
  /** 16 bytes; comes back in the answer. */
  readonly nonce: Uint8Array
  readonly subject: Subject
}

export interface ProofAnswer {
  readonly version: typeof formatVersion
  readonly nonce: Uint8Array
  /** An encoded `StateAnswer` for a device or the chain, `GroupAnswer` for a group, `RecordPage` for devices, `ContractAnswer` for a contract. */
  readonly proof: Uint8Array
}

const questionCodec: Codec<Question> = struct<Question>({
  version: constant(formatVersion),
  nonce: bytes(16),
  subject: union<Subject>({
    device: [1, struct({ id: digest<DeviceId>() })],
    group: [2, struct({ id: digest<GroupId>() })],
    chain: [3, struct({})],
    devices: [4, struct({ after: optional(digest<StateKey>()) })],
    contract: [5, struct({ id: digest<ContractAddress>() })],
  }),
})

/** What a device can watch. */
export type WatchedSubject = Extract<Subject, { readonly type: 'device' | 'group' }>
/** Records that one connection watches. */
export const maxWatched = 16

const watchedCodec: Codec<WatchedSubject> = union<WatchedSubject>({
  device: [1, struct({ id: digest<DeviceId>() })],
  group: [2, struct({ id: digest<GroupId>() })],
})

interface Watch {
  readonly version: typeof formatVersion
  readonly subjects: readonly WatchedSubject[]
}

const watchCodec: Codec<Watch> = struct<Watch>({
  version: constant(formatVersion),
  subjects: list(watchedCodec, maxWatched),
})

/** A record that was watched has changed. */
export interface Change {
  readonly version: typeof formatVersion
  readonly subject: WatchedSubject
  /** As in a `ProofAnswer`; undefined where the gateway has none now, and the device asks. */
  readonly proof: Uint8Array | undefined
}
/** Largest proof in an answer: 128 KiB. */
const maxProofBytes = 128 * 1024
const changeCodec: Codec<Change> = struct<Change>({
  version: constant(formatVersion),
  subject: watchedCodec,
  proof: optional(bytes(1, maxProofBytes)),
})
const answerCodec: Codec<ProofAnswer> = struct<ProofAnswer>({
  version: constant(formatVersion),
  nonce: bytes(16),
  proof: bytes(1, maxProofBytes),
})

export function encodeQuestion(nonce: Uint8Array, subject: Subject): Uint8Array {
  return encode(questionCodec, { version: formatVersion, nonce, subject })
}

/** Refuses `too-large`, `malformed`. */
export function parseQuestion(wire: Uint8Array): Result<Question> {
  return decode(questionCodec, wire, 128)
}

export function encodeProofAnswer(nonce: Uint8Array, proof: Uint8Array): Uint8Array {
  return encode(answerCodec, { version: formatVersion, nonce, proof })
}

/** Refuses `too-large`, `malformed`. */
export function parseProofAnswer(wire: Uint8Array): Result<ProofAnswer> {
  return decode(answerCodec, wire, maxProofBytes + 64)
}

export function encodeWatch(subjects: readonly WatchedSubject[]): Uint8Array {
  return encode(watchCodec, { version: formatVersion, subjects })
}

/** Refuses `too-large`, `malformed`. */
export function parseWatch(wire: Uint8Array): Result<Watch> {
  return decode(watchCodec, wire, 1024)
}

export function encodeChange(subject: WatchedSubject, proof: Uint8Array | undefined): Uint8Array {
  return encode(changeCodec, { version: formatVersion, subject, proof })
}

/** Refuses `too-large`, `malformed`. */
export function parseChange(wire: Uint8Array): Result<Change> {
  return decode(changeCodec, wire, maxProofBytes + 64)
}
