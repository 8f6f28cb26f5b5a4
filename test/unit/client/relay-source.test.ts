/** What a light node passes on is not one full node's word, where it knows two. */
import { describe, expect, it } from 'vitest'
import { MoteError } from '../../../chain/result.ts'
import { ChainClient } from '../../../client/chain-client.ts'
import type { NodeStatus } from '../../../client/chain-source.ts'
import { relaySource } from '../../../client/relay-source.ts'
import { idOfSigned, signedBody } from '../../../client/submission.ts'
import { keysOf, TestChain } from '../../support/test-chain.ts'

const { id: subject } = keysOf('sensor')

async function setUp() {
  const chain = new TestChain({ devices: ['sensor'] })
  chain.append()
  const [first, second] = [chain.source('first'), chain.source('second')]
  const client = await ChainClient.open({ sources: [first, second], checkpoint: chain.checkpoint })
  await client.follower.sync()
  const relay = relaySource(client, () => ({}) as NodeStatus)
  const { operator: keys, chainId, time } = chain
  const body = { type: 'identity.revoke', subject, reason: '' } as const
  return { chain, first, second, relay, bytes: signedBody({ chainId, body, keys, time }) }
}

describe('relay', () => {
  it('relay: a transaction that the first full node refuses goes to the second', async () => {
    const { first, relay, bytes } = await setUp()
    first.submit = async () => ({ id: idOfSigned(bytes), status: 'refused', code: 'not-authorised' })
    expect(await relay.submit(bytes, 'certified')).toMatchObject({ status: 'certified' })
  })

  it('relay: what both refuse is refused; while the second is silent it is open', async () => {
    const { first, second, relay, bytes } = await setUp()
    const refused = { id: idOfSigned(bytes), status: 'refused', code: 'not-authorised' } as const
    first.submit = async () => refused
    second.submit = async () => refused
    expect(await relay.submit(bytes, 'certified')).toEqual(refused)
    second.failure = new MoteError('unreachable', 'down')
    second.submit = async () => {
      throw second.failure
    }
    await expect(relay.submit(bytes, 'certified')).rejects.toMatchObject({ code: 'unconfirmed' })
  })

  it('relay: every read goes on with the second full node when the first one refuses it', async () => {
    const { chain, first, relay, bytes } = await setUp()
    first.failure = new MoteError('not-found', 'a lie')
    expect((await relay.headersFrom(chain.height, 1)).length).toBe(1)
    expect((await relay.certifiedHeader(chain.height)).header.height).toBe(chain.height)
    expect((await relay.transactionStatus(idOfSigned(bytes))).status).toBe('unknown')
    expect(await relay.deviceTransactions(subject)).toBeDefined()
    expect(await relay.coordination()).toBeDefined()
    expect(await relay.receipts(chain.height)).toEqual(chain.block(chain.height).receipts)
    expect((await relay.records('identity')).answers.length).toBeGreaterThan(0)
  })
})
