/**
 * Changing the keys of an identity by itself. The next key is on the disk before the chain hears of it, so that a crash at
 * any moment leaves keys that the chain knows; whoever runs it again goes on where it stopped.
 *
 * An encryption key that was replaced stays here until nothing comes any more that was sealed to it; the next one is in the key file
 * beside the current one, since others may seal to it as soon as the chain has it (mqtt-gateway/device/decryption-key.ts).
 */
import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import type { Milliseconds } from '../chain/brands.ts'
import { suiteForKey } from '../chain/envelope-suites.ts'
import { keyIdOf } from '../chain/keys.ts'
import { findKey, type IdentityRecord, isKeyValidAt } from '../chain/records.ts'
import { MoteError } from '../chain/result.ts'
import { keyPossessionSigningBytes } from '../chain/transaction.ts'
import { readFileIfThere } from './atomic-file.ts'
import type { ChainClient } from './chain-client.ts'
import {
  type EncryptionKeyKind,
  type EncryptionKeyPair,
  kindOfEncryptionKey,
  makeEncryptionKeys,
} from './encryption-keys.ts'
import {
  type IdentityKeys,
  type KeyDirectory,
  makeKeys,
  maxFormerEncryptionKeys,
  readKeyFile,
  signerOf,
  writeKeyFile,
} from './key-directory.ts'
import type { SubmitOptions } from './submission.ts'

/** Where the next signing key of a name lies until it is in force. */
function nextKeysPath(directory: KeyDirectory, name: string): string {
  return join(directory.directory, 'keys', `${name}.next`)
}

async function recordOf(client: ChainClient, { id }: IdentityKeys): Promise<IdentityRecord> {
  const { value: record } = await client.records.device(id)
  if (!record) throw new MoteError('unknown-subject', `device ${id}: not on the chain`)
  return record
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
  const record = await recordOf(client, keys)
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
  // Only this key: another of them may have been rotated since the file was written.
  const rotated = await directory.edit(name, current => ({ ...current, signing: next.signing }))
  await rm(path, { force: true })
  return rotated
}

export interface EncryptionRotation {
  readonly name: string
  /** Of the new key; by default as the one before. */
  readonly kind?: EncryptionKeyKind | undefined
  /** How long others may go on sealing to the old key. */
  readonly overlapMs: number
  /** How long after that something may still come which was sealed to it. */
  readonly comesForMs: number
}

/**
 * Gives an identity a new key to be sealed to. Resolves to the keys from now on, which are in the directory, the old one among
 * `formerEncryption`; of more than `maxFormerEncryptionKeys` the oldest goes. Throws what the chain refuses, `suite-not-allowed` for a kind of
 * key that the chain does not allow to seal to, `key-not-found`, `unknown-subject`.
 */
export async function rotateEncryptionKey(
  client: ChainClient,
  directory: KeyDirectory,
  rotation: EncryptionRotation,
  options?: SubmitOptions,
): Promise<IdentityKeys> {
  const { name, comesForMs } = rotation
  await client.follower.sync()
  const keys = await directory.load(name)
  const record = await recordOf(client, keys)
  const next = await nextEncryptionKey(client, directory, rotation, record)
  const isOnChain = findKey(record, keyIdOf(next.publicKey)) !== undefined
  if (!isOnChain) await putOnChain(client, keys, { record, next, overlapMs: rotation.overlapMs }, options)
  const ended = findKey(await recordOf(client, keys), keyIdOf(keys.encryption.publicKey))
  const endsAt = ended?.revokedAt ?? ended?.notAfter ?? client.records.time()
  return directory.edit(name, current => ({
    ...current,
    encryption: next,
    nextEncryption: undefined,
    formerEncryption: [
      ...(current.formerEncryption ?? []),
      { ...current.encryption, until: (endsAt + comesForMs) as Milliseconds },
    ].slice(-maxFormerEncryptionKeys),
  }))
}

/** The key to rotate to, on the disk: an earlier run's if the chain has it, or if it is of the kind that is asked for. */
async function nextEncryptionKey(
  client: ChainClient,
  directory: KeyDirectory,
  { name, kind }: EncryptionRotation,
  record: IdentityRecord,
): Promise<EncryptionKeyPair> {
  const { encryption, nextEncryption: begun } = await directory.load(name)
  if (begun && findKey(record, keyIdOf(begun.publicKey))) return begun
  const wanted = kind ?? kindOfEncryptionKey((begun ?? encryption).publicKey)
  if (begun && kindOfEncryptionKey(begun.publicKey) === wanted) return begun
  const made = makeEncryptionKeys(wanted)
  const suite = suiteForKey[made.publicKey.suite]
  const { value: parameters } = await client.records.parameters()
  if (!parameters?.envelopeSuites.includes(suite))
    throw new MoteError(
      'suite-not-allowed',
      `encryption-key: on this chain nobody may seal to a key of ${wanted}`,
    )
  await directory.edit(name, current => ({ ...current, nextEncryption: made }))
  return made
}

/** In the place of the old key, or beside what is left if that one has ended. */
async function putOnChain(
  client: ChainClient,
  keys: IdentityKeys,
  change: { readonly record: IdentityRecord; readonly next: EncryptionKeyPair; readonly overlapMs: number },
  options: SubmitOptions | undefined,
): Promise<void> {
  const { record, next, overlapMs } = change
  const oldKey = keyIdOf(keys.encryption.publicKey)
  const old = findKey(record, oldKey)
  const added = {
    subject: keys.id,
    expectedVersion: record.version,
    key: { purpose: 'encrypt', key: next.publicKey, notAfter: undefined },
  } as const
  const body =
    old && isKeyValidAt(old, client.records.time())
      ? ({ type: 'key.rotate', ...added, oldKey, overlap: overlapMs as Milliseconds } as const)
      : ({ type: 'key.add', ...added } as const)
  await client.perform(keys, body, options)
}
