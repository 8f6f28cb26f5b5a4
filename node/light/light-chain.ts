/**
 * What lightweight and coordination nodes have in common: a data directory, a chain client whose sources are full nodes
 * over libp2p, and the proof of their own record that opens those connections.
 *
 * Trust comes from the genesis and the header follower alone. A node that is in no genesis and has no stored proof asks
 * for its own record first, which full nodes answer before hello, and says hello again with it.
 */
import { join } from 'node:path'
import type { DeviceId } from '../../chain/brands.ts'
import { decode } from '../../chain/codec.ts'
import { checkpointFromGenesis, type GenesisDocument } from '../../chain/genesis.ts'
import { type StateAnswer, throughHandovers, verifyStateAnswer } from '../../chain/light-client.ts'
import { RecentMap } from '../../chain/recent-map.ts'
import { identityCodec, stateKeyOf } from '../../chain/records.ts'
import { MoteError, unwrap } from '../../chain/result.ts'
import { ChainClient } from '../../client/chain-client.ts'
import type { ChainSource, NodeStatus } from '../../client/chain-source.ts'
import { type CheckpointStore, checkpointFile } from '../../client/checkpoint-file.ts'
import { steadyClock, systemClock } from '../../client/clock.ts'
import { findCoordinationNodes, verifiedAddress } from '../../client/coordination-address.ts'
import { pause } from '../../client/deadline.ts'
import { type DirectoryLock, lockDirectory } from '../../client/directory-lock.ts'
import { checkFresh } from '../../client/freshness.ts'
import { readGenesisOf } from '../../client/genesis-file.ts'
import type { HeadEvent } from '../../client/header-follower.ts'
import type { NodeAddress } from '../../client/join-messages.ts'
import { type IdentityKeys, readKeyFile } from '../../client/key-directory.ts'
import type { Logger } from '../../client/log.ts'
import { nativeVerifier } from '../../client/native-crypto.ts'
import type { LightConfiguration } from '../effective-configuration.ts'
import { Libp2pNetwork } from '../network/libp2p-network.ts'
import { queries } from '../network/request-table.ts'
import { ask, libp2pSource } from '../network/requests.ts'
import type { PeerStatus } from '../ports.ts'
import {
  isFinal,
  LightIdentityProvider,
  PassedHandovers,
  PeerConfirmation,
  standingOf,
  transportOf,
} from './identities.ts'

/** A query that waits for news lasts this long: a full node that hangs is noticed a little later. */
const waitMs = 3_000
/** Full nodes that are remembered at least: more than an assignment and a configuration name. */
const maxSources = 64
const requestTimeoutMs = 2_000
const proofRetryMs = 500
/** A node that was away shows nodes without state of their own a proof of now, if full nodes give it one by then. */
const ownProofPatienceMs = 5_000

export class LightChain {
  readonly config: LightConfiguration
  readonly keys: IdentityKeys
  readonly client: ChainClient
  readonly identities: LightIdentityProvider
  readonly network: Libp2pNetwork
  readonly #log: Logger
  readonly #lock: DirectoryLock
  readonly #confirmation: PeerConfirmation
  readonly #stopping = new AbortController()
  readonly #running = new Set<Promise<unknown>>()
  readonly #ended = Promise.withResolvers<never>()
  /** Resolves with the first proof of the own record that was made in this run. */
  readonly #shown = Promise.withResolvers<void>()
  readonly #met = Promise.withResolvers<void>()
  /** Why nobody takes this node, where its record says so. */
  #standing: MoteError | undefined
  #proofWanted = false
  #proofUnderWay = false
  /** One per full node, so that what it has shown is remembered when assignments change. */
  readonly #sources = new RecentMap<DeviceId, ChainSource>(maxSources)
  readonly clock = systemClock

  private constructor(
    parts: Pick<LightChain, 'config' | 'keys' | 'client' | 'identities'>,
    log: Logger,
    lock: DirectoryLock,
  ) {
    const { config, keys, client, identities } = parts
    this.config = config
    this.keys = keys
    this.client = client
    this.identities = identities
    this.#log = log
    this.#lock = lock
    this.network = new Libp2pNetwork({
      ...config.p2p,
      limits: config.network,
      transportSeed: transportOf(keys).seed.expose(),
      identities,
      clock: systemClock,
      log,
      onRefused: () => this.#refused(),
      onUnconfirmed: () => this.#confirmation.confirm(),
    })
    this.#confirmation = new PeerConfirmation({
      records: client.records,
      isFresh: () => this.readiness() === undefined,
      clock: systemClock,
      unconfirmed: () => this.network.unconfirmed(),
      recheck: id => this.network.recheck(id),
      onFailure: (peer, error) =>
        log.debug({ peer, error: String(error) }, 'the record of a peer has not come yet'),
    })
    this.#ended.promise.catch(() => {}) // Whoever runs the node may look later.
  }

  /** Opens what is on disk; meets nobody yet. Throws `config-invalid`, `wrong-chain`, `in-use`, `storage-corrupt`. */
  static async open(config: LightConfiguration, log: Logger): Promise<LightChain> {
    const genesis = await readGenesisOf(config)
    const keys = await readKeyFile(config.key)
    transportOf(keys)
    const lock = await lockDirectory(config.data)
    try {
      const handovers = await PassedHandovers.open(checkpointFile(join(config.data, 'handovers')))
      const store = handovers.beforeCheckpoints(checkpointFile(join(config.data, 'checkpoint')))
      const client = await openClient(config, { genesis, store, log })
      handovers.follow(client.follower)
      const identities = await LightIdentityProvider.open({
        deviceId: keys.id,
        genesis,
        records: client.records,
        handovers,
        verifier: nativeVerifier,
        proofStore: checkpointFile(join(config.data, 'own-proof')),
        isFresh: () => client.records.ageMs() <= config.trustTtlMs,
      })
      return new LightChain({ config, keys, client, identities }, log, lock)
    } catch (error) {
      await lock.release()
      throw error
    }
  }

  /** Aborts when the node stops. */
  get stopping(): AbortSignal {
    return this.#stopping.signal
  }

  /** Rejects when the node cannot go on: `device-revoked`, or `config-invalid` where its record is for another label or key. */
  get ended(): Promise<never> {
    return this.#ended.promise
  }

  /** A full node that the network keeps, as a chain source. */
  sourceOf(id: DeviceId): ChainSource {
    const source = this.#sources.get(id) ?? libp2pSource(this.network, id, { requestTimeoutMs })
    this.#sources.set(id, source)
    return source
  }

  async isFullNode(id: DeviceId): Promise<boolean> {
    const { value } = await this.client.records.device(id)
    return value?.label === 'full' && value.status === 'active'
  }

  fullNodeAt(signed: Uint8Array): Promise<NodeAddress | undefined> {
    return verifiedAddress(this.client, signed, 'full')
  }

  /** Coordination nodes that full nodes know, their addresses verified. */
  coordinationNodes(): Promise<readonly NodeAddress[]> {
    return findCoordinationNodes(this.client)
  }

  /**
   * Meets the configured full nodes, follows the chain from then on, and meets the coordination nodes. Those judge by the
   * proof that is shown alone, and the one of the last run may be signed by consenters of before.
   */
  async start(onPeer: (peer: DeviceId, state: PeerStatus['state']) => void): Promise<void> {
    const isOfLastRun = this.identities.ownProof().type === 'certified'
    for (const peer of this.config.peers) this.network.keep(peer)
    await this.network.start({
      message: () => {},
      unreachable: () => {},
      peer: onPeer,
      isCounted: () => true,
    })
    this.client.follower.onAdvance(event => this.#onAdvance(event))
    this.inBackground('following headers', this.client.follower.run(this.stopping))
    this.#wantProof()
    this.inBackground('meeting coordination nodes', this.#meetCoordination(isOfLastRun))
  }

  /** Resolves when coordination nodes are being met. */
  get coordinationMet(): Promise<void> {
    return this.#met.promise
  }

  async #meetCoordination(isProofOfLastRun: boolean): Promise<void> {
    if (isProofOfLastRun) await Promise.race([this.#shown.promise, pause(ownProofPatienceMs, this.stopping)])
    for (const peer of this.config.coordination) this.network.keep(peer)
    this.#met.resolve()
  }

  /** A task that ends when the node stops. Its failure is logged: the others go on. */
  inBackground(name: string, task: Promise<unknown>): void {
    const running = task
      .catch(error => {
        if (!this.stopping.aborted) this.#log.error({ task: name, error: String(error) }, 'task failed')
      })
      .finally(() => this.#running.delete(running))
    this.#running.add(running)
  }

  /** Undefined while the head is level with what full nodes show, and fresh enough to be trusted. */
  readiness(): MoteError | undefined {
    if (this.#standing) return this.#standing
    const { head, behind, isLevel } = this.client.follower
    const { height } = head.header
    if (!isLevel && behind > 0)
      return new MoteError('not-ready', `head: at height ${height}, expected ${height + behind}: catching up`)
    if (!isLevel)
      return new MoteError('not-ready', `head: at height ${height}, and no full node has shown its own yet`)
    const ageMs = this.client.records.ageMs()
    const fresh = checkFresh(ageMs, this.config.trustTtlMs)
    return fresh.ok ? undefined : new MoteError(fresh.error.code, fresh.error.detail)
  }

  /** The part of the status that both labels share. */
  status(api: string): NodeStatus {
    const { header } = this.client.follower.head
    const { name, label } = this.config
    return {
      name,
      id: this.keys.id,
      label,
      chainId: header.chainId,
      role: label,
      term: header.term,
      leader: undefined,
      height: header.height,
      certifiedHeight: header.height,
      lag: this.client.follower.behind,
      time: header.time,
      pid: process.pid,
      api,
      addresses: this.network.addresses(),
      peers: this.network.peers(),
    }
  }

  async stop(): Promise<void> {
    this.#stopping.abort()
    this.#confirmation.stop()
    await this.network.stop()
    await Promise.all(this.#running)
    await this.#lock.release()
  }

  /** Peers whose record changed are judged again; a change of one's own, or of who signs proofs, needs a new proof. */
  #onAdvance(event: HeadEvent): void {
    const changed =
      event.type === 'skipped' ? undefined : new Set(event.headers.flatMap(({ changes }) => changes))
    // After a skip anything may have changed.
    const mayHaveChanged = (id: DeviceId) => changed?.has(stateKeyOf.identity(id)) ?? true
    for (const { id } of this.network.peers()) if (mayHaveChanged(id)) this.network.recheck(id)
    this.#confirmation.confirm()
    if (this.identities.isProofOverdue(event)) this.#wantProof()
  }

  /**
   * A peer refused the proof of one's own record. While another one takes it, that is one peer's word. When nobody does,
   * the record may have changed unheard: without a proof one may still ask for it.
   */
  #refused(): void {
    if (this.network.peers().some(({ state }) => state === 'connected')) return
    this.identities.withholdProof()
    this.#wantProof()
  }

  /** The own proof is to be provided again, whatever an attempt under way finds. */
  #wantProof(): void {
    this.#proofWanted = true
    if (this.#proofUnderWay) return
    this.#proofUnderWay = true
    this.inBackground(
      'own proof',
      this.#provideProof().finally(() => {
        this.#proofUnderWay = false
      }),
    )
  }

  /** Tries until there is a proof of one's own record as it stands. */
  async #provideProof(): Promise<void> {
    while (!this.stopping.aborted) {
      try {
        this.#proofWanted = false
        const isNewcomer = this.identities.ownProof().type === 'none'
        const key = stateKeyOf.identity(this.keys.id)
        const answer = isNewcomer ? await this.#ownStatus() : await this.client.records.stateProof(key)
        // An answer under the bare genesis convinces only who has seen nothing newer.
        if (answer.signatures.length === 0) throw new MoteError('not-ready', 'no block is certified yet')
        this.#mustBeTaken(answer)
        await this.identities.showProof(answer)
        this.#shown.resolve()
        if (isNewcomer) this.network.greetAgain()
        if (!this.#proofWanted) return
      } catch (error) {
        this.#log.debug({ error: String(error) }, 'no proof of the own record yet')
      }
      await pause(proofRetryMs, this.stopping)
    }
  }

  /** One's own record, verified, from whichever full node answers; the newest one if it is not active. */
  async #ownStatus(): Promise<StateAnswer> {
    const key = stateKeyOf.identity(this.keys.id)
    const device = this.keys.id
    let last: unknown
    for (const { id } of this.config.peers) {
      try {
        const own = await ask(this.network, id, queries.ownStatus, { device }, requestTimeoutMs)
        const { answer, handovers } = own
        const { head } = this.client.follower
        const trusted = unwrap(throughHandovers(head, handovers, answer.height, nativeVerifier))
        unwrap(verifyStateAnswer(trusted, key, answer, nativeVerifier))
        return answer
      } catch (error) {
        last = error
      }
    }
    throw last ?? new MoteError('unreachable', 'peers: expected full nodes in the configuration')
  }

  /** Throws what one's own record, verified, has against this node; ends the node where that cannot pass. */
  #mustBeTaken({ value, height }: StateAnswer): void {
    const record = value && unwrap(decode(identityCodec, value))
    const refusal = standingOf(this.config, this.keys, record, height)
    if (refusal && refusal.detail !== this.#standing?.detail)
      this.#log.error({ code: refusal.code, detail: refusal.detail }, 'this node is not taken by the others')
    this.#standing = refusal
    if (!refusal) return
    if (isFinal(refusal)) this.#ended.reject(refusal)
    throw refusal
  }
}

function openClient(
  config: LightConfiguration,
  { genesis, store, log }: { genesis: GenesisDocument; store: CheckpointStore; log: Logger },
): Promise<ChainClient> {
  return ChainClient.open({
    sources: [],
    checkpoint: checkpointFromGenesis(genesis),
    store,
    waitMs,
    clock: config.clock === 'none' ? steadyClock : systemClock,
    quietMs: 3 * genesis.parameters.heartbeatMs,
    onError: error => log.debug({ error: String(error) }, 'no news from any full node'),
    onFault: (source, fault, error) => {
      const detail = { source: source.name, code: error.code, detail: error.detail }
      if (fault === 'lie') log.warn(detail, 'a full node gave an answer that does not verify')
      // That there is no connection, or none any more, the network has said.
      else if (error.code === 'unreachable')
        log.debug(detail, 'a full node was not reached; the next one is asked')
      else log.info(detail, 'a full node did not answer; the next one is asked')
    },
  })
}
