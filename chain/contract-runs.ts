/**
 * Runs of contracts within execution: what a contract sees of the state, and what a run costs.
 *
 * A run sees last readings as they are before the record that it judges: that record's values are its inputs.
 */
import type { DeviceId } from './brands.ts'
import type { StreamDeclaration } from './contracts/contract.ts'
import { evaluateContract, type RunOutcome, type StreamReading } from './contracts/evaluate.ts'
import type { ExecutionContext } from './execution-context.ts'
import type { RecordValue } from './record-bodies.ts'
import type { ContractRecord } from './records.ts'
import { assert } from './result.ts'

/** Whose record or call a run is about. */
export interface Reporter {
  readonly device: DeviceId
  /** By a gateway, or signed by the device. */
  readonly attested: boolean
}

/** Runs a contract on values. Counts its steps, whatever comes of it; writes nothing. */
export function runContract(
  { view, time, steps }: ExecutionContext,
  { address, contract, steps: cost }: ContractRecord,
  { from, values }: { readonly from: Reporter; readonly values: readonly RecordValue[] },
): RunOutcome {
  steps.used += cost
  const remembered = view.contractState(address)
  assert(remembered, 'a contract is put into the state together with what it remembers')
  const reading = ({ device, topic, attested, field }: StreamDeclaration): StreamReading | undefined => {
    const last = view.reading({ device: device ?? from.device, topic, attested })
    return last && { value: last.values.find(({ name }) => name === field)?.value, time: last.time }
  }
  return evaluateContract(contract, {
    inputs: new Map(values.map(({ name, value }) => [name, value])),
    reading,
    state: remembered.values,
    now: time,
  })
}
