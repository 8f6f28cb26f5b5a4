/**
 * What a peer may send until a protocol is agreed, over real sockets: on the bare connection, behind Noise and on a stream; as
 * server and as dialler. Cost is counted in reads of the library, which takes the bytes of a length one by one.
 */

import { once } from 'node:events'
import { type AddressInfo, connect, createServer, type Server } from 'node:net'
import { noise } from '@chainsafe/libp2p-noise'
import type { Connection, ConnectionEncrypter, MessageStream, Stream, StreamMuxer } from '@libp2p/interface'
import { tcp } from '@libp2p/tcp'
import { yamux } from '@libp2p/yamux'
import { multiaddr } from '@multiformats/multiaddr'
import { createLibp2p, type Libp2p } from 'libp2p'
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest'
import { boundSelection, SelectionBound } from '../../../node/network/connection-setup.ts'
import { createHost } from '../../../node/network/libp2p-host.ts'
import { defaultNetworkLimits, protocols } from '../../../node/network/protocols.ts'

const header = message('/multistream/1.0.0\n')
/** A length without end. */
const endless = Buffer.alloc(2_000, 0xff)
/** Names that nobody has, each of which gets an answer. */
const names = Buffer.concat([header, ...Array.from({ length: 1_000 }, () => message('\n'))])
const garbage = [
  ['a length without end', endless],
  ['a length without end behind the header', Buffer.concat([header, endless])],
  ['names without end', names],
] as const
/** Both sides of a dialling are here: as far as the multiplexer they read 36 times. */
const readsMax = 100

const hosts: Libp2p[] = []
const servers: Server[] = []
let server: Libp2p
let client: Libp2p
let reads = 0
let tooMany = Promise.withResolvers<void>()

function message(name: string): Buffer {
  return Buffer.from([name.length, ...Buffer.from(name)])
}

beforeAll(async () => {
  // Nothing here may end by a time-out.
  const limits = { ...defaultNetworkLimits, upgradeTimeoutMs: 600_000, dialTimeoutMs: 600_000 }
  for (const seed of [3, 4])
    hosts.push(
      await createHost({
        host: '127.0.0.1',
        port: 0,
        transportSeed: new Uint8Array(32).fill(seed),
        limits,
      }),
    )
  ;[server, client] = hosts as [Libp2p, Libp2p]
  await Promise.all(hosts.map(host => host.start()))
  for (const { id } of Object.values(protocols))
    await server.handle(id, stream => {
      stream.addEventListener('message', ({ data }) => stream.send(data))
    })
  const { muxer } = (await client.dial(server.getMultiaddrs()[0]!)) as unknown as {
    muxer: { maConn: { readBuffer: object } }
  }
  const list = Object.getPrototypeOf(muxer.maConn.readBuffer) as { consume(bytes: number): void }
  const consume = list.consume
  vi.spyOn(list, 'consume').mockImplementation(function (this: unknown, bytes) {
    if (++reads === readsMax) tooMany.resolve()
    consume.call(this, bytes)
  })
})

afterEach(() => {
  for (const listener of servers.splice(0)) listener.close()
})

afterAll(async () => {
  vi.restoreAllMocks()
  await Promise.all(hosts.map(host => host.stop()))
})

/** How often the library reads until `act` is done. */
async function readsOf(act: () => Promise<unknown>): Promise<number> {
  reads = 0
  tooMany = Promise.withResolvers()
  await Promise.race([act(), tooMany.promise])
  return reads
}

/** A node of another make: it agrees on the multiplexer behind Noise, by a selection of its own, after `first` was sent. */
async function otherNode(first?: Uint8Array): Promise<Libp2p> {
  const encrypter = (components: Parameters<ReturnType<typeof noise>>[0]): ConnectionEncrypter => {
    const inner = noise()(components) as ConnectionEncrypter
    return {
      protocol: inner.protocol,
      secureInbound: (socket, options) => inner.secureInbound(socket, options),
      secureOutbound: async (socket, options) => {
        const secured = await inner.secureOutbound(socket, { ...options, skipStreamMuxerNegotiation: true })
        if (first) secured.connection.send(first)
        return secured
      },
    }
  }
  const other = await createLibp2p({
    transports: [tcp()],
    connectionEncrypters: [encrypter],
    streamMuxers: [yamux()],
  })
  hosts.push(other)
  return other
}

function newMuxedStream(connection: Connection): Promise<MessageStream> {
  return (connection as unknown as { muxer: { createStream(): Promise<Stream> } }).muxer.createStream()
}

describe('selection: bytes', () => {
  const honest = Buffer.concat([header, message(`${protocols.registry.id}\n`)])

  it('selection: header and name are admitted in chunks of any size', () => {
    for (let size = 1; size <= honest.length; size++) {
      const bound = new SelectionBound()
      for (let at = 0; at < honest.length; at += size)
        expect(bound.admits(honest.subarray(at, at + size))).toBe(true)
    }
  })

  it('selection: a length of more than one byte is refused at its first', () => {
    expect(new SelectionBound().admits(Uint8Array.of(0x7f))).toBe(true)
    expect(new SelectionBound().admits(Uint8Array.of(0x80))).toBe(false)
    const bound = new SelectionBound()
    expect(bound.admits(header)).toBe(true)
    expect(bound.admits(Uint8Array.of(0x80))).toBe(false)
  })

  it('selection: a fifth message is refused at its length', () => {
    const bound = new SelectionBound()
    for (let i = 0; i < 4; i++) expect(bound.admits(message('\n'))).toBe(true)
    expect(bound.admits(Uint8Array.of(1))).toBe(false)
  })

  it('selection: a stream of another kind is left alone', () => {
    expect(boundSelection({} as unknown as MessageStream)).toBe(false)
  })
})

describe.each(garbage)('selection: %s', (_, bytes) => {
  it('selection: it closes a socket before Noise at once', async () => {
    const cost = await readsOf(async () => {
      const socket = connect(Number(server.getMultiaddrs()[0]!.toString().split('/')[4]), '127.0.0.1')
      socket.on('error', () => {})
      socket.write(bytes)
      await new Promise(resolve => socket.on('close', resolve))
    })
    expect(cost).toBeLessThan(readsMax)
  })

  it('selection: it closes a connection behind Noise at once', async () => {
    const other = await otherNode(bytes)
    const cost = await readsOf(async () => {
      await expect(other.dial(server.getMultiaddrs()[0]!)).rejects.toThrow()
    })
    expect(cost).toBeLessThan(readsMax)
  })

  it('selection: on a stream that it opened it closes the connection at once', async () => {
    const connection = await client.dial(server.getMultiaddrs()[0]!, { force: true })
    const stream = await newMuxedStream(connection)
    const cost = await readsOf(async () => {
      stream.send(bytes)
      await once(connection as unknown as EventTarget, 'close')
    })
    expect(cost).toBeLessThan(readsMax)
  })

  it('selection: as an answer on a stream it closes the connection at once', async () => {
    let isHostile = true
    server.addEventListener('connection:open', ({ detail }) => {
      const { muxer } = detail as unknown as { muxer: StreamMuxer }
      muxer.addEventListener('stream', ({ detail: stream }) => {
        if (isHostile) stream.send(bytes)
      })
    })
    const connection = await client.dial(server.getMultiaddrs()[0]!, { force: true })
    const cost = await readsOf(async () => {
      await expect(connection.newStream(protocols.query.id)).rejects.toThrow()
    })
    isHostile = false
    expect(cost).toBeLessThan(readsMax)
    expect(connection.status).not.toBe('open')
  })

  it('selection: from who was dialled it ends the dialling at once', async () => {
    const listener = createServer(socket => {
      socket.on('error', () => {})
      socket.write(bytes)
    })
    servers.push(listener)
    await once(listener.listen(0, '127.0.0.1'), 'listening')
    const { port } = listener.address() as AddressInfo
    const cost = await readsOf(async () => {
      await expect(client.dial(multiaddr(`/ip4/127.0.0.1/tcp/${port}`))).rejects.toThrow()
    })
    expect(cost).toBeLessThan(readsMax)
  })
})

describe('selection: goes on as before', () => {
  it('selection: with every protocol, and a large message behind it', async () => {
    const connection = await client.dial(server.getMultiaddrs()[0]!)
    for (const { id } of Object.values(protocols)) {
      const stream = await connection.newStream(id)
      const large = new Uint8Array(200_000).fill(0xff)
      const back = Promise.withResolvers<void>()
      let received = 0
      stream.addEventListener('message', ({ data }) => {
        received += data.byteLength
        if (received === large.length) back.resolve()
      })
      stream.send(large)
      await back.promise
      await stream.close()
    }
  })

  it('selection: a name that the other side does not have is answered, and costs no more than its stream', async () => {
    const connection = await client.dial(server.getMultiaddrs()[0]!)
    await expect(connection.newStream('/mote/unknown/1')).rejects.toThrow('Protocol selection failed')
    expect(connection.status).toBe('open')
  })

  it('selection: with a node that agrees on the multiplexer behind Noise', async () => {
    const connection = await (await otherNode()).dial(server.getMultiaddrs()[0]!)
    const stream = await connection.newStream(['/mote/unknown/1', protocols.query.id])
    expect(stream.protocol).toBe(protocols.query.id)
  })
})
