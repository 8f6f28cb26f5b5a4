/**
 * The gateway and the agents on a real ledger: real transactions, certificates and proofs through the header
 * follower and verified reads, on a real MQTT wire. Only Raft, storage and the network between nodes are left out.
 */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Packr } from 'msgpackr'
import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { nobleVerifier } from '../../chain/noble-crypto.ts'
import { MoteError, unwrap } from '../../chain/result.ts'
import { ChainClient } from '../../client/chain-client.ts'
import { addMembers, createGroup, removeMembers } from '../../client/group-actions.ts'
import { type IdentityKeys, signerOf } from '../../client/key-directory.ts'
import { nativeVerifier } from '../../client/native-crypto.ts'
import { DeviceAgent } from '../../mqtt-gateway/device/agent.ts'
import { agentChain } from '../../mqtt-gateway/device/agent-chain.ts'
import {
  askGateway,
  verifyChainAnswer,
  verifyDeviceAnswer,
  verifyDevicesAnswer,
  verifyGroupAnswer,
  watchRecords,
} from '../../mqtt-gateway/device/ask.ts'
import { DeviceState } from '../../mqtt-gateway/device/device-state.ts'
import { prefetchKeys } from '../../mqtt-gateway/device/key-prefetch.ts'
import { MqttConnection } from '../../mqtt-gateway/device/mqtt-connection.ts'
import { chainTrust } from '../../mqtt-gateway/protocol/chain-trust.ts'
import type { DecisionLine } from '../../mqtt-gateway/protocol/decision-log.ts'
import type { Change } from '../../mqtt-gateway/protocol/question.ts'
import { topics } from '../../mqtt-gateway/protocol/topics.ts'
import { aedesBroker } from '../../mqtt-gateway/server/aedes-broker.ts'
import { fileBoxStore } from '../../mqtt-gateway/server/boxes.ts'
import type { BrokerAddress } from '../../mqtt-gateway/server/broker.ts'
import { Gateway } from '../../mqtt-gateway/server/gateway.ts'
import { sentText, testLimits, until } from '../support/gateway-fixture.ts'
import { keysOf, TestChain, type TestSource } from '../support/test-chain.ts'

const names = ['1111', '1112', '1113', '1114'] as const
const [d1111, d1112, d1113, d1114] = names.map(keysOf) as [
  IdentityKeys,
  IdentityKeys,
  IdentityKeys,
  IdentityKeys,
]
const trustTtlMs = 60_000

let chain: TestChain
let source: TestSource
let directory: string
let gateway: Gateway
let address: BrokerAddress
let decisions: DecisionLine[]
let closing: (() => Promise<unknown>)[]

/** A client of its own for each program, kept fresh as in a real one. */
async function follow(from: TestSource): Promise<ChainClient> {
  const client = await ChainClient.open({ sources: [from], checkpoint: chain.checkpoint, waitMs: 500 })
  await client.follower.sync()
  const stopping = new AbortController()
  const run = client.follower.run(stopping.signal)
  closing.push(() => {
    stopping.abort()
    return run
  })
  return client
}

async function startGateway(): Promise<void> {
  const client = await follow(source)
  decisions = []
  gateway = new Gateway({
    trust: chainTrust(client.records, client.pool),
    verifier: nativeVerifier,
    broker: aedesBroker({ host: '127.0.0.1', port: 0 }, testLimits),
    boxes: await fileBoxStore(join(directory, 'boxes')),
    log: { write: line => decisions.push(line), close: async () => {} },
    trustTtlMs,
    onError: error => {
      throw error
    },
  })
  address = await gateway.start()
}

async function agent(
  keys: IdentityKeys,
): Promise<{ agent: DeviceAgent; client: ChainClient; texts: string[] }> {
  const client = await follow(chain.source(`full node of ${keys.name}`))
  const connected = await DeviceAgent.connect({
    keys,
    chain: agentChain(client, keys),
    gateway: address,
    stateDirectory: join(directory, keys.name),
    trustTtlMs,
  })
  closing.push(() => connected.close())
  const texts: string[] = []
  await connected.listen({ message: ({ content }) => void texts.push(new TextDecoder().decode(content)) })
  return { agent: connected, client, texts }
}

beforeEach(async () => {
  closing = []
  directory = await mkdtemp(join(tmpdir(), 'mote-gateway-'))
  // Blocks of the test chain are a second apart: some room before its time passes the clock's.
  chain = new TestChain({ devices: names, startTime: Date.now() - 45_000 })
  chain.append()
  source = chain.source('full node of the gateway')
  await startGateway()
})
afterEach(async () => {
  await Promise.all(closing.map(close => close()))
  await gateway.stop()
  await rm(directory, { recursive: true, force: true, maxRetries: 5 })
})

test('gateway on a ledger: a message is checked against certified records, and read by its recipient alone', async () => {
  const [sender, recipient, other] = [await agent(d1111), await agent(d1113), await agent(d1112)]
  const verdict = await sender.agent.send(d1113.id, sentText('pump 2 off'))
  expect(verdict).toMatchObject({ verdict: 'Check', height: chain.height })
  await until(() => recipient.texts.length === 1, '1113 reads it')
  expect(recipient.texts).toEqual(['pump 2 off'])
  expect(other.texts).toEqual([])
})

test('gateway on a ledger: a revocation cuts the session within a second of its certification', async () => {
  const [revoked, other] = [await agent(d1111), await agent(d1112)]
  expect(await revoked.agent.send(d1113.id, sentText('before'))).toMatchObject({ verdict: 'Check' })
  expect(await other.agent.send(d1111.id, sentText('before'))).toMatchObject({ verdict: 'Check' })
  const start = performance.now()
  chain.revoke(d1111.id)
  await until(() => decisions.some(({ event }) => event === 'cut'), 'the cut', 1_000)
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
  const created = await createGroup(owner.client, d1111, 'hsu0001')
  const group = created.value.record.id
  await addMembers(owner.client, d1111, { group, devices: [d1112.id] })
  await owner.agent.rekey(group)
  const { epoch } = (await owner.client.records.group(group)).value!.record
  await owner.agent.close()
  await gateway.stop()
  await startGateway()
  const member = await agent(d1112)
  expect(await member.agent.sendToGroup(group, sentText('same epoch'))).toMatchObject({ verdict: 'Check' })
  expect((await member.client.records.group(group)).value!.record.epoch).toBe(epoch)
})

test('gateway on a ledger: full nodes stopped, it refuses; when they are back, it goes on', async () => {
  const sender = await agent(d1111)
  expect(await sender.agent.send(d1113.id, sentText('known'))).toMatchObject({ verdict: 'Check' })
  source.failure = new MoteError('unreachable', 'switched off')
  // 1112 was never asked for, so nothing proven about it is in memory.
  expect(await sender.agent.send(d1112.id, sentText('unknown'))).toMatchObject({
    verdict: 'Error',
    code: 'unreachable',
  })
  source.failure = undefined
  chain.append()
  const again = await agent(d1114)
  await until(() => gateway.status().height === chain.height, 'the gateway follows again')
  expect(await again.agent.send(d1112.id, sentText('back'))).toMatchObject({ verdict: 'Check' })
})

test('gateway on a ledger: a full node that lies about a record costs a refusal, never a Check', async () => {
  const sender = await agent(d1111)
  source.tamperState = answer => ({
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
    gateway: address,
    chainId: chain.chainId,
    device: d1111.id,
    signer: signerOf(d1111),
    now: () => chain.time,
    timeoutMs: 3_000,
  })
  closing.push(() => connection.close())
  return { connection, asker: { connection, device: d1111.id, timeoutMs: 3_000 } }
}

test('gateway on a ledger: a device asks over MQTT and verifies the answer, and any changed byte of it is refused', async () => {
  const { asker } = await connected()
  const proof = await askGateway(asker, { type: 'device', id: d1113.id })
  const judge = (bytes: Uint8Array) => verifyDeviceAnswer(chain.checkpoint, d1113.id, bytes, nobleVerifier)
  expect(unwrap(judge(proof))).toMatchObject({ record: { id: d1113.id, status: 'active' } })
  for (let i = 0; i < proof.length; i += 7)
    expect(judge(proof.map((byte, at) => (at === i ? byte ^ 1 : byte))).ok, `byte ${i}`).toBe(false)
  const absent = keysOf('nobody').id
  const absence = await askGateway(asker, { type: 'device', id: absent })
  expect(unwrap(verifyDeviceAnswer(chain.checkpoint, absent, absence, nobleVerifier)).record).toBeUndefined()
})

test('gateway on a ledger: it asks for a group, for how the chain is, and for the node list, and verifies each', async () => {
  const { asker } = await connected()
  const { client } = await agent(d1112)
  const id = (await createGroup(client, d1112, 'hsu0001')).value.record.id
  await addMembers(client, d1112, { group: id, devices: [d1113.id] })
  const trusted = chain.checkpoint
  const asked = {
    group: await askGateway(asker, { type: 'group', id }),
    chain: await askGateway(asker, { type: 'chain' }),
    devices: await askGateway(asker, { type: 'devices', after: undefined }),
  }
  const judge = {
    group: (bytes: Uint8Array) => verifyGroupAnswer(trusted, id, bytes, nativeVerifier),
    chain: (bytes: Uint8Array) => verifyChainAnswer(trusted, bytes, nativeVerifier),
    devices: (bytes: Uint8Array) => verifyDevicesAnswer(trusted, undefined, bytes, nativeVerifier),
  }
  expect(unwrap(judge.group(asked.group))?.members).toEqual([d1112.id, d1113.id].toSorted())
  expect(unwrap(judge.chain(asked.chain))).toMatchObject({ height: chain.height, time: chain.time })
  const { records, next } = unwrap(judge.devices(asked.devices))
  expect(next).toBeUndefined()
  expect(records.map(record => record.id)).toEqual(expect.arrayContaining([d1111.id, d1114.id]))
  for (const name of ['group', 'chain', 'devices'] as const)
    for (let i = 0; i < asked[name].length; i += 97)
      expect(
        judge[name](asked[name].map((byte, at) => (at === i ? byte ^ 1 : byte))).ok,
        `${name} ${i}`,
      ).toBe(false)
  // What the gateway cannot answer now is told at once, and ends no connection.
  source.failure = new MoteError('unreachable', 'away')
  await expect(askGateway(asker, { type: 'devices', after: undefined })).rejects.toMatchObject({
    code: 'unreachable',
  })
  source.failure = undefined
  await vi.waitFor(async () => expect(await askGateway(asker, { type: 'chain' })).toBeDefined(), 10_000)
})

test('gateway on a ledger: who watches a record is sent its change within a second of certification, with the proof', async () => {
  const { connection, asker } = await connected()
  const changes: Change[] = []
  const subject = { type: 'device', id: d1113.id } as const
  await watchRecords(asker, [subject], change => changes.push(change))
  chain.append()
  const certifiedAt = performance.now()
  chain.revoke(d1113.id)
  await until(() => changes.length > 0, 'the change')
  expect(performance.now() - certifiedAt).toBeLessThan(1_000)
  expect(changes).toHaveLength(1)
  expect(changes[0]!.subject).toEqual(subject)
  const told = verifyDeviceAnswer(chain.checkpoint, d1113.id, changes[0]!.proof!, nativeVerifier)
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
  const state = await DeviceState.open(join(directory, '1112'))
  const altered = { key: d1114.encryption.publicKey, height: chain.height }
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
  const { value } = await createGroup(owner.client, d1111, 'hsu0001')
  const id = value.record.id
  await addMembers(owner.client, d1111, { group: id, devices: [d1112.id, d1113.id] })
  await owner.agent.rekey(id)
  await owner.agent.sendToGroup(id, sentText('with 1113'))
  await until(() => other.texts.length === 1, '1113 reads it')
  const groupNow = async () => (await owner.client.records.group(id)).value?.record
  // One more if the members were faster than the owner, who took more than a second.
  const { epoch: before } = (await groupNow())!
  chain.revoke(d1113.id)
  const after = { epoch: before + 1, memberCount: 2 }
  await vi.waitFor(async () => expect(await groupNow()).toMatchObject(after), 10_000)
  // Both have its key: the sender re-keys nothing, and the other reads.
  expect(await member.agent.sendToGroup(id, sentText('without 1113'))).toMatchObject({ verdict: 'Check' })
  await until(() => owner.texts.includes('without 1113'), 'who stays reads it')
  expect(await groupNow()).toMatchObject(after)
})
