/** What a gateway logs in with at a broker that others wrote: it follows from its encryption key, and stands in no file of its own. */
import type { ChainId } from '../../chain/brands.ts'
import type { IdentityKeys } from '../../client/key-directory.ts'
import { gatewaySecret } from '../protocol/account-password.ts'
import type { BrokerLogin } from './broker-link.ts'

/** Names of the accounts that are no device's: what publishes and receives, and what changes accounts. */
export const gatewayUsername = 'gateway'
export const accountsUsername = 'accounts'

/** What the gateways of one identity log in with at their broker. */
export interface GatewayLogins {
  readonly gateway: BrokerLogin
  readonly accounts: BrokerLogin
}

export function gatewayLogins(chainId: ChainId, { id, encryption }: IdentityKeys): GatewayLogins {
  const loginOf = (username: string) => ({
    username,
    password: gatewaySecret(chainId, id, encryption, username),
  })
  return { gateway: loginOf(gatewayUsername), accounts: loginOf(accountsUsername) }
}
