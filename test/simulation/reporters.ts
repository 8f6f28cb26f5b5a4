/**
 * A device of a simulated chain that records readings and has a contract decide about them, under all faults. A model that knows nothing of
 * execution counts along, in the order in which the judge saw transactions executed: after each block the contract must remember exactly
 * what the model does, and the last reading must be the last one that stands. So a record that counts twice, one that is acknowledged and
 * does not count, and state that a failed run leaves are seen at once.
 */
import type { ContractAddress, TransactionId } from '../../chain/brands.ts'
import { decodeOwn } from '../../chain/codec.ts'
import type { Ledger } from '../../chain/ledger.ts'
import { contractStateCodec, readingCodec, stateKeyOf, streamIdOf } from '../../chain/records.ts'
import { unwrap } from '../../chain/result.ts'
import { get } from '../../chain/state-tree.ts'
import { parseTransaction, type TransactionBody } from '../../chain/transaction.ts'
import { deployable } from '../support/sample-contract.ts'
import type { SampleIdentity } from '../support/sample-genesis.ts'
import type { Clients } from './clients.ts'
import type { Site } from './host.ts'
import type { Judge } from './judge.ts'
import { OperatorSteps } from './operator-steps.ts'
import type { SeededRandom } from './random.ts'
import { must } from './violation.ts'

export interface ReportersParts {
  readonly site: Site
  readonly random: SeededRandom
  readonly judge: Judge
  readonly clients: Clients
  readonly device: SampleIdentity
  readonly operator: SampleIdentity
}

const topic = 'load'
const triesMax = 6
/** Fails at 0, where it has no inverse. */
const counter = deployable({
  name: 'counter',
  inputs: { load: 'number' },
  streams: { before: { topic, field: 'load' } },
  state: { count: 0, sum: 0, inverse: 0 },
  decide: [{ say: 'counted' }],
  set: ['count = count + 1', 'sum = sum + load', 'inverse = 1 / load'],
})
const guard = deployable({
  name: 'load-guard',
  inputs: { load: 'number' },
  rules: ['range = load >= 0'],
  decide: [{ say: 'plausible' }],
})

/** What the contract should remember, and the last reading. */
interface Model {
  readonly count: number
  readonly sum: number
  readonly inverse: number
  readonly reading: number | undefined
}

export class Reporters {
  readonly #parts: ReportersParts
  readonly #steps: OperatorSteps
  /** Readings by the transactions that carry them. */
  readonly #loads = new Map<TransactionId, number>()
  #model: Model = { count: 0, sum: 0, inverse: 0, reading: undefined }
  #judgedHeight = 0
  #stopped = false
  #busy = 0
  /** Blocks after which contract and model were compared, and runs that failed. */
  compared = 0
  failures = 0

  constructor(parts: ReportersParts) {
    this.#parts = parts
    this.#steps = new OperatorSteps(parts)
  }

  get idle(): boolean {
    return this.#stopped && this.#busy === 0 && this.#steps.idle
  }

  stop(): void {
    this.#stopped = true
    this.#steps.stop()
  }

  /** Deploys, guards, and then reports as long as nobody stops it. */
  start(): void {
    const steps: readonly TransactionBody[] = [
      { type: 'contract.deploy', contract: counter.bytes },
      { type: 'contract.deploy', contract: guard.bytes },
      { type: 'contract.guard', topic, expectedVersion: 0, guards: [guard.address] },
    ]
    this.#steps.run(steps, () => this.#think())
  }

  #send(bytes: Uint8Array, then: () => void): void {
    this.#busy++
    this.#parts.clients.submitUntil(bytes, triesMax, () => {
      this.#busy--
      then()
    })
  }

  #think(): void {
    const { random, site } = this.#parts
    site.timeline.schedule(random.exponential(150), undefined, 'report', () => {
      this.judgeBlocks()
      if (this.#stopped) return
      this.#report()
      this.#think()
    })
  }

  /** Some are sent by two ways at once, as by a device that missed its answer. */
  #report(): void {
    const { random, device } = this.#parts
    const load = random.below(8) - 2
    const bytes = this.#sign(device, actionOf(counter.address, load))
    this.#loads.set(unwrap(parseTransaction(bytes)).id, load)
    this.#send(bytes, () => {})
    if (random.chance(0.3)) this.#send(bytes, () => {})
  }

  /** Compares the contract with the model after each block that is new. */
  judgeBlocks(): void {
    const { judge } = this.#parts
    if (judge.highestBlock === this.#judgedHeight) return
    const executed = Map.groupBy(
      [...this.#loads].flatMap(([id, load]) => {
        const place = judge.executions.get(id)
        return place && place.height > this.#judgedHeight ? [{ ...place, load }] : []
      }),
      ({ height }) => height,
    )
    for (let height = this.#judgedHeight + 1; height <= judge.highestBlock; height++) {
      const block = judge.block(height)
      // A block that nobody but a crashed node has executed is judged when another one has.
      if (!block) return
      for (const { code, load } of (executed.get(height) ?? []).sort((a, b) => a.index - b.index))
        this.#count(code, load)
      this.#compare(height, block.ledger)
      this.#judgedHeight = height
    }
  }

  #count(code: string, load: number): void {
    must(
      code === (load < 0 ? 'rule-violated' : 'ok'),
      'a guard rejects what violates its rule',
      `${load}: ${code}`,
    )
    if (load < 0) return
    const { count, sum } = this.#model
    if (load === 0) this.failures++
    this.#model =
      load === 0
        ? { ...this.#model, reading: load }
        : { count: count + 1, sum: sum + load, inverse: 1 / load, reading: load }
  }

  #compare(height: number, { tree }: Ledger): void {
    const { count, sum, inverse, reading } = this.#model
    const state = get(tree, stateKeyOf.contractState(counter.address))
    const remembered = state && decodeOwn(contractStateCodec, state)
    const stream = streamIdOf({ device: this.#parts.device.id, topic, attested: false })
    const last = get(tree, stateKeyOf.reading(stream))
    const lastLoad = last && decodeOwn(readingCodec, last).values[0]?.value
    const got = [remembered?.version ?? 0, ...(remembered?.values ?? [0, 0, 0]), lastLoad]
    const expected = [count, count, sum, inverse, reading]
    must(
      got.every((value, i) => value === expected[i]),
      'a contract remembers each decision once, and no failure',
      `block ${height}: expected ${expected}, got ${got}`,
    )
    this.compared++
  }

  #sign(who: SampleIdentity, body: TransactionBody): Uint8Array {
    const { random, clients } = this.#parts
    return clients.signed(who, body, { random })
  }
}

function actionOf(contract: ContractAddress, load: number): TransactionBody {
  const record = {
    source: undefined,
    topic,
    payload: new Uint8Array(0),
    values: [{ name: 'load', value: load }],
    claimedTime: undefined,
    messageId: undefined,
  }
  return {
    type: 'contract.action',
    qos: 1,
    contract,
    input: { type: 'record', record },
    publishTopic: undefined,
  }
}
