/** What an X.509 certificate says of who shows it: the name and the key (RFC 5280). */
import type { X509Certificate } from 'node:crypto'
import type { PublicKey } from '../chain/keys.ts'

/** The key that a certificate certifies, as the chain writes it; undefined if it is of no kind that the chain has. */
export function certifiedKeyOf({ publicKey }: X509Certificate): PublicKey | undefined {
  const { asymmetricKeyType: type, asymmetricKeyDetails: details } = publicKey
  if (type !== 'ed25519' && (type !== 'ec' || details?.namedCurve !== 'prime256v1')) return undefined
  const { x = '', y = '' } = publicKey.export({ format: 'jwk' })
  const at = (text: string) => Uint8Array.from(Buffer.from(text, 'base64url'))
  if (type === 'ed25519') return { suite: 'ed25519', bytes: at(x) }
  const isOdd = ((at(y).at(-1) ?? 0) & 1) === 1
  return { suite: 'p256', bytes: Uint8Array.of(isOdd ? 3 : 2, ...at(x)) }
}

/** The common name of a certificate's subject; undefined if it has none, or several. */
export function commonNameOf(certificate: X509Certificate): string | undefined {
  const { CN: name } = certificate.toLegacyObject().subject as { readonly CN?: unknown }
  return typeof name === 'string' ? name : undefined
}
