/**
 * Changing the signing key of an identity by itself. The next key is on the disk before the chain hears of it, so that a crash at
 * any moment leaves keys that the chain knows; whoever runs it again goes on where it stopped.
 */
import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import type { Milliseconds } from '../chain/brands.ts'
import { keyIdOf } from '../chain/keys.ts'
import { findKey } from '../chain/records.ts'
import { MoteError } from '../chain/result.ts'
import { keyPossessionSigningBytes } from '../chain/transaction.ts'
import { readFileIfThere } from './atomic-file.ts'
import type { ChainClient } from './chain-client.ts'
import {
  type IdentityKeys,
  type KeyDirectory,
  makeKeys,
  readKeyFile,
  signerOf,
  writeKeyFile,
} from './key-directory.ts'
import type { SubmitOptions } from './submission.ts'

/** Where the next keys of a name lie until they are in force. */
function nextKeysPath(directory: KeyDirectory, name: string): string {
  return join(directory.directory, 'keys', `${name}.next`)
}

/**
 * Gives an identity a new signing key; the old one stays valid for `overlapMs` of block time. Resolves to the keys from now on, which
 * are in the directory. Throws what the chain refuses, `key-not-found`, `unknown-subject`.
 */
export async function rotateSigningKey(
  client: ChainClient,
  directory: KeyDirectory,
  { name, overlapMs }: { readonly name: string; readonly overlapMs: number },
  options?: SubmitOptions,
): Promise<IdentityKeys> {
  const keys = await directory.load(name)
  const path = nextKeysPath(directory, name)
  if (!(await readFileIfThere(path))) {
    const { signing } = makeKeys(name, { suite: keys.signing.publicKey.suite })
    await writeKeyFile(path, { ...keys, signing })
  }
  const next = await readKeyFile(path)
  await client.follower.sync()
  const { value: record } = await client.records.device(keys.id)
  if (!record) throw new MoteError('unknown-subject', `device ${keys.id}: not on the chain`)
  // An earlier run may have come as far as this.
  if (!findKey(record, keyIdOf(next.signing.publicKey))) {
    const key = next.signing.publicKey
    const possession = signerOf(next).sign(keyPossessionSigningBytes(client.chainId, keys.id, key))
    await client.perform(
      keys,
      {
        type: 'key.rotate',
        subject: keys.id,
        expectedVersion: record.version,
        oldKey: keyIdOf(keys.signing.publicKey),
        key: { purpose: 'sign', key, possession, notAfter: undefined },
        overlap: overlapMs as Milliseconds,
      },
      options,
    )
  }
  await directory.replace(next)
  await rm(path, { force: true })
  return next
}
