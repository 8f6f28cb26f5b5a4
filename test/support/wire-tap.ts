/**
 * Somebody on the link between clients and a broker: passes bytes on and keeps a recording of them, and may change or hold back what either
 * says, or make up what the broker says.
 */

import type { AddressInfo } from 'node:net'
import { connect, createServer, type Socket } from 'node:net'

interface Address {
  readonly host: string
  readonly port: number
}

/** Gets a packet, gives what the other end gets in its place. */
type Change = (packet: Buffer) => Buffer

export class WireTap implements AsyncDisposable {
  readonly address: Address
  /** What the broker sends from now on goes through it. */
  change: Change = packet => packet
  /** The same of what clients send, packets of no form too while it is not set. */
  changeSent: Change | undefined
  readonly #server
  readonly #chunks: Buffer[] = []
  readonly #sockets = new Set<Socket>()
  #last: Socket | undefined

  private constructor(server: ReturnType<typeof createServer>) {
    this.#server = server
    this.address = { host: '127.0.0.1', port: (server.address() as AddressInfo).port }
  }

  /** Listens on a free loopback port. */
  static async between(broker: Address): Promise<WireTap> {
    const server = createServer(client => tap.#join(client, connect(broker)))
    await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
    const tap = new WireTap(server)
    return tap
  }

  /** Every byte that has crossed, both ways, in the order in which chunks came. */
  get recording(): Buffer {
    return Buffer.concat(this.#chunks)
  }

  /** Says to the client that connected last what no broker has said. */
  inject(bytes: Buffer): void {
    this.#last?.write(bytes)
  }

  /** Ends every connection at once; later ones are taken. */
  cut(): void {
    for (const socket of this.#sockets) socket.destroy()
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.cut()
    await new Promise(resolve => this.#server.close(resolve))
  }

  #join(client: Socket, broker: Socket): void {
    this.#last = client
    for (const [from, to] of [
      [client, broker],
      [broker, client],
    ] as const) {
      this.#sockets.add(from)
      from.on('error', () => {})
      from.on('close', () => {
        this.#sockets.delete(from)
        to.destroySoon()
      })
      let rest: Buffer = Buffer.alloc(0)
      from.on('data', (chunk: Buffer) => {
        this.#chunks.push(chunk)
        const change = from === client ? this.changeSent : this.change
        if (!change) {
          to.write(chunk)
          return
        }
        rest = Buffer.concat([rest, chunk])
        for (let length = packetLength(rest); length !== undefined; length = packetLength(rest)) {
          to.write(change(rest.subarray(0, length)))
          rest = rest.subarray(length)
        }
      })
    }
  }
}

/** Bytes of the first packet (MQTT 3.1.1, section 2.2.3); undefined if it is not whole. */
function packetLength(bytes: Buffer): number | undefined {
  let length = 0
  for (let at = 1; at < bytes.length; at++) {
    const byte = bytes[at] as number
    length += (byte & 0x7f) * 0x80 ** (at - 1)
    if (byte < 0x80) return at + 1 + length <= bytes.length ? at + 1 + length : undefined
  }
  return undefined
}
