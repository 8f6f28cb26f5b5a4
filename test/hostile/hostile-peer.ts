/**
 * A peer that says what a test tells it to, to real nodes over real sockets. It is made of the project's own network, so what
 * it says is well formed and proven; it has the keys of an identity of the chain, and no state.
 */
import { ok } from 'node:assert/strict'
import type { ClusterNode, LocalCluster } from '../../bench/local-cluster.ts'
import type { DeviceId } from '../../chain/brands.ts'
import { decodeOwn } from '../../chain/codec.ts'
import { consenterSet } from '../../chain/consenters.ts'
import { genesisLedger, genesisState } from '../../chain/genesis.ts'
import { checkpointOf } from '../../chain/light-client.ts'
import { identityCodec, stateKeyOf } from '../../chain/records.ts'
import { unwrap } from '../../chain/result.ts'
import { systemClock } from '../../client/clock.ts'
import { Deadline } from '../../client/deadline.ts'
import type { IdentityKeys } from '../../client/key-directory.ts'
import { nativeVerifier } from '../../client/native-crypto.ts'
import { readNodeConfig } from '../../node/config.ts'
import type { IdentityProvider } from '../../node/network/hello.ts'
import { Libp2pNetwork } from '../../node/network/libp2p-network.ts'
import { defaultNetworkLimits } from '../../node/network/protocols.ts'
import { type AmnesiaEvidence, memberRequests } from '../../node/network/request-table.ts'
import { requestHandler } from '../../node/network/requests.ts'
import type { PeerMessage } from '../../node/ports.ts'

const silent = { debug: () => {}, info: () => {}, warn: () => {}, error: () => {} }

const nothingRemembered: AmnesiaEvidence = { signed: undefined, acknowledged: undefined }

export class HostilePeer {
  readonly id: DeviceId
  readonly network: Libp2pNetwork
  /** What the nodes said to it. */
  readonly received: PeerMessage[] = []

  /** What it answers to a node that asks what is remembered of it. */
  readonly #evidence: AmnesiaEvidence

  constructor(cluster: LocalCluster, keys: IdentityKeys, evidence: AmnesiaEvidence = nothingRemembered) {
    this.#evidence = evidence
    this.id = keys.id
    const { genesis, chainId } = cluster
    const ledger = genesisLedger(genesis)
    const state = genesisState(genesis)
    const trusted = unwrap(
      checkpointOf(ledger.header, consenterSet(genesis.consenters, genesis.quorumPolicy)),
    )
    const identities: IdentityProvider = {
      chainId,
      deviceId: keys.id,
      verifier: nativeVerifier,
      ownProof: () => ({ type: 'genesis' }),
      trusted: () => trusted,
      genesisIdentity: id => {
        const value = state.get(stateKeyOf.identity(id))
        return value && decodeOwn(identityCodec, value)
      },
      known: () => undefined,
      isCurrent: () => true,
    }
    ok(keys.transport)
    this.network = new Libp2pNetwork({
      host: '127.0.0.1',
      port: 0,
      transportSeed: keys.transport.seed.expose(),
      identities,
      clock: systemClock,
      log: silent,
      limits: { ...defaultNetworkLimits, retryDelayMs: 50, retryDelayMsMax: 200 },
    })
  }

  /** Nobody hears the Raft messages of a peer that has not said what it remembers of the node. */
  async start(): Promise<void> {
    const remembers = requestHandler(
      { amnesiaCheck: memberRequests.amnesiaCheck },
      { amnesiaCheck: async () => this.#evidence },
    )
    this.network.handle('member', remembers)
    await this.network.start({
      message: (_from, message) => void this.received.push(message),
      unreachable: () => {},
      isCounted: () => false,
      peer: () => {},
    })
  }

  /** Connects to these nodes and stays connected, if they let it. */
  async connect(nodes: readonly ClusterNode[]): Promise<void> {
    for (const { id, directory } of nodes) {
      const { p2p } = await readNodeConfig(`${directory}/config.json`)
      ok(p2p)
      this.network.keep({ id, address: `/ip4/${p2p.host}/tcp/${p2p.port}` })
    }
    const isConnected = (id: string) =>
      this.network.peers().some(peer => peer.id === id && peer.state === 'connected')
    const all = await new Deadline(10_000).until(
      () => nodes.every(({ id }) => isConnected(id)) || undefined,
      10,
    )
    ok(all, 'the hostile peer is connected to every node')
  }

  stop(): Promise<void> {
    return this.network.stop()
  }
}
