/** Prepares a Mosquitto for a gateway's configuration, before either has run (`mote gateway mosquitto`). */
import type { DeviceId, StateKey } from '../chain/brands.ts'
import { MoteError } from '../chain/result.ts'
import { readKeyFile } from '../client/key-directory.ts'
import { openLog } from '../client/log.ts'
import { devicePage } from '../client/record-list.ts'
import { readGatewayConfig } from './config.ts'
import { gatewayCheckpoint, openGatewayChain } from './main.ts'
import { type MosquittoDirectory, writeMosquittoDirectory } from './mosquitto-directory.ts'
import { chainTrust } from './protocol/chain-trust.ts'
import { accountOf } from './server/account-keeper.ts'
import type { BrokerAccount } from './server/broker-accounts.ts'
import type { MosquittoTls } from './server/mosquitto-files.ts'

export interface MosquittoSetup {
  readonly config: string
  readonly directory: string
  /** Address that Mosquitto listens on; the port is that of the configuration. */
  readonly listen: string | undefined
  readonly plugin: string | undefined
  readonly tls: MosquittoTls | undefined
  readonly user: string
  readonly log: { readonly level: 'warn' | 'silent' }
}

/** Throws `config-invalid` for a gateway with a broker of its own, `not-installed`, and what reading the chain throws. */
export async function prepareMosquitto(setup: MosquittoSetup): Promise<MosquittoDirectory> {
  const config = await readGatewayConfig(setup.config)
  const { edge, chainId } = config
  if (edge.type !== 'attached')
    throw new MoteError(
      'config-invalid',
      `${setup.config}: broker: expected where Mosquitto listens, got mqtt, the gateway's own`,
    )
  const keys = await readKeyFile(config.key)
  const accounts = async (): Promise<readonly BrokerAccount[]> => {
    const { log, close } = await openLog({ ...setup.log, name: config.name })
    try {
      const client = await openGatewayChain(config, await gatewayCheckpoint(config), log)
      await client.follower.sync()
      const trust = chainTrust(client.records, client.pool)
      const found: BrokerAccount[] = []
      let after: StateKey | undefined
      do {
        const { ids, next } = await devicePage(client, after)
        const source = { trust, gateway: keys.id, own: keys.encryption, plain: config.plain }
        const made = await Promise.all(ids.map((id: DeviceId) => accountOf(source, id)))
        found.push(...made.filter(account => account !== undefined))
        after = next
      } while (after !== undefined)
      return found
    } finally {
      close()
    }
  }
  return writeMosquittoDirectory({
    directory: setup.directory,
    listen: { host: setup.listen ?? edge.address.host, port: edge.address.port },
    plugin: setup.plugin,
    tls: setup.tls,
    user: setup.user,
    chainId,
    keys,
    accounts,
  })
}
