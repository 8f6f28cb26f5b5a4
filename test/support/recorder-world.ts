/** A recorder on a disk, before a chain of one process: killed and opened again by a test. */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { TransactionId } from '../../chain/brands.ts'
import { unwrap } from '../../chain/result.ts'
import { noRights } from '../../chain/rights.ts'
import { parseTransaction, recordsOf } from '../../chain/transaction.ts'
import { CertifiedBlocks } from '../../client/certified-blocks.ts'
import { ChainClient } from '../../client/chain-client.ts'
import type { ChainSource } from '../../client/chain-source.ts'
import { defaultRecorderLimits, type RecorderLimits } from '../../mqtt-gateway/records/durable-recorder.ts'
import { openRecorder, type RunningRecorder } from '../../mqtt-gateway/records/open-recorder.ts'
import type { QueueConfig } from '../../mqtt-gateway/records/queue-config.ts'
import {
  type Accepted,
  type Exchange,
  exchangeDigest,
  type Recorder,
  type RecordOutcome,
  type RecordRequest,
} from '../../mqtt-gateway/records/recorder.ts'
import { sampleRecord } from './sample-record.ts'
import { keysOf, TestChain, type TestSource } from './test-chain.ts'

export const gatewayKeys = keysOf('gateway')
export const sensorKeys = keysOf('sensor')

/** What a sensor says, as a gateway takes it from one exchange. */
export interface Said {
  readonly text: string
  readonly exchange?: Exchange
  readonly messageId?: string
}

export interface WorldOptions {
  /** Nodes that serve the chain. */
  readonly sources?: number
  readonly queue?: QueueConfig
  readonly limits?: Partial<RecorderLimits>
  /** Of another world, which it shares. */
  readonly chain?: TestChain
}

/** A chain with two sensors and a gateway that may attest: the same one in every process. */
export function recorderChain(): TestChain {
  const chain = new TestChain({ devices: ['gateway', 'sensor', 'other'] })
  const rights = { ...noRights, gateway: true, expectedVersion: 0 }
  chain.perform(chain.operator, { type: 'identity.rights', subject: gatewayKeys.id, ...rights })
  return chain
}

export class RecorderWorld implements AsyncDisposable {
  readonly chain: TestChain
  readonly sources: readonly TestSource[]
  readonly directory: string
  readonly errors: unknown[] = []
  #running!: RunningRecorder
  #blocks!: CertifiedBlocks
  #following!: AbortController

  readonly #options: WorldOptions

  private constructor(chain: TestChain, directory: string, options: WorldOptions) {
    this.chain = chain
    this.#options = options
    this.directory = directory
    this.sources = Array.from({ length: options.sources ?? 2 }, (_, i) => chain.source(`full-${i + 1}`))
  }

  static async open(options: WorldOptions = {}): Promise<RecorderWorld> {
    const chain = options.chain ?? recorderChain()
    const directory = await mkdtemp(join(tmpdir(), 'mote-recorder-'))
    const world = new RecorderWorld(chain, directory, options)
    await world.start()
    return world
  }

  get recorder(): Recorder {
    return this.#running.recorder
  }

  get status(): ReturnType<RunningRecorder['status']> {
    return this.#running.status()
  }

  async start(): Promise<void> {
    const { chain } = this
    const sources: readonly ChainSource[] = this.sources
    const client = await ChainClient.open({ sources, checkpoint: chain.checkpoint, distrustMs: 50 })
    await client.follower.sync()
    this.#following = new AbortController()
    void client.follower.run(this.#following.signal)
    this.#blocks = new CertifiedBlocks(client.follower, client.pool)
    this.#running = await openRecorder({
      data: this.directory,
      queue: this.#options.queue ?? { type: 'level' },
      limits: { ...defaultRecorderLimits, ...this.#options.limits },
      keys: gatewayKeys,
      client,
      blocks: this.#blocks,
      checkpoint: chain.checkpoint,
      onError: error => this.errors.push(error),
    })
  }

  /** What is not on the disk by now is lost. */
  async stop(): Promise<void> {
    this.#following.abort()
    await this.#running.stop()
    this.#blocks.close()
  }

  async restart(): Promise<void> {
    await this.stop()
    await this.start()
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop()
    await rm(this.directory, { recursive: true, force: true })
  }

  async accept(said: Said): Promise<Accepted> {
    return unwrap(await this.recorder.accept(requestOf(said)))
  }

  /** The outcome of a message that is accepted. */
  async record(said: Said): Promise<RecordOutcome> {
    return (await this.accept(said)).outcome
  }

  recorded(): readonly string[] {
    return recordedOn(this.chain)
  }

  isRecorded(id: TransactionId): boolean {
    return this.chain.transactionStatus(id).status === 'certified'
  }
}

/** Texts of the records on the chain, each as often as it is there. */
export function recordedOn(chain: TestChain): readonly string[] {
  return chain.blocks.flatMap(({ transactions, receipts }) =>
    transactions.flatMap((bytes, i) => {
      if (receipts[i]?.code !== 'ok') return []
      const { body } = unwrap(parseTransaction(bytes)).unsigned
      return recordsOf(body).map(({ payload }) => new TextDecoder().decode(payload))
    }),
  )
}

export function requestOf({ text, exchange, messageId }: Said): RecordRequest {
  const payload = new TextEncoder().encode(text)
  const record = sampleRecord({ source: sensorKeys.id, payload, messageId })
  const body = { type: 'record.one', record, qos: exchange?.qos ?? 0 } as const
  return { exchange, device: sensorKeys.id, messageId, content: { type: 'attested', body } }
}

/** The exchange of a text. */
export function exchangeOf(text: string, incarnation: string, more: Partial<Exchange> = {}): Exchange {
  const digest = exchangeDigest('tank', new TextEncoder().encode(text))
  return { client: 'c', incarnation, packetIdentifier: 1, qos: 2, isRepeat: false, digest, ...more }
}
