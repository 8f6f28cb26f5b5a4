/** What a full node says of itself. */
import type { DeviceId } from '../../chain/brands.ts'
import type { MoteError } from '../../chain/result.ts'
import type { NodeStatus } from '../../client/chain-source.ts'
import type { Certifier } from '../ledger/certifier.ts'
import type { LiveChain } from '../ledger/live-chain.ts'
import type { Network } from '../ports.ts'
import type { ClockExchange } from '../replica/clock-exchange.ts'
import type { Replica } from '../replica/replica.ts'

/** The parts of a node that its status is about. */
export interface FullNodeView {
  readonly replica: Pick<Replica, 'leadership'>
  readonly chain: Pick<LiveChain, 'ledger'>
  readonly certifier: Pick<Certifier, 'certifiedHeight' | 'heardHeight'>
  readonly clocks: Pick<ClockExchange, 'odd'>
  readonly failure: MoteError | undefined
}

/** What a node is told of itself. */
export interface FullNodeSelf {
  readonly name: string
  readonly id: DeviceId
  readonly network: Pick<Network, 'addresses' | 'peers'>
  readonly processId: number
  readonly api: () => string
}

/** @param change what a change of the members waits for, if one is under way */
export function fullNodeStatus(
  { replica, chain, certifier, clocks, failure }: FullNodeView,
  { name, id, network, processId, api }: FullNodeSelf,
  change: string | undefined,
): NodeStatus {
  const { role, term, leader } = replica.leadership
  const { chainId, height, time } = chain.ledger.header
  const { certifiedHeight, heardHeight } = certifier
  return {
    name,
    id,
    label: 'full',
    chainId,
    role: failure?.code ?? role,
    term,
    leader,
    height,
    certifiedHeight,
    lag: Math.max(height, heardHeight) - certifiedHeight,
    time,
    pid: processId,
    api: api(),
    addresses: network.addresses(),
    peers: network.peers(),
    change,
    oddClocks: clocks.odd,
  }
}
