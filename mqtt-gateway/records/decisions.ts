/**
 * Publishes what contracts decided about the devices of this gateway's shards (docs/decisions/0038-decisions.md).
 *
 * Where a decision is taken from: receipts of certified blocks, by proof (client/certified-blocks.ts). So the answer to a message and the decision
 * that follows from it do not depend on each other, and any gateway that has the shard can publish it, under the same name.
 *
 * Invariants
 * 1. A shard's cursor passes a block when the broker has taken every decision of the block that is of that shard, not before.
 * 2. Decisions of a shard leave in the order of their names, but that those of a block may come once more, and after a takeover all that have not
 *    expired.
 * 3. A decision is published under the name that its receipt gives it, by whichever gateway and however often.
 * 4. It is published by the QoS of the request that it came of, which the receipt says.
 * 5. What is older than `expiryMs` by the chain's time is never published.
 * While the chain, or the broker, is out of reach, nothing is published and nothing passed.
 */
import type { Milliseconds } from '../../chain/brands.ts'
import type { Qos } from '../../chain/record-bodies.ts'
import type { CertifiedBlocks } from '../../client/certified-blocks.ts'
import type { Clock } from '../../client/clock.ts'
import { pause } from '../../client/deadline.ts'
import { type Shard, shardOf } from '../protocol/sharded-topics.ts'
import type { DecisionCursor } from './decision-cursor.ts'
import { encodeDecision, type PublishedDecision, publishedDecisions } from './decision-message.ts'

export interface DecisionsOptions {
  readonly blocks: Pick<CertifiedBlocks, 'above' | 'receipts' | 'onAdvance'>
  readonly cursor: Pick<DecisionCursor, 'at' | 'pass' | 'record'>
  /** Those that this gateway has now. */
  readonly shards: () => readonly Shard[]
  /** Resolves when the broker has the message; at QoS 0, when it is sent. */
  readonly publish: (message: {
    readonly topicName: string
    readonly payload: Uint8Array
    readonly qos: Qos
  }) => Promise<void>
  /** Where a decision goes that is to be published on this topic. */
  readonly topicOf: (publishTopic: string) => string
  /** The chain's time (freshness.ts). */
  readonly now: () => Milliseconds
  readonly expiryMs: number
  /** Told why nothing is published, once until something is. */
  readonly onError: (error: unknown) => void
  /** The machine's unless given. */
  readonly clock?: Clock | undefined
}

/** Blocks whose receipts are asked for at the same time. */
const blocksAtOnce = 16
/** What failed, and shards that were taken over, are looked at again after this time, unless a block comes first. */
const againMs = 500

export interface DecisionsStatus {
  /** Since the start; repeats count. */
  readonly published: number
  /** Not published, since they had expired. */
  readonly expired: number
}

export class Decisions {
  readonly #options: DecisionsOptions
  #published = 0
  #expired = 0
  #isFailing = false

  constructor(options: DecisionsOptions) {
    this.#options = options
  }

  status(): DecisionsStatus {
    return { published: this.#published, expired: this.#expired }
  }

  /** Publishes until the signal fires; resolves when what was under way has ended. */
  async run(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      const { promise: advanced, resolve } = Promise.withResolvers<void>()
      // Before the round: a block that comes during it is looked at in the next one.
      const stop = this.#options.blocks.onAdvance(resolve)
      try {
        await this.#catchUp(signal)
        this.#isFailing = false
      } catch (error) {
        if (!this.#isFailing && !signal.aborted) this.#options.onError(error)
        this.#isFailing = true
      }
      await Promise.race([advanced, pause(againMs, signal, this.#options.clock)])
      stop()
    }
  }

  /** From where the least advanced shard is, up to the head. */
  async #catchUp(signal: AbortSignal): Promise<void> {
    const { blocks, cursor, shards, now, expiryMs } = this.#options
    const mine = new Set(shards())
    if (mine.size === 0) return
    const from = Math.min(...[...mine].map(shard => cursor.at(shard) ?? 0))
    const range = await blocks.above(from, (now() - expiryMs) as Milliseconds)
    for (let i = 0; i < range.blocks.length; i += blocksAtOnce) {
      const batch = range.blocks.slice(i, i + blocksAtOnce)
      const reads = batch.map(block => blocks.receipts(block))
      // They are awaited one after another: what fails behind another failure is nobody's rejection.
      for (const read of reads) read.catch(() => {})
      for (const [place, block] of batch.entries()) {
        if (signal.aborted) return
        await this.#publishBlock(publishedDecisions(block, (await reads[place]) ?? []), mine)
        cursor.pass(mine, block.height)
        await cursor.record()
      }
    }
    cursor.pass(mine, range.head)
    await cursor.record()
  }

  /** @param mine shards whose decisions are published in this round; one that is taken over meanwhile leaves it */
  async #publishBlock(decisions: readonly PublishedDecision[], mine: Set<Shard>): Promise<void> {
    const { cursor, shards, now, expiryMs, publish, topicOf } = this.#options
    for (const decision of decisions) {
      const { decided, height, time } = decision
      const shard = shardOf(decided.caller)
      // Who has taken the shard over goes on with it.
      if (!shards().includes(shard)) mine.delete(shard)
      if (!mine.has(shard) || (cursor.at(shard) ?? -1) >= height) continue
      if (time < now() - expiryMs) {
        this.#expired += 1
        continue
      }
      const { publishTopic, qos } = decided
      await publish({ topicName: topicOf(publishTopic), payload: encodeDecision(decision), qos })
      this.#published += 1
    }
  }
}
