/**
 * Where clients connect: MQTT over TCP, and over TLS beside it (1.2 or newer). A connection has a place among the unproven ones
 * (unproven-connections.ts) from its first byte, a TLS handshake included.
 *
 * A TLS client may show a certificate. Whether it means anything is for the gateway to say, against certified state: no authority is asked here.
 */
import { once } from 'node:events'
import { createServer, type Server, type Socket } from 'node:net'
import { createServer as createTlsServer, type TLSSocket, type Server as TlsServer } from 'node:tls'
import type { Milliseconds } from '../../chain/brands.ts'
import { shareOf } from '../../client/address-shares.ts'
import { certifiedKeyOf, commonNameOf } from '../../client/certificates.ts'
import type { BrokerAddress, ClientCertificate, Listening } from './broker.ts'
import { type TlsFiles, type TlsPair, watchTlsPair } from './tls-identity.ts'
import type { ConnectionPlace, UnprovenConnections } from './unproven-connections.ts'

/** A listener for TLS, and who it says it is. */
export interface SecureListener extends BrokerAddress {
  readonly files: TlsFiles
  readonly pair: TlsPair
  /** Told of a renewed certificate, or of one that cannot be used. */
  readonly onReload: (error?: unknown) => void
  readonly checkEveryMs?: number
}

export interface ListenersOptions {
  readonly plain: BrokerAddress
  readonly secure: SecureListener | undefined
  /** Sockets of each listener. */
  readonly socketsMax: number
  readonly handshakeTimeoutMs: number
  readonly unproven: UnprovenConnections
  /** Called for each connection, after its handshake if it has one. */
  readonly onConnection: (socket: Socket, place: ConnectionPlace) => void
}

export class Listeners {
  readonly #options: ListenersOptions
  readonly #plain: Server
  readonly #secure: TlsServer | undefined
  readonly #sockets = new Set<Socket>()
  /** Of connections in their handshake, by the other end. */
  readonly #handshakes = new Map<string, ConnectionPlace>()
  #stopWatching = () => {}

  constructor(options: ListenersOptions) {
    this.#options = options
    this.#plain = createServer(socket => options.onConnection(socket, this.#place(socket)))
    this.#plain.maxConnections = options.socketsMax
    this.#secure = options.secure && this.#makeSecure(options.secure)
  }

  /** The addresses that are bound. Throws what the system says of one that is not to be had. */
  async listen(): Promise<Listening> {
    const { plain, secure } = this.#options
    const bound = await listenOn(this.#plain, plain)
    if (!secure || !this.#secure) return bound
    return { ...bound, secure: await listenOn(this.#secure, secure) }
  }

  /** Takes no further connection; those that are there stay. */
  refuse(): void {
    this.#stopWatching()
    this.#plain.close()
    this.#secure?.close()
  }

  /** Ends every connection. Resolves when all are gone. */
  async close(): Promise<void> {
    const servers = [this.#plain, ...(this.#secure ? [this.#secure] : [])]
    this.refuse()
    for (const socket of this.#sockets) socket.destroy()
    while (this.#sockets.size > 0) await Promise.all([...this.#sockets].map(socket => once(socket, 'close')))
    await Promise.all(servers.filter(({ listening }) => listening).map(server => once(server, 'close')))
  }

  #makeSecure({ files, pair, onReload, checkEveryMs }: SecureListener): TlsServer {
    const { handshakeTimeoutMs: handshakeTimeout, socketsMax } = this.#options
    const versions = { minVersion: 'TLSv1.2' } as const
    // A certificate is asked for and may be missing; one that no authority has signed is not refused here.
    const asked = { requestCert: true, rejectUnauthorized: false }
    const server = createTlsServer({ ...pair, ...versions, ...asked, handshakeTimeout })
    server.maxConnections = socketsMax
    server.on('connection', (socket: Socket) => {
      socket.on('error', () => {})
      const peer = peerOf(socket)
      this.#handshakes.set(peer, this.#place(socket))
      socket.once('close', () => this.#handshakes.delete(peer))
    })
    server.on('secureConnection', socket => {
      const peer = peerOf(socket)
      const place = this.#handshakes.get(peer)
      this.#handshakes.delete(peer)
      if (place) this.#options.onConnection(socket, place)
      else socket.destroy()
    })
    // Of a handshake that takes too long this is the only end.
    server.on('tlsClientError', (_, socket) => socket.destroy())
    this.#stopWatching = watchTlsPair(files, pair, {
      onChange: renewed => {
        server.setSecureContext({ ...renewed, ...versions })
        onReload()
      },
      onError: onReload,
      ...(checkEveryMs !== undefined && { checkEveryMs }),
    })
    return server
  }

  #place(socket: Socket): ConnectionPlace {
    const place = this.#options.unproven.add(shareOf(socket.remoteAddress ?? ''), () => socket.destroy())
    this.#sockets.add(socket)
    socket.once('close', () => {
      this.#sockets.delete(socket)
      place.end()
    })
    return place
  }
}

async function listenOn(server: Server, { host, port }: BrokerAddress): Promise<BrokerAddress> {
  server.listen(port, host)
  await once(server, 'listening')
  const bound = server.address()
  return { host, port: typeof bound === 'object' && bound ? bound.port : port }
}

/** An address and a port are one open connection's. */
function peerOf({ remoteAddress, remotePort }: Socket): string {
  return `${remoteAddress} ${remotePort}`
}

/** What the client's certificate says, if it has shown one. */
export function clientCertificateOf(socket: TLSSocket): ClientCertificate | undefined {
  const certificate = socket.getPeerX509Certificate()
  return (
    certificate && {
      commonName: commonNameOf(certificate),
      key: certifiedKeyOf(certificate),
      notBefore: certificate.validFromDate.getTime() as Milliseconds,
      notAfter: certificate.validToDate.getTime() as Milliseconds,
    }
  )
}

/** IPv4 addresses of this machine, also where they are written as IPv6, and that of IPv6. */
export function isLoopback(address: string): boolean {
  return /^(?:::ffff:)?127\./.test(address) || address === '::1'
}
