/** Real libp2p nodes on loopback for tests: what each has received, and helpers that wait on conditions. */
import { type ChainId, type DeviceId, Height, LogIndex, Term } from '../../chain/brands.ts'
import { type Certificate, certificateSigningBytes } from '../../chain/certificate.ts'
import { decodeOwn, encode } from '../../chain/codec.ts'
import { consenterSet, indexOfConsenter } from '../../chain/consenters.ts'
import { type GenesisDocument, genesisLedger } from '../../chain/genesis.ts'
import { type Header, headerHash } from '../../chain/header.ts'
import { checkpointOf, stateAnswer, stateAnswerCodec, type TrustedHead } from '../../chain/light-client.ts'
import { nobleVerifier } from '../../chain/noble-crypto.ts'
import { type IdentityRecord, identityCodec, stateKeyOf } from '../../chain/records.ts'
import { unwrap } from '../../chain/result.ts'
import { get, prove, rootOf, type StateTree, update } from '../../chain/state-tree.ts'
import { systemClock } from '../../client/clock.ts'
import type { HelloProof, IdentityProvider, KnownIdentity } from '../../node/network/hello.ts'
import { Libp2pNetwork, type Libp2pNetworkOptions } from '../../node/network/libp2p-network.ts'
import { defaultNetworkLimits, type NetworkLimits } from '../../node/network/protocols.ts'
import type { NetworkEvents, PeerMessage } from '../../node/ports.ts'
import type { SampleIdentity } from './sample-genesis.ts'

/** A chain of one header at `height` over the genesis state and these changes, certified by all consenters. */
export interface OneHeaderChain {
  readonly chainId: ChainId
  readonly genesis: GenesisDocument
  readonly trusted: TrustedHead
  record(id: DeviceId): IdentityRecord | undefined
  /** A certified proof of an identity, at `height`, with its record changed by `change`. */
  proofOf(id: DeviceId, height: number, change?: (record: IdentityRecord) => IdentityRecord): HelloProof
}

export function sampleChain(genesis: GenesisDocument, full: readonly SampleIdentity[]): OneHeaderChain {
  const ledger = genesisLedger(genesis)
  const set = consenterSet(genesis.consenters, genesis.quorumPolicy)
  const recordIn = (tree: StateTree, id: DeviceId) => {
    const value = get(tree, stateKeyOf.identity(id))
    return value && decodeOwn(identityCodec, value)
  }
  const certify = (header: Header): Certificate => {
    const hash = headerHash(header)
    const message = certificateSigningBytes(header.chainId, 0, header.height, hash)
    const signatures = full
      .map(({ id, signer }) => ({ signer: indexOfConsenter(set, id)!, signature: signer.sign(message) }))
      .sort((a, b) => a.signer - b.signer)
    return { height: header.height, headerHash: hash, signatures }
  }
  return {
    chainId: ledger.header.chainId,
    genesis,
    trusted: unwrap(checkpointOf(ledger.header, set)),
    record: id => recordIn(ledger.tree, id),
    proofOf: (id, height, change = record => record) => {
      const key = stateKeyOf.identity(id)
      const before = recordIn(ledger.tree, id)
      const tree = before
        ? update(ledger.tree, new Map([[key, encode(identityCodec, change(before))]]))
        : ledger.tree
      const place = { height: Height(height), term: Term(1), index: LogIndex(height) }
      const header = { ...ledger.header, ...place, stateRoot: rootOf(tree) }
      const answer = stateAnswer(header, certify(header), get(tree, key), prove(tree, key))
      return { type: 'certified', answer: encode(stateAnswerCodec, answer), handovers: [] }
    },
  }
}

export interface TestNode {
  readonly identity: SampleIdentity
  readonly network: Libp2pNetwork
  readonly address: string
  readonly received: { readonly from: DeviceId; readonly message: PeerMessage }[]
  readonly unreachable: DeviceId[]
  readonly states: string[]
  /** What this node knows of identities beyond the genesis. */
  readonly known: Map<DeviceId, KnownIdentity>
  /** Who votes here. */
  readonly voters: Set<DeviceId>
  proof: HelloProof
  /** Whether this node knows that what others prove stands at a fresh head. */
  isCurrent: boolean
}

export interface TestNodeOptions extends Partial<Omit<Libp2pNetworkOptions, 'limits'>> {
  readonly limits?: Partial<NetworkLimits>
  readonly proof?: HelloProof
  readonly isCurrent?: boolean
  /** Whose frames and member requests have a quota. Nobody's unless given. */
  readonly isCounted?: (peer: DeviceId) => boolean
  /** Called before the network starts: register handlers here. */
  readonly prepare?: (network: Libp2pNetwork) => void
}

const silent = { debug: () => {}, info: () => {}, warn: () => {}, error: () => {} }

export async function startTestNode(
  chain: OneHeaderChain,
  identity: SampleIdentity,
  options: TestNodeOptions = {},
): Promise<TestNode> {
  const { proof, prepare, isCurrent = true, isCounted = () => false, limits, ...more } = options
  const known = new Map<DeviceId, KnownIdentity>()
  const voters = new Set<DeviceId>()
  const state = { proof: proof ?? ({ type: 'genesis' } as HelloProof), isCurrent }
  const identities: IdentityProvider = {
    chainId: chain.chainId,
    deviceId: identity.id,
    verifier: nobleVerifier,
    ownProof: () => state.proof,
    trusted: () => chain.trusted,
    genesisIdentity: id => chain.record(id),
    known: id => known.get(id),
    isCurrent: () => state.isCurrent,
    isVoter: id => voters.has(id),
  }
  const network = new Libp2pNetwork({
    host: '127.0.0.1',
    port: 0,
    transportSeed: identity.transportSeed,
    identities,
    clock: systemClock,
    log: silent,
    limits: { ...defaultNetworkLimits, ...limits },
    ...more,
  })
  prepare?.(network)
  const received: TestNode['received'] = []
  const unreachable: DeviceId[] = []
  const states: string[] = []
  const events: NetworkEvents = {
    message: (from, message) => void received.push({ from, message }),
    unreachable: peer => void unreachable.push(peer),
    peer: (peer, state) => void states.push(`${peer} ${state}`),
    isCounted,
  }
  await network.start(events)
  return Object.assign(state, {
    identity,
    network,
    address: network.addresses()[0]!.replace(/\/p2p\/.*/, ''),
    received,
    unreachable,
    states,
    known,
    voters,
  })
}

/** Waits until `condition` holds; fails with `what` after `withinMs`. */
export async function eventually(what: string, condition: () => boolean, withinMs = 60_000): Promise<void> {
  const deadline = Date.now() + withinMs
  while (!condition()) {
    if (Date.now() > deadline) throw new Error(`not within ${withinMs} ms: ${what}`)
    await new Promise(resolve => setTimeout(resolve, 5))
  }
}

export function isConnected(node: TestNode, to: TestNode): boolean {
  return node.network.peers().some(({ id, state }) => id === to.identity.id && state === 'connected')
}

/** An append with one entry of `bytes` bytes, told apart by its `prevLogIndex`. */
export function append(number: number, bytes = 100): PeerMessage {
  return {
    type: 'raft',
    message: {
      type: 'append-entries',
      from: 'somebody else',
      term: 1,
      prevLogIndex: number,
      prevLogTerm: 1,
      leaderCommit: 0,
      readContext: 0,
      entries: [{ index: number + 1, term: 1, type: 'command', data: new Uint8Array(bytes).fill(number) }],
    },
  }
}
