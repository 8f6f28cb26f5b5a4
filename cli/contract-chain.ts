/** `mote contract deploy|show|list|call|guard|retire`: contracts on the chain. Reads are proven. */
import type { Command } from 'commander'
import type { DeviceId } from '../chain/brands.ts'
import { contractOfDocument, contractStanding, documentOfContract } from '../chain/contracts/document.ts'
import { exitCodes } from '../chain/errors.ts'
import type { Qos } from '../chain/record-bodies.ts'
import type { TopicRulesRecord } from '../chain/records.ts'
import { MoteError, unwrap } from '../chain/result.ts'
import {
  type DeployedContract,
  deployContract,
  guardTopic,
  readContract,
  retireContract,
} from '../client/contract-actions.ts'
import { readContractFile } from '../client/contract-file.ts'
import { contractPage } from '../client/record-list.ts'
import { valuesOfCall } from '../client/record-values.ts'
import type { Verified } from '../client/verified-chain.ts'
import { type ChainAccess, operatorKeys } from '../devnet/access.ts'
import { newestHead, openChain } from './chain-access.ts'
import type { AddCommand } from './command.ts'
import type { Context } from './context.ts'
import { rememberContract, requireContract } from './contract-names.ts'
import { gather } from './lists.ts'
import { provenance, shortId } from './output.ts'
import { decisionJson } from './placed-records.ts'
import { heightOf, indexOf, provenBlock } from './proven-blocks.ts'
import { qosOption, recordTopic, submitReport } from './record.ts'

interface CallOptions {
  readonly from: string
  readonly values?: string
  readonly publish?: string
  readonly qos?: Qos
}

/** Contracts that one list shows. */
const maxListedContracts = 1_000

export function contractChainCommands(family: Command, add: AddCommand): void {
  add({
    parent: family,
    usage: 'deploy <file>',
    description: "put a contract on the chain (an operator's transaction); prints its address",
    notes:
      'The address is the hash of the contract: another version has another one. Names of devices in the file are looked up here.',
    action: deploy,
  })
  add({
    parent: family,
    usage: 'show <contract>',
    description: 'a contract, and what it remembers, verified',
    action: show,
  })
  add({
    parent: family,
    usage: 'list',
    description: "the contracts of the chain, each verified; that none is missing is one node's word",
    action: list,
  })
  add<CallOptions>({
    parent: family,
    usage: 'call <contract>',
    description: 'have a contract decide on values, without a record',
    options: [
      { flags: '--from <name>', description: 'the device that signs', required: true },
      { flags: '--values <json>', description: 'an object of numbers, booleans and texts' },
      { flags: '--publish <topic>', description: 'where the decision is to be published' },
      qosOption,
    ],
    exits: { [exitCodes.predicateFalse]: 'it came to no decision' },
    action: call,
  })
  add({
    parent: family,
    usage: 'guard <topic> [contracts...]',
    description: "set the contracts that guard a topic, none for none (an operator's transaction)",
    notes: 'A record on the topic that a guard rejects, or on which it fails, is not recorded.',
    action: guard,
  })
  add({
    parent: family,
    usage: 'retire <contract>',
    description: "end a contract for good (an operator's transaction); what it remembers stays",
    action: retire,
  })
}

async function deploy(context: Context, [file = '']: readonly string[]): Promise<number> {
  const document = await readContractFile(file)
  const access = await openChain(context)
  const ids = new Map<string, DeviceId>((await access.keys.names()).map(({ name, id }) => [name, id]))
  const contract = unwrap(contractOfDocument(document, name => ids.get(name)))
  const { timeoutMs } = context
  const deployed = await deployContract(access.client, await operatorKeys(access), contract, { timeoutMs })
  await rememberContract(access.directory, contract.name, deployed.record.address)
  return print(context, deployed)
}

async function show(context: Context, [name = '']: readonly string[]): Promise<number> {
  const access = await openChain(context)
  const address = await requireContract(access.directory, name)
  const { trustTtlMs: maxAgeMs } = access.description
  return print(context, await readContract(access.client, address, { maxAgeMs }))
}

async function retire(context: Context, [name = '']: readonly string[]): Promise<number> {
  const access = await openChain(context)
  const address = await requireContract(access.directory, name)
  const { timeoutMs } = context
  return print(
    context,
    await retireContract(access.client, await operatorKeys(access), address, { timeoutMs }),
  )
}

function contractJson({ record, state }: DeployedContract) {
  const { contract, address, steps, deployer, deployedAt, retiredAt, guarded } = record
  const { height, term, ageMs } = state
  const standing = contractStanding(record, state.value)
  return {
    address,
    name: contract.name,
    version: contract.version,
    status: standing.status,
    deployer,
    deployedAt,
    retiredAt: retiredAt ?? null,
    guarded,
    steps,
    decisions: standing.decisions,
    state: standing.state,
    contract: documentOfContract(contract),
    height,
    term,
    ageMs,
    verified: true,
  }
}

function print({ output }: Context, deployed: DeployedContract): number {
  const answer = contractJson(deployed)
  output.data(answer, () =>
    [
      output.fields({
        address: answer.address,
        name: `${answer.name} ${answer.version}`,
        about: deployed.record.contract.about || undefined,
        status: answer.status,
        'deployed by': shortId(answer.deployer),
        'deployed at height': answer.deployedAt,
        'guarded topics': answer.guarded,
        'steps at most': answer.steps,
        decisions: answer.decisions,
        state: JSON.stringify(answer.state),
      }),
      JSON.stringify(answer.contract, undefined, 2),
      `verified ${provenance(answer)}`,
    ].join('\n'),
  )
  return exitCodes.ok
}

async function list(context: Context): Promise<number> {
  const access = await openChain(context)
  const { output } = context
  const contracts = (await allContracts(access)).map(contractJson).sort((a, b) => (a.name < b.name ? -1 : 1))
  const asOf = newestHead(access)
  output.data({ contracts, verified: true, complete: false, asOf }, () =>
    [
      output.table(contracts, {
        address: row => row.address,
        name: row => row.name,
        version: row => row.version,
        status: row => row.status,
        decisions: row => row.decisions,
        state: row => JSON.stringify(row.state),
      }),
      `verified ${provenance(asOf)}; that none is missing is one node's word`,
    ].join('\n'),
  )
  return exitCodes.ok
}

async function allContracts({ client }: ChainAccess): Promise<readonly DeployedContract[]> {
  const { ids } = await gather({ limit: maxListedContracts }, after => contractPage(client, after))
  const contracts: DeployedContract[] = []
  for (const address of ids.slice(0, maxListedContracts)) contracts.push(await readContract(client, address))
  return contracts
}

async function guard(context: Context, [topic = '', ...names]: readonly string[]): Promise<number> {
  const access = await openChain(context)
  const guards = await Promise.all(names.map(name => requireContract(access.directory, name)))
  const { timeoutMs } = context
  const rules = { topic: recordTopic(topic), guards }
  const set = await guardTopic(access.client, await operatorKeys(access), rules, { timeoutMs })
  return printRules(context, set)
}

function printRules({ output }: Context, { value, height, term, ageMs }: Verified<TopicRulesRecord>): number {
  if (!value) throw new MoteError('not-found', 'topic: has no guards')
  const answer = { ...value, height, term, ageMs, verified: true }
  output.data(answer, () =>
    [
      output.fields({
        topic: value.topic,
        guards: value.guards.join(', ') || 'none',
        readers: value.readers,
      }),
      `verified ${provenance(answer)}`,
    ].join('\n'),
  )
  return exitCodes.ok
}

function readValues(text: string): ReturnType<typeof valuesOfCall> {
  try {
    return valuesOfCall(JSON.parse(text))
  } catch (error) {
    throw error instanceof MoteError
      ? error
      : new MoteError('usage', `values: expected a JSON object, got ${text}`, { cause: error })
  }
}

async function call(
  context: Context,
  [name = '']: readonly string[],
  { from, values = '{}', publish, qos = 1 }: CallOptions,
): Promise<number> {
  const input = { type: 'call', source: undefined, values: readValues(values) } as const
  const publishTopic = publish === undefined ? undefined : recordTopic(publish)
  const access = await openChain(context)
  const contract = await requireContract(access.directory, name)
  const body = { type: 'contract.action', contract, input, publishTopic, qos } as const
  const id = await submitReport(access, from, body, context.timeoutMs)
  const block = await provenBlock(access, await heightOf(access, id))
  const index = indexOf(block, id)
  const event = block.receipts[index]?.events.findIndex(({ type }) => type === 'contract.decided') ?? -1
  const decided = block.receipts[index]?.events[event]
  const decision = decided?.type === 'contract.decided' ? decisionJson(decided) : undefined
  if (!decision) throw new MoteError('bad-proof', `transaction ${id}: decided nothing`)
  const { height, time, term } = block.header
  const answer = {
    ...decision,
    transaction: id,
    event: { height, index, event },
    time: new Date(time).toISOString(),
  }
  const { output } = context
  output.data({ ...answer, verified: true }, () =>
    [
      output.fields({
        decision: decision.decision,
        values: JSON.stringify(decision.values),
        'publish on': decision.publishTopic,
        event: `${height}.${index}.${event}`,
      }),
      `verified ${provenance({ height, term, ageMs: access.client.records.ageMs() })}`,
    ].join('\n'),
  )
  return decision.failed ? exitCodes.predicateFalse : exitCodes.ok
}
