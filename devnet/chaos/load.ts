/**
 * The load of a chaos run, and the history that it leaves: writers that send one transaction after another, and
 * clients that race to set and read the epochs of a few groups (docs/OPERATIONS.md, section Faults).
 */

import { randomBytes } from 'node:crypto'
import type { ChainId, GroupId, Hash, Height, Milliseconds, Term, TransactionId } from '../../chain/brands.ts'
import { decode } from '../../chain/codec.ts'
import type { ErrorCode } from '../../chain/errors.ts'
import { stateAnswerCodec } from '../../chain/light-client.ts'
import { groupCodec, stateKeyOf } from '../../chain/records.ts'
import { MoteError, unwrap } from '../../chain/result.ts'
import type { TransactionBody } from '../../chain/transaction.ts'
import type { ChainSource } from '../../client/chain-source.ts'
import { pause } from '../../client/deadline.ts'
import { exchange } from '../../client/http-source.ts'
import type { IdentityKeys } from '../../client/key-directory.ts'
import { nativeSignerFromSeed } from '../../client/native-crypto.ts'
import { idOfSigned, signedBody } from '../../client/submission.ts'
import type { EpochInput, EpochOperation, EpochOutput, EpochState } from './epoch-register.ts'
import { PlainClient } from './plain-client.ts'
import { nowMs } from './timing.ts'

export interface AcknowledgedWrite {
  readonly id: TransactionId
  readonly height: Height
  readonly term: Term
  readonly atMs: number
}

/** A read of a group's epoch from certified state, which may be older than the newest write. */
export interface CertifiedRead {
  readonly height: Height
  /** Undefined: no such group at that height. */
  readonly state: EpochState | undefined
}

/** What happened to one group. */
export interface EpochHistory {
  readonly group: GroupId
  /** From this height on it is on the chain. */
  readonly since: Height
  readonly initial: EpochState
  /** Sets, and linearizable reads. */
  readonly operations: EpochOperation[]
  readonly certifiedReads: CertifiedRead[]
  /** Height at which each epoch was set, as acknowledged. */
  readonly setAt: Map<number, Height>
}

export interface ChaosLoadOptions {
  readonly sources: readonly ChainSource[]
  readonly chainId: ChainId
  readonly operator: IdentityKeys
  readonly writers: number
  readonly groups: readonly { readonly id: GroupId; readonly since: Height; readonly state: EpochState }[]
  /** For each group. */
  readonly racers: number
  /** Pause of a writer after an acknowledgement; of a racer, after an operation, five times as long. */
  readonly thinkMs: number
}

/** A racer waits so much longer: its history is checked by search. */
const racerFactor = 5
const readTimeoutMs = 4_000
/** How far ahead transactions expire: longer than any fault lasts. */
const expiryMs = 9 * 60_000

export class ChaosLoad {
  readonly acknowledged: AcknowledgedWrite[] = []
  readonly histories: readonly EpochHistory[]
  readonly #options: ChaosLoadOptions
  readonly #clients: PlainClient[] = []
  /** No new work. */
  readonly #finishing = new AbortController()
  /** No waiting for outcomes either. */
  readonly #stopping = new AbortController()
  readonly #invalid = new Map<ErrorCode, number>()
  #running: Promise<unknown> = Promise.resolve()
  #sent = 0
  #failure: unknown

  constructor(options: ChaosLoadOptions) {
    this.#options = options
    this.histories = options.groups.map(({ id, since, state }) => ({
      group: id,
      since,
      initial: state,
      operations: [],
      certifiedReads: [],
      setAt: new Map(),
    }))
  }

  start(): void {
    const { writers, racers } = this.#options
    const loops = [
      ...Array.from({ length: writers }, (_, i) => this.#write(this.#client(i))),
      ...this.histories.flatMap((history, g) =>
        Array.from({ length: racers }, (_, i) =>
          this.#race(history, this.#client(g + i), `group ${g} client ${i}`),
        ),
      ),
    ]
    this.#running = Promise.all(loops).catch(error => {
      this.#failure = error
      this.#finishing.abort()
      this.#stopping.abort()
    })
  }

  /** Fires when nothing new is sent any more: asked to, or because a client could not go on. */
  get ending(): AbortSignal {
    return this.#finishing.signal
  }

  /** No new transactions; those under way get this long. Throws what a client could not go on with. */
  async finish(waitMs: number): Promise<void> {
    this.#finishing.abort()
    const timer = setTimeout(() => this.#stopping.abort(), waitMs)
    await this.#running
    clearTimeout(timer)
    if (this.#failure) throw this.#failure
  }

  /** Ends at once. */
  async stop(): Promise<void> {
    this.#finishing.abort()
    this.#stopping.abort()
    await this.#running
  }

  /** Transactions that were sent, and those of them whose outcome nobody has told yet. */
  get counts(): { readonly sent: number; readonly pending: number; readonly invalid: number } {
    const invalid = [...this.#invalid.values()].reduce((sum, count) => sum + count, 0)
    const sets = this.histories.reduce((sum, { setAt }) => sum + setAt.size, 0)
    return { sent: this.#sent, invalid, pending: this.#sent - invalid - this.acknowledged.length - sets }
  }

  /** Final failures by code; `epoch-conflict` is what racing clients expect. */
  get invalid(): Readonly<Record<string, number>> {
    return Object.fromEntries(this.#invalid)
  }

  /** What attempts met that were then repeated, by code. */
  get met(): Readonly<Record<string, number>> {
    const all = new Map<string, number>()
    for (const { met } of this.#clients)
      for (const [code, count] of met) all.set(code, (all.get(code) ?? 0) + count)
    return Object.fromEntries(all)
  }

  #client(first: number): PlainClient {
    const client = new PlainClient({ sources: this.#options.sources, first })
    this.#clients.push(client)
    return client
  }

  #sign(body: TransactionBody): Uint8Array {
    const { chainId, operator } = this.#options
    this.#sent += 1
    const time = (Date.now() + expiryMs / 2) as Milliseconds
    return signedBody({ chainId, body, keys: operator, time })
  }

  #countInvalid(code: ErrorCode): void {
    this.#invalid.set(code, (this.#invalid.get(code) ?? 0) + 1)
  }

  /** Grants of a token nobody holds, which harm nobody. */
  async #write(client: PlainClient): Promise<void> {
    while (!this.#finishing.signal.aborted) {
      const tokenKey = nativeSignerFromSeed('ed25519', Uint8Array.from(randomBytes(32))).publicKey
      const expiry = (Date.now() + 60_000) as Milliseconds
      const bytes = this.#sign({
        type: 'identity.grant',
        tokenKey,
        quota: 1,
        expiry,
        highestLabel: 'lightweight',
      })
      const outcome = await client.submit(bytes, this.#stopping.signal)
      if (outcome.type === 'acknowledged') {
        const { id, height, term, atMs } = outcome
        this.acknowledged.push({ id, height, term, atMs })
      } else if (outcome.type === 'invalid')
        throw new MoteError(outcome.code, `transaction ${idOfSigned(bytes)}: invalid`)
      await pause(this.#options.thinkMs, this.#finishing.signal)
    }
  }

  /** Reads, by turns as it stands and linearizable, and sets what it has read last. */
  async #race(history: EpochHistory, client: PlainClient, name: string): Promise<void> {
    let known = history.initial
    for (let round = 0; !this.#finishing.signal.aborted; round++) {
      const read =
        round % 2 === 0 ? this.#readLinearizable(history, client, name) : this.#read(history, client)
      known = (await read) ?? known
      if (this.#finishing.signal.aborted) return
      await this.#set(history, client, { name, epoch: known.epoch })
      await pause(racerFactor * this.#options.thinkMs, this.#finishing.signal)
    }
  }

  async #read(history: EpochHistory, client: PlainClient): Promise<EpochState | undefined> {
    const key = stateKeyOf.group(history.group)
    const answer = await client.ask(
      (source, signal) => source.state(key, undefined, { signal }),
      this.#stopping.signal,
    )
    if (!answer) return undefined
    // A node that starts from nothing shows how it was before the group.
    const state = answer.value && epochStateOf(answer.value)
    history.certifiedReads.push({ height: answer.height, state })
    return state
  }

  async #readLinearizable(
    history: EpochHistory,
    client: PlainClient,
    name: string,
  ): Promise<EpochState | undefined> {
    const path = `/v1/state/${stateKeyOf.group(history.group)}?consistency=linearizable`
    const calledAt = nowMs()
    const answer = await client.ask(
      (source, signal) => exchange(source.name, { path, timeoutMs: readTimeoutMs, signal }),
      this.#stopping.signal,
    )
    // A read of unknown outcome says nothing about the object.
    if (!answer) return undefined
    const at = nowMs()
    const state = epochStateOf(unwrap(decode(stateAnswerCodec, answer.body)).value)
    const returned = { at, output: { type: 'state', state } } as const
    history.operations.push({ client: name, input: { type: 'read' }, calledAt, returned })
    return state
  }

  async #set(
    history: EpochHistory,
    client: PlainClient,
    { name, epoch }: { readonly name: string; readonly epoch: number },
  ): Promise<void> {
    const { group } = history
    const value = randomBytes(32).toString('hex') as Hash
    const input: EpochInput = { type: 'set', epoch, value }
    const body = { type: 'group.rekey', group, membershipVersion: 1, epoch } as const
    const bytes = this.#sign({ ...body, epochKeyHash: value, boxesHash: value })
    const calledAt = nowMs()
    const outcome = await client.submit(bytes, this.#stopping.signal)
    const record = (output: EpochOutput | undefined): void => {
      const returned = output && outcome.type !== 'open' ? { at: outcome.atMs, output } : undefined
      history.operations.push({ client: name, input, calledAt, returned })
    }
    if (outcome.type === 'open') record(undefined)
    else if (outcome.type === 'acknowledged') {
      history.setAt.set(epoch + 1, outcome.height)
      record({ type: 'set' })
    } else if (outcome.code === 'epoch-conflict') {
      this.#countInvalid(outcome.code)
      record({ type: 'conflict' })
    } else throw new MoteError(outcome.code, `group ${group}: a re-key is invalid`)
  }
}

/** The epoch in a group's state leaf. Throws `malformed`, or `unknown-subject` if there is no such group. */
export function epochStateOf(leaf: Uint8Array | undefined): EpochState {
  if (!leaf) throw new MoteError('unknown-subject', 'group: not on the chain')
  const group = decode(groupCodec, leaf)
  if (!group.ok) throw new MoteError(group.error.code, group.error.detail)
  return { epoch: group.value.epoch, value: group.value.epochKeyHash ?? '' }
}
