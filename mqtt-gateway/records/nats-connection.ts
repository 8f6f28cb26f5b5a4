/**
 * The connection of a gateway to its NATS servers, and what an operator is told while there is none.
 *
 * Invariants
 * - where the configuration says TLS (`ca`, or `tls://` before a server) nothing is said in the clear;
 * - a certificate is for the name by which its server is configured. The client gives none for an address (RFC 6066 section 3 has no such name),
 *   and Node then looks for `localhost`: here one for any of the configured addresses will do;
 * - only servers that are configured are connected to, not those that a server names.
 */
import { isIP } from 'node:net'
import { checkServerIdentity, type PeerCertificate } from 'node:tls'
import { JetStreamApiError } from '@nats-io/jetstream'
import {
  type ConnectionOptions,
  connect,
  errors,
  type NatsConnection,
  nkeyAuthenticator,
  nkeys,
} from '@nats-io/transport-node'
import { MoteError } from '../../chain/result.ts'
import type { SecretBytes } from '../../client/secret-bytes.ts'
import { unreachable } from './stream-publish.ts'

export interface NatsServers {
  /** `host:port` of each, or with `tls://`. */
  readonly servers: readonly string[]
  /** PEM of the authorities that their certificates may have. */
  readonly ca: string | undefined
  /** Of the nkey by which they know the gateway. */
  readonly seed: SecretBytes | undefined
}

/** Time to the answer of a server, before the same is asked again. */
export const requestTimeoutMs = 2_000
const reconnectDelayMs = 200
const tlsScheme = 'tls://'

/** Tries each server once. Once it is connected it comes back by itself, until it is closed. Rejects with what the client says. */
export function connectNats(servers: NatsServers): Promise<NatsConnection> {
  return connect(connectionOptions(servers))
}

/** What the client is told. */
export function connectionOptions({ servers, ca, seed }: NatsServers): ConnectionOptions {
  const isSecure = ca !== undefined || servers.some(server => server.startsWith(tlsScheme))
  const hosts = servers.map(server => server.replace(tlsScheme, '').replace(/:\d+$/, ''))
  // The client passes all of it on to Node, also what its own type does not name.
  const tls = { ...(ca !== undefined && { ca }), checkServerIdentity: identityCheck(hosts) }
  return {
    ...(isSecure && { tls }),
    ...(seed && { authenticator: nkeyAuthenticator(() => seed.expose()) }),
    servers: [...servers],
    ignoreClusterUpdates: true,
    name: 'motechain gateway',
    timeout: requestTimeoutMs,
    maxReconnectAttempts: -1,
    reconnectTimeWait: reconnectDelayMs,
    // Else the second refusal of the key ends the connection for good, though the servers may know it again.
    ignoreAuthErrorAbort: true,
  }
}

/** Whether an nkey of a user can be made of it. */
export function isUserSeed(seed: SecretBytes): boolean {
  try {
    return nkeys.fromSeed(seed.expose()).getPublicKey().startsWith('U')
  } catch {
    return false
  }
}

/** @param hosts names and addresses of the servers, as they are configured */
function identityCheck(hosts: readonly string[]) {
  return (name: string, certificate: PeerCertificate): Error | undefined => {
    const names = name === 'localhost' ? hosts.filter(host => host === name || isIP(host) !== 0) : [name]
    const wrong = names.map(each => checkServerIdentity(each, certificate))
    return wrong.includes(undefined) ? undefined : (wrong[0] ?? checkServerIdentity(name, certificate))
  }
}

/** JSClusterNoPeersErr, JSInsufficientResourcesErr, JSStorageResourcesExceededErr, JSStreamReplicasNotSupportedErr. */
const noRoomCodes = [10005, 10023, 10047, 10074]

/**
 * Why there is no queue on the servers: `config-invalid`, and the setting, where an operator has to change something here or at the servers;
 * else `unreachable`.
 */
export function natsFailure(
  cause: unknown,
  { ca, seed, replicas }: Pick<NatsServers, 'ca' | 'seed'> & { readonly replicas: number },
): MoteError {
  const { name, message, code } = cause as Error & { readonly code?: unknown }
  const invalid = (setting: string, expected: string) =>
    new MoteError('config-invalid', `queue.${setting}: expected ${expected}, got: ${message}`, { cause })
  if (code === 'ERR_TLS_CERT_ALTNAME_INVALID')
    return invalid('servers', 'each under a name or address that its certificate has')
  if (typeof code === 'string' && /CERT|ISSUER|SIGNATURE/.test(code))
    return invalid(
      'ca',
      ca === undefined
        ? "the PEM of who vouches for the servers' certificates"
        : "who vouches for the servers' certificates, as they are now",
    )
  if (cause instanceof errors.ConnectionError && message.includes("'tls'"))
    return invalid('ca', 'TLS at the servers, or none here')
  if (cause instanceof errors.AuthorizationError)
    return invalid('nkey', seed ? 'a key that the servers know' : 'a key, which the servers ask for')
  if (/^permissions violation/i.test(message)) return invalid('nkey', 'a key with permission for JetStream')
  if (cause instanceof JetStreamApiError && noRoomCodes.includes(cause.code))
    return invalid('replicas', `${replicas} servers that run together, with room for the queue on each`)
  if (name === 'JetStreamNotEnabled') return invalid('servers', 'JetStream at each')
  return unreachable(cause)
}

/** Tells each kind of failure once, until the servers answer: every attempt fails alike. */
export class FailureReport {
  readonly #tell: (error: MoteError) => void
  /** What each begins with: a setting, of which there are a few. */
  readonly #told = new Set<string>()
  #last: MoteError | undefined

  constructor(tell: (error: MoteError) => void) {
    this.#tell = tell
  }

  /** Undefined: the servers have answered since. */
  get last(): MoteError | undefined {
    return this.#last
  }

  failed(error: MoteError): void {
    this.#last = error
    const [about = ''] = error.detail.split(':', 1)
    if (this.#told.has(about)) return
    this.#told.add(about)
    this.#tell(error)
  }

  answered(): void {
    this.#last = undefined
    this.#told.clear()
  }
}
