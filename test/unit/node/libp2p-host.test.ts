/** A node's host and its dialler. The libraries under a connection still look as libp2p-host.ts expects; over real sockets between two hosts. */

import type { MessageStream, Stream } from '@libp2p/interface'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { Milliseconds } from '../../../chain/brands.ts'
import {
  createHost,
  Dialler,
  endLengthsCheaply,
  TurnSends,
  updateWindowByHalves,
} from '../../../node/network/libp2p-host.ts'
import { defaultNetworkLimits } from '../../../node/network/protocols.ts'
import type { Clock } from '../../../node/ports.ts'

const protocol = '/mote/test/1'
const hosts = await Promise.all(
  [1, 2].map(seed =>
    createHost({
      host: '127.0.0.1',
      port: 0,
      transportSeed: new Uint8Array(32).fill(seed),
      limits: defaultNetworkLimits,
    }),
  ),
)
const [sender, receiver] = hosts as [(typeof hosts)[number], (typeof hosts)[number]]
let outgoing: Stream
let incoming: Stream
let received = 0

beforeAll(async () => {
  await Promise.all(hosts.map(host => host.start()))
  const opened = Promise.withResolvers<Stream>()
  await receiver.handle(protocol, stream => {
    stream.addEventListener('message', ({ data }) => {
      received += data.byteLength
    })
    opened.resolve(stream)
  })
  const connection = await sender.dial(receiver.getMultiaddrs()[0]!)
  outgoing = await connection.newStream(protocol)
  outgoing.send(new Uint8Array(1))
  incoming = await opened.promise
})
afterAll(() => Promise.all(hosts.map(host => host.stop())))

describe('quiet streams', () => {
  it('quiet streams: what is sent in a turn leaves together at its end, or when somebody says so, once', async () => {
    const sends = new TurnSends()
    const left: string[] = []
    sends.wait(() => left.push('a'))
    sends.wait(() => left.push('b'))
    expect(left).toEqual([])
    sends.flush()
    sends.flush()
    expect(left).toEqual(['a', 'b'])
    sends.wait(() => left.push('c'))
    await new Promise(resolve => setImmediate(resolve))
    expect(left).toEqual(['a', 'b', 'c'])
  })

  it('quiet streams: a window is opened again by halves, and megabytes pass', async () => {
    let updates = 0
    const sent = incoming as unknown as { sendFrame(header: { type: number }, data?: Uint8Array): void }
    const send = sent.sendFrame.bind(incoming)
    sent.sendFrame = (header, data) => {
      updates++
      send(header, data)
    }
    expect(updateWindowByHalves(incoming)).toBe(true)
    for (let i = 0; i < 100; i++) {
      outgoing.send(new Uint8Array(100))
      await new Promise(resolve => setTimeout(resolve, 1))
    }
    await expect.poll(() => received, { timeout: 30_000 }).toBe(10_001)
    expect(updates, 'small messages are answered by nothing').toBe(0)
    const large = new Uint8Array(8 * 1024 * 1024)
    if (!outgoing.send(large)) await outgoing.onDrain()
    await expect.poll(() => received, { timeout: 30_000 }).toBe(10_001 + large.length)
    expect(updates).toBeGreaterThan(0)
  })

  it('quiet streams: what is under a connection reads lengths as expected', () => {
    const [connection] = sender.getConnections() as unknown as { muxer: { maConn: MessageStream } }[]
    expect(endLengthsCheaply(connection!.muxer.maConn)).toBe(true)
  })

  it('quiet streams: nothing is kept of who opens one', async () => {
    expect(incoming.protocol).toBe(protocol)
    expect(await receiver.peerStore.has(sender.peerId)).toBe(false)
    const kept = await sender.peerStore.get(receiver.peerId)
    expect(kept.protocols).toEqual([])
  })

  it('quiet streams: a stream of another kind is left alone', () => {
    const other = { decoder: {} } as unknown as Stream
    expect([updateWindowByHalves(other), endLengthsCheaply(other)]).toEqual([false, false])
  })
})

/** Runs timers by hand and remembers their delays. */
class ManualClock implements Clock {
  readonly delays: number[] = []
  #timers: (() => void)[] = []

  wall(): Milliseconds {
    return Milliseconds(0)
  }

  steady(): number {
    return 0
  }

  after(delayMs: number, callback: () => void): () => void {
    this.delays.push(delayMs)
    this.#timers.push(callback)
    return () => {
      this.#timers = this.#timers.filter(timer => timer !== callback)
    }
  }

  get pending(): number {
    return this.#timers.length
  }

  async run(): Promise<void> {
    for (const timer of this.#timers.splice(0)) timer()
    await new Promise(resolve => setImmediate(resolve))
  }
}

function dialler(reachable: () => boolean) {
  const clock = new ManualClock()
  const attempts: AbortSignal[] = []
  let connected = false
  const made = new Dialler({
    clock,
    random: () => 1,
    firstDelayMs: 7,
    retryDelayMs: 100,
    retryDelayMsMax: 500,
    isConnected: () => connected,
    connect: async signal => {
      attempts.push(signal)
      if (!reachable()) throw new Error('refused')
      connected = true
    },
    onFailure: () => {},
  })
  return { made, clock, attempts, disconnect: () => (connected = false) }
}

describe('dialler', () => {
  it('dialler: tries again after a growing pause, for ever, and starts over after a success', async () => {
    let reachable = false
    const { made, clock, attempts, disconnect } = dialler(() => reachable)
    made.disconnected()
    for (let i = 0; i < 6; i++) await clock.run()
    expect(clock.delays).toEqual([7, 100, 200, 400, 500, 500, 500])
    reachable = true
    await clock.run()
    expect(attempts).toHaveLength(7)
    expect(clock.pending).toBe(0)
    disconnect()
    reachable = false
    made.disconnected()
    await clock.run()
    expect(clock.delays.slice(7)).toEqual([7, 100])
  })

  it('dialler: rests when the peer has dialled first', async () => {
    const { made, clock, attempts } = dialler(() => false)
    made.disconnected()
    made.connected()
    await clock.run()
    expect(attempts).toEqual([])
  })

  it('dialler: stop ends the pause and the attempt under way', async () => {
    const { made, clock, attempts } = dialler(() => false)
    made.disconnected()
    await clock.run()
    made.stop()
    await clock.run()
    made.disconnected()
    await clock.run()
    expect(attempts).toHaveLength(1)
    expect(attempts[0]?.aborted).toBe(true)
  })
})
