/** What a full node says of itself, and whether it still serves. */
import type { DeviceId } from '../../chain/brands.ts'
import type { MoteError } from '../../chain/result.ts'
import type { NodeStatus } from '../../client/chain-source.ts'
import type { Certifier } from '../ledger/certifier.ts'
import type { LiveChain } from '../ledger/live-chain.ts'
import type { Members } from '../ledger/members.ts'
import type { NodeListener } from '../ledger/node-events.ts'
import type { Network } from '../ports.ts'
import type { MembershipDriver } from '../replica/membership-driver.ts'
import type { Replica } from '../replica/replica.ts'
import type { ClockExchange } from '../replica/voter-clocks.ts'

export interface FullNodeStatusParts {
  readonly name: string
  readonly id: DeviceId
  readonly processId: number
  readonly network: Pick<Network, 'addresses' | 'peers'>
  readonly chain: Pick<LiveChain, 'ledger' | 'certifiedHeight'>
  readonly certifier: Pick<Certifier, 'heardHeight'>
  readonly clocks: Pick<ClockExchange, 'odd'>
  readonly members: Pick<Members, 'inForce'>
  readonly membership: Pick<MembershipDriver, 'refusal'>
  readonly replica: Pick<Replica, 'leadership'>
}

export class FullNodeStatus implements NodeListener {
  /** Base URL of the HTTP API; empty until it listens. */
  api = ''
  readonly #parts: FullNodeStatusParts
  #failure: MoteError | undefined

  constructor(parts: FullNodeStatusParts) {
    this.#parts = parts
  }

  /** Why the node does not serve, if it does not. */
  get failure(): MoteError | undefined {
    return this.#failure
  }

  failed(error: MoteError): void {
    this.#failure = error
  }

  now(): NodeStatus {
    const { name, id, network, processId, chain, certifier, clocks, replica } = this.#parts
    const { role, term, leader } = replica.leadership
    const { chainId, height, time } = chain.ledger.header
    const { certifiedHeight } = chain
    return {
      name,
      id,
      label: 'full',
      chainId,
      role: this.#failure?.code ?? role,
      term,
      leader,
      height,
      certifiedHeight,
      lag: Math.max(height, certifier.heardHeight) - certifiedHeight,
      time,
      pid: processId,
      api: this.api,
      addresses: network.addresses(),
      peers: network.peers(),
      change: this.#change,
      oddClocks: clocks.odd,
    }
  }

  /** What a change of the members waits for, or that one is under way. */
  get #change(): string | undefined {
    const { members, membership } = this.#parts
    const isJoint = members.inForce.votersOutgoing.length > 0
    return membership.refusal ?? (isJoint ? 'joint consensus is not left yet' : undefined)
  }
}
