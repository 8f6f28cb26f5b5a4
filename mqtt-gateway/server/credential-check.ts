/**
 * Whether a password is one of the credentials that the chain has for a device (chain/credentials.ts), now.
 *
 * Every credential is compared, each in constant time, so that the time of an answer says nothing about which one was close.
 */
import { timingSafeEqual } from 'node:crypto'
import type { DeviceId, Hash } from '../../chain/brands.ts'
import type { Credential } from '../../chain/credentials.ts'
import { hexToBytes } from '../../chain/hex.ts'
import { ok, type Result, refuse } from '../../chain/result.ts'
import type { TrustView } from '../protocol/trust.ts'

/** The credential of this hash, while it is on the chain and in time. Refuses `credential-invalid`. Throws when the chain is out of reach. */
export async function checkCredential(
  trust: Pick<TrustView, 'credentials' | 'now'>,
  device: DeviceId,
  hash: Hash,
): Promise<Result<Credential>> {
  const { value } = await trust.credentials(device)
  const wanted = hexToBytes(hash)
  const matching = (value?.credentials ?? []).filter(({ hash: known }) =>
    timingSafeEqual(hexToBytes(known), wanted),
  )
  const [credential] = matching
  if (!credential) return refuse('credential-invalid', `password: none of ${device}'s credentials`)
  const over = trust.now() - credential.expiresAt
  return over < 0 ? ok(credential) : refuse('credential-invalid', `password: expired ${over} ms ago`)
}
