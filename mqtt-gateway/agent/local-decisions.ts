/**
 * Contracts that an agent runs by itself, on the readings that it keeps: what a device does when nothing comes any more cannot wait for a message
 * (Hsu C8, the water valve). A contract runs when the agent starts, after each reading that is kept, when an application subscribes, and every so
 * often; each decision comes out on a local topic. A run that fails, or violates a rule of the contract, publishes nothing, and is told.
 *
 * A contract's state is its own here, whatever its namesake on the chain remembers, and on the disk before the decision is published.
 */
import type { ContractAddress, DeviceId, Milliseconds } from '../../chain/brands.ts'
import { constant, encode, list, struct } from '../../chain/codec.ts'
import { runOnReadings } from '../../chain/contract-runs.ts'
import { maxStateVariables } from '../../chain/contracts/contract-limits.ts'
import { valuesJson } from '../../chain/contracts/document.ts'
import { type ContractValue, decisionText, initialStateOf } from '../../chain/contracts/evaluate.ts'
import { MoteError, type Refusal, refusalOf } from '../../chain/result.ts'
import { scalarCodec } from '../../chain/scalars.ts'
import type { MessageStore } from '../../client/message-store.ts'
import { decodeStored } from '../../client/stored-value.ts'
import type { LocalMessage } from './local-client.ts'
import type { AddressedContract, ContractName } from './named-contracts.ts'
import type { StreamRules } from './stream-rules.ts'

export interface LocalDecision {
  readonly contract: ContractName
  /** Where its decisions come out. */
  readonly topic: string
  /** Longest time between two runs. */
  readonly everyMs: number
}

export interface LocalDecisionsOptions {
  /** Whose readings are those of a stream of `sender`. */
  readonly device: DeviceId
  readonly decisions: readonly LocalDecision[]
  readonly rules: Pick<StreamRules, 'contracts' | 'readings'>
  readonly store: MessageStore
  /** Of the keys in the store, unlike every other's. */
  readonly prefix: string
  readonly now: () => Milliseconds
  /** Gives a decision to who has subscribed; who has not gets the next one. */
  readonly publish: (message: LocalMessage) => Promise<void>
  readonly onFailure: (reason: Refusal) => void
}

const formatVersion = 1 as const
const stateCodec = struct<{ version: typeof formatVersion; values: readonly (string | ContractValue)[] }>({
  version: constant(formatVersion),
  values: list(scalarCodec, maxStateVariables),
})

export class LocalDecisions {
  readonly #turns: readonly DecisionTurns[]
  readonly #stopListening: () => void

  /** Begins. */
  constructor(options: LocalDecisionsOptions) {
    this.#turns = options.decisions.map(decision => new DecisionTurns(options, decision))
    this.#stopListening = options.rules.readings.onKept(() => this.run())
    this.run()
  }

  /** Runs all of them now. */
  run(): void {
    for (const turns of this.#turns) turns.run()
  }

  /** Resolves when nothing is run any more. */
  async stop(): Promise<void> {
    this.#stopListening()
    await Promise.all(this.#turns.map(turns => turns.stop()))
  }
}

/** The runs of one contract: one at a time, and one more if anything has happened meanwhile. */
class DecisionTurns {
  readonly #options: LocalDecisionsOptions
  readonly #decision: LocalDecision
  readonly #timer: NodeJS.Timeout
  #runs: Promise<void> = Promise.resolve()
  #isRunning = false
  #isDue = false
  #isStopped = false
  #state: readonly ContractValue[] | undefined

  constructor(options: LocalDecisionsOptions, decision: LocalDecision) {
    this.#options = options
    this.#decision = decision
    this.#timer = setInterval(() => this.run(), decision.everyMs)
  }

  run(): void {
    this.#isDue = true
    if (!this.#isRunning) this.#runs = this.#runAll()
  }

  async stop(): Promise<void> {
    clearInterval(this.#timer)
    this.#isStopped = true
    await this.#runs
  }

  /** Ends in the very turn in which it sees that nothing is due. */
  async #runAll(): Promise<void> {
    this.#isRunning = true
    while (this.#isDue && !this.#isStopped) {
      this.#isDue = false
      try {
        await this.#runOnce()
      } catch (error) {
        this.#options.onFailure(refusalOf(error))
      }
    }
    this.#isRunning = false
  }

  async #runOnce(): Promise<void> {
    const {
      device,
      rules: { contracts, readings },
      publish,
    } = this.#options
    const found = await contracts.get(this.#decision.contract)
    const { address, contract } = found
    const now = this.#options.now()
    this.#state ??= await this.#stored(found)
    const outcome = runOnReadings(contract, {
      from: { device, attested: false },
      values: [],
      lastReading: place => readings.last(place, now),
      state: this.#state,
      now,
    })
    if (outcome.type !== 'decided')
      throw new MoteError('decision-failed', `contract ${contract.name}: ${decisionText(outcome)}`)
    await this.#keep(address, outcome.state)
    const decided = {
      Decision: outcome.decision,
      Values: valuesJson(outcome.values),
      Contract: address,
      Time: now,
    }
    await publish({
      topicName: this.#decision.topic,
      payload: new TextEncoder().encode(JSON.stringify(decided)),
    })
  }

  async #stored({ address, contract }: AddressedContract): Promise<readonly ContractValue[]> {
    const stored = await this.#options.store.get(this.#keyOf(address))
    if (!stored) return initialStateOf(contract)
    return decodeStored(stateCodec, stored, `message store: state of contract ${address}`)
      .values as readonly ContractValue[]
  }

  async #keep(address: ContractAddress, state: readonly ContractValue[]): Promise<void> {
    if (state.every((value, i) => value === this.#state?.[i])) return
    const value = encode(stateCodec, { version: formatVersion, values: state })
    await this.#options.store.write([{ key: this.#keyOf(address), value }])
    this.#state = state
  }

  /** Two decisions of one contract are two contracts, with a state each. */
  #keyOf(address: ContractAddress): string {
    return `${this.#options.prefix}${address}/${this.#decision.topic}`
  }
}
