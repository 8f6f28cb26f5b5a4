/** What a full node says of itself. */
import type { MoteError } from '../chain/result.ts'
import type { NodeStatus } from '../client/chain-source.ts'
import type { Certifier } from './certifier.ts'
import type { ClockExchange } from './clock-exchange.ts'
import type { LedgerNodeParts } from './ledger-node-parts.ts'
import type { LiveChain } from './live-chain.ts'
import type { Replica } from './replica.ts'

/** The parts of a node that its status is about. */
export interface FullNodeView {
  readonly replica: Pick<Replica, 'leadership'>
  readonly chain: Pick<LiveChain, 'ledger'>
  readonly certifier: Pick<Certifier, 'certifiedHeight' | 'heardHeight'>
  readonly clocks: Pick<ClockExchange, 'odd'>
  readonly failure: MoteError | undefined
}

/** @param change what a change of the members waits for, if one is under way */
export function fullNodeStatus(
  { replica, chain, certifier, clocks, failure }: FullNodeView,
  { name, id, network, processId, api }: LedgerNodeParts,
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
