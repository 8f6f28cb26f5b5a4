/** The contract of the queue on this machine's disk. */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { MessageStore } from '../../client/message-store.ts'
import { LevelQueue } from '../../mqtt-gateway/records/level-queue.ts'
import { transactionQueueContract } from './transaction-queue.ts'

transactionQueueContract('LevelDB', async () => {
  const directory = await mkdtemp(join(tmpdir(), 'mote-queue-'))
  const capacityBytes = 1024 * 1024
  let store: MessageStore | undefined
  return {
    capacityBytes,
    open: async () => {
      await store?.close()
      store = await MessageStore.open(directory)
      return LevelQueue.open(store, { messages: 1_000, bytes: capacityBytes })
    },
    dispose: async () => {
      await store?.close()
      await rm(directory, { recursive: true })
    },
  }
})
