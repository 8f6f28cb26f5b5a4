/** Key pairs of each encryption suite for tests, always the same: what a device of that kind would hold. */
import type { ChainId } from '../../chain/brands.ts'
import type { EncryptionSuite } from '../../chain/keys.ts'
import { encryptionKeyOf } from '../../client/encryption-keys.ts'
import { type IdentityKeys, type KeyChoices, makeKeys } from '../../client/key-directory.ts'
import { SecretBytes } from '../../client/secret-bytes.ts'
import type { DecryptionKey } from '../../mqtt-gateway/device/decryption-key.ts'
import type { OpeningKey } from '../../mqtt-gateway/device/envelope-sealing.ts'
import { ReceivedSecrets } from '../../mqtt-gateway/device/light-secrets.ts'
import { rsaTestSecret } from '../vectors/rsa-key.ts'

/** The pair of 32 equal bytes; of RSA the one that the tests have. */
export function decryptionKey(suite: EncryptionSuite, fill: number): DecryptionKey {
  const secret = suite === 'rsa-oaep' ? rsaTestSecret : new Uint8Array(32).fill(fill)
  return { publicKey: encryptionKeyOf(suite, secret), secret }
}

/** What opens messages to this key, by a recipient that has opened none yet. */
export function openerOf(chainId: ChainId, key: DecryptionKey): OpeningKey {
  return { type: 'device', key, secrets: new ReceivedSecrets(chainId, key) }
}

/** New keys of a device whose encryption key is the RSA key of the tests. */
export function makeRsaKeys(name: string, choices?: KeyChoices): IdentityKeys {
  const encryption = {
    publicKey: encryptionKeyOf('rsa-oaep', rsaTestSecret),
    secret: new SecretBytes(rsaTestSecret),
  }
  return { ...makeKeys(name, choices), encryption }
}
