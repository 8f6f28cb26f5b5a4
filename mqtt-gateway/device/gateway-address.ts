/** Where a gateway's MQTT listens, or the broker that it stands beside, as people write it, and how it is reached: `mqtt://host:port`, or `mqtts://host:port` for TLS. */
import type { IClientOptions } from 'mqtt'
import type { DeviceId } from '../../chain/brands.ts'
import { MoteError } from '../../chain/result.ts'

export interface GatewayAddress {
  readonly host: string
  readonly port: number
  /** By TLS, of Node's versions (1.2 and newer); the certificate has to name the host. */
  readonly tls?: TlsTrust | undefined
  /** The gateway, where the address is that of a broker that others wrote. */
  readonly brokerOf?: DeviceId | undefined
}

export interface TlsTrust {
  /** PEM of the authorities that count; those of the system, as Node knows them, by default. */
  readonly ca?: string | undefined
}

const standardPorts: Readonly<Record<string, number>> = { 'mqtt:': 1883, 'mqtts:': 8883 }

/** Reads `mqtt://host:port` or `mqtts://host:port`; ports 1883 and 8883 unless given. Throws `usage`. */
export function parseGatewayUrl(text: string, ca?: string): GatewayAddress {
  const url = URL.canParse(text) ? new URL(text) : undefined
  const standardPort = url && standardPorts[url.protocol]
  const isBare = url && !url.username && !url.password && !url.search && /^\/?$/.test(url.pathname)
  if (!url || standardPort === undefined || !url.hostname || !isBare)
    throw new MoteError('usage', `gateway: expected mqtt://host:port or mqtts://host:port, got '${text}'`)
  const host = url.hostname.replace(/^\[(.*)\]$/, '$1')
  const port = url.port === '' ? standardPort : Number(url.port)
  return url.protocol === 'mqtts:' ? { host, port, tls: { ca } } : { host, port }
}

/** The same for mqtt.js. */
export function mqttTransportOf({ host, port, tls }: GatewayAddress): IClientOptions {
  if (!tls) return { host, port, protocol: 'mqtt' }
  const { ca } = tls
  return {
    host,
    port,
    protocol: 'mqtts',
    rejectUnauthorized: true,
    ...(ca !== undefined && { ca }),
  }
}

/** Codes of Node for a server that is not who it should be. */
const untrusted = /^(ERR_TLS_CERT|CERT_|UNABLE_TO_|SELF_SIGNED_|DEPTH_ZERO_|ERR_OSSL_|EPROTO)/

/** Why TLS was not agreed on, if that is why a connection failed. */
export function tlsFailure({
  code,
  message,
}: {
  readonly code?: unknown
  readonly message: string
}): string | undefined {
  return typeof code === 'string' && untrusted.test(code) ? `TLS: ${message}` : undefined
}
