/**
 * Credentials of a device for plain MQTT clients: what a password must hash to, until when, and what it lets do. The password is
 * 32 random bytes, so a hash of it may be public; the chain has never seen it.
 *
 * A leaf of its own with a version of its own, as rights have: the proof of a device's key does not grow.
 */
import { concatBytes, hexToBytes } from '@noble/hashes/utils.js'
import type { ChainId, DeviceId, Hash, Height, Milliseconds } from './brands.ts'
import { ascending, type Codec, digest, list, oneOf, struct, uint } from './codec.ts'
import { hashHex } from './hashing.ts'
import { maxCredentials } from './limits.ts'

/** `receive`: what is the device's to receive. `send`: that, and to publish as the device. */
export type CredentialScope = 'receive' | 'send'

export interface Credential {
  /** `credentialHash` of the password. */
  readonly hash: Hash
  readonly expiresAt: Milliseconds
  readonly scope: CredentialScope
}

export interface CredentialsRecord {
  readonly id: DeviceId
  /** Counts the changes; 1 for the first. */
  readonly version: number
  /** In ascending order of their hashes; some may have expired. */
  readonly credentials: readonly Credential[]
  readonly updatedAt: Height
}

/** What the chain holds of a password of 32 bytes: of this device, on this chain. */
export function credentialHash(chainId: ChainId, device: DeviceId, password: Uint8Array): Hash {
  const about = concatBytes(hexToBytes(chainId), hexToBytes(device))
  return hashHex('mote/credential/1', about, password)
}

/** At most four, in ascending order of their hashes, each once. */
export const credentialsListCodec: Codec<readonly Credential[]> = ascending(
  list(
    struct<Credential>({
      hash: digest<Hash>(),
      expiresAt: uint<Milliseconds>(),
      scope: oneOf<CredentialScope>({ receive: 1, send: 2 }),
    }),
    maxCredentials,
  ),
  ({ hash }) => hash,
  'credentials in ascending order of their hashes, each once',
)
