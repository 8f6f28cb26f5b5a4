/** The queue on three NATS servers: the contract, and that nothing is lost when one of them is killed under load. */
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest'
import type { ChainId } from '../../chain/brands.ts'
import { allShards } from '../../mqtt-gateway/protocol/sharded-topics.ts'
import { type JetStreamOptions, JetStreamQueue } from '../../mqtt-gateway/records/jetstream-queue.ts'
import { queuedText, textsOf, transactionQueueContract } from '../contract/transaction-queue.ts'
import { NatsCluster, noNats } from '../support/nats.ts'
import { exchangeOf, RecorderWorld, recorderChain } from '../support/recorder-world.ts'

let cluster: NatsCluster
beforeAll(async () => {
  if (!noNats) cluster = await NatsCluster.start()
})
afterAll(() => cluster?.[Symbol.asyncDispose]())

const capacityBytes = 1024 * 1024

/** A chain of its own has a stream of its own. */
function queueOn(chainId: ChainId, more: Partial<JetStreamOptions> = {}): JetStreamQueue {
  return new JetStreamQueue({
    chainId,
    servers: cluster.servers,
    replicas: 3,
    bytes: capacityBytes,
    tls: undefined,
    seed: cluster.seed,
    onError: () => {},
    ...more,
  })
}

const newChain = () => randomBytes(32).toString('hex') as ChainId

describe.skipIf(noNats)('the queue of three servers, which needs nats-server 2.9', () => {
  transactionQueueContract('JetStream', async () => {
    const chainId = newChain()
    return { capacityBytes, open: async () => queueOn(chainId), dispose: async () => {} }
  })

  test('jetstream queue: what one gateway accepts and another one brings to the chain has its outcome at the first', async () => {
    const queue = { type: 'jetstream', servers: cluster.servers, replicas: 3, bytes: capacityBytes } as const
    const shared = { chain: recorderChain(), queue: { ...queue, ca: undefined, nkey: cluster.seedFile } }
    const idle = vi.spyOn(JetStreamQueue.prototype, 'take').mockImplementation(async (_shard, signal) => {
      await once(signal, 'abort')
      return undefined
    })
    await using accepting = await RecorderWorld.open(shared)
    await expect.poll(() => idle.mock.calls.length).toBe(allShards.length)
    idle.mockRestore()
    await using _bringing = await RecorderWorld.open(shared)
    const { incarnation } = await accepting.recorder.incarnationOf('c', 'kept')
    const texts = Array.from({ length: 20 }, (_, i) => `m${i}`)
    const outcomes = await Promise.all(
      texts.map((text, packetIdentifier) =>
        accepting.record({ text, exchange: exchangeOf(text, incarnation, { packetIdentifier }) }),
      ),
    )
    expect(new Set(outcomes.map(({ type }) => type))).toEqual(new Set(['certified']))
    expect(accepting.recorded().toSorted()).toEqual(texts.toSorted())
    expect(accepting.sources.map(({ asked }) => asked.get('submit'))).toEqual([undefined, undefined])
  })

  test('jetstream queue: without the key that the servers know, nothing is added', async () => {
    const errors: unknown[] = []
    const stranger = queueOn(newChain(), { seed: undefined, onError: error => errors.push(error) })
    const adding = stranger.add(queuedText('1'))
    adding.catch(() => {})
    await expect.poll(() => String(errors[0]), { timeout: 10_000 }).toMatch(/authorization/i)
    await stranger.close()
    await expect(adding).rejects.toMatchObject({ code: 'unreachable' })
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
