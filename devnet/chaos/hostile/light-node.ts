/** A lightweight node that asks as fast as it may, over as many connections as it may have, and says what only full nodes say. */
import type { DeviceId, Height } from '../../../chain/brands.ts'
import { maxHeadersPerAnswer } from '../../../client/chain-source.ts'
import { pause } from '../../../client/deadline.ts'
import { defaultNetworkLimits } from '../../../node/network/protocols.ts'
import { queries } from '../../../node/network/request-table.ts'
import { encodeRequest } from '../../../node/network/requests.ts'
import type { PeerAddress } from '../../../node/ports.ts'
import type { Counts } from './counts.ts'
import { HostilePeer, type HostilePeerOptions } from './hostile-peer.ts'

/** Requests under way on one connection. */
const requestsAtOnce = 8
const askTimeoutMs = 5_000
/** Longer than a peer takes to come back. */
const framesEveryMs = 250
const retryMs = 20

/** One has a long answer and one a short one; both cost as much as any. */
const page = encodeRequest(queries.headers, { from: 0 as Height, limit: maxHeadersPerAnswer })
const history = (device: DeviceId) => encodeRequest(queries.history, { device, before: undefined })

/** Asks these nodes for what counts most, until it is over. */
export async function floodRequests(
  options: HostilePeerOptions,
  nodes: readonly PeerAddress[],
  counts: Counts,
  over: AbortSignal,
): Promise<void> {
  const peers = Array.from(
    { length: defaultNetworkLimits.maxConnectionsPerDevice },
    () => new HostilePeer(options),
  )
  for (const peer of peers) {
    await peer.start()
    await peer.connect(nodes)
  }
  const askers = peers.flatMap(peer =>
    nodes.flatMap(({ id }) =>
      Array.from({ length: requestsAtOnce }, (_, i) =>
        askWithoutEnd(peer, { node: id, body: i % 4 === 0 ? page : history(peer.id) }, counts, over),
      ),
    ),
  )
  await Promise.all(askers)
  await Promise.all(peers.map(peer => peer.stop()))
}

async function askWithoutEnd(
  { network }: HostilePeer,
  { node, body }: { readonly node: DeviceId; readonly body: Uint8Array },
  counts: Counts,
  over: AbortSignal,
): Promise<void> {
  const { protocol, of } = queries.history
  while (!over.aborted)
    try {
      // The answer is let lie as it came: what it says costs the flooder nothing.
      await network.request(node, { protocol, body, of }, askTimeoutMs)
      counts.add('answered')
    } catch (error) {
      counts.add(String((error as { code?: unknown }).code))
      // A lost connection would be asked for without a pause.
      if (!network.peers().some(({ id, state }) => id === node && state === 'connected'))
        await pause(retryMs, over)
    }
}

/** Sends each of these nodes a vote whenever it is connected: a frame that closes the connection. */
export async function sendRaftFrames(
  options: HostilePeerOptions,
  nodes: readonly PeerAddress[],
  counts: Counts,
  over: AbortSignal,
): Promise<void> {
  const peer = new HostilePeer(options)
  await peer.start()
  await peer.connect(nodes)
  const vote = { type: 'request-vote', from: peer.id, lastLogIndex: 1_000_000, lastLogTerm: 1 } as const
  const message = { ...vote, term: 1_000, preVote: false, leadershipTransfer: true }
  while (!over.aborted) {
    for (const { id } of nodes) {
      if (!peer.isConnectedTo(id)) continue
      peer.network.send(id, { type: 'raft', message })
      counts.add('frames')
    }
    await pause(framesEveryMs, over)
  }
  counts.add('closed', peer.closed)
  await peer.stop()
}
