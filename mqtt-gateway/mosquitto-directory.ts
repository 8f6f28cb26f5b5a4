/** Writes what Mosquitto is started with beside a gateway (mqtt-gateway/server/mosquitto-files.ts) into a directory of its own. */
import { stat } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import type { ChainId } from '../chain/brands.ts'
import { MoteError } from '../chain/result.ts'
import { privateDirectory, writeFileAtomic } from '../client/atomic-file.ts'
import type { ListenAddress } from '../client/configuration-file.ts'
import type { IdentityKeys } from '../client/key-directory.ts'
import type { BrokerAccount } from './server/broker-accounts.ts'
import { gatewayLogins } from './server/gateway-logins.ts'
import {
  accessRules,
  accountsFile,
  findPlugin,
  type MosquittoTls,
  mosquittoConfiguration,
  mosquittoFileNames,
} from './server/mosquitto-files.ts'

export interface MosquittoDirectoryOptions {
  readonly directory: string
  readonly listen: ListenAddress
  /** The dynamic-security plugin; looked for in the usual places unless given. */
  readonly plugin?: string | undefined
  readonly tls?: MosquittoTls | undefined
  /** Who Mosquitto runs as when root starts it. */
  readonly user: string
  readonly chainId: ChainId
  /** The gateway's. */
  readonly keys: IdentityKeys
  /** Asked for only where there are no accounts yet: those of a broker that has run are its own. */
  readonly accounts: () => Promise<readonly BrokerAccount[]>
}

export interface MosquittoDirectory {
  readonly configuration: string
  /** How many accounts were written; undefined where there were some already, which stay. */
  readonly accounts: number | undefined
}

/** The files are 0600, in a directory of 0700. Throws `not-installed` without the plugin. */
export async function writeMosquittoDirectory(
  options: MosquittoDirectoryOptions,
): Promise<MosquittoDirectory> {
  const { listen, tls, user, chainId, keys, accounts, plugin = findPlugin() } = options
  const directory = resolve(options.directory)
  if (plugin === undefined)
    throw new MoteError(
      'not-installed',
      'mosquitto: its dynamic-security plugin is in none of the usual places; install Mosquitto 2 (Debian: apt-get install mosquitto), or name the file',
    )
  await privateDirectory(directory)
  const place = (name: string) => join(directory, name)
  const configuration = place(mosquittoFileNames.configuration)
  await writeFileAtomic(configuration, mosquittoConfiguration({ ...listen, plugin, directory, tls, user }))
  await writeFileAtomic(place(mosquittoFileNames.access), accessRules())
  const file = place(mosquittoFileNames.accounts)
  if (await stat(file).catch(() => undefined)) return { configuration, accounts: undefined }
  const devices = await accounts()
  await writeFileAtomic(file, accountsFile(gatewayLogins(chainId, keys), devices))
  return { configuration, accounts: devices.length }
}
