/**
 * Reads that are proven before they are believed: a record, or its absence, at a height a quorum certified
 * (docs/ARCHITECTURE.md, "Keeping trust data fresh").
 *
 * A value comes with a proof at some height p. It is given out as the value at the follower's head h if no block in
 * (p, h] names its key, which the lists of changed keys tell, themselves covered by certified headers. So:
 * - a record that was altered fails its proof: `bad-proof` or `bad-certificate`;
 * - a record that was replaced since (a revocation that is withheld) is `withheld` when the source serves headers that
 *   cover the change and answers with the old value nonetheless, `stale` when it merely is behind;
 * - a proven value stays in memory until a later block names its key, and costs no request until then.
 * Nothing is ever returned that did not pass all of this. How old the head may be, the caller says (`maxAgeMs`).
 */

import type {
  DeviceId,
  GrantId,
  GroupId,
  Hash,
  Height,
  Milliseconds,
  StateKey,
  Term,
} from '../chain/brands.ts'
import { type Codec, decode } from '../chain/codec.ts'
import type { CredentialsRecord } from '../chain/credentials.ts'
import type { SignatureVerifier } from '../chain/keys.ts'
import { type StateAnswer, type TrustedHead, verifyStateAnswer } from '../chain/light-client.ts'
import { RecentMap } from '../chain/recent-map.ts'
import {
  type ApprovalRecord,
  approvalCodec,
  type ChainParameters,
  credentialsCodec,
  type GrantRecord,
  type GroupRecord,
  grantCodec,
  groupCodec,
  type IdentityRecord,
  identityCodec,
  isMemberListOf,
  membershipsCodec,
  parametersCodec,
  rightsCodec,
  stateKeyOf,
} from '../chain/records.ts'
import { MoteError, unwrap } from '../chain/result.ts'
import type { RightsRecord } from '../chain/rights.ts'
import type { ChainSource, GroupAnswer, SourcePool } from './chain-source.ts'
import { ChangeWindow } from './change-window.ts'
import type { Timepiece } from './clock.ts'
import { type Arrival, ageOf, ChainTime, type Clocks, checkFresh } from './freshness.ts'
import type { HeadEvent, HeaderFollower } from './header-follower.ts'

/** What stood at the certified head when it was asked. */
export interface Verified<T> {
  /** Undefined: proven absent. */
  readonly value: T | undefined
  /** The certified head for which the answer holds. */
  readonly height: Height
  readonly term: Term
  /** Time of that head. */
  readonly time: Milliseconds
  readonly headerHash: Hash
  /** How long ago that was, in milliseconds (freshness.ts); at least 0. */
  readonly ageMs: number
  /** Height at which the proof was made; no block since has touched the record. */
  readonly provenAt: Height
}

/** A group with its complete member list. */
export interface VerifiedGroup {
  readonly record: GroupRecord
  /** Sorted. */
  readonly members: readonly DeviceId[]
}

export interface ReadOptions {
  /** Refuse with `stale` if the head is older. */
  readonly maxAgeMs?: number
}

export interface VerifiedChainOptions {
  readonly pool: SourcePool
  readonly follower: HeaderFollower
  readonly verifier: SignatureVerifier
  readonly clock: Timepiece
  /** Proven values kept in memory at least, and twice as many at most. Default 8,192. */
  readonly cacheSize?: number
}

interface Proven {
  readonly value: unknown
  readonly provenAt: Height
}

/** One key, how to ask a source for it, and what to make of a verified value. */
interface Question<T> {
  readonly key: StateKey
  readonly ask: (source: ChainSource) => Promise<Unverified<T>>
}

interface Unverified<T> {
  readonly answer: StateAnswer
  /** Called on the verified value. Throws `bad-proof` if that is not what its place in the state must hold. */
  readonly read: (value: Uint8Array) => T
}

/** Rounds in which a value may change while it is on its way, before that counts as a failure. */
const readRounds = 4

export class VerifiedChain {
  readonly follower: HeaderFollower
  readonly #pool: SourcePool
  readonly #verifier: SignatureVerifier
  readonly #clock: Timepiece
  readonly #time = new ChainTime()
  readonly #window: ChangeWindow
  readonly #cache: RecentMap<StateKey, Proven>
  /** Reads under way, so that many askers cost one request. */
  readonly #reading = new Map<StateKey, Promise<void>>()
  readonly #detach: () => void

  constructor(options: VerifiedChainOptions) {
    this.follower = options.follower
    this.#pool = options.pool
    this.#verifier = options.verifier
    this.#clock = options.clock
    this.#cache = new RecentMap(options.cacheSize ?? 8_192)
    this.#window = new ChangeWindow(options.follower.head.header.height)
    this.#detach = options.follower.onAdvance(event => this.#advance(event))
  }

  /** The identity of a device, node or operator. */
  device(id: DeviceId, options?: ReadOptions): Promise<Verified<IdentityRecord>> {
    return this.leaf(stateKeyOf.identity(id), identityCodec, options)
  }

  /** The identity if it is in memory: no request, no wait. Undefined means "ask `device`". */
  cachedDevice(id: DeviceId): Verified<IdentityRecord> | undefined {
    return this.#cached<IdentityRecord>(stateKeyOf.identity(id))
  }

  /** A group and its complete member list. */
  group(id: GroupId, options?: ReadOptions): Promise<Verified<VerifiedGroup>> {
    const ask = async (source: ChainSource): Promise<Unverified<VerifiedGroup>> => {
      const { group, members } = await source.group(id)
      return { answer: group, read: value => readGroup(value, members) }
    }
    return this.#verified({ key: stateKeyOf.group(id), ask }, options)
  }

  grant(id: GrantId, options?: ReadOptions): Promise<Verified<GrantRecord>> {
    return this.leaf(stateKeyOf.grant(id), grantCodec, options)
  }

  parameters(options?: ReadOptions): Promise<Verified<ChainParameters>> {
    return this.leaf(stateKeyOf.parameters(), parametersCodec, options)
  }

  /** The groups of which an identity is a member, ascending; proven absent for one that never was in any. */
  memberships(id: DeviceId, options?: ReadOptions): Promise<Verified<readonly GroupId[]>> {
    return this.leaf(stateKeyOf.memberships(id), membershipsCodec, options)
  }

  /** What an authority lets an identity do; proven absent for none. */
  rights(id: DeviceId, options?: ReadOptions): Promise<Verified<RightsRecord>> {
    return this.leaf(stateKeyOf.rights(id), rightsCodec, options)
  }

  /** The passwords of a device for plain MQTT clients, as hashes. */
  credentials(id: DeviceId, options?: ReadOptions): Promise<Verified<CredentialsRecord>> {
    return this.leaf(stateKeyOf.credentials(id), credentialsCodec, options)
  }

  /** What an authority approves of. */
  approval(id: DeviceId, options?: ReadOptions): Promise<Verified<ApprovalRecord>> {
    return this.leaf(stateKeyOf.approval(id), approvalCodec, options)
  }

  /** The proof of a leaf, verified, as it stands at the head: to hand on to whoever verifies by itself. */
  stateProof(key: StateKey): Promise<StateAnswer> {
    return this.#proof(key, async source => {
      const answer = await source.state(key)
      return { whole: answer, answer, read: () => undefined }
    })
  }

  /** The same of a group and its members. */
  groupProof(id: GroupId): Promise<GroupAnswer> {
    return this.#proof(stateKeyOf.group(id), async source => {
      const whole = await source.group(id)
      return { whole, answer: whole.group, read: value => readGroup(value, whole.members) }
    })
  }

  /**
   * A proof of an identity that came unasked, in a list: verified, and remembered if it still stands, so that `device` need not ask for
   * it. `source` is asked for headers only. Throws `bad-proof`, `bad-certificate`, `stale`.
   */
  async takeDevice(source: ChainSource, id: DeviceId, answer: StateAnswer): Promise<void> {
    const key = stateKeyOf.identity(id)
    const read = (value: Uint8Array) => decodeRecord(identityCodec, value)
    const { value, height } = await this.#answered(source, { key, ask: async () => ({ answer, read }) })
    if (this.#window.judge(key, height).type === 'holds') this.#remember(key, { value, provenAt: height })
  }

  /** Height of the last change of an identity that is known of; undefined if there was none in the window. */
  deviceChangedAt(id: DeviceId): Height | undefined {
    return this.#window.lastChange(stateKeyOf.identity(id))
  }

  /** Whether an identity that was proven at this height is known not to have changed up to the head. */
  deviceStands(id: DeviceId, height: Height): boolean {
    return this.#window.judge(stateKeyOf.identity(id), height).type === 'holds'
  }

  /** Age of the certified head in milliseconds, by the rule of freshness.ts; infinite for one from the future. */
  ageMs(): number {
    return ageOf(this.#arrival, this.#clocks)
  }

  /** The chain's time now: the head's, carried on by the steady clock. */
  time(): Milliseconds {
    return this.#time.now(this.#arrival, this.#clocks)
  }

  get #arrival(): Arrival {
    return { time: this.follower.head.header.time, arrivedAt: this.follower.arrivedAt }
  }

  get #clocks(): Clocks {
    return { wall: this.#clock.wall?.(), steady: this.#clock.steady() }
  }

  /** Stops listening to the follower. */
  close(): void {
    this.#detach()
  }

  /** What stands at a key of the state, by the codec of its record. */
  leaf<T>(key: StateKey, codec: Codec<T>, options?: ReadOptions): Promise<Verified<T>> {
    const ask = async (source: ChainSource): Promise<Unverified<T>> => {
      const answer = await source.state(key)
      return { answer, read: value => decodeRecord(codec, value) }
    }
    return this.#verified({ key, ask }, options)
  }

  async #verified<T>(question: Question<T>, options: ReadOptions = {}): Promise<Verified<T>> {
    let answer = this.#cached<T>(question.key)
    for (let round = 0; !answer; round++) {
      if (round === readRounds)
        throw new MoteError('stale', 'record: it changes faster than its proof arrives; ask again')
      await this.#readOnce(question)
      answer = this.#cached<T>(question.key)
    }
    if (options.maxAgeMs !== undefined) unwrap(checkFresh(answer.ageMs, options.maxAgeMs))
    return answer
  }

  #cached<T>(key: StateKey): Verified<T> | undefined {
    const proven = this.#cache.get(key)
    if (!proven) return undefined
    const { header, headerHash } = this.follower.head
    return {
      value: proven.value as T | undefined,
      height: header.height,
      term: header.term,
      time: header.time,
      headerHash,
      ageMs: this.ageMs(),
      provenAt: proven.provenAt,
    }
  }

  /** Proves the value of a key into the cache. Askers of the same key share one request. */
  #readOnce<T>(question: Question<T>): Promise<void> {
    const under = this.#reading.get(question.key)
    if (under) return under
    const reading = this.#pool
      .attempt(source => this.#prove(source, question))
      .finally(() => this.#reading.delete(question.key))
    this.#reading.set(question.key, reading)
    return reading
  }

  /**
   * One proof from one source. A change after the question went out is a race: nothing is remembered and the next round
   * asks again. A change before it, under headers that this very source has shown, is a lie once it is repeated.
   */
  async #prove<T>(source: ChainSource, question: Question<T>): Promise<void> {
    for (let attempts = 1; ; attempts++) {
      const known = this.follower.head.header.height
      const { value, height } = await this.#answered(source, question)
      const verdict = this.#window.judge(question.key, height)
      if (verdict.type === 'holds') return this.#remember(question.key, { value, provenAt: height })
      if (verdict.type === 'unknown')
        throw new MoteError('stale', `${source.name}: answered for height ${height}, which is too old`)
      if (verdict.at > known) return
      if (this.follower.shownBy(source) < verdict.at)
        throw new MoteError('stale', `${source.name}: behind at height ${height}`)
      if (attempts > 1)
        throw new MoteError(
          'withheld',
          `${source.name}: shows headers up to ${this.follower.shownBy(source)}, but the record as of ${height}, without the change at ${verdict.at}`,
        )
    }
  }

  #proof<A>(
    key: StateKey,
    ask: (source: ChainSource) => Promise<Unverified<unknown> & { readonly whole: A }>,
  ): Promise<A> {
    return this.#pool.attempt(async source => {
      const asked = await ask(source)
      const { height } = await this.#answered(source, { key, ask: () => Promise.resolve(asked) })
      if (this.#window.judge(key, height).type !== 'holds')
        throw new MoteError('stale', `${source.name}: answered for height ${height}`)
      return asked.whole
    })
  }

  async #answered<T>(
    source: ChainSource,
    { key, ask }: Question<T>,
  ): Promise<{ readonly value: T | undefined; readonly height: Height }> {
    const { head } = this.follower
    const { answer, read } = await ask(source)
    // A header above the follower's head certifies it: the changes up to there must be known too, and who signs there.
    if (answer.height > this.follower.head.header.height) await this.follower.syncFrom(source)
    const trusted = this.#trustedFor(source, answer.height, head)
    const { value, height } = unwrap(verifyStateAnswer(trusted, key, answer, this.#verifier))
    return { value: value === undefined ? undefined : read(value), height }
  }

  /** The head that judges an answer for this height; the one at the time of the question if a handover came in between. */
  #trustedFor(source: ChainSource, height: Height, atQuestion: TrustedHead): TrustedHead {
    // Whether it still stands could not be said, and who certified it is not known any more.
    if (height < this.#window.base)
      throw new MoteError('stale', `${source.name}: answered for height ${height}, which is too old`)
    const { head } = this.follower
    const isAfterHandover = height > (head.handoverHeight ?? -1) || height === head.header.height
    return isAfterHandover ? head : atQuestion
  }

  #remember(key: StateKey, proven: Proven): void {
    this.#cache.set(key, proven)
  }

  #advance(event: HeadEvent): void {
    if (event.type === 'skipped') {
      this.#window.restart(event.head.header.height)
      this.#cache.clear()
      return
    }
    for (const { header, changes } of event.headers) {
      this.#window.add(header.height, changes)
      for (const key of changes) this.#cache.delete(key)
    }
  }
}

function readGroup(value: Uint8Array, members: readonly DeviceId[]): VerifiedGroup {
  const record = decodeRecord(groupCodec, value)
  if (!isMemberListOf(record, members))
    throw new MoteError('bad-proof', 'members: expected the list that the record counts and hashes')
  return { record, members }
}

function decodeRecord<T>(codec: Codec<T>, value: Uint8Array): T {
  const decoded = decode(codec, value)
  if (decoded.ok) return decoded.value
  throw new MoteError('bad-proof', `record: ${decoded.error.detail}`)
}
