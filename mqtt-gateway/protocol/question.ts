/**
 * A device asks the gateway for a record and verifies the answer itself, so that it need not trust the gateway
 * either (docs/FORMATS.md, "MQTT topics"): question on `ask`, answer on `answer`, told apart by a nonce.
 */
import type { DeviceId, GroupId } from '../../chain/brands.ts'
import { bytes, type Codec, constant, decode, digest, encode, struct, union } from '../../chain/codec.ts'
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
  /** An encoded `StateAnswer` for a device, `GroupAnswer` for a group. */
  readonly proof: Uint8Array
}

const questionCodec: Codec<Question> = struct<Question>({
  version: constant(formatVersion),
  nonce: bytes(16),
  subject: union<Subject>({
    device: [1, struct({ id: digest<DeviceId>() })],
    group: [2, struct({ id: digest<GroupId>() })],
  }),
})
/** Largest proof in an answer: 128 KiB. */
const maxProofBytes = 128 * 1024
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
