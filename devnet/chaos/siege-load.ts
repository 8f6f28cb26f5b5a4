/**
 * What honest users do while a siege goes on, and how long each thing takes them: an operator and a device submit, somebody
 * reads with proof, and two devices write to one another through the gateway. They use the clients that everybody uses,
 * which ask a second node before they believe a refusal.
 */
import { randomBytes } from 'node:crypto'
import type { GroupId, Hash, Milliseconds } from '../../chain/brands.ts'
import { errorTable } from '../../chain/errors.ts'
import { stateKeyOf } from '../../chain/records.ts'
import { MoteError } from '../../chain/result.ts'
import type { TransactionBody } from '../../chain/transaction.ts'
import type { ChainClient } from '../../client/chain-client.ts'
import { pause } from '../../client/deadline.ts'
import { createGroup } from '../../client/group-actions.ts'
import type { IdentityKeys } from '../../client/key-directory.ts'
import { nativeSignerFromSeed } from '../../client/native-crypto.ts'
import { signedBody } from '../../client/submission.ts'
import { type ChainAccess, openDevnetChain, operatorKeys } from '../access.ts'
import type { AcknowledgedWrite } from './load.ts'
import { MessageTraffic } from './messages.ts'
import { type Answered, nowMs } from './timing.ts'

const thinkMs = 20
const submitTimeoutMs = 60_000
const grantLifetimeMs = 60_000

export class SiegeLoad {
  readonly acknowledged: AcknowledgedWrite[] = []
  readonly operator: Answered[] = []
  readonly device: Answered[] = []
  readonly reads: Answered[] = []
  /** What was not answered, by code: it was tried again. */
  readonly failed = new Map<string, number>()
  /** What was refused for good, by code: a consenter may do that while it leads. Something else was asked for then. */
  readonly refused = new Map<string, number>()
  readonly #access: ChainAccess
  readonly #messages: MessageTraffic
  readonly #stopping = new AbortController()
  #running: Promise<unknown> = Promise.resolve()

  constructor(access: ChainAccess) {
    this.#access = access
    this.#messages = new MessageTraffic(access)
  }

  /** The verdicts that devices got. */
  get messages(): readonly Answered[] {
    return this.#messages.answered
  }

  /** Begins. Throws what keeps a device from making its group. */
  async start(): Promise<void> {
    const [first] = this.#access.description.devices
    if (!first) throw new MoteError('usage', 'siege: expected a devnet with devices')
    const device = await this.#access.keys.load(first.name)
    const operator = await operatorKeys(this.#access)
    const group = await createGroup(this.#access.client, device, `siege-${randomBytes(6).toString('hex')}`)
    const { id } = group.value.record
    this.#running = Promise.all([
      this.#again(await this.#write(operator, this.operator, async () => grantBody())),
      this.#again(await this.#write(device, this.device, client => rekeyBody(client, id))),
      this.#again(await this.#read(device)),
    ])
    this.#messages.start()
  }

  /** A signed transaction that nobody has sent. */
  async sample(): Promise<Uint8Array> {
    const operator = await operatorKeys(this.#access)
    return this.#signed(this.#access.client, operator, async () => grantBody())
  }

  async stop(): Promise<void> {
    this.#stopping.abort()
    await Promise.all([this.#running, this.#messages.stop()])
  }

  async #again(work: () => Promise<void>): Promise<void> {
    const { signal } = this.#stopping
    while (!signal.aborted) {
      try {
        await work()
      } catch (error) {
        if (signal.aborted) return
        const code = error instanceof MoteError ? error.code : 'internal'
        const counts = errorTable[code].retry ? this.failed : this.refused
        counts.set(code, (counts.get(code) ?? 0) + 1)
      }
      await pause(thinkMs, signal)
    }
  }

  /** Signs one transaction after another; one whose outcome is not known is sent again as it is. */
  async #write(
    keys: IdentityKeys,
    answered: Answered[],
    body: (client: ChainClient) => Promise<TransactionBody>,
  ): Promise<() => Promise<void>> {
    const { client } = await openDevnetChain(this.#access.directory, this.#access.description)
    let open: { readonly bytes: Uint8Array; readonly startedAt: number } | undefined
    return async () => {
      open ??= { bytes: await this.#signed(client, keys, body), startedAt: nowMs() }
      const { signal } = this.#stopping
      const { bytes, startedAt } = open
      const submitted = client.submit(bytes, { timeoutMs: submitTimeoutMs, signal })
      const { id, height, status } = await submitted.catch((error: unknown) => {
        if (!(error instanceof MoteError && errorTable[error.code].retry)) open = undefined
        throw error
      })
      const atMs = nowMs()
      answered.push({ atMs, tookMs: atMs - startedAt })
      if (status.term !== undefined) this.acknowledged.push({ id, height, term: status.term, atMs })
      open = undefined
    }
  }

  async #signed(
    client: ChainClient,
    keys: IdentityKeys,
    body: (client: ChainClient) => Promise<TransactionBody>,
  ): Promise<Uint8Array> {
    const time = Date.now() as Milliseconds
    return signedBody({ chainId: client.chainId, body: await body(client), keys, time })
  }

  /** A head and a record of it, with their proofs. */
  async #read({ id }: IdentityKeys): Promise<() => Promise<void>> {
    const { client } = await openDevnetChain(this.#access.directory, this.#access.description)
    return async () => {
      const startedAt = nowMs()
      await client.follower.sync()
      await client.records.stateProof(stateKeyOf.identity(id))
      this.reads.push({ atMs: nowMs(), tookMs: nowMs() - startedAt })
    }
  }
}

/** Grants of a token nobody holds, which harm nobody. */
function grantBody(): TransactionBody {
  const tokenKey = nativeSignerFromSeed('ed25519', Uint8Array.from(randomBytes(32))).publicKey
  const expiry = (Date.now() + grantLifetimeMs) as Milliseconds
  return { type: 'identity.grant', tokenKey, quota: 1, expiry, highestLabel: 'lightweight' }
}

/** The next epoch of a group that nobody else re-keys. */
async function rekeyBody(client: ChainClient, group: GroupId): Promise<TransactionBody> {
  await client.follower.sync()
  const { value } = await client.records.group(group)
  if (!value) throw new MoteError('stale', `group ${group}: not there yet`)
  const { membershipVersion, epoch } = value.record
  const hash = randomBytes(32).toString('hex') as Hash
  const fields = { group, membershipVersion, epoch, epochKeyHash: hash, boxesHash: hash }
  return { type: 'group.rekey', ...fields }
}
