/**
 * What the gateway and the agent ask the chain: the port in front of client/ (chain-trust.ts is the adapter).
 *
 * Whatever comes out is verified under a certified header; `height` and `ageMs` say which one and how old it is now.
 * A lookup throws `MoteError` when the chain is out of reach or its answers do not verify; it never guesses.
 */
import type {
  ChainId,
  ContractAddress,
  DeviceId,
  GroupId,
  Height,
  Milliseconds,
  StateKey,
} from '../../chain/brands.ts'
import type { Codec } from '../../chain/codec.ts'
import type { CredentialsRecord } from '../../chain/credentials.ts'
import type { EnvelopeSuite } from '../../chain/envelope-suites.ts'
import type { GroupRecord, IdentityRecord } from '../../chain/records.ts'
import type { IdentityRights } from '../../chain/rights.ts'

/**
 * What an expiry is judged by. A sender that has just started knows no later time than the newest header's, so nothing has
 * expired before that: what it sets from there must not be over by the time that the judge's clock has carried on. What
 * lies too far ahead is judged by the time that is carried on.
 */
export interface ExpiryTimes {
  /** Of the newest certified header. */
  readonly head: Milliseconds
  /** The same, carried on. */
  readonly now: Milliseconds
}

/** The newest certified header that is known here. */
export interface TrustedMoment {
  readonly height: Height
  readonly time: Milliseconds
}

/** A record, or its proven absence, that holds at this moment. */
export interface Trusted<T> extends TrustedMoment {
  readonly value: T | undefined
}

export interface TrustedGroup {
  readonly record: GroupRecord
  /** Complete and sorted. */
  readonly members: readonly DeviceId[]
}

/** A step forward of the certified chain: which state it changed, or that this is not known (a gap). */
export interface TrustAdvance extends TrustedMoment {
  readonly changed: ReadonlySet<StateKey> | 'unknown'
}

/** What a device can ask the gateway for. */
export type Subject =
  | { readonly type: 'device'; readonly id: DeviceId }
  | { readonly type: 'group'; readonly id: GroupId }
  /** The chain's parameters, with the newest certified height and its time: how the chain is. */
  | { readonly type: 'chain' }
  /** A page of the node list: identities with their keys, above this state key. */
  | { readonly type: 'devices'; readonly after: StateKey | undefined }
  /** A contract and what it remembers. */
  | { readonly type: 'contract'; readonly id: ContractAddress }

export interface TrustView {
  readonly chainId: ChainId
  head(): TrustedMoment
  /** Age of the head (client/freshness.ts); infinite if it is from the future. */
  ageMs(): number
  /** The chain's time: the head's, carried on by the steady clock. Expiries are set by it. */
  now(): Milliseconds
  device(id: DeviceId): Promise<Trusted<IdentityRecord>>
  group(id: GroupId): Promise<Trusted<TrustedGroup>>
  /** Undefined for none. */
  rights(id: DeviceId): Promise<Trusted<IdentityRights>>
  credentials(id: DeviceId): Promise<Trusted<CredentialsRecord>>
  /** What stands at a key of the state, by the codec of its record: guards and what they read (client/topic-guards.ts). */
  leaf<T>(key: StateKey, codec: Codec<T>): Promise<Trusted<T>>
  /** How messages may be sealed on this chain. */
  allowedSuites(): Promise<readonly EnvelopeSuite[]>
  /** Catches up with the newest header that a full node has now. Throws what the chain's sources throw, `unreachable` say. */
  refresh(): Promise<void>
  /** True as soon as the head has this height; false when the time is over. */
  waitForHeight(height: Height, timeoutMs: number): Promise<boolean>
  /** Calls `listener` for every step forward; returns how to stop that. */
  onAdvance(listener: (advance: TrustAdvance) => void): () => void
  /** An encoded `StateAnswer`, `GroupAnswer`, `RecordPage` or `ContractAnswer`, for a device that verifies by itself. */
  answer(subject: Subject): Promise<Uint8Array>
}
