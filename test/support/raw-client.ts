/** An MQTT 3.1.1 client of packets: what it sends is what the test says. */
import { once } from 'node:events'
import { connect, type Socket } from 'node:net'
import { generate, type Packet, parser } from 'mqtt-packet'
import { until } from './gateway-fixture.ts'

interface RawLogin {
  readonly clientId: string
  readonly clean: boolean
  readonly username: string
  readonly password: string
}

export class RawClient {
  readonly received: Packet[] = []
  readonly #socket: Socket

  private constructor({ host, port }: { readonly host: string; readonly port: number }) {
    this.#socket = connect(port, host)
    const reading = parser()
    reading.on('packet', packet => this.received.push(packet))
    this.#socket.on('data', chunk => reading.parse(chunk)).on('error', () => {})
  }

  /** Resolves when CONNACK is there, whatever it says. */
  static async connect(
    address: { readonly host: string; readonly port: number },
    { password, ...login }: RawLogin,
  ): Promise<RawClient> {
    const raw = new RawClient(address)
    raw.send({ cmd: 'connect', ...login, keepalive: 60, password: Buffer.from(password) })
    await raw.gets('connack')
    return raw
  }

  send(...packets: Packet[]): void {
    this.#socket.write(Buffer.concat(packets.map(packet => generate(packet))))
  }

  gets(cmd: Packet['cmd'], count = 1): Promise<unknown> {
    return until(() => this.received.filter(packet => packet.cmd === cmd).length >= count, `${count} ${cmd}`)
  }

  get isClosed(): boolean {
    return this.#socket.closed
  }

  async close(): Promise<void> {
    if (this.#socket.closed) return
    this.#socket.destroy()
    await once(this.#socket, 'close')
  }
}
