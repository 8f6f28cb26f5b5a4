/**
 * A gateway's connection to a broker that others wrote, with the accounts there: composed from a configuration and the gateway's keys.
 *
 * Who may log in is in force before anybody is served, and follows the chain from then on.
 */
import type { DeviceId } from '../chain/brands.ts'
import { MoteError } from '../chain/result.ts'
import { pause } from '../client/deadline.ts'
import type { IdentityKeys } from '../client/key-directory.ts'
import type { Logger } from '../client/log.ts'
import type { AttachedEdge } from './config.ts'
import { gatewaySecret } from './protocol/account-password.ts'
import type { PlainTopics } from './protocol/plain-topics.ts'
import type { Shard } from './protocol/sharded-topics.ts'
import type { TrustView } from './protocol/trust.ts'
import { AccountKeeper, type AccountKeeperOptions } from './server/account-keeper.ts'
import { attachedBroker, type BrokerEvent, shardOfLink } from './server/attached-broker.ts'
import type { BrokerFactory } from './server/broker.ts'
import { gatewayLogins } from './server/gateway-logins.ts'
import { MosquittoAccounts } from './server/mosquitto-accounts.ts'

export interface AttachedParts {
  readonly edge: Omit<AttachedEdge, 'ca'>
  /** PEM of the authorities that the broker's certificate may have; without it there is no TLS. */
  readonly ca?: string | undefined
  readonly keys: IdentityKeys
  /** A page of the node list (client/record-list.ts). */
  readonly devicePage: AccountKeeperOptions['devicePage']
  readonly trust: TrustView
  readonly plain: PlainTopics
  /** Of the store of its records (mqtt-gateway/records/open-recorder.ts). */
  readonly storeId: string
  readonly queuedPerDevice: number
  readonly log: Pick<Logger, 'debug' | 'info' | 'warn'>
}

const retryDelayMs = 500

export interface AttachedEdgeStatus {
  readonly shards: readonly string[]
  readonly connected: boolean
}

export class AttachedGateway {
  readonly factory: BrokerFactory
  readonly #parts: AttachedParts
  readonly #accounts: MosquittoAccounts | undefined
  readonly #keeper: AccountKeeper | undefined
  /** Connections that stand, by their names. */
  readonly #links = new Set<string>()
  readonly #stopping = new AbortController()
  #stopFollowing = () => {}

  constructor(parts: AttachedParts) {
    this.#parts = parts
    const { edge, ca, keys, devicePage, trust, plain, storeId, queuedPerDevice, log } = parts
    const logins = gatewayLogins(trust.chainId, keys)
    const { address, shards } = edge
    if (edge.accounts === 'mosquitto') {
      const onBroken = (reason: string) => log.warn({ reason }, 'broker: accounts cannot be changed')
      this.#accounts = new MosquittoAccounts({ ...address, ca, login: logins.accounts, onBroken })
      this.#keeper = new AccountKeeper({
        trust,
        gateway: keys.id,
        own: keys.encryption,
        plain,
        accounts: this.#accounts,
        devicePage,
        onError: error =>
          log.warn({ err: error }, 'broker: accounts are not what the chain says; again soon'),
      })
    }
    this.factory = attachedBroker({
      address,
      ca,
      login: logins.gateway,
      shardSecret: gatewaySecret(trust.chainId, keys.id, keys.encryption, 'shards'),
      shards,
      storeId,
      accounts: this.#accounts,
      queuedPerDevice,
      onEvent: event => this.#take(event),
    })
  }

  /** Resolves when every account is what the chain says. Rejects with `interrupted` when it is stopped first. */
  async start(): Promise<void> {
    const { trust, log } = this.#parts
    const keeper = this.#keeper
    if (!this.#accounts || !keeper) return
    let isFirst = true
    const again = () =>
      keeper.reconcile().catch(error => log.warn({ err: error }, 'broker: accounts not read'))
    await this.#accounts.open(() => {
      if (!isFirst) void again()
      isFirst = false
    })
    const startedAt = performance.now()
    for (;;) {
      try {
        await keeper.reconcile()
        break
      } catch (error) {
        if (this.#stopping.signal.aborted || !(error instanceof MoteError)) throw error
        log.warn({ err: error }, 'broker: accounts not read; again')
        await pause(retryDelayMs, this.#stopping.signal)
      }
    }
    log.info({ accounts: keeper.count, tookMs: Math.round(performance.now() - startedAt) }, 'accounts')
    this.#stopFollowing = trust.onAdvance(advance => {
      keeper.reviewAfter(advance).catch((error: unknown) => {
        log.warn({ err: error }, 'broker: accounts not changed')
        void again()
      })
    })
  }

  /** Those that this gateway has now. */
  shards(): readonly Shard[] {
    return [...this.#links].map(shardOfLink).filter(shard => shard !== undefined)
  }

  status(): AttachedEdgeStatus {
    return { shards: this.shards().toSorted(), connected: this.#links.has('publishing') }
  }

  /** What the account of a device is made of, as the broker has it; undefined if it has none. */
  accountNote(device: DeviceId): string | undefined {
    return this.#keeper?.note(device)
  }

  /** After the gateway has stopped. */
  async stop(): Promise<void> {
    this.#stopping.abort()
    this.#stopFollowing()
    await this.#accounts?.close()
    await this.#keeper?.close()
  }

  #take(event: BrokerEvent): void {
    const { log } = this.#parts
    switch (event.type) {
      case 'failed':
        log.warn({ err: event.error }, 'broker: not done')
        break
      case 'connected':
        this.#links.add(event.link)
        log.debug({ link: event.link }, 'broker: connected')
        break
      default:
        this.#links.delete(event.link)
        log.warn({ link: event.link, reason: event.reason }, `broker: ${event.type}`)
    }
  }
}
