/** Faults of links, as people write them down and as the bytes of a connection meet them. */
import { once } from 'node:events'
import { createConnection, createServer, type Server, type Socket } from 'node:net'
import { afterEach, describe, expect, test } from 'vitest'
import {
  type Link,
  type LinkQuality,
  linkChange,
  parseDelay,
  parseLoss,
  parsePartition,
  perfect,
  worse,
} from '../../../devnet/link-faults.ts'
import { LinkProxy, maxHeldBytes, retransmissionMs } from '../../../devnet/link-proxy.ts'

const names = ['a', 'b', 'c']
const arrows = (links: readonly Link[]): string[] => links.map(({ from, to }) => `${from}>${to}`).sort()

describe('link faults as text', () => {
  test('A,B/C cuts both ways between the sides and nothing within them', () => {
    expect(arrows(parsePartition(['a,b/c'], names))).toEqual(['a>c', 'b>c', 'c>a', 'c>b'])
    expect(arrows(parsePartition(['a/b/c'], names))).toHaveLength(6)
  })
  test('A>B cuts one way; several arguments add up', () => {
    expect(arrows(parsePartition(['a>b'], names))).toEqual(['a>b'])
    expect(arrows(parsePartition(['a>b,c', 'b/c'], names))).toEqual(['a>b', 'a>c', 'b>c', 'c>b'])
  })
  test.each(['a', 'a/', 'a/d', 'a/a', 'a>b>c', ''])('a partition of %j is refused', text => {
    expect(() => parsePartition([text], names)).toThrow('partition:')
  })
  test('a delay is read with ±, +-, and without jitter', () => {
    for (const text of ['20±10', '20+-10', '20+/-10', '20 ± 10ms'])
      expect(parseDelay(text)).toEqual({ delayMs: 20, jitterMs: 10 })
    expect(parseDelay('5')).toEqual({ delayMs: 5, jitterMs: 0 })
  })
  test.each(['', '10±20', '-5', '70000', 'x'])('a delay of %j is refused', text => {
    expect(() => parseDelay(text)).toThrow('delay:')
  })
  test('a loss is a percentage', () => {
    expect([parseLoss('5%'), parseLoss('12.5'), parseLoss('0')]).toEqual([0.05, 0.125, 0])
    for (const text of ['91', '-1', 'a', '']) expect(() => parseLoss(text)).toThrow('loss:')
  })
  test('a link is as bad as the worse of its ends', () => {
    expect(worse({ delayMs: 20, jitterMs: 2, loss: 0 }, { delayMs: 10, jitterMs: 9, loss: 0.1 })).toEqual({
      delayMs: 20,
      jitterMs: 2,
      loss: 0.1,
    })
  })
  test('a change over the control socket is checked', () => {
    const good = { type: 'delay', nodes: ['a'], delayMs: 20, jitterMs: 10 }
    expect(linkChange(good)).toEqual(good)
    for (const bad of [
      null,
      {},
      { ...good, jitterMs: 30 },
      { ...good, nodes: 'a' },
      { type: 'partition', blocked: ['a>b'] },
      { type: 'loss', nodes: [], loss: 1 },
    ])
      expect(() => linkChange(bad)).toThrow('change:')
  })
})

const open: { close(): unknown }[] = []
afterEach(() => {
  for (const each of open.splice(0)) each.close()
})

class Conditions {
  blocked = new Set<string>()
  now: LinkQuality = perfect
  chances: number[] = []
  isBlocked({ from, to }: Link): boolean {
    return this.blocked.has(`${from}>${to}`)
  }
  quality(): LinkQuality {
    return this.now
  }
  random(): number {
    return this.chances.shift() ?? 0.99
  }
}

interface World {
  readonly conditions: Conditions
  readonly proxy: LinkProxy
  readonly dial: () => Socket
  /** Connections that reached the target. */
  readonly arrived: Socket[]
  readonly target: Server
}

async function world(): Promise<World> {
  const arrived: Socket[] = []
  const target = createServer(socket => {
    arrived.push(socket)
    socket.on('error', () => {})
  }).listen(0, '127.0.0.1')
  await once(target, 'listening')
  const { port } = target.address() as { port: number }
  const conditions = new Conditions()
  const host = '127.0.0.1'
  const proxy = await LinkProxy.listen({
    link: { from: 'a', to: 'b' },
    host,
    port: 0,
    target: { host, port },
    conditions,
  })
  open.push(proxy, target, { close: () => arrived.forEach(socket => void socket.destroy()) })
  const dial = (): Socket => {
    const socket = createConnection({ host, port: proxy.port })
    socket.on('error', () => {})
    open.push({ close: () => socket.destroy() })
    return socket
  }
  return { conditions, proxy, dial, arrived, target }
}

async function until(what: string, holds: () => boolean): Promise<void> {
  const deadline = performance.now() + 60_000
  while (!holds()) {
    if (performance.now() > deadline) throw new Error(`${what}: not in time`)
    await new Promise(resolve => setTimeout(resolve, 2))
  }
}

function collect(socket: Socket): { text: string } {
  const got = { text: '' }
  socket.on('data', (bytes: Buffer) => {
    got.text += bytes.toString()
  })
  return got
}

/** `once` would throw the reset that this waits for. */
const closed = (socket: Socket) => new Promise<void>(resolve => socket.once('close', () => resolve()))

/** Round trip to this machine's own event loop and sockets: what is not here by then is held. */
const aMoment = () => new Promise(resolve => setTimeout(resolve, 60))

describe('link proxy', () => {
  test('a whole link passes bytes, ends and resets on', async () => {
    const { dial, arrived } = await world()
    const client = dial()
    client.write('hello')
    await until('connection', () => arrived.length === 1)
    const there = collect(arrived[0]!)
    const here = collect(client)
    arrived[0]!.write('welcome')
    await until('bytes', () => there.text === 'hello' && here.text === 'welcome')
    arrived[0]!.resetAndDestroy()
    await closed(client)
  })

  test('a target that does not listen resets the connection', async () => {
    const { dial, target } = await world()
    target.close()
    await closed(dial())
  })

  test('a cut link holds bytes, and its healing delivers them in order', async () => {
    const { conditions, proxy, dial, arrived } = await world()
    const client = dial()
    client.write('1')
    await until('connection', () => arrived.length === 1)
    const there = collect(arrived[0]!)
    await until('bytes', () => there.text === '1')
    conditions.blocked = new Set(['a>b', 'b>a'])
    client.write('2')
    arrived[0]!.write('x')
    const here = collect(client)
    await aMoment()
    client.end('3')
    await aMoment()
    expect([there.text, here.text]).toEqual(['1', ''])
    conditions.blocked.clear()
    proxy.changed()
    await until('held bytes', () => there.text === '123' && here.text === 'x')
  })

  test('one direction may be cut while the other carries', async () => {
    const { conditions, dial, arrived } = await world()
    const client = dial()
    client.write('1')
    await until('connection', () => arrived.length === 1)
    const there = collect(arrived[0]!)
    const here = collect(client)
    await until('bytes', () => there.text === '1')
    conditions.blocked = new Set(['a>b'])
    client.write('2')
    arrived[0]!.write('still heard')
    await until('the other direction', () => here.text === 'still heard')
    expect(there.text).toBe('1')
  })

  test('a new connection over a cut link is accepted and hears nothing until it heals', async () => {
    const { conditions, proxy, dial, arrived } = await world()
    conditions.blocked = new Set(['b>a'])
    const client = dial()
    await once(client, 'connect')
    client.write('anybody?')
    await aMoment()
    expect(arrived).toHaveLength(0)
    conditions.blocked.clear()
    proxy.changed()
    await until('connection', () => arrived.length === 1)
    const there = collect(arrived[0]!)
    await until('held bytes', () => there.text === 'anybody?')
  })

  test('what is held is bounded: then the sender feels back-pressure', async () => {
    const { conditions, dial } = await world()
    conditions.blocked = new Set(['a>b'])
    const client = dial()
    await once(client, 'connect')
    const bytes = 24 * maxHeldBytes
    client.write(Buffer.alloc(bytes))
    await aMoment()
    // The system's own buffers take some megabytes; the rest must still wait in the sender.
    await until('back-pressure', () => client.bytesWritten > 0)
    expect(client.writableLength).toBeGreaterThan(0)
  })

  test('a delayed link keeps the order and takes at least the delay', async () => {
    const { conditions, dial, arrived } = await world()
    conditions.now = { delayMs: 60, jitterMs: 50, loss: 0 }
    conditions.chances = [0.99, 0, 0.5]
    const client = dial()
    await once(client, 'connect')
    await until('connection', () => arrived.length === 1)
    const there = collect(arrived[0]!)
    const began = performance.now()
    client.write('1')
    await aMoment()
    client.write('2')
    await until('both', () => there.text.length === 2)
    expect(there.text).toBe('12')
    expect(performance.now() - began).toBeGreaterThan(100)
  })

  test('a lost chunk stalls for a retransmission, twice as long when lost again', async () => {
    const { conditions, dial, arrived } = await world()
    const client = dial()
    await once(client, 'connect')
    await until('connection', () => arrived.length === 1)
    const there = collect(arrived[0]!)
    conditions.now = { delayMs: 0, jitterMs: 0, loss: 0.5 }
    conditions.chances = [0.1, 0.1, 0.9]
    const began = performance.now()
    client.write('1')
    await until('bytes', () => there.text === '1')
    expect(performance.now() - began).toBeGreaterThan(3 * retransmissionMs - 20)
  })
})
