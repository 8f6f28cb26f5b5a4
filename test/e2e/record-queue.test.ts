/** The queue on three NATS servers: the contract, and that nothing is lost when one of them is killed under load. */
import { randomBytes } from 'node:crypto'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { ChainId } from '../../chain/brands.ts'
import { JetStreamQueue } from '../../mqtt-gateway/records/jetstream-queue.ts'
import { queuedText, textsOf, transactionQueueContract } from '../contract/transaction-queue.ts'
import { NatsCluster, noNats } from '../support/nats.ts'

let cluster: NatsCluster
beforeAll(async () => {
  if (!noNats) cluster = await NatsCluster.start()
})
afterAll(() => cluster?.[Symbol.asyncDispose]())

const capacityBytes = 1024 * 1024

/** A chain of its own has a stream of its own. */
function queueOn(chainId: ChainId): JetStreamQueue {
  return new JetStreamQueue({
    chainId,
    servers: cluster.servers,
    replicas: 3,
    bytes: capacityBytes,
    tls: undefined,
    seed: undefined,
    onError: () => {},
  })
}

const newChain = () => randomBytes(32).toString('hex') as ChainId

describe.skipIf(noNats)('three servers, which need nats-server 2.9', () => {
  transactionQueueContract('JetStream', async () => {
    const chainId = newChain()
    return { capacityBytes, open: async () => queueOn(chainId), dispose: async () => {} }
  })

  test('jetstream queue: a server is killed under load, and nothing that was added is lost', async () => {
    const chainId = newChain()
    const [adding, taking] = [queueOn(chainId), queueOn(chainId)]
    const stopping = new AbortController()
    const seen = new Set<string>()
    const pump = async () => {
      while (!stopping.signal.aborted) {
        const batch = await taking.take('a', stopping.signal)
        for (const text of textsOf(batch)) seen.add(text)
        if (batch) await taking.done(batch)
      }
    }
    const pumping = pump()
    const accepted: string[] = []
    const add = async (text: string) => {
      const added = await adding.add(queuedText(text)).catch(() => undefined)
      if (added?.ok) accepted.push(text)
    }
    const load = async (name: string) => {
      for (let i = 0; i < 100; i++) await Promise.all([1, 2, 3].map(n => add(`${name} ${i} ${n}`)))
    }
    await load('before')
    const under = load('under')
    await cluster.kill(1)
    await under
    cluster.run(1)
    await load('after')
    await expect.poll(() => accepted.filter(text => !seen.has(text)), { timeout: 30_000 }).toEqual([])
    expect(accepted.length).toBeGreaterThan(800)
    stopping.abort()
    await pumping
    await Promise.all([adding.close(), taking.close()])
  })
})
