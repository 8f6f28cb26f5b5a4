/** Bytes from hell on every libp2p protocol and before it: typed refusal or reset, counted, nobody harmed. */

import { once } from 'node:events'
import { connect, type Socket } from 'node:net'
import type { Connection, Stream } from '@libp2p/interface'
import { multiaddr } from '@multiformats/multiaddr'
import { afterEach, describe, expect, test } from 'vitest'
import { encode } from '../../chain/codec.ts'
import { helloCodec } from '../../node/network/hello.ts'
import { createHost } from '../../node/network/libp2p-host.ts'
import { defaultNetworkLimits, protocols } from '../../node/network/protocols.ts'
import { framesOf } from '../../node/network/streams.ts'
import { raftCodec } from '../../node/network/wire.ts'
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

const [a, b] = [sampleIdentity('a'), sampleIdentity('b')] as const
const [light, otherLight] = [sampleIdentity('light'), sampleIdentity('other-light')] as const
const lights = [light, otherLight].map(identity => ({ identity, label: 'lightweight' as const }))
const chain = sampleChain(sampleGenesis([a, b], lights), [a, b])
const stoppers: (() => Promise<unknown>)[] = []

afterEach(async () => {
  await Promise.all(stoppers.splice(0).map(stop => stop()))
})

async function start(identity: SampleIdentity = a, options: TestNodeOptions = {}): Promise<TestNode> {
  const node = await startTestNode(chain, identity, options)
  stoppers.push(() => node.network.stop())
  return node
}

/** A bare libp2p node with these keys, and a connection from it; it says nothing by itself. */
async function stranger(to: TestNode, seed = a.transportSeed): Promise<Connection> {
  const host = await createHost({
    host: '127.0.0.1',
    port: 0,
    transportSeed: seed,
    limits: defaultNetworkLimits,
  })
  await host.start()
  stoppers.push(async () => host.stop())
  return host.dial(multiaddr(to.address))
}

async function sendAndAwaitEnd(stream: Stream, bytes: Uint8Array): Promise<string> {
  stream.send(bytes)
  if (stream.status === 'open') await once(stream as unknown as EventTarget, 'close')
  return stream.status
}

async function sayHello(connection: Connection): Promise<void> {
  const hello = await connection.newStream(protocols.hello.id)
  const reply = once(hello as unknown as EventTarget, 'message')
  hello.send(
    framesOf([
      encode(helloCodec, { version: 1, chainId: chain.chainId, deviceId: a.id, proof: { type: 'genesis' } }),
    ]),
  )
  await reply
  hello.send(framesOf([Uint8Array.of(0x91, 0xc0)]))
}

describe('garbage', () => {
  const garbage = Uint8Array.from({ length: 64 }, (_, i) => (i * 37 + 11) % 256)

  test('on a TCP port before Noise harms nobody', async () => {
    const [first, second] = [await start(a), await start(b, { limits: { upgradeTimeoutMs: 1_000 } })]
    first.network.keep({ id: b.id, address: second.address })
    await eventually('connected', () => isConnected(first, second))
    const port = Number(second.address.split('/').at(-1))
    await Promise.all(
      Array.from({ length: 5 }, (_, i) => {
        const socket = connect(port, '127.0.0.1')
        socket.on('error', () => {})
        socket.write(Buffer.alloc(20_000, i * 51))
        return new Promise(resolve => socket.on('close', resolve))
      }),
    )
    first.network.send(b.id, append(1))
    await eventually('still served', () => second.received.length === 1)
  })

  test('well-formed frames before hello reset the stream, and too many close the connection', async () => {
    const listener = await start(b)
    const connection = await stranger(listener)
    const wellFormed = encode(raftCodec, { type: 'timeout-now', term: 1 })
    for (let i = 0; i < defaultNetworkLimits.maxViolations; i++) {
      const stream = await connection.newStream(protocols.raft.id).catch(() => undefined)
      if (stream) await sendAndAwaitEnd(stream, framesOf([wellFormed])).catch(() => {})
    }
    await eventually('closed', () => connection.status !== 'open')
    expect(listener.received).toEqual([])
    expect(listener.network.counters.malformedFrames).toBe(defaultNetworkLimits.maxViolations)
  })

  test.each(['raft', 'certify'] as const)(
    'in a %s frame of a proven peer resets the stream',
    async protocol => {
      const listener = await start(b)
      const connection = await stranger(listener)
      await sayHello(connection)
      const status = await sendAndAwaitEnd(
        await connection.newStream(protocols[protocol].id),
        framesOf([garbage]),
      )
      expect(status).toBe('reset')
      expect(listener.received).toEqual([])
      expect(listener.network.counters.malformedFrames).toBe(1)
      expect(connection.status).toBe('open')
    },
  )

  test('a frame length over the limit resets the stream before its bytes are kept', async () => {
    const listener = await start(b)
    const connection = await stranger(listener)
    await sayHello(connection)
    const stream = await connection.newStream(protocols.raft.id)
    expect(await sendAndAwaitEnd(stream, Uint8Array.of(0xff, 0xff, 0xff, 0xff, 1, 2, 3))).toBe('reset')
    expect(listener.network.counters.malformedFrames).toBe(1)
  })

  test('in hello is counted and leaves nothing proven', async () => {
    const listener = await start(b)
    const connection = await stranger(listener)
    const stream = await connection.newStream(protocols.hello.id)
    await sendAndAwaitEnd(stream, framesOf([garbage]))
    await eventually('counted', () => listener.network.counters.malformedFrames === 1)
    expect(listener.network.peers()).toEqual([])
  })

  test.each(['query', 'join', 'registry'] as const)(
    'over the limit in a %s request resets the stream',
    async name => {
      const listener = await start(b, {
        prepare: network => network.handle(name, async () => new Uint8Array()),
      })
      const connection = await stranger(listener)
      const stream = await connection.newStream(protocols[name].id)
      expect(await sendAndAwaitEnd(stream, Uint8Array.of(0x7f, 0xff, 0xff, 0xff))).toBe('reset')
      expect(listener.network.counters.malformedFrames).toBe(1)
    },
  )
})

describe('connections that prove nothing', () => {
  const sockets: Socket[] = []

  afterEach(() => {
    for (const socket of sockets.splice(0)) socket.destroy()
  })

  test('sockets that say nothing are pushed out by the next ones, and a peer comes in', async () => {
    const limits = {
      maxPendingConnections: 16,
      maxPendingPerAddress: 8,
      maxNewConnectionsPerSecond: 1_000,
      upgradeTimeoutMs: 60_000,
    }
    const [first, second] = [await start(a), await start(b, { limits })]
    const port = Number(second.address.split('/').at(-1))
    let open = 0
    for (let i = 0; i < 100; i++) {
      const socket = connect(port, '127.0.0.1')
      sockets.push(socket)
      socket.on('error', () => {})
      socket.on('close', () => open--)
      await once(socket, 'connect')
      open++
    }
    await eventually('eight are left', () => open === 8)
    first.network.keep({ id: b.id, address: second.address })
    await eventually('connected', () => isConnected(first, second), 5_000)
  })

  test('strangers behind Noise are pushed out by the next ones, and one that proves itself stays', async () => {
    const server = await start(b, { limits: { maxUnprovenPerAddress: 2 } })
    const proven = await stranger(server)
    await sayHello(proven)
    const strangers = [await stranger(server), await stranger(server), await stranger(server)]
    await eventually('the oldest stranger is gone', () => strangers[0]!.status !== 'open')
    expect([proven, ...strangers.slice(1)].map(({ status }) => status)).toEqual(['open', 'open', 'open'])
  })

  test('full nodes have room that lightweight nodes do not take', async () => {
    const server = await start(b, { limits: { maxConnections: 3, keptForFullNodes: 2 } })
    const lights = [await start(light), await start(otherLight)]
    for (const node of lights) {
      node.network.keep({ id: b.id, address: server.address })
      if (node === lights[0]) await eventually('connected', () => isConnected(node, server))
    }
    const full = await start(a)
    full.network.keep({ id: b.id, address: server.address })
    await eventually('the full node', () => isConnected(full, server) && isConnected(server, full))
    expect(lights.map(node => isConnected(server, node))).toEqual([true, false])
  })
})
