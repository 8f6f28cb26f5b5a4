/**
 * Which gateway has which shard, said by retained messages that only gateways may write: who takes a shard over says so first, and
 * who had it lets go for good. A broker should tell the one that is taken over (MQTT 5, reason code 0x8E), but Mosquitto 2.0.11 closes
 * without a word, and a gateway that took that for a broken connection would take the shard back, for ever.
 */
import { randomBytes } from 'node:crypto'
import { allShards, type Shard } from '../protocol/sharded-topics.ts'

const prefix = 'mote/1/shard/'

/** What every gateway subscribes to. */
export const claimFilter = `${prefix}+`

export class ShardClaims {
  readonly #own = Buffer.from(randomBytes(16).toString('hex'))
  /** Claims that are older than this gateway's own: a broker that lost what it had not written yet shows them again. */
  readonly #earlier = new Map<Shard, string>()
  readonly #claimed = new Set<Shard>()

  /** What to publish, retained, before a shard is taken. */
  claim(shard: Shard): { readonly topicName: string; readonly payload: Uint8Array } {
    this.#claimed.add(shard)
    return { topicName: prefix + shard, payload: this.#own }
  }

  /** The shard that another gateway has taken from this one by what it published; undefined if none. */
  lostBy(topicName: string, payload: Uint8Array): Shard | undefined {
    const shard = topicName.slice(prefix.length)
    if (!topicName.startsWith(prefix) || !allShards.includes(shard)) return undefined
    const claim = Buffer.from(payload.subarray(0, 64)).toString('hex')
    if (!this.#claimed.has(shard)) this.#earlier.set(shard, claim)
    else if (claim !== this.#own.toString('hex') && claim !== this.#earlier.get(shard)) {
      this.#claimed.delete(shard)
      return shard
    }
    return undefined
  }
}
