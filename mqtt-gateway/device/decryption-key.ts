/** A device's own key pair as sealing and opening take it (key-sealing.ts), and what both sides of a seal agree on. */
import type { EncryptionKey } from '../../chain/keys.ts'
import type { IdentityKeys } from '../../client/key-directory.ts'

/** What the two sides must agree on besides the key (RFC 9180's words). */
export interface SealContext {
  readonly info: Uint8Array
  readonly aad: Uint8Array
}

/** A device's own key pair. One object for a process's life: what the libraries make of it is kept beside it. */
export interface DecryptionKey {
  readonly publicKey: EncryptionKey
  /** 32 bytes; of RSA the DER of a PKCS#8 `PrivateKeyInfo`. */
  readonly secret: Uint8Array
}

/** Bytes of a secret that sender and recipient share for light encryption. */
export const sharedSecretBytes = 32

/** Such a secret, and what tells the recipient of it. */
export interface SharedSecret {
  /** The encapsulated or wrapped secret. */
  readonly enc: Uint8Array
  readonly secret: Uint8Array
}

export function decryptionKeyOf({ encryption }: Pick<IdentityKeys, 'encryption'>): DecryptionKey {
  return { publicKey: encryption.publicKey, secret: encryption.secret.expose() }
}
