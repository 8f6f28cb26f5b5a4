/**
 * Composition root of a full node: keeps and executes the chain, takes transactions in, serves proofs. Consenters of
 * the chain's set also order (Raft voters) and sign.
 *
 * Order of starting: what is stored is checked, then peers are met, then the API listens. Order of stopping: leadership
 * is transferred and open transactions get their answers, then API, network and storage close.
 */

import { join } from 'node:path'
import type { FastifyInstance } from 'fastify'
import { Milliseconds } from '../chain/brands.ts'
import type { GenesisDocument } from '../chain/genesis.ts'
import { MoteError } from '../chain/result.ts'
import { systemClock as clock } from '../client/clock.ts'
import { addressLifetimeMs, signAddress } from '../client/coordination-address.ts'
import { readGenesisOf } from '../client/genesis-file.ts'
import { type IdentityKeys, readKeyFile } from '../client/key-directory.ts'
import type { Logger } from '../client/log.ts'
import { nativeSignerFromSeed, nativeVerifier } from '../client/native-crypto.ts'
import { grantOperatorAccess } from '../client/operator-access.ts'
import type { NodeConfig } from './config.ts'
import { type FullConfiguration, fullConfiguration, type NodeEnvironment } from './effective-configuration.ts'
import { recoverChain } from './ledger/chain-recovery.ts'
import { LiveChain } from './ledger/live-chain.ts'
import { Members } from './ledger/members.ts'
import { NodeEvents } from './ledger/node-events.ts'
import { fullNodeIdentityProvider, identityIn } from './ledger/peer-identities.ts'
import { RememberingVerifier } from './ledger/remembered-checks.ts'
import { LedgerNode } from './ledger-node.ts'
import { Libp2pNetwork } from './network/libp2p-network.ts'
import { registryReports } from './network/request-table.ts'
import { requestHandler } from './network/requests.ts'
import type { Storage } from './ports.ts'
import { CoordinationAddresses } from './registry/coordination-addresses.ts'
import { RegistryHeartbeat, type RegistryHeartbeatParts } from './registry/live-nodes.ts'
import { Acknowledgements } from './replica/acknowledgements.ts'
import { type AdminServices, type ApiParts, adminRoutes, createApi, listenApi } from './service/api.ts'
import { openLevelStorage } from './storage/level-storage.ts'

/** A program that serves until it is stopped. */
export interface RunningNode {
  /** Told to whoever started the process, in the ready line. */
  readonly ready: object
  stop(): Promise<void>
  /** Rejects with the reason when the node cannot go on. */
  readonly ended: Promise<void>
}

/** Starts the full node of a configuration. Throws the `MoteError` that says what is in its way. */
export async function startFullNode(
  config: NodeConfig,
  environment: NodeEnvironment,
  log: Logger,
): Promise<RunningNode> {
  const genesis = await readGenesisOf(config)
  const keys = await readKeyFile(config.key)
  const owner = { chainId: config.chainId, deviceId: keys.id }
  const storage = await openLevelStorage(join(config.data, 'chain'), owner)
  try {
    return await startOver(storage, { file: config, environment, log, genesis, keys })
  } catch (error) {
    await storage.close()
    throw error
  }
}

interface Prepared {
  readonly file: NodeConfig
  readonly environment: NodeEnvironment
  readonly log: Logger
  readonly genesis: GenesisDocument
  readonly keys: IdentityKeys
}

async function startOver(
  storage: Storage,
  { file, environment, log, genesis, keys }: Prepared,
): Promise<RunningNode> {
  const { id, signing, transport } = keys
  if (!transport || !file.p2p)
    throw new MoteError('config-invalid', `${file.key}: transport: a full node needs a transport key`)
  const verifier = new RememberingVerifier(nativeVerifier)
  const recovered = await recoverChain(storage, genesis)
  const config = fullConfiguration(file, recovered.ledger.parameters, environment)
  const chain = new LiveChain(recovered, verifier, config.recent)
  const events = new NodeEvents()
  const peers = config.peers.map(peer => peer.id)
  const members = new Members(id, peers, recovered.raft)
  const network = new Libp2pNetwork({
    ...file.p2p,
    limits: config.network,
    transportSeed: transport.seed.expose(),
    streamsAhead: ['raft', 'certify', 'forward'],
    identities: fullNodeIdentityProvider({
      id,
      genesis,
      chain,
      verifier,
      handovers: recovered.handovers,
      members,
      events,
    }),
    clock,
    log,
  })
  const addresses = new CoordinationAddresses({
    chainId: recovered.ledger.header.chainId,
    network,
    verifier,
    view: () => {
      const { certified } = chain
      return { time: certified.header.time, record: device => identityIn(certified, device) }
    },
  })
  const { address } = registryReports
  const addressed = requestHandler(
    { address },
    { address: (signed, { deviceId }) => addresses.take(deviceId, signed) },
  )
  network.handle('registry', addressed)
  const ended = Promise.withResolvers<void>()
  ended.promise.catch(() => {}) // Whoever runs the node may look later.
  const node = new LedgerNode({
    name: config.name,
    id,
    signer: nativeSignerFromSeed(signing.publicKey.suite, signing.seed.expose()),
    acknowledgements: new Acknowledgements(file.chainId, transport.seed.expose()),
    recovered,
    chain,
    events,
    storage,
    network,
    clock,
    random: Math.random,
    verifier,
    settings: config,
    processId: process.pid,
    log,
    members,
    coordination: () => addresses.current(),
    onFailed: ended.reject,
  })
  for (const peer of [...config.peers, ...config.coordination]) network.keep(peer)
  await network.start(node)
  node.start()
  let api: string
  let app: FastifyInstance
  try {
    const token = await grantOperatorAccess(config.data)
    app = apiOf(node, log, { configuration: config, token, httpPerSecond: config.network.httpPerSecond })
    api = await listenApi(app, config.api)
  } catch (error) {
    await node.stop()
    await network.stop()
    throw error
  }
  node.listens(api)
  const registry = startRegistry({ config, keys, network, node, addresses })
  log.info({ api, addresses: network.addresses(), height: node.chain.height }, 'serving')
  return {
    ready: {
      name: config.name,
      id,
      label: config.label,
      api,
      addresses: network.addresses(),
      pid: process.pid,
    },
    ended: ended.promise,
    stop: async () => {
      registry.stop()
      await node.stop()
      await app.close()
      await network.stop()
      await storage.close()
      log.info('stopped')
    },
  }
}

/** The interface of a full node, not listening yet. */
export function apiOf(
  node: LedgerNode,
  log: Pick<Logger, 'error'>,
  { httpPerSecond, ...administration }: Omit<AdminServices, 'transfer'> & Pick<ApiParts, 'httpPerSecond'>,
): FastifyInstance {
  return createApi({
    source: node.service,
    readiness: () => node.service.readiness(),
    notices: () => (node.clocks.odd.length > 0 ? { oddClocks: node.clocks.odd } : {}),
    failure: () => node.failure,
    httpPerSecond,
    block: height => node.service.block(height),
    blockContent: height => node.service.blockContent(height),
    blockLeaves: height => node.service.blockLeaves(height),
    barrier: () => node.reads.barrier(),
    extend: routes => adminRoutes(routes, { ...administration, transfer: to => node.transfer(to) }),
    onUnexpected: error => log.error({ error }, 'unexpected error in a request'),
  })
}

interface RegistryParts {
  readonly config: FullConfiguration
  readonly keys: IdentityKeys
  readonly network: Libp2pNetwork
  readonly node: LedgerNode
  readonly addresses: CoordinationAddresses
}

function startRegistry({ config, keys, network, node, addresses }: RegistryParts): RegistryHeartbeat {
  const coordination = () => new Set([...config.coordination.map(({ id }) => id), ...addresses.ids()])
  const clients = () => {
    const nodes = new Set([...coordination(), ...config.peers.map(({ id }) => id)])
    return network.peers().filter(peer => peer.state === 'connected' && !nodes.has(peer.id)).length
  }
  const status = () => node.status()
  const sign: RegistryHeartbeatParts['sign'] = where => {
    const { chainId, time } = node.chain.certified.header
    return signAddress(keys, { chainId, ...where, expiry: Milliseconds(time + addressLifetimeMs) })
  }
  const registry = new RegistryHeartbeat({ network, clock, coordination, status, sign, clients })
  registry.start()
  return registry
}
