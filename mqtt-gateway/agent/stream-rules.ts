/**
 * Rules about readings where they are made and where they arrive (Hsu C8): contracts that judge what an application publishes before it is
 * sealed or recorded, and what came from others after it was opened. They say what the chain's guards would say (chain/contract-runs.ts), of the
 * last readings that the agent keeps by itself.
 *
 * A reading that violates a rule is refused, or it passes with a mark that says which rule: as its route has it. What passes becomes the last
 * reading, marked or not, so that a stream that falls once and stays there is marked once; what is refused does not.
 *
 * Invariants
 * 1. A contract that comes to no answer does not let a reading through: a value is missing, say, or the contract is out of reach.
 * 2. Readings of one device on one topic are judged one after another, each against the one before it that was taken.
 * 3. A reading is kept after it was taken: a crash in between forgets it, and the next one is measured from the one before.
 * 4. A message that comes again, after a crash say, is not measured from itself: it passes as it did the first time.
 *
 * A contract runs on its initial state: what it would remember of calls on the chain, no agent knows.
 */
import type { DeviceId, Milliseconds } from '../../chain/brands.ts'
import { guardVerdict, runOnReadings } from '../../chain/contract-runs.ts'
import { initialStateOf } from '../../chain/contracts/evaluate.ts'
import type { RecordValue } from '../../chain/record-bodies.ts'
import { MoteError } from '../../chain/result.ts'
import type { MessageStore } from '../../client/message-store.ts'
import { OrderedQueue } from '../../client/ordered-queue.ts'
import { valuesOfPayload } from '../../client/record-values.ts'
import { LastReadings } from './last-readings.ts'
import { type ContractName, NamedContracts, type NamedContractsOptions } from './named-contracts.ts'
import { maxConvertedBytes, objectOfRecord } from './record-format.ts'

/** What a route says of its readings. */
export interface ReadingRoute {
  /** The topic by which contracts know its readings, and of a record its topic; by default the local topic. */
  readonly recordTopic?: string
  /** All of them must hold. */
  readonly rules?: readonly ContractName[]
  /** By default `refuse`. */
  readonly onViolation?: 'refuse' | 'flag'
}

export interface RouteReading {
  readonly device: DeviceId
  readonly topic: string
  /** A JSON object; of anything else rules see no values. */
  readonly content: Uint8Array
  readonly at: Milliseconds
  /** Of a message that arrived, which may come again. */
  readonly messageId?: string
}

/** A reading that passes. */
export interface PassedReading {
  readonly values: readonly RecordValue[]
  /** Contract and rule that it violates, where its route lets it pass all the same: `temperature-guard: step`. */
  readonly violation: string | undefined
}

export interface StreamRulesOptions extends NamedContractsOptions {
  readonly store: MessageStore
  /** Of the device's keys in the store. */
  readonly prefix: string
  /** Every contract that routes and decisions name. */
  readonly named: readonly ContractName[]
}

export class StreamRules {
  readonly contracts: NamedContracts
  readonly readings: LastReadings
  readonly #places = new Map<string, OrderedQueue>()

  private constructor(contracts: NamedContracts, readings: LastReadings) {
    this.contracts = contracts
    this.readings = readings
  }

  /** Throws what `NamedContracts.open` throws, `storage-corrupt`, `storage-failed`. */
  static async open(options: StreamRulesOptions): Promise<StreamRules> {
    const { store, prefix, named } = options
    const contracts = await NamedContracts.open(named, options)
    return new StreamRules(contracts, await LastReadings.open({ store, prefix: `${prefix}reading/` }))
  }

  /**
   * Judges a reading, has it taken, and keeps it. Throws `rule-violated` with contract and rule, `too-large` for one above 64 KiB, `overloaded`,
   * what `NamedContracts.get` throws, and what `take` throws: then it is not kept.
   */
  pass<T>(
    route: ReadingRoute,
    reading: RouteReading,
    take: (passed: PassedReading) => Promise<T>,
  ): Promise<T> {
    if (route.rules === undefined && route.recordTopic === undefined)
      return take(new UnjudgedReading(reading.content))
    return this.#inTurn(`${reading.device}/${reading.topic}`, async () => {
      const { device, topic, content, at, messageId } = reading
      if (content.length > maxConvertedBytes)
        throw new MoteError('too-large', `reading: expected at most ${maxConvertedBytes} bytes`)
      this.readings.requireRoom(device, topic)
      const values = valuesOf(content)
      const last = this.readings.last({ device, topic, attested: false }, at)
      if (last && messageId !== undefined && last.messageId === messageId)
        return take({ values, violation: last.violation })
      const violation = await this.#violation(route.rules ?? [], reading, values)
      if (violation !== undefined && route.onViolation !== 'flag')
        throw new MoteError('rule-violated', `reading on ${topic}: ${violation}`)
      const taken = await take({ values, violation })
      await this.readings.keep(device, topic, { values, time: at, messageId, violation })
      return taken
    })
  }

  async #inTurn<T>(place: string, step: () => Promise<T>): Promise<T> {
    const queue = this.#places.get(place) ?? new OrderedQueue()
    this.#places.set(place, queue)
    try {
      return await queue.run(step)
    } finally {
      if (queue.length === 0) this.#places.delete(place)
    }
  }

  /** The first rule that does not hold. */
  async #violation(
    rules: readonly ContractName[],
    { device, at }: RouteReading,
    values: readonly RecordValue[],
  ): Promise<string | undefined> {
    const from = { device, attested: false }
    for (const name of rules) {
      const { contract } = await this.contracts.get(name)
      const lastReading = (place: Parameters<LastReadings['last']>[0]) => this.readings.last(place, at)
      const state = initialStateOf(contract)
      const run = () => runOnReadings(contract, { from, values, lastReading, state, now: at })
      const reason = guardVerdict(contract, from, run)
      if (reason !== undefined) return `${contract.name}: ${reason}`
    }
    return undefined
  }
}

/** Of a route without rules. Its values are looked for if somebody wants them: most messages are no readings. */
class UnjudgedReading implements PassedReading {
  readonly violation = undefined
  readonly #content: Uint8Array

  constructor(content: Uint8Array) {
    this.#content = content
  }

  get values(): readonly RecordValue[] {
    return valuesOf(this.#content)
  }
}

function valuesOf(content: Uint8Array): readonly RecordValue[] {
  return valuesOfPayload(objectOfRecord(content))
}
