/**
 * The queue on NATS servers: the contract, and what an operator is told of servers that cannot be used. A whole gateway that loses the server that leads
 * the queue, and is killed: test/e2e/applications.test.ts.
 */
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { nkeys } from '@nats-io/transport-node'
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest'
import type { ChainId } from '../../chain/brands.ts'
import type { MoteError } from '../../chain/result.ts'
import { SecretBytes } from '../../client/secret-bytes.ts'
import { allShards } from '../../mqtt-gateway/protocol/sharded-topics.ts'
import { type JetStreamOptions, JetStreamQueue } from '../../mqtt-gateway/records/jetstream-queue.ts'
import { connectNats } from '../../mqtt-gateway/records/nats-connection.ts'
import { queuedText, transactionQueueContract } from '../contract/transaction-queue.ts'
import { NatsFixture, noNats } from '../support/nats.ts'
import { exchangeOf, RecorderWorld, recorderChain } from '../support/recorder-world.ts'
import { TlsFixture } from '../support/tls-fixture.ts'

const capacityBytes = 1024 * 1024
const newChain = () => randomBytes(32).toString('hex') as ChainId

/** A chain of its own has a stream of its own. */
function queueOn({ servers, seed }: NatsFixture, more: Partial<JetStreamOptions> = {}): JetStreamQueue {
  return new JetStreamQueue({
    chainId: newChain(),
    servers,
    replicas: servers.length,
    bytes: capacityBytes,
    ca: undefined,
    seed,
    onError: () => {},
    ...more,
  })
}

function disposable(queue: JetStreamQueue): JetStreamQueue & AsyncDisposable {
  return Object.assign(queue, { [Symbol.asyncDispose]: () => queue.close() })
}

/** What an operator has to change, as a gateway with this queue is told. */
async function told(nats: NatsFixture, options: Partial<JetStreamOptions>): Promise<unknown> {
  const { promise, resolve } = Promise.withResolvers<unknown>()
  const onError = (error: unknown) => {
    // A server that starts refuses connections at first.
    if ((error as MoteError).code !== 'unreachable') resolve(error)
  }
  await using _queue = disposable(queueOn(nats, { ...options, onError }))
  return await promise
}

describe.skipIf(noNats)('the queue of three servers, which needs nats-server 2.9', () => {
  let nats: NatsFixture
  beforeAll(async () => {
    nats = await NatsFixture.start({ count: 3 })
  })
  afterAll(() => nats?.[Symbol.asyncDispose]())

  transactionQueueContract('JetStream', async () => {
    const chainId = newChain()
    return { capacityBytes, open: async () => queueOn(nats, { chainId }), dispose: async () => {} }
  })

  test('jetstream queue: what one gateway accepts and another one brings to the chain has its outcome at the first', async () => {
    const queue = { type: 'jetstream', servers: nats.servers, replicas: 3, bytes: capacityBytes } as const
    const shared = { chain: recorderChain(), queue: { ...queue, ca: undefined, nkey: nats.seedFile } }
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

  test('jetstream queue: queue.replicas is how many servers have it, and no more than there are', async () => {
    const chainId = newChain()
    await using queue = disposable(queueOn(nats, { chainId, replicas: 2 }))
    await queue.add(queuedText('1'))
    const { config, cluster } = await nats.stream(chainId)
    expect([config.num_replicas, cluster?.replicas?.length]).toEqual([2, 1])
    expect(await told(nats, { replicas: 5 })).toMatchObject({
      code: 'config-invalid',
      detail: expect.stringMatching(/^queue\.replicas: expected 5 servers/),
    })
  })
})

describe.skipIf(noNats)('what an operator is told of NATS servers, which needs nats-server 2.9', () => {
  let [tls, foreign]: TlsFixture[] = []
  let [secure, open]: NatsFixture[] = []
  beforeAll(async () => {
    ;[tls, foreign] = await Promise.all([TlsFixture.make(), TlsFixture.make()])
    await tls!.renew(['127.0.0.1'])
    ;[secure, open] = await Promise.all([
      NatsFixture.start({ count: 1, tls: tls!.files }),
      NatsFixture.start({ count: 1 }),
    ])
  })
  afterAll(async () => {
    await Promise.all([secure, open, tls, foreign].map(each => each?.[Symbol.asyncDispose]()))
  })
  const pemOf = (fixture: TlsFixture | undefined) => fixture!.authority.certificate.toString()
  const securely = ({ servers }: NatsFixture) => servers.map(server => `tls://${server}`)

  async function isUsed(nats: NatsFixture, options: Partial<JetStreamOptions>): Promise<boolean> {
    await using queue = disposable(queueOn(nats, options))
    return (await queue.add(queuedText('1'))).ok
  }
  const invalid = (detail: RegExp) => ({ code: 'config-invalid', detail: expect.stringMatching(detail) })

  test('jetstream queue: by TLS, with a certificate that queue.ca vouches for, for the address of its server, and with no other', async () => {
    expect(await isUsed(secure!, { ca: pemOf(tls) })).toBe(true)
    expect(await isUsed(secure!, { ca: pemOf(tls), servers: securely(secure!) })).toBe(true)
    const refusals = [
      [{ ca: pemOf(foreign) }, /^queue\.ca: expected who vouches .*, got: unable to verify/],
      [{ ca: undefined }, /^queue\.ca: expected the PEM .*, got: unable to verify/],
      [
        { ca: pemOf(tls), servers: [secure!.servers[0]!.replace('127.0.0.1', 'localhost')] },
        /^queue\.servers: /,
      ],
    ] as const
    for (const [options, detail] of refusals)
      expect(await told(secure!, options)).toMatchObject(invalid(detail))
  })

  test('jetstream queue: where TLS is asked for, by queue.ca or tls://, a server without it is not used', async () => {
    expect(await isUsed(open!, {})).toBe(true)
    for (const options of [{ ca: pemOf(tls) }, { servers: securely(open!) }])
      expect(await told(open!, options)).toMatchObject(invalid(/^queue\.ca: expected TLS/))
  })

  test('jetstream queue: without the key that the servers know nothing is added, and the operator is told so', async () => {
    for (const seed of [undefined, new SecretBytes(nkeys.createUser().getSeed())])
      expect(await told(open!, { seed })).toMatchObject(invalid(/^queue\.nkey: .*authorization/i))
    const queue = queueOn(open!, { seed: undefined })
    const adding = queue.add(queuedText('1'))
    adding.catch(() => {})
    await expect.poll(() => queue.failure).toMatchObject({ code: 'config-invalid' })
    await queue.close()
    await expect(adding).rejects.toMatchObject({ code: 'unreachable' })
  })

  test('jetstream queue: servers that do not know the key for a while, and then do, are used again', async () => {
    const { servers, seed } = open!
    const connection = await connectNats({ servers, ca: undefined, seed })
    try {
      await open!.admit(0, nkeys.createUser().getPublicKey())
      let refusals = 0
      for await (const { type } of connection.status()) {
        if (type === 'error' && ++refusals === 3) await open!.admit(0)
        if (type === 'reconnect') break
      }
      expect(connection.isClosed()).toBe(false)
    } finally {
      await connection.close()
    }
  })

  test('jetstream queue: more replicas than there are servers are refused', async () => {
    expect(await told(open!, { replicas: 3 })).toMatchObject(invalid(/^queue\.replicas: expected 3 servers/))
  })
})
