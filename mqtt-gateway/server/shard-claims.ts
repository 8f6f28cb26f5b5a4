/**
 * Which gateway has which shard, said by retained messages that only gateways may write: who takes a shard over says so first, and
 * who had it lets go for good. A broker should tell the one that is taken over (MQTT 5, reason code 0x8E), but Mosquitto 2.0.11 closes
 * without a word, and a gateway that took that for a broken connection would take the shard back, for ever.
 *
 * A claim is the id of its gateway's store, a dot, and a random value of its process. It comes back to whoever made it, after every claim that
 * is older: the one before it tells whether another gateway has had the shard since this store had it, and so whether what this store knows of
 * the broker's session for the shard still holds.
 */
import { randomBytes } from 'node:crypto'
import { allShards, type Shard } from '../protocol/sharded-topics.ts'

const prefix = 'mote/1/shard/'

/** What every gateway subscribes to. */
export const claimFilter = `${prefix}+`

const maxClaimBytes = 64

/** What says, retained, that a gateway takes a shard. */
export interface ShardClaim {
  readonly topicName: string
  readonly payload: Uint8Array
}

interface ShardState {
  /**
   * The last claim that is older than this gateway's own, as long as that is good: a broker that lost what it had not written yet has it
   * retained again.
   */
  before: string | undefined
  /** Of this gateway: none, made, come back. */
  own: 'none' | 'made' | 'held'
  /** It has come on this connection. */
  isShown: boolean
  readonly held: PromiseWithResolvers<boolean>
}

export class ShardClaims {
  readonly #storeId: string
  readonly #own: string
  readonly #shards = new Map<Shard, ShardState>()

  /** @param storeId of what this gateway has on its disk of the shards' sessions; without a dot */
  constructor(storeId: string) {
    this.#storeId = storeId
    this.#own = `${storeId}.${randomBytes(12).toString('hex')}`
  }

  /** What to publish, retained, before a shard is taken. `wasOwn` resolves when it has come back: whether nobody else has had the shard meanwhile. */
  claim(shard: Shard): ShardClaim & { readonly wasOwn: Promise<boolean> } {
    const state = this.#stateOf(shard)
    state.own = 'made'
    return { ...this.#claimOf(shard), wasOwn: state.held.promise }
  }

  /** Before what is retained comes on another connection. */
  reconnected(): void {
    for (const state of this.#shards.values()) state.isShown = false
  }

  /**
   * Those that were not among what is retained, which has come on this connection: to be published again. One that has not come back, or one
   * that the broker has lost: without it, whoever had the shard before would take it for its own, sessions and all, when it is started again.
   */
  get unheard(): readonly ShardClaim[] {
    const good = [...this.#shards].filter(([, { own, isShown }]) => own !== 'none' && !isShown)
    return good.map(([shard]) => this.#claimOf(shard))
  }

  /** Whether no other gateway has taken it since its claim. */
  has(shard: Shard): boolean {
    return this.#shards.get(shard)?.own === 'held'
  }

  /** The shard that another gateway has taken from this one by what it published; undefined if none. @param isRetained it was there already */
  lostBy(topicName: string, payload: Uint8Array, isRetained: boolean): Shard | undefined {
    const shard = topicName.slice(prefix.length)
    if (!topicName.startsWith(prefix) || !allShards.includes(shard)) return undefined
    const claim = Buffer.from(payload.subarray(0, maxClaimBytes)).toString('latin1')
    const state = this.#stateOf(shard)
    if (claim === this.#own) this.#cameBack(state)
    else if (state.own !== 'held') state.before = claim
    else if (claim !== state.before || !isRetained) {
      state.own = 'none'
      return shard
    }
    return undefined
  }

  #claimOf(shard: Shard): ShardClaim {
    return { topicName: prefix + shard, payload: Buffer.from(this.#own) }
  }

  #cameBack(state: ShardState): void {
    state.isShown = true
    if (state.own !== 'made') return
    state.own = 'held'
    state.held.resolve(state.before?.split('.')[0] === this.#storeId)
  }

  #stateOf(shard: Shard): ShardState {
    const known = this.#shards.get(shard)
    if (known) return known
    const state: ShardState = {
      before: undefined,
      own: 'none',
      isShown: false,
      held: Promise.withResolvers(),
    }
    this.#shards.set(shard, state)
    return state
  }
}
