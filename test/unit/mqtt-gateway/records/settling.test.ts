/** When the word of nodes ends a transaction, and when it is asked for again: a shard waits for nobody without bound. */
import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { Milliseconds } from '../../../../chain/brands.ts'
import type { ErrorCode } from '../../../../chain/errors.ts'
import { maxExpiryAheadMs } from '../../../../chain/limits.ts'
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
import type { TestChain, TestSource } from '../../../support/test-chain.ts'

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
