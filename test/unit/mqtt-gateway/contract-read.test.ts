/** What a plain client reads of a contract, in JSON. */
import { expect, test } from 'vitest'
import { unwrap } from '../../../chain/result.ts'
import { ChainClient } from '../../../client/chain-client.ts'
import { chainTrust } from '../../../mqtt-gateway/protocol/chain-trust.ts'
import { contractAsJson, parseContractRead } from '../../../mqtt-gateway/protocol/contract-read.ts'
import { deployable } from '../../support/sample-contract.ts'
import { keysOf, TestChain } from '../../support/test-chain.ts'

const address = 'ab'.repeat(32)
const parse = (text: string) => parseContractRead(new TextEncoder().encode(text))

test('contract read: an address and nothing else, once', () => {
  expect(parse(`{"Address":"${address}"}`)).toEqual({ ok: true, value: address })
  expect(parse(` {\n"Address" : "${address}" } `)).toEqual({ ok: true, value: address })
  for (const text of [
    '',
    'null',
    '[]',
    '{}',
    `"${address}"`,
    `{"Address":"${address.toUpperCase()}"}`,
    `{"Address":"${address}0"}`,
    `{"Address":1}`,
    `{"Address":"${address}","Height":1}`,
    `{"Address":"${address}","Address":"${address}"}`,
    `{"address":"${address}"}`,
    '\ud800',
  ])
    expect(parse(text), text).toMatchObject({ ok: false, error: { code: 'malformed' } })
  expect(parse(`{"Address":"${address}"}${' '.repeat(200)}`)).toMatchObject({ error: { code: 'too-large' } })
})

test('contract read: state variables by name, how often it has decided, and as of which height', async () => {
  const chain = new TestChain({ devices: ['sensor'] })
  const counter = deployable({ arithmetic: 'int64', state: { count: 7 }, set: ['count = count + 1'] })
  chain.perform(chain.operator, { type: 'contract.deploy', contract: counter.bytes })
  const input = { type: 'call', source: undefined, values: [] } as const
  const call = {
    type: 'contract.action',
    qos: 1,
    contract: counter.address,
    input,
    publishTopic: undefined,
  } as const
  chain.perform(keysOf('sensor'), call)
  const client = await ChainClient.open({ sources: [chain.source()], checkpoint: chain.checkpoint })
  await client.follower.sync()
  const trust = chainTrust(client.records, client.pool)
  const read = async () =>
    JSON.parse(new TextDecoder().decode(unwrap(await contractAsJson(trust, counter.address))))
  const expected = { Address: counter.address, Name: 'sample', Version: 1, Decisions: 1, State: { count: 8 } }
  expect(await read()).toEqual({ ...expected, Status: 'active', Height: chain.height, Time: chain.time })
  chain.perform(chain.operator, { type: 'contract.retire', contract: counter.address })
  await client.follower.sync()
  expect(await read()).toMatchObject({ ...expected, Status: 'retired' })
  const unknown = unwrap(parse(`{"Address":"${address}"}`))
  expect(await contractAsJson(trust, unknown)).toMatchObject({ error: { code: 'unknown-contract' } })
})
