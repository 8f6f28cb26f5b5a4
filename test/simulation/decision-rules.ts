/**
 * What must hold of decisions that gateways publish. Which there are, and under which name each is to be known, follows from what the judge saw executed;
 * what was published is read from the bytes that reached the broker.
 */
import type { TransactionId } from '../../chain/brands.ts'
import type { Shard } from '../../mqtt-gateway/protocol/sharded-topics.ts'
import type { Judge } from './judge.ts'
import { must } from './violation.ts'

/** As an actuator reads it. */
interface Published {
  readonly Record: TransactionId
  readonly Shard: Shard
  readonly Height: number
  readonly Index: number
  readonly Event: number
}

export class DecisionRules {
  readonly #judge: Judge
  /** Records that are to be decided about, and published. */
  readonly #expected = new Set<TransactionId>()
  /** The name that each was published under. */
  readonly #names = new Map<TransactionId, string>()
  /** The highest name of each shard. */
  readonly #highest = new Map<Shard, Published>()
  /** Publications of what was published before. */
  repeats = 0

  constructor(judge: Judge) {
    this.#judge = judge
  }

  /** This transaction asks for a decision that is to be published, if it is executed. */
  asks(id: TransactionId): void {
    this.#expected.add(id)
  }

  /** A message reaches the broker. */
  publishes(payload: Uint8Array): void {
    const published = JSON.parse(Buffer.from(payload).toString('utf8')) as Published
    const { Record: record, Shard: shard, Height: height, Index: index, Event: event } = published
    const executed = this.#judge.executions.get(record)
    const name = `${height}.${index}.${event}`
    const known = this.#names.get(record)
    must((known ?? name) === name, 'a decision has one name', `${record.slice(0, 8)}: ${known}, then ${name}`)
    must(
      executed?.code === 'ok' && executed.height === height && executed.index === index,
      'a decision is named by its place',
      `${name}: ${JSON.stringify(executed)}`,
    )
    must(height <= this.#judge.certificatesMade, 'what is published is certified', name)
    if (known) {
      this.repeats++
      return
    }
    const highest = this.#highest.get(shard)
    must(
      !highest || isBelow(highest, published),
      'names of a shard ascend',
      `${name} after ${highest?.Height}.${highest?.Index}`,
    )
    this.#names.set(record, name)
    this.#highest.set(shard, published)
  }

  /** Those that are still to be published. */
  get missing(): readonly TransactionId[] {
    const { executions } = this.#judge
    return [...this.#expected].filter(id => executions.get(id)?.code === 'ok' && !this.#names.has(id))
  }

  get published(): number {
    return this.#names.size
  }
}

function isBelow(a: Published, b: Published): boolean {
  return (
    a.Height - b.Height < 0 ||
    (a.Height === b.Height && (a.Index < b.Index || (a.Index === b.Index && a.Event < b.Event)))
  )
}
