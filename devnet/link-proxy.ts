/**
 * One TCP connection path between two programs of a devnet, with the faults of a network: `from` dials the proxy's
 * port, the proxy dials `to`.
 *
 * - Cut: bytes are held, no reset and no end goes through, new connections are accepted and hear nothing. When the
 *   link is whole again, what was held arrives, as a retransmission would bring it.
 * - Delay with jitter keeps the order of bytes.
 * - Loss: TCP hides a lost segment from programs, except for the time it takes to send it again. So a lost chunk holds
 *   up itself and everything behind it for a retransmission time-out, which doubles when it is lost again.
 *
 * Memory: per direction at most `maxHeldBytes` and what one read brings; beyond, the sender is no longer read from and
 * feels TCP's back-pressure. A chunk is what one read of the socket gave.
 */
import { createServer, type Server, Socket } from 'node:net'
import { MoteError } from '../chain/result.ts'
import type { Link, LinkQuality } from './link-faults.ts'

export interface LinkConditions {
  isBlocked(link: Link): boolean
  quality(link: Link): LinkQuality
  /** From 0 (inclusive) to 1 (exclusive). */
  random(): number
}

export interface LinkProxyOptions {
  /** Who dials, and who is dialled. */
  readonly link: Link
  readonly host: string
  readonly port: number
  readonly target: { readonly host: string; readonly port: number }
  readonly conditions: LinkConditions
}

/** Held in one direction of one connection. */
export const maxHeldBytes = 1024 * 1024
/** First wait for a lost chunk: Linux's smallest retransmission time-out. Doubles up to the maximum. */
export const retransmissionMs = 200
const retransmissionMsMax = 3_200
const maxLinkConnections = 256

type Item =
  | { readonly type: 'bytes'; readonly bytes: Buffer; readonly dueMs: number }
  | { readonly type: 'end' | 'reset'; readonly dueMs: number }

/** One direction of one connection. */
class Pipe {
  readonly #source: Socket
  readonly #sink: Socket
  readonly #link: Link
  readonly #conditions: LinkConditions
  readonly #queue: Item[] = []
  #heldBytes = 0
  #lastDueMs = 0
  #sinkFull = false
  #open: boolean
  #timer: NodeJS.Timeout | undefined

  /** @param open false: everything is held until `open` */
  constructor(parts: {
    readonly source: Socket
    readonly sink: Socket
    readonly link: Link
    readonly conditions: LinkConditions
    readonly open: boolean
  }) {
    this.#source = parts.source
    this.#sink = parts.sink
    this.#link = parts.link
    this.#conditions = parts.conditions
    this.#open = parts.open
    const { source, sink } = parts
    source.on('data', (bytes: Buffer) => this.#take({ type: 'bytes', bytes, dueMs: this.#dueMs(true) }))
    source.on('end', () => this.#take({ type: 'end', dueMs: this.#dueMs(false) }))
    source.on('close', () => {
      if (!source.readableEnded) this.#take({ type: 'reset', dueMs: this.#dueMs(false) })
    })
    sink.on('drain', () => {
      this.#sinkFull = false
      this.pump()
    })
    sink.on('close', () => this.#drop())
  }

  open(): void {
    this.#open = true
    this.pump()
  }

  /** Delivers what is due, as far as the link and the receiver allow. */
  pump(): void {
    clearTimeout(this.#timer)
    this.#timer = undefined
    while (this.#open && !this.#sinkFull && !this.#conditions.isBlocked(this.#link)) {
      const item = this.#queue[0]
      if (!item) break
      const waitMs = item.dueMs - performance.now()
      if (waitMs > 0) {
        this.#timer = setTimeout(() => this.pump(), Math.ceil(waitMs))
        break
      }
      this.#queue.shift()
      this.#deliver(item)
    }
    if (this.#heldBytes < maxHeldBytes) this.#source.resume()
  }

  #take(item: Item): void {
    if (this.#sink.destroyed) return
    this.#queue.push(item)
    if (item.type === 'bytes') this.#heldBytes += item.bytes.length
    this.pump()
    if (this.#heldBytes >= maxHeldBytes) this.#source.pause()
  }

  #deliver(item: Item): void {
    if (item.type === 'bytes') {
      this.#heldBytes -= item.bytes.length
      this.#sinkFull = !this.#sink.write(item.bytes)
    } else if (item.type === 'end') this.#sink.end()
    else this.#sink.resetAndDestroy()
  }

  #drop(): void {
    clearTimeout(this.#timer)
    this.#queue.length = 0
    this.#heldBytes = 0
  }

  /** When what arrives now may leave: never before what arrived earlier. */
  #dueMs(canBeLost: boolean): number {
    const { delayMs, jitterMs, loss } = this.#conditions.quality(this.#link)
    let waitMs = delayMs === 0 ? 0 : delayMs + jitterMs * (2 * this.#conditions.random() - 1)
    if (canBeLost && loss > 0)
      for (let again = retransmissionMs; this.#conditions.random() < loss; again *= 2)
        waitMs += Math.min(again, retransmissionMsMax)
    this.#lastDueMs = Math.max(this.#lastDueMs, waitMs === 0 ? 0 : performance.now() + waitMs)
    return this.#lastDueMs
  }
}

/** A connection that was accepted and the one to the target. */
interface Pair {
  readonly client: Socket
  readonly forward: Pipe
  /** Present once the target has been dialled. */
  backward: Pipe | undefined
  readonly target: Socket
  dialled: boolean
}

export class LinkProxy {
  readonly link: Link
  readonly #options: LinkProxyOptions
  readonly #server: Server
  readonly #pairs = new Set<Pair>()

  private constructor(options: LinkProxyOptions) {
    this.link = options.link
    this.#options = options
    this.#server = createServer({ allowHalfOpen: true, noDelay: true }, client => this.#accept(client))
    this.#server.maxConnections = maxLinkConnections
  }

  /** Listens. Throws `in-use`. */
  static async listen(options: LinkProxyOptions): Promise<LinkProxy> {
    const proxy = new LinkProxy(options)
    const { host, port, link } = options
    await new Promise<void>((resolve, reject) => {
      proxy.#server.once('error', cause =>
        reject(
          new MoteError('in-use', `link from ${link.from} to ${link.to}: port ${port} cannot be used`, {
            cause,
          }),
        ),
      )
      proxy.#server.listen({ host, port }, resolve)
    })
    return proxy
  }

  /** The port it listens on. */
  get port(): number {
    const address = this.#server.address()
    return address !== null && typeof address === 'object' ? address.port : 0
  }

  /** The conditions have changed. */
  changed(): void {
    for (const pair of this.#pairs) {
      if (!pair.dialled) this.#dial(pair)
      pair.forward.pump()
      pair.backward?.pump()
    }
  }

  close(): void {
    this.#server.close()
    for (const { client, target } of this.#pairs) {
      client.destroy()
      target.destroy()
    }
  }

  get #reverse(): Link {
    return { from: this.link.to, to: this.link.from }
  }

  #accept(client: Socket): void {
    const { conditions } = this.#options
    // Not connected yet: dialled below, or when the link carries again.
    const target = new Socket({ allowHalfOpen: true })
    target.setNoDelay(true)
    const forward = new Pipe({ source: client, sink: target, link: this.link, conditions, open: false })
    const pair: Pair = { client, target, forward, backward: undefined, dialled: false }
    this.#pairs.add(pair)
    client.on('error', () => {}) // Its 'close' follows.
    client.on('close', () => {
      // The connection was never made, so there is no end to hold open.
      if (!pair.dialled) {
        this.#pairs.delete(pair)
        target.destroy()
      } else if (target.destroyed) this.#pairs.delete(pair)
    })
    this.#dial(pair)
  }

  /** A connection is made only while both directions carry: it needs an answer. */
  #dial(pair: Pair): void {
    const { conditions, target: address } = this.#options
    if (conditions.isBlocked(this.link) || conditions.isBlocked(this.#reverse)) return
    pair.dialled = true
    const { client, target, forward } = pair
    let connected = false
    target.on('error', () => {
      if (!connected) client.resetAndDestroy()
    })
    target.on('close', () => {
      if (client.destroyed || !connected) this.#pairs.delete(pair)
    })
    target.connect(address, () => {
      connected = true
      pair.backward = new Pipe({
        source: target,
        sink: client,
        link: this.#reverse,
        conditions,
        open: true,
      })
      forward.open()
    })
  }
}
