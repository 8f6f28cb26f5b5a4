/**
 * The check of a recipient's key by everybody (Hsu-Lu B2; docs/FORMATS.md, "MQTT topics"), for comparison and audit: a sender
 * shows its copy, every connected device compares it with its own, and the gateway counts.
 *
 *   vote    sender → gateway    the copy, or that there is none
 *   ballot  gateway → devices   the same, under a number that the gateway draws
 *   check   device → gateway    `Check` or `Error`, and which key the device has
 *   result  gateway → sender    the answers by device, and the gateway's own
 *
 * Nothing here is signed. The gateway knows from whose connection an answer came, and the sender believes the result as it
 * believes a verdict: a gateway that lies about it still cannot read or alter the message.
 */
import type { DeviceId, KeyId } from '../../chain/brands.ts'
import {
  bytes,
  type Codec,
  constant,
  decode,
  digest,
  encode,
  list,
  oneOf,
  optional,
  struct,
} from '../../chain/codec.ts'
import { type EncryptionKey, encryptionKeyCodec } from '../../chain/keys.ts'
import type { Result } from '../../chain/result.ts'

const formatVersion = 1 as const

/** Devices that are asked in one vote. */
export const maxVoters = 1_024
/** Lines of a decision log for one vote, at the gateway and at the sender: further objections are not listed. */
export const maxLinesPerVote = 64
/** How long a device may take for its answer. */
export const voteTimeoutMs = 1_000
/** Largest request, ballot and answer: an RSA key and 256 bytes around it. */
const maxBallotBytes = 768
/** Largest result: 80 bytes for each device. */
const maxVoteResultBytes = 1_024 + maxVoters * 80

/** What a device says of another's copy. */
export type Check = 'Check' | 'Error'

export interface VoteRequest {
  readonly version: typeof formatVersion
  /** 16 bytes; comes back in the result. */
  readonly nonce: Uint8Array
  readonly recipient: DeviceId
  /** The sender's copy of the recipient's key; undefined if it has none. */
  readonly copy: EncryptionKey | undefined
}

export interface Ballot {
  readonly version: typeof formatVersion
  /** 16 bytes, drawn by the gateway. */
  readonly vote: Uint8Array
  readonly sender: DeviceId
  readonly recipient: DeviceId
  readonly copy: EncryptionKey | undefined
}

export interface BallotAnswer {
  readonly version: typeof formatVersion
  readonly vote: Uint8Array
  readonly check: Check
  /** The key that the device has for the recipient; undefined if it has none. */
  readonly inCopy: KeyId | undefined
}

/** One row of a result. */
export interface CountedAnswer {
  readonly device: DeviceId
  readonly check: Check | 'Silent'
  readonly inCopy: KeyId | undefined
}

export interface KeyVoteResult {
  readonly version: typeof formatVersion
  readonly nonce: Uint8Array
  /** By certified state; `inCopy` is the key of the chain. */
  readonly gateway: Omit<BallotAnswer, 'version' | 'vote'>
  /** Of every device that was connected, by id. */
  readonly answers: readonly CountedAnswer[]
}

const checkCodec = oneOf<Check>({ Check: 1, Error: 2 })
const inCopy = optional(digest<KeyId>())

const requestCodec: Codec<VoteRequest> = struct<VoteRequest>({
  version: constant(formatVersion),
  nonce: bytes(16),
  recipient: digest<DeviceId>(),
  copy: optional(encryptionKeyCodec),
})
const ballotCodec: Codec<Ballot> = struct<Ballot>({
  version: constant(formatVersion),
  vote: bytes(16),
  sender: digest<DeviceId>(),
  recipient: digest<DeviceId>(),
  copy: optional(encryptionKeyCodec),
})
const answerCodec: Codec<BallotAnswer> = struct<BallotAnswer>({
  version: constant(formatVersion),
  vote: bytes(16),
  check: checkCodec,
  inCopy,
})
const resultCodec: Codec<KeyVoteResult> = struct<KeyVoteResult>({
  version: constant(formatVersion),
  nonce: bytes(16),
  gateway: struct<KeyVoteResult['gateway']>({ check: checkCodec, inCopy }),
  answers: list(
    struct<CountedAnswer>({
      device: digest<DeviceId>(),
      check: oneOf<CountedAnswer['check']>({ Check: 1, Error: 2, Silent: 3 }),
      inCopy,
    }),
    maxVoters,
  ),
})

/** A message without its format. */
export type Unversioned<T> = Omit<T, 'version'>

export function encodeVoteRequest(request: Unversioned<VoteRequest>): Uint8Array {
  return encode(requestCodec, { version: formatVersion, ...request })
}

/** Refuses `too-large`, `malformed`, as the three below. */
export function parseVoteRequest(wire: Uint8Array): Result<VoteRequest> {
  return decode(requestCodec, wire, maxBallotBytes)
}

export function encodeBallot(ballot: Unversioned<Ballot>): Uint8Array {
  return encode(ballotCodec, { version: formatVersion, ...ballot })
}

export function parseBallot(wire: Uint8Array): Result<Ballot> {
  return decode(ballotCodec, wire, maxBallotBytes)
}

export function encodeBallotAnswer(answer: Unversioned<BallotAnswer>): Uint8Array {
  return encode(answerCodec, { version: formatVersion, ...answer })
}

export function parseBallotAnswer(wire: Uint8Array): Result<BallotAnswer> {
  return decode(answerCodec, wire, maxBallotBytes)
}

export function encodeVoteResult(result: Unversioned<KeyVoteResult>): Uint8Array {
  return encode(resultCodec, { version: formatVersion, ...result })
}

export function parseVoteResult(wire: Uint8Array): Result<KeyVoteResult> {
  return decode(resultCodec, wire, maxVoteResultBytes)
}
