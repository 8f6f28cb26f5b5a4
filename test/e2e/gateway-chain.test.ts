/** The gateway and the agents on a real ledger (gateway-on-ledger.ts): what they say to each other, and what the chain has of it. */
import { join } from 'node:path'
import { Packr } from 'msgpackr'
import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import type { ContractAddress } from '../../chain/brands.ts'
import { nobleVerifier } from '../../chain/noble-crypto.ts'
import { MoteError, unwrap } from '../../chain/result.ts'
import { addMembers, createGroup, removeMembers } from '../../client/group-actions.ts'
import { type IdentityKeys, signerOf } from '../../client/key-directory.ts'
import { nativeVerifier } from '../../client/native-crypto.ts'
import { agentChain } from '../../mqtt-gateway/device/agent-chain.ts'
import {
  askGateway,
  verifyChainAnswer,
  verifyContractAnswer,
  verifyDeviceAnswer,
  verifyDevicesAnswer,
  verifyGroupAnswer,
  watchRecords,
} from '../../mqtt-gateway/device/ask.ts'
import { DeviceState } from '../../mqtt-gateway/device/device-state.ts'
import { prefetchKeys } from '../../mqtt-gateway/device/key-prefetch.ts'
import { MqttConnection } from '../../mqtt-gateway/device/mqtt-connection.ts'
import type { Change } from '../../mqtt-gateway/protocol/question.ts'
import { topics } from '../../mqtt-gateway/protocol/topics.ts'
import { sentText, until } from '../support/gateway-fixture.ts'
import { GatewayOnLedger } from '../support/gateway-on-ledger.ts'
import { deployable } from '../support/sample-contract.ts'
import { keysOf } from '../support/test-chain.ts'

const names = ['1111', '1112', '1113', '1114'] as const
const [d1111, d1112, d1113, d1114] = names.map(keysOf) as [
  IdentityKeys,
  IdentityKeys,
  IdentityKeys,
  IdentityKeys,
]

let network: GatewayOnLedger
const agent = (keys: IdentityKeys) => network.agent(keys)

beforeEach(async () => {
  network = await GatewayOnLedger.start(names)
})
afterEach(() => network.stop())

test('gateway on a ledger: a message is checked against certified records, and read by its recipient alone', async () => {
  const [sender, recipient, other] = [await agent(d1111), await agent(d1113), await agent(d1112)]
  const verdict = await sender.agent.send(d1113.id, sentText('pump 2 off'))
  expect(verdict).toMatchObject({ verdict: 'Check', height: network.chain.height })
  await until(() => recipient.texts.length === 1, '1113 reads it')
  expect(recipient.texts).toEqual(['pump 2 off'])
  expect(other.texts).toEqual([])
})

test('gateway on a ledger: a revocation cuts the session within a second of its certification', async () => {
  const [revoked, other] = [await agent(d1111), await agent(d1112)]
  expect(await revoked.agent.send(d1113.id, sentText('before'))).toMatchObject({ verdict: 'Check' })
  expect(await other.agent.send(d1111.id, sentText('before'))).toMatchObject({ verdict: 'Check' })
  const start = performance.now()
  network.chain.revoke(d1111.id)
  await until(() => network.decisions.some(({ event }) => event === 'cut'), 'the cut', 1_000)
  expect(performance.now() - start).toBeLessThan(1_000)
  expect(await revoked.agent.ended).toMatchObject({ code: 'not-authorised' })
  expect(await other.agent.send(d1111.id, sentText('to the revoked'))).toMatchObject({
    verdict: 'Error',
    code: 'recipient-not-active',
  })
})

test('gateway on a ledger: the group run of Hsu C4 with real membership transactions', async () => {
  const [owner, in1112, in1113, in1114] = [
    await agent(d1111),
    await agent(d1112),
    await agent(d1113),
    await agent(d1114),
  ]
  const created = await createGroup(owner.client, d1111, 'hsu0001')
  const group = created.value.record.id
  await addMembers(owner.client, d1111, { group, devices: [d1112.id, d1113.id] })
  expect(await owner.agent.sendToGroup(group, sentText('tank is full'))).toMatchObject({ verdict: 'Check' })
  await until(() => in1112.texts.length === 1 && in1113.texts.length === 1, 'both members read it')
  await removeMembers(owner.client, d1111, { group, devices: [d1113.id] })
  expect(await owner.agent.sendToGroup(group, sentText('without 1113'))).toMatchObject({ verdict: 'Check' })
  await until(() => in1112.texts.length === 2, 'the remaining member reads it')
  expect(in1112.texts).toEqual(['tank is full', 'without 1113'])
  expect(in1113.texts).toEqual(['tank is full'])
  expect(in1114.texts).toEqual([])
})

test('gateway on a ledger: a restarted gateway has the sealed boxes still', async () => {
  const owner = await agent(d1111)
  const group = await network.makeGroup(owner, 'hsu0001', { members: [d1112.id] })
  const { epoch } = (await owner.client.records.group(group)).value!.record
  await owner.agent.close()
  await network.gateway.stop()
  await network.startGateway()
  const member = await agent(d1112)
  expect(await member.agent.sendToGroup(group, sentText('same epoch'))).toMatchObject({ verdict: 'Check' })
  expect((await member.client.records.group(group)).value!.record.epoch).toBe(epoch)
})

test('gateway on a ledger: full nodes stopped, it refuses; when they are back, it goes on', async () => {
  const sender = await agent(d1111)
  expect(await sender.agent.send(d1113.id, sentText('known'))).toMatchObject({ verdict: 'Check' })
  network.source.failure = new MoteError('unreachable', 'switched off')
  // 1112 was never asked for, so nothing proven about it is in memory.
  expect(await sender.agent.send(d1112.id, sentText('unknown'))).toMatchObject({
    verdict: 'Error',
    code: 'unreachable',
  })
  network.source.failure = undefined
  network.chain.append()
  const again = await agent(d1114)
  await network.followed()
  expect(await again.agent.send(d1112.id, sentText('back'))).toMatchObject({ verdict: 'Check' })
})

test('gateway on a ledger: a full node that lies about a record costs a refusal, never a Check', async () => {
  const sender = await agent(d1111)
  network.source.tamperState = answer => ({
    ...answer,
    value: answer.value?.map((byte, i) => (i ? byte : byte ^ 1)),
  })
  expect(await sender.agent.send(d1113.id, sentText('x'))).toMatchObject({
    verdict: 'Error',
    code: 'bad-proof',
  })
})

/** 1111's connection, to ask by. */
async function connected() {
  const connection = await MqttConnection.open({
    gateway: network.address,
    chainId: network.chain.chainId,
    device: d1111.id,
    signer: signerOf(d1111),
    now: () => network.chain.time,
    timeoutMs: 3_000,
  })
  network.closeFirst(() => connection.close())
  return { connection, asker: { connection, device: d1111.id, timeoutMs: 3_000 } }
}

test('gateway on a ledger: a device asks over MQTT and verifies the answer, and any changed byte of it is refused', async () => {
  const { asker } = await connected()
  const proof = await askGateway(asker, { type: 'device', id: d1113.id })
  const judge = (bytes: Uint8Array) =>
    verifyDeviceAnswer(network.chain.checkpoint, d1113.id, bytes, nobleVerifier)
  expect(unwrap(judge(proof))).toMatchObject({ record: { id: d1113.id, status: 'active' } })
  for (let i = 0; i < proof.length; i += 7)
    expect(judge(proof.map((byte, at) => (at === i ? byte ^ 1 : byte))).ok, `byte ${i}`).toBe(false)
  const absent = keysOf('nobody').id
  const absence = await askGateway(asker, { type: 'device', id: absent })
  expect(
    unwrap(verifyDeviceAnswer(network.chain.checkpoint, absent, absence, nobleVerifier)).record,
  ).toBeUndefined()
})

test('gateway on a ledger: it asks for a group, for how the chain is, for the node list and for a contract, and verifies each', async () => {
  const { asker } = await connected()
  const { client } = await agent(d1112)
  const id = (await createGroup(client, d1112, 'hsu0001')).value.record.id
  await addMembers(client, d1112, { group: id, devices: [d1113.id] })
  const counter = deployable({ state: { count: 7 }, set: ['count = count + 1'] })
  const { chain } = network
  chain.perform(chain.operator, { type: 'contract.deploy', contract: counter.bytes })
  const input = { type: 'call', source: undefined, values: [] } as const
  const contract = counter.address
  chain.perform(d1112, { type: 'contract.action', qos: 1, contract, input, publishTopic: undefined })
  await network.followed()
  const trusted = chain.checkpoint
  const asked = {
    contract: await askGateway(asker, { type: 'contract', id: contract }),
    group: await askGateway(asker, { type: 'group', id }),
    chain: await askGateway(asker, { type: 'chain' }),
    devices: await askGateway(asker, { type: 'devices', after: undefined }),
  }
  const judge = {
    contract: (bytes: Uint8Array) => verifyContractAnswer(trusted, contract, bytes, nativeVerifier),
    group: (bytes: Uint8Array) => verifyGroupAnswer(trusted, id, bytes, nativeVerifier),
    chain: (bytes: Uint8Array) => verifyChainAnswer(trusted, bytes, nativeVerifier),
    devices: (bytes: Uint8Array) => verifyDevicesAnswer(trusted, undefined, bytes, nativeVerifier),
  }
  expect(unwrap(judge.group(asked.group))?.members).toEqual([d1112.id, d1113.id].toSorted())
  expect(unwrap(judge.chain(asked.chain))).toMatchObject({
    height: network.chain.height,
    time: network.chain.time,
  })
  const { record, state, height } = unwrap(judge.contract(asked.contract))!
  expect([record.address, record.contract.name, state.version, state.values, height]).toEqual([
    contract,
    'sample',
    1,
    [8],
    chain.height,
  ])
  const told: string[] = []
  asker.connection.onMessage(({ topicName, payload }) => {
    if (topicName === topics.state(asker.device)) told.push(Buffer.from(payload).toString())
  })
  await asker.connection.subscribe(topics.state(asker.device))
  await asker.connection.publish(
    topics.read(asker.device),
    Buffer.from(JSON.stringify({ Address: contract })),
  )
  await until(() => told.length > 0, 'the same in JSON')
  expect(JSON.parse(told[0]!)).toMatchObject({ Address: contract, Decisions: 1, State: { count: 8 } })
  const nowhere = 'ab'.repeat(32) as ContractAddress
  const absence = await askGateway(asker, { type: 'contract', id: nowhere })
  expect(unwrap(verifyContractAnswer(trusted, nowhere, absence, nativeVerifier))).toBeUndefined()
  const { records, next } = unwrap(judge.devices(asked.devices))
  expect(next).toBeUndefined()
  expect(records.map(record => record.id)).toEqual(expect.arrayContaining([d1111.id, d1114.id]))
  for (const name of ['group', 'chain', 'devices', 'contract'] as const)
    for (let i = 0; i < asked[name].length; i += 97)
      expect(
        judge[name](asked[name].map((byte, at) => (at === i ? byte ^ 1 : byte))).ok,
        `${name} ${i}`,
      ).toBe(false)
  // What the gateway cannot answer now is told at once, and ends no connection.
  network.source.failure = new MoteError('unreachable', 'away')
  await expect(askGateway(asker, { type: 'devices', after: undefined })).rejects.toMatchObject({
    code: 'unreachable',
  })
  network.source.failure = undefined
  await vi.waitFor(async () => expect(await askGateway(asker, { type: 'chain' })).toBeDefined(), 10_000)
})

test('gateway on a ledger: who watches a record is sent its change within a second of certification, with the proof', async () => {
  const { connection, asker } = await connected()
  const changes: Change[] = []
  const subject = { type: 'device', id: d1113.id } as const
  await watchRecords(asker, [subject], change => changes.push(change))
  network.chain.append()
  const certifiedAt = performance.now()
  network.chain.revoke(d1113.id)
  await until(() => changes.length > 0, 'the change')
  expect(performance.now() - certifiedAt).toBeLessThan(1_000)
  expect(changes).toHaveLength(1)
  expect(changes[0]!.subject).toEqual(subject)
  const told = verifyDeviceAnswer(network.chain.checkpoint, d1113.id, changes[0]!.proof!, nativeVerifier)
  expect(unwrap(told).record?.status).toBe('revoked')
  // More than a watch may have is refused, and what was watched stays.
  const errors: string[] = []
  connection.onMessage(({ topicName, payload }) => {
    if (topicName === topics.error(d1111.id))
      errors.push((JSON.parse(Buffer.from(payload).toString()) as { code: string }).code)
  })
  await connection.subscribe(topics.error(d1111.id))
  const items = Array.from({ length: 17 }, () => [1, [Buffer.from(d1113.id, 'hex')]])
  await connection.publish(
    topics.watch(d1111.id),
    new Uint8Array(new Packr({ useRecords: false }).pack([1, items])),
  )
  await until(() => errors.length === 1, 'a refusal')
  expect(errors).toEqual(['malformed'])
  await watchRecords(asker, [], () => {})
})

test('gateway on a ledger: an agent that listens has a copy of every key before the first contact, and mends none', async () => {
  const { client } = await agent(d1112)
  const state = await DeviceState.open(join(network.directory, '1112'))
  const altered = { key: d1114.encryption.publicKey, height: network.chain.height }
  await state.setContact(d1113.id, altered)
  const prefetching = { device: d1112.id, chain: agentChain(client, d1112), state }
  expect(await prefetchKeys(prefetching)).toBeGreaterThanOrEqual(2)
  expect(unwrap(await state.contact(d1111.id))?.key).toEqual(d1111.encryption.publicKey)
  expect(unwrap(await state.contact(d1113.id))?.key, 'the altered copy').toEqual(altered.key)
  expect(unwrap(await state.contact(d1112.id)), 'none of its own').toBeUndefined()
  expect(await prefetchKeys(prefetching)).toBe(0)
})

test('gateway on a ledger: after a revocation the members that listen make a new epoch, before anybody sends', async () => {
  const [owner, member, other] = [await agent(d1111), await agent(d1112), await agent(d1113)]
  const id = await network.makeGroup(owner, 'hsu0001', { members: [d1112.id, d1113.id] })
  await owner.agent.sendToGroup(id, sentText('with 1113'))
  await until(() => other.texts.length === 1, '1113 reads it')
  const groupNow = async () => (await owner.client.records.group(id)).value?.record
  // One more if the members were faster than the owner, who took more than a second.
  const { epoch: before } = (await groupNow())!
  network.chain.revoke(d1113.id)
  const after = { epoch: before + 1, memberCount: 2 }
  await vi.waitFor(async () => expect(await groupNow()).toMatchObject(after), 10_000)
  // Both have its key: the sender re-keys nothing, and the other reads.
  expect(await member.agent.sendToGroup(id, sentText('without 1113'))).toMatchObject({ verdict: 'Check' })
  await until(() => owner.texts.includes('without 1113'), 'who stays reads it')
  expect(await groupNow()).toMatchObject(after)
})
