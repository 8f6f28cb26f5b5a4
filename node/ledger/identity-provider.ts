/** What a full node knows when a peer says hello: its own state at the newest certified height. */
import type { DeviceId } from '../../chain/brands.ts'
import { decodeOwn, encode } from '../../chain/codec.ts'
import { type GenesisDocument, genesisLedger } from '../../chain/genesis.ts'
import type { SignatureVerifier } from '../../chain/keys.ts'
import type { Ledger } from '../../chain/ledger.ts'
import { stateAnswer, stateAnswerCodec, trustedHeadOf } from '../../chain/light-client.ts'
import { type IdentityRecord, identityCodec, stateKeyOf } from '../../chain/records.ts'
import { get, prove } from '../../chain/state-tree.ts'
import { type IdentityProvider, maxHelloHandovers } from '../network/hello.ts'
import type { Handovers } from './handovers.ts'
import type { LiveChain } from './live-chain.ts'
import type { NodeEvents } from './node-events.ts'

export interface FullNodeIdentityParts {
  readonly id: DeviceId
  readonly genesis: GenesisDocument
  readonly chain: LiveChain
  readonly verifier: SignatureVerifier
  readonly handovers: Pick<Handovers, 'newest'>
  readonly events: Pick<NodeEvents, 'termCertified'>
}

/** The identity provider of a full node: it answers from its own state. */
export function fullNodeIdentityProvider({
  id,
  genesis,
  chain,
  verifier,
  handovers,
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
