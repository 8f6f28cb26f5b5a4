/**
 * Who the peers of a full node are: what it knows when one says hello, which is its own state at the newest certified height,
 * and who is judged again by later blocks (`PeerRechecks`).
 */
import type { DeviceId, Height } from '../../chain/brands.ts'
import type { Certificate } from '../../chain/certificate.ts'
import { decodeOwn, encode } from '../../chain/codec.ts'
import { type GenesisDocument, genesisLedger } from '../../chain/genesis.ts'
import type { SignatureVerifier } from '../../chain/keys.ts'
import type { Ledger } from '../../chain/ledger.ts'
import { stateAnswer, stateAnswerCodec, trustedHeadOf } from '../../chain/light-client.ts'
import { type IdentityRecord, identityCodec, stateKeyOf } from '../../chain/records.ts'
import { get, prove } from '../../chain/state-tree.ts'
import { bodies } from '../../chain/transaction.ts'
import type { Configuration } from '../../consensus/types.ts'
import { type IdentityProvider, maxHelloHandovers } from '../network/hello.ts'
import type { Clock, Network } from '../ports.ts'
import type { Handovers } from './handovers.ts'
import type { Execution, LiveChain } from './live-chain.ts'
import type { Members } from './members.ts'
import type { NodeEvents, NodeListener } from './node-events.ts'

export interface FullNodeIdentityParts {
  readonly id: DeviceId
  readonly genesis: GenesisDocument
  readonly chain: LiveChain
  readonly verifier: SignatureVerifier
  readonly handovers: Pick<Handovers, 'newest'>
  readonly members: Pick<Members, 'isVoter'>
  readonly events: Pick<NodeEvents, 'termCertified'>
}

/** The identity provider of a full node: it answers from its own state. */
export function fullNodeIdentityProvider({
  id,
  genesis,
  chain,
  verifier,
  handovers,
  members,
  events,
}: FullNodeIdentityParts): IdentityProvider {
  const atGenesis = genesisLedger(genesis)
  const { chainId } = atGenesis.header
  const certified = (): Ledger => (chain.certificate ? chain.certified : atGenesis)
  return {
    chainId,
    deviceId: id,
    verifier,
    ownProof: () => {
      const { header, tree } = certified()
      const { certificate } = chain
      if (header.height === 0 || certificate?.height !== header.height) return { type: 'genesis' }
      const key = stateKeyOf.identity(id)
      const answer = stateAnswer(header, certificate, get(tree, key), prove(tree, key))
      return {
        type: 'certified',
        answer: encode(stateAnswerCodec, answer),
        handovers: handovers.newest(maxHelloHandovers),
      }
    },
    trusted: () => trustedHeadOf(certified()),
    isVoter: device => members.isVoter(device),
    verified: ({ header }) => events.termCertified(header.term),
    genesisIdentity: device => identityIn(atGenesis, device),
    known: device => {
      const ledger = certified()
      return { height: ledger.header.height, record: identityIn(ledger, device) }
    },
    // It executes every block, and judges open connections again by each; proofs of above its own height are as good as
    // its peers: after a power cut all are old, and a quorum has to find together before anybody's head is fresh.
    isCurrent: () => true,
  }
}

/** The record of a device in the state of this ledger. */
export function identityIn({ tree }: Ledger, id: DeviceId): IdentityRecord | undefined {
  const value = get(tree, stateKeyOf.identity(id))
  return value && decodeOwn(identityCodec, value)
}

/** Kinds of transactions that change identity records. */
const identityKinds: ReadonlySet<number> = new Set(
  (['identity.suspend', 'identity.revoke', 'key.add', 'key.rotate', 'key.revoke'] as const).map(
    type => bodies[type][0],
  ),
)

/** Time in which a revoked member may learn of its removal before its connection is judged. */
const farewellMs = 500

/**
 * Has the connections of peers judged again when blocks that changed their records are certified, and those of voters when
 * they are let go: while they vote they keep their connections whatever their records say.
 */
export class PeerRechecks implements NodeListener {
  readonly #network: Pick<Network, 'peers' | 'recheck'>
  readonly #clock: Pick<Clock, 'after'>
  readonly #members: Pick<Members, 'isDeparting'>
  /** Devices whose records executed blocks may have changed that are not certified yet, with the newest such block. */
  readonly #written = new Map<DeviceId, Height>()
  #voters: ReadonlySet<string>

  constructor(
    network: Pick<Network, 'peers' | 'recheck'>,
    clock: Pick<Clock, 'after'>,
    members: Pick<Members, 'isDeparting' | 'inForce'>,
  ) {
    this.#network = network
    this.#clock = clock
    this.#members = members
    this.#voters = votersOf(members.inForce)
  }

  configurationChanged(configuration: Configuration): void {
    const voters = votersOf(configuration)
    for (const id of this.#voters)
      if (!voters.has(id)) this.#clock.after(farewellMs, () => this.#network.recheck(id as DeviceId))
    this.#voters = voters
  }

  executed({ write }: Execution): void {
    for (const { kind, devices } of write.transactions)
      if (identityKinds.has(kind)) for (const device of devices) this.#written.set(device, write.height)
  }

  certified({ height: certified }: Certificate): void {
    if (this.#written.size === 0) return
    for (const [id, height] of this.#written) {
      if (height > certified) continue
      this.#written.delete(id)
      const recheck = () => this.#network.recheck(id)
      if (this.#members.isDeparting(id)) this.#clock.after(farewellMs, recheck)
      else recheck()
    }
  }

  /** The records of everybody may have changed. */
  installed(): void {
    for (const { id } of this.#network.peers()) this.#network.recheck(id)
  }
}

function votersOf({ voters, votersOutgoing }: Configuration): ReadonlySet<string> {
  return new Set([...voters, ...votersOutgoing])
}
