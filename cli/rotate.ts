/**
 * `mote device rotate`: a new key for a device, made and kept here: the one that it signs with, or the one that others seal to.
 */
import type { Command } from 'commander'
import { exitCodes } from '../chain/errors.ts'
import { keyIdOf } from '../chain/keys.ts'
import { maxRotationOverlapMs } from '../chain/limits.ts'
import { MoteError } from '../chain/result.ts'
import { type EncryptionKeyKind, encryptionKeyKinds, kindOfEncryptionKey } from '../client/encryption-keys.ts'
import { rotateEncryptionKey, rotateSigningKey } from '../client/key-actions.ts'
import type { IdentityKeys } from '../client/key-directory.ts'
import type { ChainAccess } from '../devnet/access.ts'
import { maxEnvelopeLifetimeMs, maxKeepMs } from '../mqtt-gateway/protocol/envelope.ts'
import { currentKeys, openChain } from './chain-access.ts'
import type { AddCommand } from './command.ts'
import { type Context, parseCount } from './context.ts'
import { encryptionKeyOption } from './key-options.ts'
import { provenance } from './output.ts'

const hourSeconds = 3_600
/** How long after a key has ended something may come that was sealed to it: kept for the longest time, by a sender whose clock is ahead. */
const comesForMs = maxKeepMs + maxEnvelopeLifetimeMs

interface RotateOptions {
  readonly overlap: number
  readonly encryption?: boolean
  readonly encryptionKey?: EncryptionKeyKind
}

export function rotateCommand(family: Command, add: AddCommand): void {
  add<RotateOptions>({
    parent: family,
    usage: 'rotate <name>',
    description:
      'a new signing key for a device, or a new key to seal to; the old one stays valid for a while',
    options: [
      {
        flags: '--overlap <seconds>',
        description: 'how long the old key stays valid',
        default: hourSeconds,
        read: parseCount('overlap', 0, maxRotationOverlapMs / 1_000),
      },
      {
        flags: '--encryption',
        description: 'the key that others seal to, instead of the one that it signs with',
      },
      {
        ...encryptionKeyOption,
        description: `with --encryption: ${encryptionKeyKinds.join(', ')} (default: as the old one)`,
      },
    ],
    notes:
      'The next key is on the disk before the chain hears of it: after a crash the same command goes on. An agent that runs takes a signing key when the old one has ended, or at its next connection, and opens what is sealed to a new key at once. What was sealed to the old one while it was valid opens for 7 days and 10 minutes more; then the old one is erased. Who has a copy of it is told that it differs: an agent takes the one on the chain and logs that, and `mote device send` says how to.',
    action: rotate,
  })
}

async function rotate(
  context: Context,
  [name = '']: readonly string[],
  options: RotateOptions,
): Promise<number> {
  if (options.encryptionKey !== undefined && !options.encryption)
    throw new MoteError('usage', 'encryption-key: expected --encryption with it')
  const access = await openChain(context)
  const { client } = access
  const { before, keyId, id, more } = await (options.encryption ? rotateEncryption : rotateSigning)(
    context,
    access,
    name,
    options,
  )
  const { height, term, ageMs } = await client.records.device(id)
  const answer = { id, name, before, keyId, overlapSeconds: options.overlap, ...more, height, term, ageMs }
  context.output.data(answer, () =>
    [context.output.fields({ before, now: keyId, ...more }), `verified ${provenance(answer)}`].join('\n'),
  )
  return exitCodes.ok
}

type Rotated = Pick<IdentityKeys, 'id'> & {
  readonly before: string
  readonly keyId: string
  readonly more: Readonly<Record<string, string>>
}

async function rotateSigning(
  { timeoutMs }: Context,
  { client, keys: directory }: ChainAccess,
  name: string,
  { overlap }: RotateOptions,
): Promise<Rotated> {
  const before = keyIdOf((await directory.load(name)).signing.publicKey)
  const keys = await rotateSigningKey(client, directory, { name, overlapMs: overlap * 1_000 }, { timeoutMs })
  return { id: keys.id, before, keyId: keyIdOf(keys.signing.publicKey), more: {} }
}

async function rotateEncryption(
  { timeoutMs }: Context,
  access: ChainAccess,
  name: string,
  { overlap, encryptionKey: kind }: RotateOptions,
): Promise<Rotated> {
  const before = keyIdOf((await currentKeys(access, name)).encryption.publicKey)
  const rotation = { name, kind, overlapMs: overlap * 1_000, comesForMs }
  const keys = await rotateEncryptionKey(access.client, access.keys, rotation, { timeoutMs })
  const former = keys.formerEncryption?.at(-1)
  return {
    id: keys.id,
    before,
    keyId: keyIdOf(keys.encryption.publicKey),
    more: {
      kind: kindOfEncryptionKey(keys.encryption.publicKey),
      ...(former && { opensUntil: new Date(former.until).toISOString() }),
    },
  }
}
