/**
 * The parameters of a chain: who certifies, who governs, and the limits it sets for itself (docs/FORMATS.md, section
 * Records). They are one leaf of the state, which governance and handover blocks change.
 */
import type { DeviceId, Hash, Height } from './brands.ts'
import { type Codec, digest, encode, list, optional, struct, uint } from './codec.ts'
import { type ConsenterSet, consenterSetCodec } from './consenters.ts'
import { allowedSuitesCodec, type EnvelopeSuite } from './envelope-suites.ts'
import { hashHex } from './hashing.ts'
import { type PublicKey, publicKeyCodec } from './keys.ts'
import {
  maxAuthorities,
  maxBlockBytes,
  maxBlockTransactions,
  maxChangesPerBlock,
  maxGrantQuota,
  maxGroupMembers,
  maxGroupsPerIdentity,
  maxUnexpiredTransactions,
} from './limits.ts'

/** An operator. `key` is what it signs governance and recovery with, so that a holder of headers can verify those. */
export interface Authority {
  readonly id: DeviceId
  readonly key: PublicKey
}

/** Limits a chain sets for itself, each at most the bound in limits.ts. */
export interface ChainLimits {
  readonly blockTransactions: number
  readonly blockBytes: number
  /** Leaves written; at least what one transaction can write, or nothing fits. */
  readonly blockChanges: number
  readonly unexpiredTransactions: number
  readonly groupMembers: number
  readonly groupsPerIdentity: number
  readonly grantQuota: number
}

export interface ChainParameters {
  readonly version: number
  readonly consenters: ConsenterSet
  /** Set that governance has decided on and that signs after a handover. */
  readonly nextConsenters: ConsenterSet | undefined
  /** Sorted by id. */
  readonly authorities: readonly Authority[]
  /** How many authorities must approve what one alone may not do. */
  readonly threshold: number
  readonly limits: ChainLimits
  /** A block is cut after this quiet time even without transactions, in milliseconds. */
  readonly heartbeatMs: number
  /** How long an epoch key is accepted after a join or a rotation, in milliseconds. */
  readonly epochGraceMs: number
  /** How old a join challenge may be, in milliseconds. */
  readonly challengeAgeMs: number
  /** How messages may be sealed, by ascending number. */
  readonly envelopeSuites: readonly EnvelopeSuite[]
  readonly executionVersion: number
  /** Execution version that starts at a height. */
  readonly nextExecution: { readonly version: number; readonly height: Height } | undefined
}

const counter = uint(0xffff_ffff)
const duration = uint(0xffff_ffff)
export const authoritiesCodec: Codec<readonly Authority[]> = list(
  struct<Authority>({ id: digest<DeviceId>(), key: publicKeyCodec }),
  maxAuthorities,
  1,
)
/** What each limit of a chain may be at most. */
export const limitBounds: Readonly<Record<keyof ChainLimits, number>> = {
  blockTransactions: maxBlockTransactions,
  blockBytes: maxBlockBytes,
  blockChanges: maxChangesPerBlock,
  unexpiredTransactions: maxUnexpiredTransactions,
  groupMembers: maxGroupMembers,
  groupsPerIdentity: maxGroupsPerIdentity,
  grantQuota: maxGrantQuota,
}
export const limitsCodec: Codec<ChainLimits> = struct<ChainLimits>({
  blockTransactions: uint(limitBounds.blockTransactions),
  blockBytes: uint(limitBounds.blockBytes),
  blockChanges: uint(limitBounds.blockChanges),
  unexpiredTransactions: uint(limitBounds.unexpiredTransactions),
  groupMembers: uint(limitBounds.groupMembers),
  groupsPerIdentity: uint(limitBounds.groupsPerIdentity),
  grantQuota: uint(limitBounds.grantQuota),
})
/** The parameters without the record type that their leaf begins with. */
export const parametersFields: Codec<ChainParameters> = struct<ChainParameters>({
  version: counter,
  consenters: consenterSetCodec,
  nextConsenters: optional(consenterSetCodec),
  authorities: authoritiesCodec,
  threshold: uint(maxAuthorities),
  limits: limitsCodec,
  heartbeatMs: duration,
  epochGraceMs: duration,
  challengeAgeMs: duration,
  envelopeSuites: allowedSuitesCodec,
  executionVersion: counter,
  nextExecution: optional(
    struct<{ version: number; height: Height }>({ version: counter, height: uint<Height>() }),
  ),
})

type AuthorityRules = Pick<ChainParameters, 'authorities' | 'threshold'>
const authorityRulesCodec = struct<AuthorityRules>({
  threshold: uint(maxAuthorities),
  authorities: authoritiesCodec,
})
const authoritiesHashes = new WeakMap<AuthorityRules, Hash>()

/** `authoritiesHash` of headers: covers the threshold and every authority with its key. Computed once for one object. */
export function authoritiesHash(parameters: AuthorityRules): Hash {
  const known = authoritiesHashes.get(parameters)
  if (known !== undefined) return known
  const hash = hashHex('mote/authorities/1', encode(authorityRulesCodec, parameters))
  authoritiesHashes.set(parameters, hash)
  return hash
}
