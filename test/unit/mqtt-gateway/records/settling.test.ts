/** When the word of nodes ends a transaction, and when it is asked for again: a shard waits for nobody without bound. */
import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { receiptCodec } from '../../../../chain/block.ts'
import { type ContractAddress, type Height, Milliseconds } from '../../../../chain/brands.ts'
import { encode } from '../../../../chain/codec.ts'
import type { ErrorCode } from '../../../../chain/errors.ts'
import { maxExpiryAheadMs } from '../../../../chain/limits.ts'
import { merkleLeaf } from '../../../../chain/merkle.ts'
import { MoteError, unwrap } from '../../../../chain/result.ts'
import { type ParsedTransaction, parseTransaction } from '../../../../chain/transaction.ts'
import { CertifiedBlocks } from '../../../../client/certified-blocks.ts'
import { ChainClient } from '../../../../client/chain-client.ts'
import { FailoverSource } from '../../../../client/failover-source.ts'
import { nativeVerifier } from '../../../../client/native-crypto.ts'
import { signedBody } from '../../../../client/submission.ts'
import { type Settlement, Settler, type SettlerParts } from '../../../../mqtt-gateway/records/settling.ts'
import { gatewayKeys, recorderChain, sensorKeys } from '../../../support/recorder-world.ts'
import { sampleRecord } from '../../../support/sample-record.ts'
import { keysOf, type TestChain, type TestSource } from '../../../support/test-chain.ts'

let chain: TestChain
let sources: readonly TestSource[]
let client: ChainClient
let stopping: AbortController
let parts: SettlerParts
let settler: Settler
beforeEach(async () => {
  // A bound of ten seconds is over after a tenth of one.
  vi.spyOn(performance, 'now').mockImplementation(() => 100 * Date.now())
  chain = recorderChain()
  sources = ['one', 'two', 'three'].map(name => chain.source(name))
  client = await ChainClient.open({ sources, checkpoint: chain.checkpoint, distrustMs: 50 })
  await client.follower.sync()
  stopping = new AbortController()
  const { signal } = stopping
  void client.follower.run(signal)
  const blocks = new CertifiedBlocks(client.follower, client.pool)
  const trust = { checkpoint: chain.checkpoint, verifier: nativeVerifier }
  parts = { client, blocks, trust, signal, onError: () => {} }
  settler = new Settler(parts)
})
afterEach(() => {
  stopping.abort()
  vi.restoreAllMocks()
})

/** Of the gateway, for its sensor. */
function transaction(expiry: number): ParsedTransaction {
  const body = { type: 'record.one', qos: 1, record: sampleRecord({ source: sensorKeys.id }) } as const
  const { chainId } = chain
  // `signedBody` adds five minutes.
  const time = Milliseconds(expiry - 5 * 60_000)
  return unwrap(parseTransaction(signedBody({ chainId, body, keys: gatewayKeys, time })))
}

function refusing(code: ErrorCode, names: readonly string[] = ['one', 'two', 'three']): void {
  for (const source of sources.filter(({ name }) => names.includes(name)))
    source.submit = async bytes => ({ id: unwrap(parseTransaction(bytes)).id, status: 'refused', code })
}

/** Of the gateway, for its sensor, which asks a contract. */
function action(): ParsedTransaction {
  const record = sampleRecord({ source: sensorKeys.id })
  const body = {
    type: 'contract.action',
    qos: 1,
    contract: 'ab'.repeat(32) as ContractAddress,
    publishTopic: undefined,
    input: { type: 'record', record },
  } as const
  const { chainId, time } = chain
  return unwrap(parseTransaction(signedBody({ chainId, body, keys: gatewayKeys, time })))
}

/** The same as a call of a device that is not there. */
function contractCall(): ParsedTransaction {
  const { chainId, time } = chain
  const contract = 'ab'.repeat(32) as ContractAddress
  const input = { type: 'call', source: keysOf('nobody').id, values: [] } as const
  const body = { type: 'contract.action', qos: 1, contract, publishTopic: undefined, input } as const
  return unwrap(parseTransaction(signedBody({ chainId, body, keys: gatewayKeys, time })))
}

function settle(given: ParsedTransaction): Promise<Settlement> {
  return settler.settle([given])[0]!
}

test('settling: an expiry too far for the nodes, and not ahead by certified time, is asked for again within a bound', async () => {
  refusing('expiry-too-far')
  const soon = transaction(chain.time + maxExpiryAheadMs)
  expect(await settle(soon)).toMatchObject({ type: 'unconfirmed' })
})

test('settling: an expiry too far by certified time too is refused, and holds up nobody for the years until then', async () => {
  refusing('expiry-too-far')
  const far = transaction(chain.time + 365 * 86_400_000)
  expect(await settle(far)).toMatchObject({ type: 'refused', code: 'expiry-too-far' })
})

test('settling: what nodes call expired is final when the certified head is past the expiry, and not while it is not past the expiry', async () => {
  const given = transaction(chain.time + 60_000)
  refusing('transaction-expired')
  expect(await settle(given)).toMatchObject({ type: 'unconfirmed' })
  chain.append([], { afterMs: 60_000 })
  await client.follower.reach(chain.height)
  expect(await settle(given)).toMatchObject({ type: 'refused', code: 'transaction-expired' })
})

test('settling: what nodes behind the head call expired, and have not seen executed, is not', async () => {
  const given = transaction(chain.time + 60_000)
  chain.append([given.bytes])
  const { height } = chain
  chain.append([], { afterMs: 60_000 })
  await client.follower.reach(chain.height)
  refusing('transaction-expired', ['one', 'two'])
  const [one, two, three] = sources
  for (const source of [one, two]) {
    source!.tamperStatus = ({ id }) => ({ id, status: 'unknown' })
    source!.frozenAt = height - 1
  }
  three!.failure = new MoteError('unreachable', 'down')
  expect(await settle(given)).toMatchObject({ type: 'unconfirmed' })
  three!.failure = undefined
  await new Promise(setImmediate)
  expect(await settle(given)).toMatchObject({ type: 'executed', height })
})

test('settling: what nodes put off gives way to others within a bound, and what was sent with it does not wait for it', async () => {
  const [putOff, taken] = [transaction(chain.time + 60_000), transaction(chain.time + 60_000)]
  for (const source of sources) {
    const submit = source.submit.bind(source)
    source.submit = async bytes => {
      const { id } = unwrap(parseTransaction(bytes))
      return id === putOff.id ? { id, status: 'refused', code: 'rate-limited' } : submit(bytes)
    }
  }
  const [first, second] = settler.settle([putOff, taken])
  expect(await second).toMatchObject({ type: 'executed' })
  expect(await first).toMatchObject({ type: 'unconfirmed' })
})

test('settling: a node that calls a transaction pending for ever is not the only one that is asked', async () => {
  const [liar] = sources
  liar!.submit = async bytes => ({ id: unwrap(parseTransaction(bytes)).id, status: 'pending' })
  // A pool in which nothing but this has failed: the first one is asked first each time.
  settler = new Settler({ ...parts, client: { ...client, pool: new FailoverSource(sources) } })
  expect(await settle(transaction(chain.time + 60_000))).toMatchObject({ type: 'executed' })
})

test('settling: what one node puts off for ever is asked of the others', async () => {
  refusing('overloaded', ['one'])
  // A pool in which nothing has failed: the first one is asked first each time.
  settler = new Settler({ ...parts, client: { ...client, pool: new FailoverSource(sources) } })
  const settled = settler.settle([transaction(chain.time + 60_000), transaction(chain.time + 60_000)])
  expect(await Promise.all(settled)).toMatchObject([{ type: 'executed' }, { type: 'executed' }])
})

test('settling: one node that lies about an execution does not hold up what two others call expired', async () => {
  const given = transaction(chain.time + 60_000)
  chain.append([], { afterMs: 60_000 })
  await client.follower.reach(chain.height)
  refusing('duplicate', ['one'])
  refusing('transaction-expired', ['two', 'three'])
  expect(await settle(given)).toMatchObject({ type: 'refused', code: 'transaction-expired' })
})

test('settling: one node that knows of the execution, and a second one that lies about the expiry, end nothing', async () => {
  const given = transaction(chain.time + 60_000)
  chain.append([given.bytes])
  chain.append([], { afterMs: 60_000 })
  await client.follower.reach(chain.height)
  refusing('duplicate', ['one'])
  refusing('transaction-expired', ['two'])
  for (const source of sources) source.tamperStatus = ({ id }) => ({ id, status: 'unknown' })
  sources[2]!.failure = new MoteError('unreachable', 'down')
  expect(await settle(given)).toMatchObject({ type: 'unconfirmed' })
})

test('settling: what a device that is revoked had signed is refused for good by its block, and no node has lied', async () => {
  chain.revoke(sensorKeys.id)
  const body = { type: 'record.one', qos: 1, record: sampleRecord() } as const
  const { chainId, time } = chain
  const late = unwrap(parseTransaction(signedBody({ chainId, body, keys: sensorKeys, time })))
  chain.append([late.bytes])
  await client.follower.reach(chain.height)
  expect(chain.transactionStatus(late.id)).toMatchObject({ code: 'signer-not-active', height: chain.height })
  expect(await settle(late)).toMatchObject({ type: 'executed', receipt: { code: 'signer-not-active' } })
})

/** In a block of which every node has the leaf hashes only; another one follows. */
async function inForgottenBlock(...given: readonly ParsedTransaction[]): Promise<Height> {
  chain.append([transaction(chain.time + 60_000).bytes, ...given.map(({ bytes }) => bytes)])
  const { height } = chain
  for (const source of sources) source.forgottenUpTo = height
  chain.append([])
  await client.follower.reach(chain.height)
  return height
}

test('settling: where every node has forgotten the receipts, the hash of a receipt that can be guessed proves it', async () => {
  const added = transaction(chain.time + 60_000)
  const height = await inForgottenBlock(added)
  const { receipts } = chain.block(height)
  expect(await settle(added)).toEqual({ type: 'executed', height, index: 1, receipt: receipts[1] })
  // An error that says nothing besides its code.
  const unknown = contractCall()
  const failed = await inForgottenBlock(unknown)
  expect(chain.block(failed).receipts[1]).toMatchObject({ code: 'invalid-state', events: [] })
  expect(await settle(unknown)).toMatchObject({ type: 'executed', height: failed, index: 1 })
})

test('settling: a receipt that cannot be guessed is refused as forgotten, with the place at which the transaction stands', async () => {
  const asked = action()
  const height = await inForgottenBlock(asked)
  expect(chain.block(height).receipts[1]).toMatchObject({ code: 'ok', events: [{}, { failed: true }] })
  expect(await settle(asked)).toEqual({
    type: 'refused',
    code: 'forgotten',
    detail: `transaction ${asked.id}: stands in block ${height} at 1, and how it ended is forgotten`,
  })
  // One node that still has it says more.
  sources[2]!.forgottenUpTo = 0
  await new Promise(setImmediate)
  expect(await settle(asked)).toMatchObject({ type: 'executed', height, index: 1 })
})

test('settling: leaf hashes that are not those of the block are a lie, and another node is asked', async () => {
  const added = transaction(chain.time + 60_000)
  const height = await inForgottenBlock(added)
  const error = merkleLeaf(encode(receiptCodec, { id: added.id, code: 'invalid-state', events: [] }))
  for (const source of [sources[0], sources[1]])
    source!.tamperLeaves = ({ transactions, receipts }) => ({
      transactions,
      receipts: receipts.with(1, error),
    })
  const settled = await settle(added)
  expect(settled).toMatchObject({ type: 'executed', height, index: 1, receipt: { code: 'ok' } })
})

test('settling: of what does not stand among the leaf hashes, or was not executed there, they prove nothing', async () => {
  const absent = transaction(chain.time + 60_000)
  const height = await inForgottenBlock()
  for (const source of sources)
    source.submit = async bytes => ({ id: unwrap(parseTransaction(bytes)).id, status: 'certified', height })
  expect(await settle(absent)).toMatchObject({
    type: 'refused',
    code: 'forgotten',
    detail: expect.stringContaining('only its leaf hashes are kept'),
  })
  const late = transaction(chain.time - 1)
  const at = await inForgottenBlock(late)
  expect(chain.block(at).receipts[1]).toMatchObject({ code: 'transaction-expired' })
  for (const source of sources)
    source.submit = async bytes => ({
      id: unwrap(parseTransaction(bytes)).id,
      status: 'certified',
      height: at,
    })
  expect(await settle(late)).toMatchObject({
    detail: expect.stringContaining('only its leaf hashes are kept'),
  })
})
