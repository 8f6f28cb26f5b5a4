/** A message that a test seals and signs by itself, as an agent would. */
import type { ChainId, Height, Milliseconds } from '../../chain/brands.ts'
import { unwrap } from '../../chain/result.ts'
import { type IdentityKeys, signerOf } from '../../client/key-directory.ts'
import { type SealRequest, sealEnvelope } from '../../mqtt-gateway/device/envelope-sealing.ts'

/** The bytes of an envelope from one device to another one, with counter 1 and 30 s to live unless `changes` says otherwise. */
export async function sealedMessage(
  chainId: ChainId,
  { from, to }: { readonly from: IdentityKeys; readonly to: IdentityKeys },
  changes: Partial<SealRequest> = {},
): Promise<Uint8Array> {
  const sealed = await sealEnvelope({
    chainId,
    sender: from.id,
    signer: signerOf(from),
    target: { type: 'device', id: to.id, key: to.encryption.publicKey },
    counter: 1,
    seenHeight: 1 as Height,
    expiry: (Date.now() + 30_000) as Milliseconds,
    channel: '',
    content: new TextEncoder().encode('by hand'),
    ...changes,
  })
  return unwrap(sealed).bytes
}
