/**
 * What operators do with contracts: deploy, retire, guard a topic. Each action waits until it is certified and hands back what is proven
 * to stand then.
 */
import type { ContractAddress } from '../chain/brands.ts'
import { type Contract, encodedContract } from '../chain/contracts/contract.ts'
import {
  type ContractRecord,
  type ContractStateRecord,
  contractRecordCodec,
  contractStateCodec,
  stateKeyOf,
  type TopicRulesRecord,
  topicIdOf,
  topicRulesCodec,
} from '../chain/records.ts'
import { MoteError } from '../chain/result.ts'
import type { ChainClient } from './chain-client.ts'
import type { IdentityKeys } from './key-directory.ts'
import type { SubmitOptions } from './submission.ts'
import type { ReadOptions, Verified } from './verified-chain.ts'

/** A contract and what it remembers. */
export interface DeployedContract {
  readonly record: ContractRecord
  readonly state: Verified<ContractStateRecord>
}

/** The contract at an address, verified. Throws `unknown-contract` if it is proven absent. */
export async function readContract(
  { records }: ChainClient,
  address: ContractAddress,
  options?: ReadOptions,
): Promise<DeployedContract> {
  const { value: record } = await records.leaf(stateKeyOf.contract(address), contractRecordCodec, options)
  if (!record) throw new MoteError('unknown-contract', `contract ${address}: not on the chain`)
  return {
    record,
    state: await records.leaf(stateKeyOf.contractState(address), contractStateCodec, options),
  }
}

/** Puts a contract on the chain. One that is there already is left as it is, unless it is retired (`already-exists`). */
export async function deployContract(
  client: ChainClient,
  operator: IdentityKeys,
  contract: Contract,
  options?: SubmitOptions,
): Promise<DeployedContract> {
  const { bytes, address } = encodedContract(contract)
  await client.follower.sync()
  const before = await client.records.leaf(stateKeyOf.contract(address), contractRecordCodec)
  if (before.value?.retiredAt !== undefined)
    throw new MoteError('already-exists', `contract ${address}: is retired; give it another version`)
  if (!before.value) await client.perform(operator, { type: 'contract.deploy', contract: bytes }, options)
  return readContract(client, address)
}

/** Ends a contract. Throws `unknown-subject`, `invalid-state`. */
export async function retireContract(
  client: ChainClient,
  operator: IdentityKeys,
  address: ContractAddress,
  options?: SubmitOptions,
): Promise<DeployedContract> {
  await client.perform(operator, { type: 'contract.retire', contract: address }, options)
  return readContract(client, address)
}

/** Replaces the guards of a topic. Throws `unknown-subject`, `version-conflict`. */
export async function guardTopic(
  client: ChainClient,
  operator: IdentityKeys,
  rules: { readonly topic: string; readonly guards: readonly ContractAddress[] },
  options?: SubmitOptions,
): Promise<Verified<TopicRulesRecord>> {
  const { topic } = rules
  const guards = [...new Set(rules.guards)].sort()
  await client.follower.sync()
  const expectedVersion = (await topicRules(client, topic)).value?.version ?? 0
  await client.perform(operator, { type: 'contract.guard', topic, expectedVersion, guards }, options)
  return topicRules(client, topic)
}

/** The guards of a topic; proven absent where there never were any, nor a contract that reads it. */
export function topicRules({ records }: ChainClient, topic: string): Promise<Verified<TopicRulesRecord>> {
  return records.leaf(stateKeyOf.topic(topicIdOf(topic)), topicRulesCodec)
}
