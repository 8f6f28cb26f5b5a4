/**
 * Keeps the accounts of a broker that others wrote equal to the chain: one for each active device, with what its rights let it receive,
 * and with a password if its key can make one (account-password.ts).
 *
 * Invariants:
 * - an account goes when the chain proves that its device is not active, or has other keys; not because a list leaves it out;
 * - what a step of the chain names is looked at again before anything else; whoever is new is found by reading the node list, not more often
 *   than `relistPause` allows;
 * - without the chain nothing changes: rulings refuse by themselves then.
 */
import { createHash } from 'node:crypto'
import type { DeviceId, StateKey } from '../../chain/brands.ts'
import { type EncryptionKey, keyIdOf } from '../../chain/keys.ts'
import { currentEncryptionKey, stateKeyOf } from '../../chain/records.ts'
import { noRights } from '../../chain/rights.ts'
import { pause } from '../../client/deadline.ts'
import type { EncryptionKeyPair } from '../../client/encryption-keys.ts'
import { OrderedQueue } from '../../client/ordered-queue.ts'
import type { ListedIds } from '../../client/record-list.ts'
import { sideBySide } from '../../client/side-by-side.ts'
import { accountPassword } from '../protocol/account-password.ts'
import type { PlainTopics } from '../protocol/plain-topics.ts'
import type { TrustAdvance, TrustView } from '../protocol/trust.ts'
import { receivable } from './access.ts'
import type { BrokerAccount, BrokerAccounts } from './broker-accounts.ts'

export interface AccountSourceOptions {
  readonly trust: Pick<TrustView, 'chainId' | 'device' | 'rights' | 'now'>
  readonly gateway: DeviceId
  readonly own: EncryptionKeyPair
  readonly plain: PlainTopics
}

export interface AccountKeeperOptions extends AccountSourceOptions {
  readonly accounts: BrokerAccounts
  /** A page of the node list (client/record-list.ts). */
  readonly devicePage: (after?: StateKey) => Promise<ListedIds<DeviceId>>
  readonly onError: (error: unknown) => void
}

/** Time from one reading of the node list to the next, at least. */
const relistPauseMs = 1_000
/** Times what the last reading took: a long list is read less often. Who has just joined waits for it. */
const relistPauseFactor = 10
const relistPauseMsMax = 5_000
/** Devices whose records are asked for at the same time. */
const lookUpsAtOnce = 16
/** Pages of one reading. */
const maxListPages = 4_096

/**
 * The account that a device should have; undefined if it is not active, or the gateway itself. A device whose key can make no password (RSA, or of
 * another kind than the gateway's) has one as well: without it a client certificate would have no rights, and would not be cut.
 * Throws `MoteError` when the chain is out of reach.
 */
export async function accountOf(
  { trust, gateway, own, plain }: AccountSourceOptions,
  device: DeviceId,
): Promise<BrokerAccount | undefined> {
  const [{ value: record }, { value: rights }] = await Promise.all([
    trust.device(device),
    trust.rights(device),
  ])
  if (record?.status !== 'active' || device === gateway) return undefined
  const isSameKind = ({ suite }: EncryptionKey) => suite === own.publicKey.suite
  const key = currentEncryptionKey(record, trust.now(), isSameKind)?.key
  const { chainId } = trust
  const ofGateway = { id: gateway, key: own.publicKey }
  const made = key && accountPassword({ chainId, gateway: ofGateway, device: { id: device, key }, own })
  const password = made?.ok ? made.value : undefined
  const receives = receivable(rights ?? noRights, plain)
  const keys = [own.publicKey, ...(key && made?.ok ? [key] : [])].map(each => keyIdOf(each).slice(0, 16))
  const byRight = createHash('sha256').update(receives.join('\n')).digest('hex').slice(0, 16)
  const note = [...keys, ...(receives.length > 0 ? [byRight] : [])].join(' ')
  return { device, password, receives, note }
}

export class AccountKeeper {
  readonly #options: AccountKeeperOptions
  readonly #turn = new OrderedQueue()
  readonly #closing = new AbortController()
  /** What the broker has, as far as is known. */
  #notes = new Map<DeviceId, string>()
  /** Whom a changed record is about. */
  readonly #subjects = new Map<StateKey, DeviceId>()
  #listing: Promise<void> | undefined
  #listAgain = false

  constructor(options: AccountKeeperOptions) {
    this.#options = options
  }

  get count(): number {
    return this.#notes.size
  }

  note(device: DeviceId): string | undefined {
    return this.#notes.get(device)
  }

  /** Makes the accounts what they should be. Throws `MoteError`: the broker or the chain is out of reach. */
  async reconcile(): Promise<void> {
    await this.#turn.run(async () => {
      this.#notes = new Map(await this.#options.accounts.list())
      this.#subjects.clear()
    })
    // Its pages prove many records in one request each; what it leaves out is asked for one by one.
    await this.#readList()
    const unlisted = [...this.#notes.keys()].filter(id => !this.#subjects.has(stateKeyOf.identity(id)))
    await this.#turn.run(() => this.#lookAt(unlisted))
  }

  /** A step of the chain. Resolves when whom it names is done with; who is new comes later. */
  async reviewAfter({ changed }: TrustAdvance): Promise<void> {
    const touched =
      changed === 'unknown'
        ? [...this.#notes.keys()]
        : [...new Set([...changed].map(key => this.#subjects.get(key)).filter(id => id !== undefined))]
    if (touched.length > 0) await this.#turn.run(() => this.#lookAt(touched))
    if (changed === 'unknown' || [...changed].some(key => !this.#subjects.has(key))) this.#scheduleList()
  }

  async close(): Promise<void> {
    this.#closing.abort()
    await this.#listing
    await this.#turn.idle()
  }

  #scheduleList(): void {
    this.#listAgain = true
    this.#listing ??= this.#listWhileAsked().finally(() => {
      this.#listing = undefined
    })
  }

  async #listWhileAsked(): Promise<void> {
    const { signal } = this.#closing
    while (this.#listAgain && !signal.aborted) {
      this.#listAgain = false
      const startedAt = performance.now()
      await this.#readList().catch((error: unknown) => {
        this.#listAgain = true
        this.#options.onError(error)
      })
      const tookMs = performance.now() - startedAt
      const pauseMs = Math.min(relistPauseFactor * tookMs, relistPauseMsMax)
      await pause(Math.max(relistPauseMs, pauseMs), signal)
    }
  }

  async #readList(): Promise<void> {
    let after: StateKey | undefined
    for (let pages = 0; pages < maxListPages && !this.#closing.signal.aborted; pages++) {
      const { ids, next } = await this.#options.devicePage(after)
      const unknown = ids.filter(id => !this.#subjects.has(stateKeyOf.identity(id)))
      if (unknown.length > 0) await this.#turn.run(() => this.#lookAt(unknown))
      if (next === undefined) return
      after = next
    }
  }

  /** Each device's account, as the chain has it now, and as the broker should have it. */
  async #lookAt(devices: readonly DeviceId[]): Promise<void> {
    // First: what changes from here on is looked at again.
    for (const device of devices) {
      this.#subjects.set(stateKeyOf.identity(device), device)
      this.#subjects.set(stateKeyOf.rights(device), device)
    }
    try {
      await this.#settle(devices)
    } catch (error) {
      // The next reading of the list finds them unknown.
      for (const device of devices) this.#subjects.delete(stateKeyOf.identity(device))
      throw error
    }
  }

  async #settle(devices: readonly DeviceId[]): Promise<void> {
    const wanted: { readonly device: DeviceId; readonly account: BrokerAccount | undefined }[] = []
    await sideBySide(devices, lookUpsAtOnce, async device => {
      wanted.push({ device, account: await accountOf(this.#options, device) })
    })
    const { accounts } = this.#options
    const gone = wanted.filter(({ device, account }) => !account && this.#notes.has(device))
    // First: who was revoked has a connection until then.
    if (gone.length > 0) await accounts.remove(gone.map(({ device }) => device))
    for (const { device } of gone) this.#notes.delete(device)
    const changed = wanted.flatMap(({ device, account }) =>
      account && this.#notes.get(device) !== account.note ? [account] : [],
    )
    if (changed.length > 0) await accounts.put(changed)
    for (const { device, note } of changed) this.#notes.set(device, note)
  }
}
