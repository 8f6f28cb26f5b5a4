/**
 * The header of a block: everything that certificate and proofs hang on (docs/FORMATS.md, "Header").
 *
 * The hash is built in two steps, so that a proof sends only height, time, one rest-hash and what the verifier cannot
 * recompute: the state root comes out of the state proof, the hash of the signers out of the trusted set.
 *
 *   rest    hash('mote/header-rest/1', all other fields)
 *   header  hash('mote/header/1', u64be height ‖ u64be time ‖ stateRoot ‖ signersHash ‖ rest)
 */
import { concatBytes } from '@noble/hashes/utils.js'
import type { ChainId, Hash, Height, LogIndex, Milliseconds, StateKey, Term } from './brands.ts'
import { type Codec, constant, digest, encode, struct, uint } from './codec.ts'
import { hashHex, u64be } from './hashing.ts'
import { hexToBytes } from './hex.ts'
import { assert } from './result.ts'

export interface Header {
  readonly version: 1
  readonly chainId: ChainId
  /** 0 at genesis; one more after each recovery that k-of-n authorities signed. */
  readonly incarnation: number
  readonly height: Height
  /** Raft term of the log entry. */
  readonly term: Term
  /** Index of the log entry. Entries without a block (no-op, configuration) leave gaps. */
  readonly index: LogIndex
  /** Block time: what a majority of the voters' clocks had reached, never before the parent's. */
  readonly time: Milliseconds
  /** Hash of the parent header; 64 zeros at genesis. */
  readonly previousHash: Hash
  /** RFC 6962 root over the transactions as they are on the wire. */
  readonly transactionsRoot: Hash
  /** RFC 6962 root over the receipts, in the order of the transactions. */
  readonly receiptsRoot: Hash
  readonly stateRoot: Hash
  /** Digest of the ids of unexpired transactions. */
  readonly replayRoot: Hash
  /** Digest of the sorted state keys that this block wrote. */
  readonly changesHash: Hash
  /** RFC 6962 root over the hashes of all earlier headers, the one of height 0 first. */
  readonly historyRoot: Hash
  /** Digest of the consenter set that certifies this header. */
  readonly signersHash: Hash
  /** Digest of the set that certifies the next one; another one than `signersHash` makes this a handover header. */
  readonly nextSignersHash: Hash
  /** Digest of the authorities and their threshold. */
  readonly authoritiesHash: Hash
  /** Version of the rules that executed this block. */
  readonly executionVersion: number
}

export const headerCodec: Codec<Header> = struct({
  version: constant(1),
  chainId: digest<ChainId>(),
  incarnation: uint(),
  height: uint<Height>(),
  term: uint<Term>(),
  index: uint<LogIndex>(),
  time: uint<Milliseconds>(),
  previousHash: digest<Hash>(),
  transactionsRoot: digest<Hash>(),
  receiptsRoot: digest<Hash>(),
  stateRoot: digest<Hash>(),
  replayRoot: digest<Hash>(),
  changesHash: digest<Hash>(),
  historyRoot: digest<Hash>(),
  signersHash: digest<Hash>(),
  nextSignersHash: digest<Hash>(),
  authoritiesHash: digest<Hash>(),
  executionVersion: uint(),
})

type RestFields = Omit<Header, 'height' | 'time' | 'stateRoot' | 'signersHash'>

const restCodec: Codec<RestFields> = struct({
  version: constant(1),
  chainId: digest<ChainId>(),
  incarnation: uint(),
  term: uint<Term>(),
  index: uint<LogIndex>(),
  previousHash: digest<Hash>(),
  transactionsRoot: digest<Hash>(),
  receiptsRoot: digest<Hash>(),
  replayRoot: digest<Hash>(),
  changesHash: digest<Hash>(),
  historyRoot: digest<Hash>(),
  nextSignersHash: digest<Hash>(),
  authoritiesHash: digest<Hash>(),
  executionVersion: uint(),
})

/** What a verifier needs to compute a header's hash. */
export interface HeaderSummary {
  readonly height: Height
  readonly time: Milliseconds
  readonly stateRoot: Hash
  readonly signersHash: Hash
  readonly restHash: Hash
}

/** `previousHash` of the genesis header. */
export const noHash = '0'.repeat(64) as Hash

/** Digest of the fields that a state answer does not send one by one. */
export function restHashOf(header: Header): Hash {
  return hashHex('mote/header-rest/1', encode(restCodec, header))
}

/** Hash of the header that has these parts. */
export function headerHashOfSummary(summary: HeaderSummary): Hash {
  return hashHex(
    'mote/header/1',
    concatBytes(
      u64be(summary.height),
      u64be(summary.time),
      hexToBytes(summary.stateRoot),
      hexToBytes(summary.signersHash),
      hexToBytes(summary.restHash),
    ),
  )
}

/** Hash of a header: what certificates sign and the next header names. */
export function headerHash(header: Header): Hash {
  return headerHashOfSummary({
    height: header.height,
    time: header.time,
    stateRoot: header.stateRoot,
    signersHash: header.signersHash,
    restHash: restHashOf(header),
  })
}

/** Digest of the state keys a block wrote. Throws unless they are sorted and distinct. */
export function changesHash(keys: readonly StateKey[]): Hash {
  keys.forEach((key, i) => {
    assert(i === 0 || (keys[i - 1] as StateKey) < key, 'keys: expected sorted and distinct state keys')
  })
  return hashHex('mote/changes/1', concatBytes(...keys.map(key => hexToBytes(key))))
}
