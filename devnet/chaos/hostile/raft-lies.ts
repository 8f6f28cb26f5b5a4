/**
 * What a voter's place is wanted for by one that should not have it: takeovers in a newer term, and what else only voters say.
 *
 * Every node is told the same, and no entry of these lies is ever taken: one that lies to each node differently, or
 * answers an append that it has not kept, can split execution (docs/THREATS.md, "How many liars Raft bears").
 */
import type { DeviceId } from '../../../chain/brands.ts'
import type { NodeStatus } from '../../../client/chain-source.ts'
import { pause } from '../../../client/deadline.ts'
import { maxTermLead } from '../../../consensus/message-check.ts'
import { queries } from '../../../node/network/request-table.ts'
import { ask } from '../../../node/network/requests.ts'
import type { RaftMessage } from '../../../node/ports.ts'
import type { HostilePeer } from './hostile-peer.ts'

export interface DeceivedNode {
  readonly id: DeviceId
  status(): Promise<NodeStatus>
}

interface Place {
  readonly term: number
  readonly index: number
}

const headTimeoutMs = 2_000
const betweenMs = 20

/** Everything that only a voter may say, in a newer term, and with `from` as the only voter from now on. */
function lies(from: string, term: number, newest: Place): RaftMessage[] {
  const configuration = { voters: [from], votersOutgoing: [], learners: [] }
  const place = { lastLogIndex: newest.index + 1_000_000, lastLogTerm: newest.term }
  const vote = { type: 'request-vote' as const, from, ...place, leadershipTransfer: true }
  const entry = { index: newest.index + 1, term, type: 'configuration' as const, data: new Uint8Array() }
  return [
    {
      type: 'append-entries',
      from,
      term,
      prevLogIndex: newest.index,
      prevLogTerm: newest.term,
      entries: [{ ...entry, configuration }],
      leaderCommit: newest.index + 1,
      readContext: 0,
    },
    { ...vote, term, preVote: false },
    { ...vote, term: term + maxTermLead - 2, preVote: false },
    {
      type: 'install-snapshot',
      from,
      term,
      snapshot: { lastIncludedIndex: newest.index + 100, lastIncludedTerm: term, configuration },
    },
    { type: 'timeout-now', from, term },
  ]
}

/** Where this node's log may end: its newest certified block, and what it answered last to an append that did not fit. */
async function placesOf({ id }: DeceivedNode, peer: HostilePeer): Promise<readonly Place[]> {
  const { header } = await ask(peer.network, id, queries.head, {}, headTimeoutMs)
  const answer = peer.received.findLast(
    each => each.type === 'raft' && each.message.type === 'append-response' && each.message.from === id,
  )
  if (answer?.type !== 'raft' || answer.message.type !== 'append-response') return [header]
  const { conflictIndex: index, conflictTerm: term } = answer.message
  return index > 0 ? [header, { index, term }] : [header]
}

/** Tells every node all of it, once. Returns how many messages that were. */
export async function lieTo(nodes: readonly DeceivedNode[], peer: HostilePeer): Promise<number> {
  let sent = 0
  for (const node of nodes) {
    const { term } = await node.status()
    for (const place of await placesOf(node, peer))
      for (const message of lies(peer.id, term + 1, place)) {
        peer.network.send(node.id, { type: 'raft', message })
        sent += 1
      }
  }
  await pause(betweenMs)
  return sent
}
