/**
 * Execution of records (Altaş D3; Hsu C6): what guards let through is on the chain, by standing in its block; of topics that a contract
 * reads, the last reading is kept in the state.
 *
 * Invariants
 * 1. A record that a guard rejects, or on which it fails, changes nothing: no reading, no state. Its receipt names guard and rule.
 * 2. Records of a batch stand or fall each by itself, in order: one sees the readings of those before it. A batch of which none
 *    stands is a failed transaction.
 * 3. A guard takes what a gateway attests only if the contract says so, as it does with calls.
 * 4. Whom a gateway speaks for is an active identity, and every trace of such a record says that it is attested.
 */
import type { ChainEvent } from './block.ts'
import type { ContractAddress, DeviceId } from './brands.ts'
import { guardVerdict, type Reporter, type RunContext, type RunView, runContract } from './contract-runs.ts'
import type { ExecutionContext } from './execution-context.ts'
import { type ExecutionResult, permit, reject } from './outcome.ts'
import type { DeviceRecord } from './record-bodies.ts'
import { refusedBy } from './record-events.ts'
import type { IdentityRecord } from './records.ts'
import { assert } from './result.ts'
import type { StateView } from './state-view.ts'

/** What a record is judged by: its source, the guards of its topic, and what those read. */
export type GuardView = RunView & Pick<StateView, 'identity' | 'topicRules' | 'contract'>

/** Why a record is refused. */
export interface RecordRefusal {
  readonly code: 'rule-violated' | 'invalid-state'
  readonly contract: ContractAddress | undefined
  readonly reason: string
}

/** The device that a record or a call is from. */
export function reporterOf(source: DeviceId | undefined, signer: IdentityRecord): Reporter {
  return { device: source ?? signer.id, attested: source !== undefined }
}

/** Whether a record may stand; undefined if so. */
export function judgeRecord(
  context: RunContext<GuardView>,
  record: Pick<DeviceRecord, 'topic' | 'values'>,
  from: Reporter,
): RecordRefusal | undefined {
  const standing = judgeReporter(context, from)
  if (standing) return standing
  const { view } = context
  for (const address of view.topicRules(record.topic)?.guards ?? []) {
    const guard = view.contract(address)
    assert(guard, 'a contract that guards a topic is not taken away')
    const run = () => runContract(context, guard, { from, values: record.values })
    const reason = guardVerdict(guard.contract, from, run)
    if (reason !== undefined) return { code: 'rule-violated', contract: address, reason }
  }
  return undefined
}

/** A gateway speaks for active identities only; a signer's own standing is judged before its transaction. */
export function judgeReporter(
  { view }: Pick<RunContext<GuardView>, 'view'>,
  from: Reporter,
): RecordRefusal | undefined {
  if (!from.attested) return undefined
  const status = view.identity(from.device)?.status ?? 'unknown'
  if (status === 'active') return undefined
  return { code: 'invalid-state', contract: undefined, reason: `source is ${status}` }
}

/** Keeps the values of a record that stands as last reading, if a contract reads its topic. */
export function keepReading(
  { view, time, height }: ExecutionContext,
  { topic, values }: DeviceRecord,
  from: Reporter,
): void {
  if ((view.topicRules(topic)?.readers ?? 0) > 0) view.putReading({ ...from, topic, values, time, height })
}

/** The failed transaction of a record that is refused. */
export function refusedRecord(
  refusal: RecordRefusal,
  events: readonly ChainEvent[],
): ReturnType<typeof reject> {
  return reject(refusal.code, `record: ${refusedBy(refusal)}`, events)
}

export function refusalEvent(item: number, { contract, reason }: RecordRefusal): ChainEvent {
  return { type: 'record.refused', item, contract, reason }
}

/** Records what one or several devices reported: `record.one` is a batch of one. */
export function executeRecords(
  context: ExecutionContext,
  records: readonly DeviceRecord[],
  signer: IdentityRecord,
): ExecutionResult<readonly ChainEvent[]> {
  const events: ChainEvent[] = []
  let first: RecordRefusal | undefined
  let added = 0
  for (const [item, record] of records.entries()) {
    const from = reporterOf(record.source, signer)
    const refusal = judgeRecord(context, record, from)
    if (refusal) {
      first ??= refusal
      events.push(refusalEvent(item, refusal))
    } else {
      keepReading(context, record, from)
      events.push({ type: 'record.added', item, ...from })
      added++
    }
  }
  return first && added === 0 ? refusedRecord(first, events) : permit(events)
}
