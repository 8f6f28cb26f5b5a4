/** Which gateway has which shard: the claims at a broker that others wrote, which both gateways see at once. */
import { allShards, type Shard } from '../../mqtt-gateway/protocol/sharded-topics.ts'
import type { SeededRandom } from './random.ts'

export class SimulatedClaims<Gateway> {
  readonly #holders = new Map<Shard, Gateway>()

  /** Divides them. */
  constructor(gateways: readonly Gateway[], random: SeededRandom) {
    for (const shard of allShards) this.#holders.set(shard, random.pick(gateways))
  }

  of(gateway: Gateway): readonly Shard[] {
    return allShards.filter(shard => this.#holders.get(shard) === gateway)
  }

  takeOver(shard: Shard, gateway: Gateway): void {
    this.#holders.set(shard, gateway)
  }
}
