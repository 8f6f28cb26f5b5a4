/**
 * Closed-loop clients: each is a device with a group of its own and has one transaction in flight at a time, a re-key
 * of its group, over plain HTTP. For the benchmark and for tests that need continuous load.
 *
 * A client that gets no final answer sends the same bytes again, to the next node: what a device does, too. So every
 * acknowledged transaction is known, and nothing is signed twice.
 */

import { randomBytes } from 'node:crypto'
import type { ChainId, GroupId, Hash, TransactionId } from '../chain/brands.ts'
import { Milliseconds } from '../chain/brands.ts'
import { errorTable } from '../chain/errors.ts'
import { keyIdOf } from '../chain/keys.ts'
import { groupIdOf } from '../chain/records.ts'
import { signTransaction, type TransactionBody } from '../chain/transaction.ts'
import type { SubmitWait, TransactionStatus } from '../client/chain-source.ts'
import { pause } from '../client/deadline.ts'
import type { IdentityKeys } from '../client/key-directory.ts'
import { nativeSignerFromSeed } from '../client/native-crypto.ts'
import { type PlainAnswer, PlainHttp } from './plain-http.ts'

export interface LoadClientsOptions {
  readonly chainId: ChainId
  /** Base URLs; clients spread over them. */
  readonly apis: readonly string[]
  /** One client each. */
  readonly devices: readonly IdentityKeys[]
  readonly wait: Exclude<SubmitWait, 'none'>
  /** Called for every transaction that is acknowledged. */
  readonly onAcknowledged?: (acknowledged: AcknowledgedRequest) => void
  readonly requestTimeoutMs?: number
  /** Pause of a client after each acknowledgement: for continuous load that leaves the machine room. Default 0. */
  readonly thinkMs?: number
}

export interface AcknowledgedRequest {
  readonly id: TransactionId
  readonly height: number
  /** Of the leader that ordered it. */
  readonly term: number
  /** From the first sending to the answer. */
  readonly latencyMs: number
}

const expiryAheadMs = 5 * 60_000
const retryDelayMs = 20

export class LoadClients {
  readonly #options: LoadClientsOptions
  readonly #connections = new Set<PlainHttp>()
  #stopping = false
  #resends = 0
  #running: Promise<void>[] = []
  readonly #failures: string[] = []

  constructor(options: LoadClientsOptions) {
    this.#options = options
  }

  /** Times the same bytes went out again. */
  get resends(): number {
    return this.#resends
  }

  /** Answers that no client should ever get: a transaction refused for good or executed with an error. */
  get failures(): readonly string[] {
    return this.#failures
  }

  /** Makes every client's group and starts the loops. Resolves when all have begun. */
  async start(): Promise<void> {
    const clients = this.#options.devices.map((keys, index) => this.#client(keys, index))
    const epochs = await Promise.all(clients.map(client => client.begin()))
    this.#running = clients.map((client, i) => client.loop(epochs[i] ?? 0))
  }

  /** Ends every loop after the answer it waits for. */
  async stop(): Promise<void> {
    this.#stopping = true
    await Promise.all(this.#running)
    for (const connection of this.#connections) connection.close()
  }

  #client(keys: IdentityKeys, index: number) {
    const { chainId, apis, requestTimeoutMs = 20_000, thinkMs = 0 } = this.#options
    const connections = apis.map(api => new PlainHttp(api, requestTimeoutMs))
    for (const connection of connections) this.#connections.add(connection)
    const signer = nativeSignerFromSeed(keys.signing.publicKey.suite, keys.signing.seed.expose())
    const who = { deviceId: keys.id, keyId: keyIdOf(keys.signing.publicKey) }
    const group: GroupId = groupIdOf(keys.id, 'load')
    const submit = (body: TransactionBody) => {
      const expiry = Milliseconds(Date.now() + expiryAheadMs)
      const unsigned = { version: 1 as const, chainId, body, signer: who, nonce: randomBytes(16), expiry }
      return this.#submit(connections, signTransaction(unsigned, signer), index)
    }
    return {
      begin: async () => {
        const made = await submit({ type: 'group.create', name: 'load', epochKeyHash: undefined })
        if (made?.status === 'invalid' && made.code !== 'already-exists')
          this.#failures.push(JSON.stringify(made))
        return 0
      },
      loop: async (from: number) => {
        for (let epoch = from; !this.#stopping; epoch++) {
          const hash = randomBytes(32).toString('hex') as Hash
          const fields = { group, membershipVersion: 1, epoch, epochKeyHash: hash, boxesHash: hash }
          const status = await submit({ type: 'group.rekey', ...fields })
          if (status && status.status !== 'committed' && status.status !== 'certified') {
            this.#failures.push(JSON.stringify(status))
            return
          }
          if (thinkMs > 0) await pause(thinkMs)
        }
      },
    }
  }

  /** Sends until there is a final answer; undefined if the clients are stopped before. */
  async #submit(
    connections: readonly PlainHttp[],
    bytes: Uint8Array,
    index: number,
  ): Promise<TransactionStatus | undefined> {
    const { wait, onAcknowledged } = this.#options
    const startedAt = performance.now()
    for (let attempt = 0; ; attempt++) {
      const connection = connections[(index + attempt) % connections.length] as PlainHttp
      const status = statusIn(await connection.post(`/v1/transactions?wait=${wait}`, bytes))
      if (status?.status === 'committed' || status?.status === 'certified') {
        const latencyMs = performance.now() - startedAt
        const { id, height = 0, term = 0 } = status
        onAcknowledged?.({ id, height, term, latencyMs })
        return status
      }
      if (status?.status === 'invalid') return status
      if (status?.status === 'refused' && status.code && !errorTable[status.code].retry) return status
      if (this.#stopping) return undefined
      this.#resends++
      await pause(retryDelayMs)
    }
  }
}

/** The status in an answer; undefined for none, or for an error worth another try. */
function statusIn(answer: PlainAnswer | undefined): TransactionStatus | undefined {
  if (answer?.status !== 200 && answer?.status !== 202) return undefined
  return JSON.parse(answer.body) as TransactionStatus
}
