/**
 * The consenters: the full nodes whose signatures make a certificate (docs/FORMATS.md, "Certificate").
 *
 * A set is sorted by id, so that one set has one hash; a signature names its consenter by the place in it.
 */
import type { DeviceId, Hash } from './brands.ts'
import { type Codec, digest, encode, list, oneOf, struct } from './codec.ts'
import { hashHex } from './hashing.ts'
import { keyIdOf, type PublicKey, publicKeyCodec } from './keys.ts'
import { ok, type Result, refuse } from './result.ts'

export interface Consenter {
  readonly id: DeviceId
  /** The key that signs headers. */
  readonly key: PublicKey
}

/** 'majority': ⌊n/2⌋+1. 'two-thirds': ⌊2n/3⌋+1, for n of at least 4. */
export type QuorumPolicy = 'majority' | 'two-thirds'

export interface ConsenterSet {
  /** Sorted by id; 1 to `maxConsenters`. */
  readonly consenters: readonly Consenter[]
  readonly policy: QuorumPolicy
}

export const maxConsenters = 7

export const quorumPolicyCodec: Codec<QuorumPolicy> = oneOf({ majority: 1, 'two-thirds': 2 })

export const consenterSetCodec: Codec<ConsenterSet> = struct({
  consenters: list(struct<Consenter>({ id: digest<DeviceId>(), key: publicKeyCodec }), maxConsenters, 1),
  policy: quorumPolicyCodec,
})

/** The set with its consenters in order. */
export function consenterSet(consenters: readonly Consenter[], policy: QuorumPolicy): ConsenterSet {
  return { consenters: [...consenters].sort((a, b) => (a.id < b.id ? -1 : 1)), policy }
}

/** Refuses a set that is not sorted by id, names one consenter or key twice, or has a policy too strict for its size. */
export function checkConsenterSet(set: ConsenterSet): Result<void> {
  const { consenters, policy } = set
  if (consenters.length < 1 || consenters.length > maxConsenters)
    return refuse('malformed', `consenters: expected 1 to ${maxConsenters}, got ${consenters.length}`)
  for (let i = 1; i < consenters.length; i++)
    if ((consenters[i - 1] as Consenter).id >= (consenters[i] as Consenter).id)
      return refuse('malformed', 'consenters: expected sorted and distinct ids')
  if (new Set(consenters.map(({ key }) => keyIdOf(key))).size !== consenters.length)
    return refuse('malformed', 'consenters: expected distinct keys')
  if (policy === 'two-thirds' && consenters.length < 4)
    return refuse('malformed', `policy: expected majority for ${consenters.length} consenters`)
  return ok(undefined)
}

const signersHashes = new WeakMap<ConsenterSet, Hash>()

/** Digest of the set: `signersHash` and `nextSignersHash` of headers. Computed once for one object. */
export function signersHash(set: ConsenterSet): Hash {
  const known = signersHashes.get(set)
  if (known !== undefined) return known
  const hash = hashHex('mote/signers/1', encode(consenterSetCodec, set))
  signersHashes.set(set, hash)
  return hash
}

/** How many consenters must sign. */
export function quorumOf(set: ConsenterSet): number {
  const n = set.consenters.length
  return set.policy === 'two-thirds' ? Math.floor((2 * n) / 3) + 1 : Math.floor(n / 2) + 1
}

/** The consenter's place in the set, or undefined. */
export function indexOfConsenter(set: ConsenterSet, id: DeviceId): number | undefined {
  const index = set.consenters.findIndex(consenter => consenter.id === id)
  return index < 0 ? undefined : index
}
