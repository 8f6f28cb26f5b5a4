/**
 * The local MQTT port of an agent: for applications on the same machine and for nobody else. It listens on a loopback address or on
 * a Unix socket of mode 0600, and refuses any other (`config-invalid`). Whoever can open it speaks as the device.
 */
import { once } from 'node:events'
import { chmod, rm } from 'node:fs/promises'
import { createServer, isIP, type Server, type Socket } from 'node:net'
import { MoteError, type Refusal, type Result } from '../../chain/result.ts'
import { LocalClient, type LocalClientLimits, type LocalMessage } from './local-client.ts'

/** Where a local port listens. */
export type LocalAddress =
  | { readonly type: 'tcp'; readonly host: string; readonly port: number }
  | { readonly type: 'unix'; readonly path: string }

export interface LocalMqttLimits extends LocalClientLimits {
  readonly connections: number
}

export const defaultLocalLimits: LocalMqttLimits = {
  connections: 64,
  packetBytes: 1024 * 1024 + 1024,
  connectBytes: 4096,
  subscriptions: 32,
  inFlight: 64,
  unsentBytes: 8 * 1024 * 1024,
  connectMs: 3_000,
  acknowledgeMs: 30_000,
}

export interface LocalMqttOptions {
  readonly address: LocalAddress
  readonly limits: LocalMqttLimits
  readonly accept: (message: LocalMessage) => Promise<Result<unknown>>
  /** Told when somebody has subscribed to something. */
  readonly onSubscribed: () => void
  readonly onRefused: (reason: Refusal) => void
}

/** Throws `config-invalid` for an address that others than this machine can reach. Names are refused: they may mean anything. */
export function requireLoopback(host: string, field: string): void {
  const isLoopback = isIP(host) === 4 ? host.startsWith('127.') : host === '::1'
  if (!isLoopback)
    throw new MoteError(
      'config-invalid',
      `${field}: expected a loopback address (127.0.0.0/8 or ::1), got '${host}'`,
    )
}

export class LocalMqtt {
  readonly #options: LocalMqttOptions
  readonly #server: Server
  readonly #clients = new Set<LocalClient>()

  constructor(options: LocalMqttOptions) {
    if (options.address.type === 'tcp') requireLoopback(options.address.host, 'mqtt.host')
    this.#options = options
    this.#server = createServer(socket => this.#take(socket))
    this.#server.maxConnections = options.limits.connections
  }

  /** Throws `in-use`, `start-failed`. */
  async listen(): Promise<LocalAddress> {
    const { address } = this.#options
    // The lock on the queues says that no other agent of this device listens there.
    if (address.type === 'unix') await rm(address.path, { force: true })
    this.#server.listen(
      address.type === 'unix' ? { path: address.path } : { host: address.host, port: address.port },
    )
    try {
      await once(this.#server, 'listening')
    } catch (cause) {
      const { code, message } = cause as NodeJS.ErrnoException
      throw new MoteError(code === 'EADDRINUSE' ? 'in-use' : 'start-failed', `mqtt: ${message}`, { cause })
    }
    if (address.type === 'unix') {
      await chmod(address.path, 0o600)
      return address
    }
    const bound = this.#server.address()
    return typeof bound === 'object' && bound ? { ...address, port: bound.port } : address
  }

  /** Gives a message to every subscriber, and waits for the slow ones. `taken`: at least one has acknowledged it. */
  async deliver(message: LocalMessage): Promise<'taken' | 'not-taken' | 'nobody'> {
    const takers = [...this.#clients].filter(client => client.qosOf(message.topicName) !== undefined)
    if (takers.length === 0) return 'nobody'
    const taken = await Promise.all(takers.map(client => client.offer(message)))
    return taken.includes(true) ? 'taken' : 'not-taken'
  }

  async close(): Promise<void> {
    const closed = this.#server.listening ? once(this.#server, 'close') : undefined
    this.#server.close()
    for (const client of this.#clients) client.close()
    await closed
  }

  #take(socket: Socket): void {
    const { limits, accept, onSubscribed, onRefused } = this.#options
    const client = new LocalClient(socket, limits, {
      accept,
      connected: newer => {
        // [MQTT-3.1.4-2]
        for (const other of this.#clients)
          if (other !== newer && newer.clientId !== '' && other.clientId === newer.clientId) other.close()
      },
      subscribed: onSubscribed,
      cut: onRefused,
    })
    this.#clients.add(client)
    void client.ended.then(() => this.#clients.delete(client))
  }
}
