/** A gateway's recorder with its store, its queue and the pump behind it. */
import { randomBytes } from 'node:crypto'
import { join } from 'node:path'
import type { SignatureVerifier } from '../../chain/keys.ts'
import type { TrustedHead } from '../../chain/light-client.ts'
import type { CertifiedBlocks } from '../../client/certified-blocks.ts'
import type { ChainClient } from '../../client/chain-client.ts'
import { type Clock, systemClock } from '../../client/clock.ts'
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
import type { TransactionQueue } from './transaction-queue.ts'

interface RecorderSetting {
  /** The gateway's own identity. */
  readonly keys: IdentityKeys
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

export interface RecorderOptions extends RecorderSetting {
  /** The gateway's data directory; records have one of their own in it. */
  readonly data: string
  readonly queue: QueueConfig
}

/** What a recorder stands on. */
export interface RecorderGround extends RecorderSetting {
  readonly store: MessageStore
  readonly queue: TransactionQueue
  /** Others may take from the queue. */
  readonly isShared: boolean
  /** The machine's unless given, as the other two. */
  readonly clock?: Clock
  readonly verifier?: SignatureVerifier
  readonly random?: (length: number) => Uint8Array
}

export interface RecorderStatus {
  /** Messages whose outcome is open. */
  readonly open: number
  /** What is wrong with the queue at the moment, as code and reason; null where nothing is known. */
  readonly queue: string | null
}

export interface RunningRecorder {
  readonly recorder: Recorder
  status(): RecorderStatus
  /** What is open has no outcome in this process, and goes on in the next one. */
  stop(): Promise<void>
}

export interface OpenedRecorder extends RunningRecorder {
  /** Which store this is: 16 characters, made with it. Whoever has another one does not know what was tied in this one. */
  readonly storeId: string
}

/** How long another gateway that shares the queue has, before this one brings its own to the chain as well. */
const patienceMs = 5_000
/** How often what is over is forgotten. */
const expireEveryMs = 3_600_000

const storeIdKey = 'store'

async function idOf(store: MessageStore): Promise<string> {
  const known = await store.get(storeIdKey)
  if (known) return Buffer.from(known).toString('hex')
  const value = Uint8Array.from(randomBytes(8))
  await store.write([{ key: storeIdKey, value }])
  return Buffer.from(value).toString('hex')
}

/** Goes on with what an earlier process left. Throws `in-use`, `storage-corrupt`, `storage-failed`. */
export async function openRecorder(options: RecorderOptions): Promise<OpenedRecorder> {
  const { data, client, onError } = options
  const store = await MessageStore.open(join(data, 'records'))
  const storeId = await idOf(store)
  const queue = await openQueue(options.queue, { store, chainId: client.chainId, onError })
  const running = await runRecorder({ ...options, store, queue, isShared: options.queue.type !== 'level' })
  return { ...running, storeId }
}

/** The same over a store and a queue that are open; it closes both. Throws `storage-corrupt`, `storage-failed`. */
export async function runRecorder(ground: RecorderGround): Promise<RunningRecorder> {
  const { keys, client, blocks, checkpoint, onError, store, queue, isShared, clock, random } = ground
  const { wall, after } = clock ?? systemClock
  const stopping = new AbortController()
  const { signal } = stopping
  const { exchanges, open } = await ExchangeStore.open(store, wall)
  const { chainId } = client
  const trust = { checkpoint, verifier: ground.verifier ?? nativeVerifier }
  const settler = new Settler({ client, blocks, trust, signal, onError, clock })
  const recorder = new DurableRecorder({
    keys,
    chainId,
    time: () => client.records.time(),
    exchanges,
    queue,
    settler,
    patienceMs: isShared ? patienceMs : undefined,
    limits: ground.limits ?? defaultRecorderLimits,
    signal,
    onError,
    clock,
    random,
  })
  recorder.resume(open)
  const onSettled = recorder.settled.bind(recorder)
  const pumping = runPump({ queue, settler, shards: allShards, signal, onSettled, onError, clock })
  // Alone, this gateway settles all that it accepts.
  const unfollow = isShared ? followOutcomes({ blocks, recorder, onError }) : undefined
  let stopExpiring = (): void => {}
  const expireLater = (): void => {
    stopExpiring = after(expireEveryMs, () => {
      void exchanges.expire().catch(onError)
      expireLater()
    })
  }
  expireLater()
  return {
    recorder,
    status: () => ({ open: recorder.openCount, queue: queue.failure?.message ?? null }),
    stop: async () => {
      stopping.abort()
      stopExpiring()
      unfollow?.()
      await pumping
      await queue.close()
      await store.close()
    },
  }
}
