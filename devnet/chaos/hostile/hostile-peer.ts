/**
 * A peer that says what it is told to, to real nodes over real sockets. It is made of the project's own network, so what it
 * says is well formed and proven; it has the keys of an identity of the chain, and no state.
 */
import type { DeviceId } from '../../../chain/brands.ts'
import { decodeOwn } from '../../../chain/codec.ts'
import { consenterSet } from '../../../chain/consenters.ts'
import { type GenesisDocument, genesisLedger, genesisState } from '../../../chain/genesis.ts'
import { checkpointOf } from '../../../chain/light-client.ts'
import { identityCodec, stateKeyOf } from '../../../chain/records.ts'
import { MoteError, unwrap } from '../../../chain/result.ts'
import { systemClock } from '../../../client/clock.ts'
import { Deadline } from '../../../client/deadline.ts'
import type { IdentityKeys } from '../../../client/key-directory.ts'
import { nativeVerifier } from '../../../client/native-crypto.ts'
import type { HelloProof, IdentityProvider } from '../../../node/network/hello.ts'
import { Libp2pNetwork } from '../../../node/network/libp2p-network.ts'
import { defaultNetworkLimits } from '../../../node/network/protocols.ts'
import { type AmnesiaEvidence, memberRequests } from '../../../node/network/request-table.ts'
import { requestHandler } from '../../../node/network/requests.ts'
import type { PeerAddress, PeerMessage, RequestHandler, RequestProtocol } from '../../../node/ports.ts'
import { loopback } from '../../ports.ts'

const silent = { debug: () => {}, info: () => {}, warn: () => {}, error: () => {} }

const nothingRemembered: AmnesiaEvidence = { signed: undefined, acknowledged: undefined }
/** What the nodes said that is kept: the newest. */
const maxReceived = 1_000
const connectWithinMs = 10_000

export interface HostilePeerOptions {
  readonly genesis: GenesisDocument
  readonly keys: IdentityKeys
  /** What it shows of itself. The genesis names it unless given. */
  readonly proof?: HelloProof
  /** Where it listens; a port of its own unless given. */
  readonly port?: number
  /** What it answers to a node that asks what is remembered of it. */
  readonly evidence?: AmnesiaEvidence
  /** What it answers otherwise. */
  readonly handlers?: Partial<Record<Exclude<RequestProtocol, 'member'>, RequestHandler>>
}

export class HostilePeer {
  readonly id: DeviceId
  readonly network: Libp2pNetwork
  /** What the nodes said to it last. */
  readonly received: PeerMessage[] = []
  /** How often its last connection to a node was closed. */
  closed = 0
  readonly #options: HostilePeerOptions

  constructor(options: HostilePeerOptions) {
    this.#options = options
    const { genesis, keys, proof = { type: 'genesis' }, port = 0 } = options
    this.id = keys.id
    const ledger = genesisLedger(genesis)
    const state = genesisState(genesis)
    const trusted = unwrap(
      checkpointOf(ledger.header, consenterSet(genesis.consenters, genesis.quorumPolicy)),
    )
    const identities: IdentityProvider = {
      chainId: ledger.header.chainId,
      deviceId: keys.id,
      verifier: nativeVerifier,
      ownProof: () => proof,
      trusted: () => trusted,
      genesisIdentity: id => {
        const value = state.get(stateKeyOf.identity(id))
        return value && decodeOwn(identityCodec, value)
      },
      known: () => undefined,
      isCurrent: () => true,
    }
    if (!keys.transport) throw new MoteError('usage', `${keys.name}: expected a transport key`)
    this.network = new Libp2pNetwork({
      host: loopback,
      port,
      transportSeed: keys.transport.seed.expose(),
      identities,
      clock: systemClock,
      log: silent,
      limits: { ...defaultNetworkLimits, retryDelayMs: 50, retryDelayMsMax: 200 },
    })
  }

  /** Nobody hears the Raft messages of a peer that has not said what it remembers of the node. */
  async start(): Promise<void> {
    const { evidence = nothingRemembered, handlers = {} } = this.#options
    const remembers = requestHandler(
      { amnesiaCheck: memberRequests.amnesiaCheck },
      { amnesiaCheck: async () => evidence },
    )
    this.network.handle('member', remembers)
    for (const [protocol, handler] of Object.entries(handlers))
      this.network.handle(protocol as keyof typeof handlers, handler)
    await this.network.start({
      message: (_from, message) => {
        this.received.push(message)
        if (this.received.length > maxReceived) this.received.shift()
      },
      unreachable: () => {},
      isCounted: () => false,
      peer: (_peer, state) => {
        if (state === 'disconnected') this.closed += 1
      },
    })
  }

  isConnectedTo(id: DeviceId): boolean {
    return this.network.peers().some(peer => peer.id === id && peer.state === 'connected')
  }

  /** Connects to these nodes and stays connected, if they let it. Throws `timeout` when one does not. */
  async connect(nodes: readonly PeerAddress[]): Promise<void> {
    for (const node of nodes) this.network.keep(node)
    const areAll = () => nodes.every(({ id }) => this.isConnectedTo(id))
    if (!(await new Deadline(connectWithinMs).until(areAll, 10)))
      throw new MoteError('timeout', 'the hostile peer is not connected to every node')
  }

  stop(): Promise<void> {
    return this.network.stop()
  }
}
