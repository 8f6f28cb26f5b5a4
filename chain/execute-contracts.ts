/**
 * Execution of contracts (Altaş D4): deploying, retiring, guarding topics, and actions.
 *
 * Invariants
 * 1. A contract in the state has passed the check, and its address is the hash of its bytes: it never changes.
 * 2. An action whose record stands is executed, whatever the contract says: a run that fails, and a call that the contract does not
 *    take, is a decision `failed: …` on record; nothing is to be published then, and the contract remembers what it did before.
 * 3. A contract sees the readings before the record of its own action.
 * 4. A contract that guards a topic is not retired; `guarded` counts its topics. `readers` of a topic counts the contracts that read it
 *    and are not retired.
 */
import type { ChainEvent } from './block.ts'
import type { ContractAddress } from './brands.ts'
import { decode } from './codec.ts'
import { type Reporter, runContract } from './contract-runs.ts'
import { checkContract } from './contracts/check.ts'
import { type Contract, contractAddressOf, contractCodec } from './contracts/contract.ts'
import { maxContractBytes } from './contracts/contract-limits.ts'
import { type ContractValue, decisionText, initialStateOf } from './contracts/evaluate.ts'
import {
  judgeRecord,
  judgeReporter,
  keepReading,
  refusalEvent,
  refusedRecord,
  reporterOf,
} from './execute-records.ts'
import type { ExecutionContext } from './execution-context.ts'
import { maxEditedVersion } from './limits.ts'
import { type ExecutionResult, permit, reject } from './outcome.ts'
import type {
  ContractActionBody,
  ContractDeployBody,
  ContractGuardBody,
  ContractRetireBody,
  RecordValue,
} from './record-bodies.ts'
import type { ContractRecord, IdentityRecord, TopicRulesRecord } from './records.ts'
import { covers } from './rights.ts'

type Events = ExecutionResult<readonly ChainEvent[]>

/** Puts a contract on the chain with its initial state. */
export function executeDeploy(
  { view, height }: ExecutionContext,
  { contract: bytes }: ContractDeployBody,
  deployer: IdentityRecord,
): Events {
  const read = decode(contractCodec, bytes, maxContractBytes)
  if (!read.ok) return reject('contract-invalid', read.error.detail)
  const checked = checkContract(read.value)
  if (!checked.ok) return reject('contract-invalid', checked.error.detail)
  const address = contractAddressOf(bytes)
  if (view.contract(address)) return reject('already-exists', `contract ${address}: deployed before`)
  view.putContract({
    address,
    contract: read.value,
    steps: checked.value.steps,
    deployer: deployer.id,
    deployedAt: height,
    retiredAt: undefined,
    guarded: 0,
  })
  view.putContractState({ address, version: 0, values: initialStateOf(read.value), updatedAt: height })
  countReaders(view, read.value, 1)
  return permit([{ type: 'contract.deployed', contract: address }])
}

/** A retired contract decides nothing any more; its record and what it remembered stay. */
export function executeRetire(
  { view, height }: ExecutionContext,
  { contract: address }: ContractRetireBody,
): Events {
  const record = view.contract(address)
  if (!record) return reject('unknown-subject', `contract: none at ${address}`)
  if (record.retiredAt !== undefined) return reject('invalid-state', `contract ${address}: is retired`)
  if (record.guarded > 0)
    return reject('invalid-state', `contract ${address}: guards ${record.guarded} topics`)
  view.putContract({ ...record, retiredAt: height })
  countReaders(view, record.contract, -1)
  return permit([{ type: 'contract.retired', contract: address }])
}

function countReaders(view: ExecutionContext['view'], { streams }: Contract, by: 1 | -1): void {
  for (const topic of new Set(streams.map(stream => stream.topic))) {
    const rules = rulesOf(view, topic)
    view.putTopicRules({ ...rules, readers: rules.readers + by })
  }
}

function rulesOf(view: ExecutionContext['view'], topic: string): TopicRulesRecord {
  return view.topicRules(topic) ?? { topic, version: 0, guards: [], readers: 0 }
}

/** Sets the guards of a topic. */
export function executeGuard(
  { view }: ExecutionContext,
  { topic, expectedVersion, guards }: ContractGuardBody,
): Events {
  const rules = rulesOf(view, topic)
  if (rules.version !== expectedVersion)
    return reject(
      'version-conflict',
      `version of the guards: expected ${rules.version}, got ${expectedVersion}`,
    )
  if (rules.version >= maxEditedVersion)
    return reject('limit-exceeded', `version of the guards: expected less than ${maxEditedVersion}`)
  for (const address of guards)
    if (activeContract(view, address) === undefined)
      return reject('unknown-subject', `contract: none that is active at ${address}`)
  const count = (addresses: readonly ContractAddress[], by: 1 | -1): void => {
    for (const address of addresses) {
      const record = view.contract(address) as ContractRecord
      view.putContract({ ...record, guarded: record.guarded + by })
    }
  }
  count(
    rules.guards.filter(address => !guards.includes(address)),
    -1,
  )
  count(
    guards.filter(address => !rules.guards.includes(address)),
    1,
  )
  const version = rules.version + 1
  view.putTopicRules({ ...rules, version, guards })
  return permit([{ type: 'contract.guards', topic, version }])
}

function activeContract(
  view: ExecutionContext['view'],
  address: ContractAddress,
): ContractRecord | undefined {
  const record = view.contract(address)
  return record?.retiredAt === undefined ? record : undefined
}

/** Records what came with the action, if anything did, and runs the contract on it. */
export function executeAction(
  context: ExecutionContext,
  body: ContractActionBody,
  signer: IdentityRecord,
): Events {
  const { input } = body
  const record = input.type === 'record' ? input.record : undefined
  const { source, values } = input.type === 'record' ? input.record : input
  const from = reporterOf(source, signer)
  const refusal = record ? judgeRecord(context, record, from) : judgeReporter(context, from)
  if (refusal) return refusedRecord(refusal, record ? [refusalEvent(0, refusal)] : [])
  const decided = decide(context, body, { from, values })
  if (!record) return permit([decided])
  keepReading(context, record, from)
  return permit([{ type: 'record.added', item: 0, ...from }, decided])
}

interface Decision {
  readonly failed: boolean
  readonly decision: string
  readonly values: readonly RecordValue[]
}

function decide(
  context: ExecutionContext,
  { contract: address, publishTopic, qos }: ContractActionBody,
  given: { readonly from: Reporter; readonly values: readonly RecordValue[] },
): ChainEvent {
  const record = activeContract(context.view, address)
  const objection = record ? objectionOf(record.contract, given.from, publishTopic) : 'unknown-contract'
  const decision =
    record && objection === undefined ? run(context, record, given) : failedDecision(`failed: ${objection}`)
  return {
    type: 'contract.decided',
    contract: address,
    caller: given.from.device,
    attested: given.from.attested,
    ...decision,
    publishTopic: decision.failed ? undefined : publishTopic,
    qos,
  }
}

/** Why a contract does not take a call; undefined if it does. */
function objectionOf(
  { callers, attested, publish }: Contract,
  from: Reporter,
  publishTopic: string | undefined,
): string | undefined {
  if (callers && !callers.includes(from.device)) return 'caller-not-allowed'
  if (from.attested && !attested) return 'attested-not-allowed'
  if (publishTopic !== undefined && !publish.some(filter => covers(filter, publishTopic)))
    return 'topic-not-allowed'
  return undefined
}

function failedDecision(decision: string): Decision {
  return { failed: true, decision, values: [] }
}

function run(
  context: ExecutionContext,
  record: ContractRecord,
  given: Parameters<typeof runContract>[2],
): Decision {
  const outcome = runContract(context, record, given)
  if (outcome.type !== 'decided') return failedDecision(decisionText(outcome))
  remember(context, record.address, outcome.state)
  return { failed: false, decision: outcome.decision, values: outcome.values }
}

/** A contract without state variables remembers only how often it has decided. */
function remember(
  { view, height }: ExecutionContext,
  address: ContractAddress,
  values: readonly ContractValue[],
): void {
  const version = Math.min((view.contractState(address)?.version ?? 0) + 1, 0xffff_ffff)
  view.putContractState({ address, version, values, updatedAt: height })
}
