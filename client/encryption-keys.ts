/**
 * The keys that others seal to: X25519 (RFC 7748), P-256 (for devices whose secure element knows nothing else), RSA of
 * 2,048 or 3,072 bits (Hsu-Lu B3). The secret half is 32 bytes, or for RSA the DER of a PKCS#8 `PrivateKeyInfo` (RFC 5208).
 */
import { createECDH, createPrivateKey, createPublicKey, generateKeyPairSync, randomBytes } from 'node:crypto'
import type { EncryptionKey, EncryptionSuite } from '../chain/keys.ts'
import { assert, assertNever } from '../chain/result.ts'
import { keyFlaw } from '../chain/usable-keys.ts'
import { nativeX25519PublicKey } from './native-crypto.ts'
import { SecretBytes } from './secret-bytes.ts'

/** What kind of key to make. */
export const encryptionKeyKinds = ['x25519', 'p256', 'rsa-2048', 'rsa-3072'] as const
export type EncryptionKeyKind = (typeof encryptionKeyKinds)[number]

export interface EncryptionKeyPair {
  readonly publicKey: EncryptionKey
  readonly secret: SecretBytes
}

/**
 * A new pair. `seed`, 32 bytes, makes an X25519 or P-256 pair follow from it; an RSA pair is random in any case. Throws if the
 * seed is no P-256 scalar.
 */
export function makeEncryptionKeys(
  kind: EncryptionKeyKind,
  seed: Uint8Array = randomBytes(32),
): EncryptionKeyPair {
  switch (kind) {
    case 'x25519':
      return pairOf('x25519', seed)
    case 'p256':
      return pairOf('p256-ecdh', seed)
    case 'rsa-2048':
      return pairOf('rsa-oaep', makeRsaSecret(2048))
    case 'rsa-3072':
      return pairOf('rsa-oaep', makeRsaSecret(3072))
    default:
      return assertNever(kind)
  }
}

/** What kind a usable key is of. */
export function kindOfEncryptionKey({ suite, bytes }: EncryptionKey): EncryptionKeyKind {
  switch (suite) {
    case 'x25519':
      return 'x25519'
    case 'p256-ecdh':
      return 'p256'
    case 'rsa-oaep':
      return bytes.length < 384 ? 'rsa-2048' : 'rsa-3072'
    default:
      return assertNever(suite)
  }
}

function pairOf(suite: EncryptionSuite, secret: Uint8Array): EncryptionKeyPair {
  return { publicKey: encryptionKeyOf(suite, secret), secret: new SecretBytes(secret) }
}

/** The public half. Throws for a secret that is none of this suite, without showing it. */
export function encryptionKeyOf(suite: EncryptionSuite, secret: Uint8Array): EncryptionKey {
  const key = { suite, bytes: publicBytes(suite, secret) }
  assert(keyFlaw(key) === undefined, `${suite}: expected the secret of a usable key`)
  return key
}

function publicBytes(suite: EncryptionSuite, secret: Uint8Array): Uint8Array {
  if (suite !== 'rsa-oaep') assert(secret.length === 32, `${suite}: expected a secret of 32 bytes`)
  switch (suite) {
    case 'x25519':
      return nativeX25519PublicKey(secret)
    case 'p256-ecdh': {
      const pair = createECDH('prime256v1')
      pair.setPrivateKey(secret)
      return Uint8Array.from(pair.getPublicKey(undefined, 'compressed') as Buffer)
    }
    case 'rsa-oaep': {
      const privateKey = createPrivateKey({ key: Buffer.from(secret), format: 'der', type: 'pkcs8' })
      return Uint8Array.from(createPublicKey(privateKey).export({ format: 'der', type: 'pkcs1' }))
    }
    default:
      return assertNever(suite)
  }
}

function makeRsaSecret(modulusLength: number): Uint8Array {
  const { privateKey } = generateKeyPairSync('rsa', { modulusLength, publicExponent: 65_537 })
  return Uint8Array.from(privateKey.export({ format: 'der', type: 'pkcs8' }))
}
