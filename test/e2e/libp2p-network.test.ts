/** The libp2p adapter over real sockets on loopback: order, requests, hello, garbage, loss and reconnection. */
import { afterEach, describe, expect, test } from 'vitest'
import { type Height, StateKey } from '../../chain/brands.ts'
import { MoteError } from '../../chain/result.ts'
import { systemClock } from '../../client/clock.ts'
import { protocols } from '../../node/network/protocols.ts'
import { memberRequests, queries, registryReports } from '../../node/network/request-table.ts'
import { ask, type ConfirmedCaller, requestHandler } from '../../node/network/requests.ts'
import type { Network, OutgoingRequest, PeerMessage, RequestProtocol } from '../../node/ports.ts'
import { ManualClock } from '../support/manual-clock.ts'
import {
  append,
  eventually,
  isConnected,
  sampleChain,
  startTestNode,
  type TestNode,
  type TestNodeOptions,
} from '../support/network-nodes.ts'
import { type SampleIdentity, sampleGenesis, sampleIdentity } from '../support/sample-genesis.ts'

const [a, b, c] = [sampleIdentity('a'), sampleIdentity('b'), sampleIdentity('c')] as const
const light = sampleIdentity('light')
const chain = sampleChain(sampleGenesis([a, b, c], [{ identity: light, label: 'lightweight' }]), [a, b, c])
const stoppers: (() => Promise<unknown>)[] = []

afterEach(async () => {
  await Promise.all(stoppers.splice(0).map(stop => stop()))
})

async function start(identity: SampleIdentity = a, options: TestNodeOptions = {}): Promise<TestNode> {
  const node = await startTestNode(chain, identity, options)
  stoppers.push(() => node.network.stop())
  return node
}

function keep(node: TestNode, other: TestNode): void {
  node.network.keep({ id: other.identity.id, address: other.address })
}

/** One of the two dials: when both do, one of two connections is closed, which counts as a loss to who sends just then. */
async function pair(options: TestNodeOptions = {}): Promise<[TestNode, TestNode]> {
  const [first, second] = [await start(a, options), await start(b, options)]
  keep(first, second)
  await eventually('both connected', () => isConnected(first, second) && isConnected(second, first))
  return [first, second]
}

const signature = new Uint8Array(64).fill(9)
const signatures = [
  {
    incarnation: 0,
    height: 3 as Height,
    term: 1 as never,
    headerHash: 'ab'.repeat(32) as never,
    signature,
  },
]

/** A request of any bytes, which no row has made. */
const bare = (protocol: RequestProtocol, ...body: number[]): OutgoingRequest => ({
  protocol,
  body: Uint8Array.from(body),
  of: 'anyone',
})

describe('messages', () => {
  test('arrive in order, from whom the connection proved, with nothing lost', async () => {
    const [first, second] = await pair()
    for (let i = 0; i < 2000; i++) first.network.send(b.id, append(i))
    await eventually('2000 messages', () => second.received.length === 2000)
    const numbers = second.received.map(({ message }) =>
      message.type === 'raft' && message.message.type === 'append-entries'
        ? message.message.prevLogIndex
        : -1,
    )
    expect(numbers).toEqual(Array.from({ length: 2000 }, (_, i) => i))
    expect(second.received[7]).toMatchObject({
      from: a.id,
      message: { message: { from: a.id, entries: [{ index: 8, data: new Uint8Array(100).fill(7) }] } },
    })
    expect(first.unreachable).toEqual([])
  })

  test('of some megabytes pass, with signatures beside them', async () => {
    const [first, second] = await pair()
    for (let i = 0; i < 8; i++) first.network.send(b.id, append(i, 1024 * 1024))
    first.network.send(b.id, { type: 'signatures', signatures })
    await eventually('9 messages', () => second.received.length === 9)
    expect(second.received.find(({ message }) => message.type === 'signatures')?.message).toEqual({
      type: 'signatures',
      signatures,
    })
  })

  test('to a peer that is not connected are reported once, and again after a later loss', async () => {
    const first = await start(a)
    for (let i = 0; i < 10; i++) first.network.send(b.id, append(i))
    expect(first.unreachable).toEqual([b.id])

    const second = await start(b)
    keep(first, second)
    await eventually('connected', () => isConnected(first, second))
    first.network.send(b.id, append(1))
    await eventually('delivered', () => second.received.length === 1)
    await second.network.stop()
    await eventually('reported', () => first.unreachable.length === 2)
    first.network.send(b.id, append(2))
    expect(first.unreachable).toHaveLength(2)
    expect(first.states).toEqual([`${b.id} connected`, `${b.id} disconnected`])
  })

  test('beyond the outbound limit are dropped with a signal, and the connection goes on', async () => {
    const [first, second] = await pair({ limits: { maxQueuedBytes: 1024 * 1024 } })
    for (let i = 0; i < 20; i++) first.network.send(b.id, append(i, 500_000))
    await eventually('reported', () => first.unreachable.length === 1)
    const before = second.received.length
    first.network.send(b.id, append(99))
    await eventually('delivered', () => second.received.length > before)
    expect(second.received.length).toBeLessThan(20)
  })
})

describe('reconnection', () => {
  test('a peer that comes back on the same port is found again', async () => {
    const first = await start(a, { limits: { retryDelayMs: 20, retryDelayMsMax: 50 } })
    const second = await start(b)
    const port = Number(second.address.split('/').at(-1))
    keep(first, second)
    await eventually('connected', () => isConnected(first, second))
    await second.network.stop()
    await eventually('noticed', () => !isConnected(first, second))
    const again = await start(b, { port })
    await eventually('connected again', () => isConnected(first, again) && isConnected(again, first))
    first.network.send(b.id, append(5))
    await eventually('delivered', () => again.received.length === 1)
  })

  test('a listening port that is taken is a clear error', async () => {
    const first = await start(a)
    const port = Number(first.address.split('/').at(-1))
    await expect(startTestNode(chain, b, { port })).rejects.toMatchObject({ code: 'start-failed' })
  })
})

describe('requests', () => {
  const echo = (options: TestNodeOptions = {}): TestNodeOptions => ({
    ...options,
    prepare: network => {
      network.handle('query', async (caller, body) => {
        if (body[0] === 0) throw new MoteError('not-found', 'nothing there')
        if (body[0] === 1) throw new Error('a bug in the handler')
        if (body[0] === 2) await new Promise(() => {})
        return body[0] === 3 ? Buffer.from(caller.deviceId ?? 'nobody') : body
      })
      const { address } = registryReports
      network.handle('registry', requestHandler({ address }, { address: () => {} }))
    },
  })

  test('are answered, refused with the code of the handler, or time out', async () => {
    const [first] = await pair(echo())
    const ask = (...body: number[]) => first.network.request(b.id, bare('query', ...body), 2000)
    expect(await ask(7, 8, 9)).toEqual(Uint8Array.of(7, 8, 9))
    await expect(ask(0)).rejects.toMatchObject({ code: 'not-found', detail: 'nothing there' })
    await expect(ask(1)).rejects.toMatchObject({ code: 'internal' })
    expect(Buffer.from(await ask(3)).toString()).toBe(a.id)
    await expect(first.network.request(b.id, bare('query', 2), 200)).rejects.toMatchObject({
      code: 'timeout',
    })
    await expect(first.network.request(c.id, bare('query', 5), 200)).rejects.toMatchObject({
      code: 'unreachable',
    })
  })

  test('many at once are all answered', async () => {
    const [first] = await pair(echo())
    const answers = await Promise.all(
      Array.from({ length: 30 }, (_, i) => first.network.request(b.id, bare('query', 4, i), 5000)),
    )
    expect(answers.map(answer => answer[1])).toEqual(Array.from({ length: 30 }, (_, i) => i))
  })

  test('over the limit reset their stream; batches of transactions have one of their own', async () => {
    const [first, second] = await pair(echo())
    const large = new Uint8Array(protocols.query.maxFrameBytes + 1).fill(7)
    await expect(first.network.request(b.id, { ...bare('query'), body: large }, 2000)).rejects.toMatchObject({
      code: 'unreachable',
    })
    const transactions = Array.from({ length: 100 }, (_, i) => new Uint8Array(10_000).fill(i))
    first.network.send(b.id, { type: 'transactions', transactions })
    await eventually('the batch', () => second.received.length === 1)
    expect(second.received[0]).toEqual({ from: a.id, message: { type: 'transactions', transactions } })
  })

  test('of a newcomer: query reaches the handler as nobody, the registry says hello-required', async () => {
    const listener = await start(b, echo())
    const newcomer = await start(sampleIdentity('newcomer'), { proof: { type: 'none' } })
    keep(newcomer, listener)
    const body = await newcomer.network.request(b.id, bare('query', 3), 2000)
    expect(Buffer.from(body).toString()).toBe('nobody')
    const asked = ask(newcomer.network, b.id, registryReports.address, Uint8Array.of(1), 2000)
    await expect(asked).rejects.toMatchObject({ code: 'hello-required' })
    expect(isConnected(newcomer, listener)).toBe(false)
  })

  test('of a newcomer are limited in rate', async () => {
    const listener = await start(b, echo({ limits: { unprovenBurst: 3, unprovenPerSecond: 0.001 } }))
    const newcomer = await start(sampleIdentity('newcomer'), { proof: { type: 'none' } })
    keep(newcomer, listener)
    const codes: string[] = []
    for (let i = 0; i < 5; i++)
      await newcomer.network.request(b.id, bare('query', 5), 2000).then(
        () => codes.push('ok'),
        error => codes.push(error.code),
      )
    expect(codes).toEqual(['ok', 'ok', 'ok', 'rate-limited', 'rate-limited'])
  })
})

describe('request rate', () => {
  test('of a proven peer: by what requests cost, over all its connections, and no longer than it has to wait', async () => {
    const serving: TestNodeOptions = {
      limits: { provenBurst: 45, provenPerSecond: 20 },
      prepare: network => {
        const { coordination, headers } = queries
        const { read } = memberRequests
        const noHeaders = { coordination: () => [], headers: () => [] }
        network.handle('query', requestHandler({ coordination, headers }, noHeaders))
        network.handle('member', requestHandler({ read }, { read: () => ({ index: 1 }) }))
      },
    }
    const clock = new ManualClock()
    const [server, client, other] = [
      await start(a, { ...serving, clock: { ...systemClock, steady: () => clock.steady() } }),
      await start(b),
      await start(c),
    ]
    for (const node of [client, other]) {
      keep(node, server)
      await eventually('connected', () => isConnected(node, server) && isConnected(server, node))
    }
    const outcome = (asking: Promise<unknown>) =>
      asking.then(
        () => 'answered',
        error => `${(error as MoteError).code}: ${(error as MoteError).detail}`,
      )
    const askCheap = (from = client) => outcome(ask(from.network, a.id, queries.coordination, {}, 5_000))
    const askPage = (from = client) =>
      outcome(ask(from.network, a.id, queries.headers, { from: 1 as Height, limit: 512 }, 5_000))
    const askMember = () => outcome(ask(client.network, a.id, memberRequests.read, {}, 5_000))
    expect([await askPage(), await askPage()]).toEqual(['answered', 'answered'])
    for (let i = 0; i < 5; i++) expect(await askCheap()).toBe('answered')
    expect(await askCheap()).toBe('rate-limited: requests: again in 50 ms')
    expect(await askPage()).toBe('rate-limited: requests: again in 1000 ms')
    expect(await askMember(), 'consensus goes on').toBe('answered')
    expect(await askPage(other), 'another peer').toBe('answered')
    clock.advance(50)
    expect(await askCheap()).toBe('answered')
    expect(await askCheap()).toMatch(/^rate-limited/)
    client.network.forget(a.id)
    await client.network.stop()
    const again = await start(b)
    keep(again, server)
    await eventually('connected again', () => isConnected(again, server))
    expect(await askCheap(again), 'a new connection').toMatch(/^rate-limited/)
  })
})

describe('request rate of a lightweight node', () => {
  async function serving(limits: TestNodeOptions['limits']) {
    const { state, headers } = queries
    const clock = new ManualClock()
    const server = await start(a, {
      clock: { ...systemClock, steady: () => clock.steady() },
      ...(limits && { limits }),
      prepare: network =>
        network.handle('query', requestHandler({ state, headers }, { state: absent, headers: () => [] })),
    })
    return async (
      identity: SampleIdentity,
      requests: { readonly pages: number; readonly proofs: number },
    ) => {
      const node = await start(identity)
      keep(node, server)
      await eventually('connected', () => isConnected(node, server) && isConnected(server, node))
      const codes: string[] = []
      const count = async (asking: Promise<unknown>) =>
        codes.push(
          await asking.then(
            () => 'answered',
            error => (error as MoteError).code,
          ),
        )
      const page = { from: 1 as Height, limit: 512 }
      const record = { key: StateKey('ab'.repeat(32)), height: undefined }
      for (let i = 0; i < requests.pages; i++) await count(ask(node.network, a.id, headers, page, 5_000))
      for (let i = 0; i < requests.proofs; i++) await count(ask(node.network, a.id, state, record, 5_000))
      return codes
    }
  }

  /** As a full node refuses what it does not have: the wire is what this is about. */
  const absent = () => {
    throw new MoteError('height-not-available', 'none here')
  }

  test('is one of its own, set by lightPerSecond, and no other label has it', async () => {
    const asks = await serving({ lightPerSecond: 9 })
    const three = { pages: 3, proofs: 0 }
    expect(await asks(light, three)).toEqual(['answered', 'answered', 'rate-limited'])
    expect(await asks(b, three)).toEqual(['answered', 'answered', 'answered'])
  })

  test('by default takes what an honest one needs at once: 5,000 headers and proofs for 300 devices', async () => {
    const asks = await serving(undefined)
    const codes = await asks(light, { pages: Math.ceil(5_000 / 512), proofs: 300 })
    expect(codes).not.toContain('rate-limited')
    expect(codes).toHaveLength(310)
  })
})

describe('request rate of members', () => {
  test('only voters ask as members without being counted', async () => {
    const server = await start(a, {
      isCounted: id => id !== b.id,
      limits: { provenBurst: 3, provenPerSecond: 0.001 },
      prepare: network => {
        const { read } = memberRequests
        const members = requestHandler({ read }, { read: () => ({ index: 1 }) }, ({ deviceId }) =>
          deviceId === b.id ? undefined : new MoteError('not-authorised', 'no member'),
        )
        network.handle('member', members)
      },
    })
    const answers = async (identity: SampleIdentity) => {
      const node = await start(identity)
      keep(node, server)
      await eventually('connected', () => isConnected(node, server) && isConnected(server, node))
      const codes: string[] = []
      for (let i = 0; i < 5; i++)
        codes.push(
          await ask(node.network, a.id, memberRequests.read, {}, 5_000).then(
            () => 'answered',
            error => (error as MoteError).code,
          ),
        )
      return codes
    }
    expect(await answers(b)).toEqual(['answered', 'answered', 'answered', 'answered', 'answered'])
    const refused = 'not-authorised'
    expect(await answers(c)).toEqual([refused, refused, refused, 'rate-limited', 'rate-limited'])
  })
})

describe('frames', () => {
  test('of a node that is no full node close its connection at once, and nothing of them is taken', async () => {
    const server = await start(a)
    for (const message of [append(1), { type: 'transactions', transactions: [Uint8Array.of(1)] } as const]) {
      const client = await start(light, { limits: { retryDelayMs: 60_000 } })
      keep(client, server)
      await eventually('connected', () => isConnected(client, server) && isConnected(server, client))
      const { malformedFrames } = server.network.counters
      client.network.send(a.id, message)
      await eventually('cut off', () => !isConnected(server, client))
      expect(server.network.counters.malformedFrames).toBe(malformedFrames + 1)
      await client.network.stop()
    }
    expect(server.received).toEqual([])
  })

  test('of a full node that is no voter are dropped over its rate, and then its connection is', async () => {
    const limits = { frameBurst: 12, framesPerSecond: 0.001, maxExcess: 4 }
    const server = await start(a, { limits, isCounted: id => id !== c.id })
    const [learner, voter] = [await start(b, { limits: { retryDelayMs: 60_000 } }), await start(c)]
    for (const node of [learner, voter]) {
      keep(node, server)
      await eventually('connected', () => isConnected(node, server) && isConnected(server, node))
    }
    const of = (id: string) => server.received.filter(({ from }) => from === id).length
    // A frame of 100 bytes costs a unit, one of 1,000 bytes four.
    learner.network.send(a.id, append(0, 1_000))
    for (let i = 1; i < 12; i++) learner.network.send(a.id, append(i))
    for (let i = 0; i < 30; i++) voter.network.send(a.id, append(i))
    await eventually('the voter', () => of(c.id) === 30)
    await eventually('the learner', () => of(b.id) === 9)
    expect(isConnected(server, learner), 'three were dropped').toBe(true)
    learner.network.send(a.id, append(12))
    await eventually('cut off', () => !isConnected(server, learner))
    expect(of(b.id)).toBe(9)
    expect(isConnected(server, voter)).toBe(true)
  })

  test('over the rate of requests: who goes on and on is cut off', async () => {
    const limits = { provenBurst: 1, provenPerSecond: 0.001, maxExcess: 3 }
    const { coordination } = queries
    const server = await start(a, {
      limits,
      prepare: network =>
        network.handle('query', requestHandler({ coordination }, { coordination: () => [] })),
    })
    const client = await start(b, { limits: { retryDelayMs: 60_000 } })
    keep(client, server)
    await eventually('connected', () => isConnected(client, server) && isConnected(server, client))
    const asked = () =>
      ask(client.network, a.id, coordination, {}, 1_000).then(
        () => 'answered',
        error => (error as MoteError).code,
      )
    expect([await asked(), await asked(), await asked()]).toEqual([
      'answered',
      'rate-limited',
      'rate-limited',
    ])
    void asked()
    await eventually('cut off', () => !isConnected(server, client))
  })
})

describe('hello', () => {
  /** One attempt of `dialler` at `listener`; both sides' refusals. */
  async function refusedAt(listener: TestNode, dialler: TestNode): Promise<void> {
    keep(dialler, listener)
    await eventually('refused', () => listener.network.counters.refusedHellos > 0)
    expect(isConnected(listener, dialler)).toBe(false)
    expect(isConnected(dialler, listener)).toBe(false)
  }

  test('a peer that is not confirmed is good for proofs only, and for everything once it is', async () => {
    const callers: string[] = []
    const serving: TestNodeOptions = {
      prepare: network => {
        network.handle('query', async ({ deviceId }) => Buffer.from(deviceId ?? 'nobody'))
        const { address } = registryReports
        const taken = {
          address: (_: Uint8Array, { deviceId }: ConfirmedCaller) => void callers.push(deviceId),
        }
        network.handle('registry', requestHandler({ address }, taken))
      },
    }
    const [first, second] = [await start(a, serving), await start(b, { ...serving, isCurrent: false })]
    keep(first, second)
    await eventually('connected', () => isConnected(first, second) && isConnected(second, first))
    expect(second.network.unconfirmed()).toEqual([a.id])
    const asks = async (from: TestNode, to: SampleIdentity, of: OutgoingRequest['of']) =>
      callers.push(
        await from.network.request(to.id, { ...bare('query'), of }, 2_000).then(
          body => Buffer.from(body).toString(),
          error => (error as MoteError).code,
        ),
      )
    await asks(second, a, 'anyone')
    await asks(second, a, 'confirmed')
    await asks(first, b, 'confirmed')
    const registered = () => ask(first.network, b.id, registryReports.address, Uint8Array.of(1), 2_000)
    expect(callers.splice(0)).toEqual([b.id, 'not-ready', 'nobody'])
    await expect(registered()).rejects.toMatchObject({ code: 'not-ready' })
    first.network.send(b.id, append(1))
    await eventually('dropped', () => first.unreachable.length === 1)
    second.isCurrent = true
    second.network.recheck(a.id)
    expect(second.network.unconfirmed()).toEqual([])
    await asks(second, a, 'confirmed')
    await asks(first, b, 'confirmed')
    expect(callers).toEqual([b.id, a.id])
    await registered()
    expect(callers.at(-1)).toBe(a.id)
    first.network.send(b.id, append(2))
    await eventually('taken', () => second.received.length === 1)
  })

  test('a certified proof passes where the genesis says another transport key', async () => {
    const moved = { ...a, transportSeed: sampleIdentity('new key').transportSeed }
    const proof = chain.proofOf(a.id, 7, record => ({
      ...record,
      transportKey: sampleIdentity('new key').transportKey,
    }))
    const [listener, dialler] = [await start(b), await start(moved, { proof })]
    keep(dialler, listener)
    await eventually('connected', () => isConnected(listener, dialler) && isConnected(dialler, listener))
  })

  test('a proof on another transport key than the record names is refused', async () => {
    const thief = { ...a, transportSeed: sampleIdentity('thief').transportSeed }
    await refusedAt(await start(b), await start(thief))
  })

  test('a proof with one byte changed is refused', async () => {
    const proof = chain.proofOf(a.id, 7)
    if (proof.type === 'certified') proof.answer[proof.answer.length - 40]! ^= 1
    await refusedAt(await start(b), await start(a, { proof }))
  })

  test('a proof of a suspended identity is refused', async () => {
    const proof = chain.proofOf(a.id, 7, record => ({ ...record, status: 'suspended' }))
    await refusedAt(await start(b), await start(a, { proof }))
  })

  test('an identity that is not on the chain is refused', async () => {
    await refusedAt(await start(b), await start(sampleIdentity('unknown')))
  })

  test('the last good proof of a revoked device is refused by who knows better', async () => {
    const listener = await start(b)
    const record = chain.record(a.id)!
    listener.known.set(a.id, { height: 9 as Height, record: { ...record, status: 'revoked' } })
    await refusedAt(listener, await start(a, { proof: chain.proofOf(a.id, 8) }))
  })

  test('a proof from before a change is refused until a newer one is shown', async () => {
    const limits = { retryDelayMs: 20, retryDelayMsMax: 50 }
    const [listener, dialler] = [await start(b), await start(a, { proof: chain.proofOf(a.id, 8), limits })]
    listener.known.set(a.id, { height: 9 as Height, record: 'changed' })
    await refusedAt(listener, dialler)
    dialler.proof = chain.proofOf(a.id, 9)
    await eventually('connected', () => isConnected(listener, dialler))
  })

  test('a dialled address where another device answers is refused', async () => {
    const [first, second] = [await start(a), await start(b)]
    first.network.keep({ id: c.id, address: second.address })
    await eventually('refused', () => first.network.counters.refusedHellos > 0)
    expect(first.network.peers()).toEqual([{ id: c.id, state: 'disconnected', address: second.address }])
  })

  test('recheck closes the connections of a device that was revoked, and of no other', async () => {
    const [first, second] = await pair()
    const third = await start(c)
    keep(third, second)
    await eventually('third connected', () => isConnected(second, third))
    second.known.set(a.id, {
      height: 9 as Height,
      record: { ...chain.record(a.id)!, status: 'revoked' },
    })
    second.network.recheck(c.id)
    second.network.recheck(a.id)
    await eventually('cut', () => !isConnected(second, first), 1000)
    expect(isConnected(second, third)).toBe(true)
  })

  test('a revoked voter is heard as one, and as nothing else, until it is let go', async () => {
    const serve = (network: Network) => {
      for (const protocol of ['query', 'member'] as const)
        network.handle(protocol, async ({ deviceId }) => Buffer.from(deviceId ?? 'nobody'))
    }
    const limits = { retryDelayMs: 20, retryDelayMsMax: 50 }
    const [voter, judge] = await pair({ limits, prepare: serve })
    const forwarded: PeerMessage = { type: 'transactions', transactions: [Uint8Array.of(1)] }
    voter.network.send(b.id, forwarded)
    await eventually('forwarded', () => judge.received.length === 1)
    judge.voters.add(a.id)
    judge.known.set(a.id, { height: 9 as Height, record: { ...chain.record(a.id)!, status: 'revoked' } })
    judge.network.recheck(a.id)
    const callerOf = async (protocol: 'query' | 'member') =>
      Buffer.from(await voter.network.request(b.id, bare(protocol), 2_000)).toString()
    expect([await callerOf('member'), await callerOf('query')]).toEqual([a.id, 'nobody'])
    voter.network.send(b.id, forwarded)
    voter.network.send(b.id, append(1))
    voter.network.send(b.id, { type: 'signatures', signatures })
    await eventually('what a voter says', () => judge.received.length >= 3)
    await eventually('the loss of the rest', () => voter.unreachable.length > 0)
    expect(judge.received.slice(1).map(({ message }) => message.type)).toEqual(['raft', 'signatures'])
    await voter.network.stop()
    const again = await start(a, { limits })
    keep(again, judge)
    await eventually('let in again', () => isConnected(judge, again))
    judge.voters.delete(a.id)
    judge.network.recheck(a.id)
    await eventually('cut', () => !isConnected(judge, again))
    await eventually('not let in', () => judge.network.counters.refusedHellos > 2)
  })
})
