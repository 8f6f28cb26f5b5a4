/** `--signing-key` and `--encryption-key`: what keys a new identity is to have, and whether one that is here already has them. */
import { MoteError } from '../chain/result.ts'
import { type EncryptionKeyKind, encryptionKeyKinds, kindOfEncryptionKey } from '../client/encryption-keys.ts'
import type { IdentityKeys, KeyChoices } from '../client/key-directory.ts'
import type { OptionSpec } from './command.ts'

export interface KeyOptions {
  readonly signingKey?: NonNullable<KeyChoices['suite']>
  readonly encryptionKey?: EncryptionKeyKind
}

const signingKinds = ['ed25519', 'p256'] as const

function oneOf(name: string, kinds: readonly string[]): (text: string) => string {
  return text => {
    if (kinds.includes(text)) return text
    throw new MoteError('usage', `${name}: expected ${kinds.join(', ')}, got '${text}'`)
  }
}

export const encryptionKeyOption: OptionSpec = {
  flags: '--encryption-key <kind>',
  description: `${encryptionKeyKinds.join(', ')} (default: x25519), for keys that are made now`,
  read: oneOf('encryption-key', encryptionKeyKinds),
}

export const keyOptions: readonly OptionSpec[] = [
  {
    flags: '--signing-key <kind>',
    description: `${signingKinds.join(' or ')} (default: ed25519), for keys that are made now`,
    read: oneOf('signing-key', signingKinds),
  },
  encryptionKeyOption,
]

/** What `KeyDirectory.create` is to make. */
export function keyChoices({ signingKey, encryptionKey }: KeyOptions): KeyChoices {
  return {
    ...(signingKey !== undefined && { suite: signingKey }),
    ...(encryptionKey !== undefined && { encryption: encryptionKey }),
  }
}

/** Throws `already-exists` for keys of another kind than the one that is asked for. */
export function requireKinds({ name, signing, encryption }: IdentityKeys, options: KeyOptions): void {
  const { signingKey = signing.publicKey.suite, encryptionKey } = options
  const kind = kindOfEncryptionKey(encryption.publicKey)
  if (signing.publicKey.suite === signingKey && (encryptionKey ?? kind) === kind) return
  const has = `${signing.publicKey.suite} and ${kind}`
  throw new MoteError('already-exists', `${name} has keys of ${has} here; use another name`)
}
