/**
 * Runs of contracts on what is known of devices: within execution on the state, elsewhere (a gateway, an agent) on what is proven or kept there. What
 * a contract sees, and what it says as a guard, is the same wherever it runs.
 *
 * A run sees last readings as they are before the record that it judges: that record's values are its inputs.
 */
import type { DeviceId, Milliseconds } from './brands.ts'
import type { Contract, StreamDeclaration } from './contracts/contract.ts'
import {
  type ContractValue,
  evaluateContract,
  type RunOutcome,
  type StreamReading,
} from './contracts/evaluate.ts'
import type { RecordValue } from './record-bodies.ts'
import type { ContractRecord, ReadingRecord } from './records.ts'
import { assert } from './result.ts'
import type { StateView } from './state-view.ts'

/** What a run reads of the state. */
export type RunView = Pick<StateView, 'contractState' | 'reading'>

/** What a run sees: of a block that is executed, or of what somebody else has proven of the state. */
export interface RunContext<View = RunView> {
  readonly view: View
  /** Block time. */
  readonly time: Milliseconds
  /** What contracts have cost so far. */
  readonly steps: { used: number }
}

/** Whose record or call a run is about. */
export interface Reporter {
  readonly device: DeviceId
  /** By a gateway, or signed by the device. */
  readonly attested: boolean
}

/** Readings of one device on one topic. */
export interface ReadingPlace extends Reporter {
  readonly topic: string
}

/** What a run goes by. */
export interface RunGround {
  readonly from: Reporter
  /** Of the record or the call. */
  readonly values: readonly RecordValue[]
  readonly lastReading: (place: ReadingPlace) => Pick<ReadingRecord, 'values' | 'time'> | undefined
  /** One for each state variable, in their order. */
  readonly state: readonly ContractValue[]
  /** In milliseconds: on the chain block time. */
  readonly now: number
}

/** Runs a contract. Pure; writes nothing. */
export function runOnReadings(
  contract: Contract,
  { from, values, lastReading, state, now }: RunGround,
): RunOutcome {
  const reading = ({ device, topic, attested, field }: StreamDeclaration): StreamReading | undefined => {
    const last = lastReading({ device: device ?? from.device, topic, attested })
    return last && { value: last.values.find(({ name }) => name === field)?.value, time: last.time }
  }
  const inputs = new Map(values.map(({ name, value }) => [name, value]))
  return evaluateContract(contract, { inputs, reading, state, now })
}

/** Runs a contract in execution. Counts its steps, whatever comes of it; writes nothing. */
export function runContract(
  { view, time, steps }: RunContext,
  { address, contract, steps: cost }: ContractRecord,
  { from, values }: Pick<RunGround, 'from' | 'values'>,
): RunOutcome {
  steps.used += cost
  const remembered = view.contractState(address)
  assert(remembered, 'a contract is put into the state together with what it remembers')
  const lastReading = (place: ReadingPlace) => view.reading(place)
  return runOnReadings(contract, { from, values, lastReading, state: remembered.values, now: time })
}

/**
 * Why a contract that guards does not let a record through: the name of the rule, why it came to no answer and where, or that it does not
 * take what a gateway attests. Undefined if it lets it through.
 * @param run on the record's values; not called if the contract does not take the record at all
 */
export function guardVerdict(contract: Contract, from: Reporter, run: () => RunOutcome): string | undefined {
  // Its rules may compare with signed readings: a plain client has none, and would pass each step.
  if (from.attested && !contract.attested) return 'attested-not-allowed'
  const outcome = run()
  if (outcome.type === 'violated') return outcome.rule
  return outcome.type === 'failed' ? `${outcome.reason} in ${outcome.place}` : undefined
}
