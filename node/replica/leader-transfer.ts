/**
 * A planned change of leader (thesis section 3.10): the leader brings a successor level with its log, tells it to stand
 * for election at once, and steps down when that is done. What clients have open is carried over by submission.ts.
 */
import type { DeviceId } from '../../chain/brands.ts'
import { MoteError } from '../../chain/result.ts'
import { successorsOf } from '../../consensus/status.ts'
import type { Clock, PeerStatus } from '../ports.ts'
import type { Replica } from './replica.ts'

export interface LeaderTransferParts {
  readonly id: DeviceId
  readonly replica: Replica
  readonly clock: Clock
  readonly peers: () => readonly PeerStatus[]
}

/** What a transfer did. */
export interface TransferReport {
  readonly from: DeviceId
  readonly to: DeviceId
  readonly term: number
  /** From the request until this node knew the new leader. */
  readonly durationMs: number
}

const transferTimeoutMs = 1_500
const lookAgainMs = 2

/**
 * Transfers leadership to `to`, or to the voter that has room and whose log is furthest. Throws `no-leader` when this node does not lead,
 * `unreachable` when no voter can take it or the one chosen has gone, `timeout` when it was not taken.
 */
export async function transferLeadership(
  { id, replica, clock, peers }: LeaderTransferParts,
  to?: DeviceId,
): Promise<TransferReport> {
  const { role, leader } = replica.leadership
  if (role !== 'leader')
    throw new MoteError('no-leader', `transfer: this node does not lead; ask ${leader ?? 'again later'}`)
  const connected = () => new Set(peers().flatMap(peer => (peer.state === 'connected' ? [peer.id] : [])))
  const candidates = connected()
  // A full one takes over only when it has room again.
  const ready = successorsOf(replica.consensus).flatMap(({ id }) =>
    candidates.has(id as DeviceId) ? [id as DeviceId] : [],
  )
  const successor = to === undefined ? ready[0] : ready.find(id => id === to)
  if (!successor)
    throw new MoteError('unreachable', `transfer: ${to ?? 'any other voter'} is not a connected voter`)
  const startedAt = clock.steady()
  replica.transferTo(successor)
  for (;;) {
    const { role, leader, term } = replica.leadership
    const durationMs = clock.steady() - startedAt
    if (role !== 'leader' && leader !== undefined && leader !== id)
      return { from: id, to: leader, term, durationMs }
    if (durationMs > transferTimeoutMs || replica.stopped)
      throw new MoteError('timeout', `transfer: ${successor} did not take over in ${transferTimeoutMs} ms`)
    // Where all are told to stop at once, nobody is left who could take it.
    if (!connected().has(successor)) throw new MoteError('unreachable', `transfer: ${successor} has gone`)
    await new Promise<void>(resolve => clock.after(lookAgainMs, resolve))
  }
}
