/** Which gateway a command talks to, and whom it believes that it is one. */
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { MoteError } from '../chain/result.ts'
import type { ChainAccess } from '../devnet/access.ts'
import { layout } from '../devnet/layout.ts'
import type { GatewayAddress } from '../mqtt-gateway/device/gateway-address.ts'
import type { OptionSpec } from './command.ts'

export interface GatewayChoice {
  readonly gateway?: string
  readonly gatewayCa?: string
}

export const gatewayOptions: readonly OptionSpec[] = [
  {
    flags: '--gateway <url>',
    description: 'mqtt://host:port or mqtts://host:port (default: that of the devnet, without TLS)',
  },
  {
    flags: '--gateway-ca <file>',
    description:
      "PEM of the authorities that the certificate of mqtts:// may have (default: the devnet's own, or the system's)",
  },
]

/** The gateway that was named, or the devnet's. Throws `usage`, also for a file that cannot be read. */
export async function gatewayOf(
  { description, directory }: Pick<ChainAccess, 'description' | 'directory'>,
  { gateway: url, gatewayCa }: GatewayChoice,
): Promise<GatewayAddress> {
  if (url === undefined && gatewayCa !== undefined)
    throw new MoteError('usage', 'gateway-ca: expected --gateway mqtts://host:port beside it')
  if (url === undefined) return description.gateway.mqtt
  const { parseGatewayUrl } = await import('../mqtt-gateway/device/gateway-address.ts')
  const file = gatewayCa ?? (description.gateway.mqtts && authorityOf(directory))
  const ca =
    file === undefined
      ? undefined
      : await readFile(file, 'utf8').catch(cause => {
          throw new MoteError('usage', `gateway-ca: ${file}: cannot be read`, { cause })
        })
  return { ...parseGatewayUrl(url, ca), brokerOf: description.gateway.mqtt.brokerOf }
}

/** Where a devnet has the certificate of its own authority. */
export function authorityOf(directory: string): string {
  return join(layout.authority(directory), 'ca.crt')
}
