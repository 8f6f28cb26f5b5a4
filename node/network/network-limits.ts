/** Every bound and time-out of the libp2p adapter, named. Times in milliseconds. */

export interface NetworkLimits {
  /** Connections of all kinds. */
  readonly maxConnections: number
  /** Connections whose peer has not proven an identity. */
  readonly maxUnprovenConnections: number
  /** Of those, how many from one address. */
  readonly maxUnprovenPerAddress: number
  /** Connections of one proven device; a further one closes the oldest. */
  readonly maxConnectionsPerDevice: number
  /** New connections per second from one address. */
  readonly maxNewConnectionsPerSecond: number
  /** Connections between TCP and the end of the Noise and Yamux negotiation. */
  readonly maxPendingConnections: number
  /** How long that negotiation may take. */
  readonly upgradeTimeoutMs: number
  /** How long a peer that proved nothing may stay (a device that joins). */
  readonly unprovenLifetimeMs: number
  readonly dialTimeoutMs: number
  readonly helloTimeoutMs: number
  /** How long a request may take to arrive, and its answer to leave. */
  readonly serveTimeoutMs: number
  /** Bytes that wait for one stream to a peer. */
  readonly maxQueuedBytes: number
  /** Malformed frames after which a connection is closed. */
  readonly maxViolations: number
  /** Requests of an unproven connection. */
  readonly unprovenBurst: number
  readonly unprovenPerSecond: number
  /** What the requests of a proven peer may cost, over all its connections (request-table.ts). */
  readonly provenBurst: number
  readonly provenPerSecond: number
  /** Pause before the second attempt to reach a peer; doubles up to the maximum, half of it random. */
  readonly retryDelayMs: number
  readonly retryDelayMsMax: number
}

export const defaultNetworkLimits: NetworkLimits = {
  maxConnections: 512,
  maxUnprovenConnections: 64,
  maxUnprovenPerAddress: 32,
  maxConnectionsPerDevice: 3,
  maxNewConnectionsPerSecond: 50,
  maxPendingConnections: 64,
  upgradeTimeoutMs: 5_000,
  unprovenLifetimeMs: 60_000,
  dialTimeoutMs: 5_000,
  helloTimeoutMs: 5_000,
  serveTimeoutMs: 30_000,
  maxQueuedBytes: 16 * 1024 * 1024,
  maxViolations: 3,
  unprovenBurst: 20,
  unprovenPerSecond: 5,
  provenBurst: 2_000,
  provenPerSecond: 500,
  retryDelayMs: 100,
  retryDelayMsMax: 3_000,
}
