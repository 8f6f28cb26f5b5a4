/**
 * A device's own key pairs as sealing and opening take them (key-sealing.ts), and what both sides of a seal agree on.
 *
 * A device opens by more than one: the key that others seal to now, the next one, which they may seal to from the moment at which the
 * chain has it, and those that were rotated, for as long as something may come that was sealed to them (client/key-actions.ts).
 */
import type { KeyId, Milliseconds } from '../../chain/brands.ts'
import { type EncryptionKey, keyIdOf } from '../../chain/keys.ts'
import type { EncryptionKeyPair } from '../../client/encryption-keys.ts'
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

export function decryptionKeyOf({ publicKey, secret }: EncryptionKeyPair): DecryptionKey {
  return { publicKey, secret: secret.expose() }
}

type EncryptionKeys = Pick<IdentityKeys, 'encryption' | 'nextEncryption' | 'formerEncryption'>

interface KnownKey {
  readonly key: DecryptionKey
  /** Undefined: for as long as the keys stay. */
  readonly until: Milliseconds | undefined
}

/** The key pairs of one device in one process. */
export class DecryptionKeys {
  readonly #reload: (() => Promise<EncryptionKeys>) | undefined
  #known = new Map<KeyId, KnownKey>()
  #current: DecryptionKey

  /** @param reload the keys as they are on the disk now; without it, those given stay for ever */
  constructor(keys: EncryptionKeys, reload?: () => Promise<EncryptionKeys>) {
    this.#reload = reload
    this.#current = this.#take(keys)
  }

  /** The one that others are to seal to. */
  get current(): EncryptionKey {
    return this.#current.publicKey
  }

  /** The pair with this id, by the disk if a rotation has made it since; undefined for one that is not here, or not any more. */
  async find(keyId: KeyId, now: Milliseconds): Promise<DecryptionKey | undefined> {
    if (!this.#known.has(keyId) && this.#reload) this.#current = this.#take(await this.#reload())
    const known = this.#known.get(keyId)
    return known && (known.until === undefined || now <= known.until) ? known.key : undefined
  }

  /** The chain says which one others are to seal to; nothing happens for one that is not here. */
  async follow(keyId: KeyId, now: Milliseconds): Promise<void> {
    this.#current = (await this.find(keyId, now)) ?? this.#current
  }

  #take({ encryption, nextEncryption, formerEncryption = [] }: EncryptionKeys): DecryptionKey {
    const known = new Map<KeyId, KnownKey>()
    const add = (pair: EncryptionKeyPair, until?: Milliseconds): DecryptionKey => {
      const keyId = keyIdOf(pair.publicKey)
      // The same object as before: what the libraries make of it is kept beside it.
      const key = this.#known.get(keyId)?.key ?? decryptionKeyOf(pair)
      known.set(keyId, { key, until })
      return key
    }
    for (const former of formerEncryption) add(former, former.until)
    if (nextEncryption) add(nextEncryption)
    const current = add(encryption)
    this.#known = known
    return current
  }
}
