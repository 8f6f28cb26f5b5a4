/** A gateway's recorder with its store, its queue and the pump behind it. */
import { join } from 'node:path'
import type { TrustedHead } from '../../chain/light-client.ts'
import type { CertifiedBlocks } from '../../client/certified-blocks.ts'
import type { ChainClient } from '../../client/chain-client.ts'
import { systemClock } from '../../client/clock.ts'
import type { IdentityKeys } from '../../client/key-directory.ts'
import { MessageStore } from '../../client/message-store.ts'
import { nativeVerifier } from '../../client/native-crypto.ts'
import { allShards } from '../protocol/sharded-topics.ts'
import { followOutcomes } from './block-outcomes.ts'
import { DurableRecorder, defaultRecorderLimits, type RecorderLimits } from './durable-recorder.ts'
import { ExchangeStore } from './exchange-store.ts'
import { openQueue } from './open-queue.ts'
import { runPump } from './pump.ts'
import type { QueueConfig } from './queue-config.ts'
import type { Recorder } from './recorder.ts'
import { Settler } from './settling.ts'

export interface RecorderOptions {
  /** The gateway's data directory; records have one of their own in it. */
  readonly data: string
  /** The gateway's own identity. */
  readonly keys: IdentityKeys
  readonly queue: QueueConfig
  /** Followed by whoever opened it. */
  readonly client: ChainClient
  /** Of the same client. */
  readonly blocks: CertifiedBlocks
  /** Where its trust started: the genesis. */
  readonly checkpoint: TrustedHead
  readonly limits?: RecorderLimits
  /** Told of failures after which it goes on. */
  readonly onError: (error: unknown) => void
}

export interface RunningRecorder {
  readonly recorder: Recorder
  /** Messages whose outcome is open. */
  status(): { readonly open: number }
  /** What is open has no outcome in this process, and goes on in the next one. */
  stop(): Promise<void>
}

/** How long another gateway that shares the queue has, before this one brings its own to the chain as well. */
const patienceMs = 5_000
/** How often what is over is forgotten. */
const expireEveryMs = 3_600_000

/** Goes on with what an earlier process left. Throws `in-use`, `storage-corrupt`, `storage-failed`. */
export async function openRecorder(options: RecorderOptions): Promise<RunningRecorder> {
  const { data, keys, client, blocks, checkpoint, onError } = options
  const store = await MessageStore.open(join(data, 'records'))
  const stopping = new AbortController()
  const { signal } = stopping
  const { exchanges, open } = await ExchangeStore.open(store, systemClock.wall)
  const { chainId } = client
  const queue = await openQueue(options.queue, { store, chainId, onError })
  const trust = { checkpoint, verifier: nativeVerifier }
  const settler = new Settler({ client, blocks, trust, signal, onError })
  const recorder = new DurableRecorder({
    keys,
    chainId,
    time: () => client.records.time(),
    exchanges,
    queue,
    settler,
    patienceMs: options.queue.type === 'level' ? undefined : patienceMs,
    limits: options.limits ?? defaultRecorderLimits,
    signal,
    onError,
  })
  recorder.resume(open)
  const onSettled = recorder.settled.bind(recorder)
  const pumping = runPump({ queue, settler, shards: allShards, signal, onSettled, onError })
  // Alone, this gateway settles all that it accepts.
  const unfollow = options.queue.type === 'level' ? undefined : followOutcomes({ blocks, recorder, onError })
  const expiring = setInterval(() => void exchanges.expire().catch(onError), expireEveryMs)
  expiring.unref()
  return {
    recorder,
    status: () => ({ open: recorder.openCount }),
    stop: async () => {
      stopping.abort()
      clearInterval(expiring)
      unfollow?.()
      await pumping
      await queue.close()
      await store.close()
    },
  }
}
