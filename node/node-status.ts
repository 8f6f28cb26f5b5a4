/** What a full node says of itself. */
import type { NodeStatus } from '../client/chain-source.ts'
import type { LedgerNode } from './ledger-node.ts'
import type { LedgerNodeParts } from './ledger-node-parts.ts'

/** @param change what a change of the members waits for, if one is under way */
export function fullNodeStatus(
  { replica, chain, certifier, clocks, failure }: LedgerNode,
  { name, id, network, processId, api }: LedgerNodeParts,
  change: string | undefined,
): NodeStatus {
  const { role, term, leader } = replica.leadership
  const { chainId, height, time } = chain.ledger.header
  const { certifiedHeight } = certifier
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
    lag: height - certifiedHeight,
    time,
    pid: processId,
    api: api(),
    addresses: network.addresses(),
    peers: network.peers(),
    change,
    oddClocks: clocks.odd,
  }
}
