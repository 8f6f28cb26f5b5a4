/** The queue that a configuration says. */
import { readFile, stat } from 'node:fs/promises'
import type { ChainId } from '../../chain/brands.ts'
import { MoteError } from '../../chain/result.ts'
import { readAuthorities } from '../../client/authorities-file.ts'
import type { MessageStore } from '../../client/message-store.ts'
import { SecretBytes } from '../../client/secret-bytes.ts'
import { LevelQueue } from './level-queue.ts'
import type { QueueConfig } from './queue-config.ts'
import type { TransactionQueue } from './transaction-queue.ts'

/** Throws `config-invalid`, `key-invalid`, `storage-corrupt`, `storage-failed`; NATS servers may come later. */
export async function openQueue(
  config: QueueConfig,
  parts: {
    readonly store: MessageStore
    readonly chainId: ChainId
    readonly onError: (error: unknown) => void
  },
): Promise<TransactionQueue> {
  if (config.type === 'level') return LevelQueue.open(parts.store)
  const { chainId, onError } = parts
  const { servers, replicas, bytes } = config
  const ca = config.ca === undefined ? undefined : await readAuthorities('queue.ca', config.ca)
  const seed = config.nkey === undefined ? undefined : await seedIn(config.nkey)
  // A gateway with a queue of its own does not load the client of NATS.
  const { JetStreamQueue } = await import('./jetstream-queue.ts')
  return new JetStreamQueue({ chainId, servers, replicas, bytes, ca, seed, onError })
}

async function seedIn(file: string): Promise<SecretBytes> {
  const failed = (reason: string, cause?: unknown) =>
    new MoteError('key-invalid', `queue.nkey: ${file}: ${reason}`, { cause })
  const { mode } = await stat(file).catch(cause => {
    throw failed('cannot be read', cause)
  })
  if ((mode & 0o077) !== 0) throw failed(`expected mode 0600, got 0${(mode & 0o777).toString(8)}`)
  const seed = new SecretBytes(Buffer.from((await readFile(file, 'utf8')).trim(), 'utf8'))
  const { isUserSeed } = await import('./nats-connection.ts')
  if (!isUserSeed(seed)) throw failed('expected the seed of a user (nk -gen user), got other text')
  return seed
}
