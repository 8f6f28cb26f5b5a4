/** The queue that a configuration says. */
import { readFile, stat } from 'node:fs/promises'
import type { ChainId } from '../../chain/brands.ts'
import { MoteError } from '../../chain/result.ts'
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
  const { servers, replicas, bytes, ca, nkey } = config
  const tls = ca === undefined ? undefined : { ca: await authorities(ca) }
  const seed = nkey === undefined ? undefined : await seedIn(nkey)
  // A gateway with a queue of its own does not load the client of NATS.
  const { JetStreamQueue } = await import('./jetstream-queue.ts')
  return new JetStreamQueue({ chainId, servers, replicas, bytes, tls, seed, onError })
}

function authorities(file: string): Promise<string> {
  return readFile(file, 'utf8').catch(cause => {
    throw new MoteError('config-invalid', `queue.ca: ${file}: cannot be read`, { cause })
  })
}

async function seedIn(file: string): Promise<SecretBytes> {
  const failed = (reason: string, cause?: unknown) =>
    new MoteError('key-invalid', `queue.nkey: ${file}: ${reason}`, { cause })
  const { mode } = await stat(file).catch(cause => {
    throw failed('cannot be read', cause)
  })
  if ((mode & 0o077) !== 0) throw failed(`expected mode 0600, got 0${(mode & 0o777).toString(8)}`)
  return new SecretBytes(Buffer.from((await readFile(file, 'utf8')).trim(), 'utf8'))
}
