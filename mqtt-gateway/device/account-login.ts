/** How a device logs in at a broker that others wrote: with the password that it and the gateway have in common (account-password.ts). */
import type { DeviceId } from '../../chain/brands.ts'
import type { EncryptionKey } from '../../chain/keys.ts'
import { currentEncryptionKey } from '../../chain/records.ts'
import { MoteError, unwrap } from '../../chain/result.ts'
import type { IdentityKeys } from '../../client/key-directory.ts'
import { accountPassword } from '../protocol/account-password.ts'
import type { TrustView } from '../protocol/trust.ts'

export interface AccountLoginOptions {
  readonly chain: Pick<TrustView, 'chainId' | 'device' | 'now'>
  readonly keys: Pick<IdentityKeys, 'id' | 'encryption'>
  /** The identity of the gateway beside the broker. */
  readonly gateway: DeviceId
}

/**
 * The password of a device's account. Throws `key-not-usable` for an encryption key that is not of the gateway's kind, RSA say;
 * `signer-not-active` where the gateway is no active identity; what reading the chain throws.
 */
export async function accountLogin({ chain, keys, gateway }: AccountLoginOptions): Promise<string> {
  const { value: record } = await chain.device(gateway)
  if (record?.status !== 'active')
    throw new MoteError('signer-not-active', `gateway ${gateway} is ${record?.status ?? 'not on the chain'}`)
  const own = keys.encryption
  const isSameKind = ({ suite }: EncryptionKey) => suite === own.publicKey.suite
  const now = chain.now()
  const entry = currentEncryptionKey(record, now, isSameKind) ?? currentEncryptionKey(record, now, () => true)
  if (!entry) throw new MoteError('key-not-usable', `gateway ${gateway} has no encryption key`)
  return unwrap(
    accountPassword({
      chainId: chain.chainId,
      gateway: { id: gateway, key: entry.key },
      device: { id: keys.id, key: own.publicKey },
      own,
    }),
  )
}
