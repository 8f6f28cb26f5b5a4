/**
 * `mote device rotate`: a new signing key for a device, made and kept here.
 */
import type { Command } from 'commander'
import { exitCodes } from '../chain/errors.ts'
import { keyIdOf } from '../chain/keys.ts'
import { maxRotationOverlapMs } from '../chain/limits.ts'
import { rotateSigningKey } from '../client/key-actions.ts'
import { openChain } from './chain-access.ts'
import type { AddCommand } from './command.ts'
import { type Context, parseCount } from './context.ts'
import { provenance } from './output.ts'

const hourSeconds = 3_600

export function rotateCommand(family: Command, add: AddCommand): void {
  add<{ overlap: number }>({
    parent: family,
    usage: 'rotate <name>',
    description: 'a new signing key for a device; the old one stays valid for a while',
    options: [
      {
        flags: '--overlap <seconds>',
        description: 'how long the old key stays valid',
        default: hourSeconds,
        read: parseCount('overlap', 0, maxRotationOverlapMs / 1_000),
      },
    ],
    notes:
      'The next key is on the disk before the chain hears of it: after a crash the same command goes on. An agent that runs takes it when the old key has ended, or at its next connection.',
    action: rotate,
  })
}

async function rotate(
  context: Context,
  [name = '']: readonly string[],
  { overlap }: { readonly overlap: number },
): Promise<number> {
  const access = await openChain(context)
  const { client, keys: directory } = access
  const before = keyIdOf((await directory.load(name)).signing.publicKey)
  const { timeoutMs } = context
  const keys = await rotateSigningKey(client, directory, { name, overlapMs: overlap * 1_000 }, { timeoutMs })
  const { height, term, ageMs } = await client.records.device(keys.id)
  const keyId = keyIdOf(keys.signing.publicKey)
  const answer = { id: keys.id, name, before, keyId, overlapSeconds: overlap, height, term, ageMs }
  context.output.data(answer, () =>
    [context.output.fields({ before, now: keyId }), `verified ${provenance(answer)}`].join('\n'),
  )
  return exitCodes.ok
}
