/**
 * The queue on NATS servers: the contract; a whole gateway that loses the server that leads the queue, and is killed; and what an operator is told of
 * servers that cannot be used.
 */
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { readFile, writeFile } from 'node:fs/promises'
import { nkeys } from '@nats-io/transport-node'
import mqtt, { type MqttClient } from 'mqtt'
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest'
import type { ChainId, DeviceId } from '../../chain/brands.ts'
import type { MoteError } from '../../chain/result.ts'
import { pause } from '../../client/deadline.ts'
import { SecretBytes } from '../../client/secret-bytes.ts'
import { layout } from '../../devnet/layout.ts'
import { allShards } from '../../mqtt-gateway/protocol/sharded-topics.ts'
import { topics } from '../../mqtt-gateway/protocol/topics.ts'
import { type JetStreamOptions, JetStreamQueue } from '../../mqtt-gateway/records/jetstream-queue.ts'
import { connectNats } from '../../mqtt-gateway/records/nats-connection.ts'
import { reservedBytes } from '../../mqtt-gateway/records/stream-room.ts'
import { queuedText, transactionQueueContract } from '../contract/transaction-queue.ts'
import { DevnetFixture } from '../support/devnet-fixture.ts'
import { until } from '../support/gateway-fixture.ts'
import { NatsFixture, noNats } from '../support/nats.ts'
import { RedeliveryStore, runPlainClients } from '../support/plain-clients-run.ts'
import { exchangeOf, RecorderWorld, recorderChain } from '../support/recorder-world.ts'
import { TlsFixture } from '../support/tls-fixture.ts'

interface Login {
  readonly host: string
  readonly port: number
  readonly username: string
  readonly password: string
}

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

  describe('a gateway process on it', () => {
    let devnet: DevnetFixture
    const mote = async (...args: string[]) => expect(await devnet.mote(...args)).toMatchObject({ code: 0 })
    beforeAll(async () => {
      const size = ['--full', '1', '--lightweight', '0', '--devices', '12']
      const mapped = ['--plain-in', 'forest/#', '--plain-out', 'fire/#']
      devnet = await DevnetFixture.start('queue', [...size, ...mapped])
      await mote('chaos', 'kill', 'gateway')
      const file = layout.nodeConfig(devnet.directory, 'gateway')
      const config = JSON.parse(await readFile(file, 'utf8')) as object
      const queue = { type: 'jetstream', servers: nats.servers, bytes: capacityBytes, nkey: nats.seedFile }
      await writeFile(file, JSON.stringify({ ...config, queue }))
      await mote('chaos', 'restart', 'gateway')
    })
    afterAll(() => devnet?.stop())

    test('gateway on NATS servers: the one that leads the queue is killed under load, then the gateway; what was acknowledged is on the chain once', async () => {
      const { directory, description } = devnet
      const chainId = description.chainId as ChainId
      const killLeader = async () => nats.kill(await nats.leaderOf(chainId))
      const killGateway = async () => {
        await mote('chaos', 'kill', 'gateway')
        await mote('chaos', 'restart', 'gateway')
      }
      const { config } = await nats.stream(chainId)
      expect(config).toMatchObject({ num_replicas: 3, max_bytes: capacityBytes + reservedBytes })
      const report = await runPlainClients({
        directory,
        description,
        contract: undefined,
        messages: 2,
        qos: [1, 2],
        faults: [
          { what: 'the server that leads the queue is killed', run: killLeader },
          { what: 'the gateway is killed, and started again', run: killGateway },
        ],
        withinMs: 90_000,
      })
      expect(report).toMatchObject({ published: 24, acknowledged: 24, lost: 0, twice: 0 })
      expect(Math.min(...report.inFlight)).toBeGreaterThan(0)
    })

    test('gateway on NATS servers: publishers are told that the queue is full, and what they send again is recorded once', async () => {
      const { value } = await devnet.json<{ nodes: { label: string; pid: number }[] }>('devnet', 'status')
      const { pid } = value.nodes.find(({ label }) => label === 'full')!
      const login = await devnet.json<Login>('device', 'credentials', '1111', '--for', '1d')
      const { host, port, username, password } = login.value
      const connect = (name: string) => {
        const client = mqtt.connect({
          ...{ host, port, username, password, protocolVersion: 4, clean: false, reconnectPeriod: 200 },
          clientId: `${username}.${name}`,
          outgoingStore: new RedeliveryStore(),
        })
        return client.on('error', () => {})
      }
      const publish = (client: MqttClient, id: number) => {
        const message = { Payload: { id, image: ['.'.repeat(8_000)] } }
        return client.publishAsync('forest/full', JSON.stringify(message), { qos: 1 })
      }
      const [ears, ...clients] = ['ears', '1', '2', '3'].map(connect) as [MqttClient, ...MqttClient[]]
      const told: { readonly code: string; readonly retry: boolean }[] = []
      let closed = 0
      try {
        ears.on('message', (_topic, payload) => told.push(JSON.parse(String(payload))))
        for (const client of clients) client.on('close', () => closed++)
        // A gateway that has just started takes nobody until it is level with the chain.
        const errors = topics.error(username as DeviceId)
        const isHeard = () => ears.subscribeAsync(errors, { qos: 1 }).then(Boolean, () => false)
        while (!(await isHeard())) await pause(100)
        // Gateways use half of a stream that is so small: two of these messages.
        await nats.boundStream(devnet.description.chainId as ChainId, 40 * 1024)
        // The gateway has proven then that nothing guards the topic.
        await publish(ears, 0)
        process.kill(pid, 'SIGSTOP')
        const sent = [1, 2, 3, 4, 5, 6].map(id => publish(clients[id % 3]!, id))
        await until(() => closed > 0 && told.length > 0, 'the queue is full')
        process.kill(pid, 'SIGCONT')
        await Promise.all(sent)
      } finally {
        process.kill(pid, 'SIGCONT')
        await Promise.all([ears, ...clients].map(client => client.endAsync(true)))
      }
      expect(told[0]).toMatchObject({ code: 'overloaded', retry: true })
      const listed = await devnet.json<{ records: { payload: string }[] }>(
        ...['record', 'list', '--device', '1111', '--topic', 'forest/full'],
      )
      const ids = listed.value.records.map(({ payload }) => (JSON.parse(payload) as { id: number }).id)
      expect(ids.toSorted()).toEqual([0, 1, 2, 3, 4, 5, 6])
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
