/** The part of a gateway that publishes decisions (mqtt-gateway/records/decisions.ts), composed from its configuration and its chain. */
import { join } from 'node:path'
import type { Milliseconds } from '../chain/brands.ts'
import type { CertifiedBlocks } from '../client/certified-blocks.ts'
import type { ChainClient } from '../client/chain-client.ts'
import { pause } from '../client/deadline.ts'
import type { Logger } from '../client/log.ts'
import type { GatewayConfig } from './config.ts'
import { decisionTopic } from './protocol/plain-topics.ts'
import type { Shard } from './protocol/sharded-topics.ts'
import { DecisionCursor } from './records/decision-cursor.ts'
import { Decisions, type DecisionsOptions, type DecisionsStatus } from './records/decisions.ts'

/**
 * A gateway with a broker of its own cuts its clients off when it ends. For so long after its start it publishes nothing, so that they are back;
 * and what it published for less than that before its end comes again, since some of it may not have left.
 */
const clientsReturnMs = 5_000
/** Beside a broker that others wrote clients stay connected: the cursor may follow as fast as a disk likes. */
const recordAfterMs = 200

export interface DecisionPublishingParts {
  readonly config: Pick<GatewayConfig, 'data' | 'edge' | 'plain' | 'decisions'>
  readonly client: Pick<ChainClient, 'chainId' | 'records'>
  /** Of the same client: what else reads its blocks shares them. */
  readonly blocks: CertifiedBlocks
  readonly shards: () => readonly Shard[]
  readonly publish: DecisionsOptions['publish']
  readonly log: Pick<Logger, 'warn'>
}

export class DecisionPublishing {
  readonly #decisions: Decisions
  readonly #cursor: DecisionCursor
  readonly #holdMs: number
  readonly #log: DecisionPublishingParts['log']
  readonly #stopping = new AbortController()
  #running = Promise.resolve()

  private constructor(cursor: DecisionCursor, parts: DecisionPublishingParts) {
    const { config, client, blocks, shards, publish, log } = parts
    this.#cursor = cursor
    this.#log = log
    this.#holdMs = config.edge.type === 'embedded' ? clientsReturnMs : 0
    this.#decisions = new Decisions({
      blocks,
      cursor,
      shards,
      publish,
      topicOf: publishTopic => decisionTopic(config.plain, publishTopic),
      now: (): Milliseconds => client.records.time(),
      expiryMs: config.decisions.expiryMs,
      onError: error => log.warn({ err: error }, 'decisions: not published; again soon'),
    })
  }

  /** Publishes nothing yet. Throws `storage-corrupt`, `storage-failed`, `wrong-chain`. */
  static async open(parts: DecisionPublishingParts): Promise<DecisionPublishing> {
    const { config, client } = parts
    const cursor = await DecisionCursor.open({
      path: join(config.data, 'decisions'),
      chainId: client.chainId,
      recordAfterMs: config.edge.type === 'embedded' ? clientsReturnMs : recordAfterMs,
    })
    return new DecisionPublishing(cursor, parts)
  }

  status(): DecisionsStatus {
    return this.#decisions.status()
  }

  /** From when the broker takes messages. */
  start(): void {
    const { signal } = this.#stopping
    this.#running = pause(this.#holdMs, signal).then(() => this.#decisions.run(signal))
  }

  /** Resolves when what was under way has ended: while the broker still takes it. */
  async stop(): Promise<void> {
    this.#stopping.abort()
    await this.#running
  }

  /** When the broker's clients have what was published. */
  async recordAll(): Promise<void> {
    await this.#cursor.close().catch(error => this.#log.warn({ err: error }, 'decisions: not recorded'))
  }
}
