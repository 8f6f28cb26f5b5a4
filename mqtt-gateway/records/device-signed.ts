/** What a gateway looks at in a transaction that a device signed itself, before it takes it. The chain looks at everything. */
import type { ChainId, DeviceId, Milliseconds } from '../../chain/brands.ts'
import { maxExpiryAheadMs } from '../../chain/limits.ts'
import { reportKinds } from '../../chain/record-bodies.ts'
import { ok, type Result, refuse } from '../../chain/result.ts'
import { attestedSources, type ParsedTransaction, parseTransaction } from '../../chain/transaction.ts'

const kinds: readonly string[] = reportKinds

/**
 * The transaction, if it is one that this device may hand in: signed in its own name, with a record or an action of its own.
 * Refuses `malformed`, `too-large`, `unknown-version`, `kind-not-supported`, `wrong-chain`, `not-authorised`, `expiry-too-far`. The signature is
 * not verified.
 * @param time of the chain: what expires further ahead than the chain allows would wait here until then
 */
export function deviceSigned(
  transaction: Uint8Array,
  {
    device,
    chainId,
    time,
  }: { readonly device: DeviceId; readonly chainId: ChainId; readonly time: Milliseconds },
): Result<ParsedTransaction> {
  const parsed = parseTransaction(transaction)
  if (!parsed.ok) return parsed
  const { body, signer, expiry, chainId: named } = parsed.value.unsigned
  if (named !== chainId) return refuse('wrong-chain', `transaction: expected chain ${chainId}, got ${named}`)
  if (!kinds.includes(body.type))
    return refuse('not-authorised', `transaction: expected ${kinds.join(', ')}, got ${body.type}`)
  if (signer.deviceId !== device)
    return refuse('not-authorised', `signer: expected the device ${device}, got ${signer.deviceId}`)
  if (attestedSources(body).length > 0)
    return refuse('not-authorised', 'source: expected none; a device speaks for itself')
  if (expiry > time + maxExpiryAheadMs)
    return refuse('expiry-too-far', `expiry: expected at most ${time + maxExpiryAheadMs}, got ${expiry}`)
  return ok(parsed.value)
}
