/**
 * What whoever runs a full node asks of it: what it says of itself, and whether it still serves (`FullNodeStatus`); and that
 * another one leads from now on (`transferLeadership`).
 */
import type { DeviceId } from '../../chain/brands.ts'
import { MoteError } from '../../chain/result.ts'
import type { NodeStatus } from '../../client/chain-source.ts'
import { successorsOf } from '../../consensus/status.ts'
import type { Certifier } from '../ledger/certifier.ts'
import type { LiveChain } from '../ledger/live-chain.ts'
import type { Members } from '../ledger/members.ts'
import type { NodeListener } from '../ledger/node-events.ts'
import type { Clock, Network } from '../ports.ts'
import type { ClockExchange } from '../replica/block-time.ts'
import type { MembershipDriver } from '../replica/membership-driver.ts'
import type { Replica } from '../replica/replica.ts'

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
 * A planned change of leader (thesis section 3.10): the leader brings a successor level with its log, tells it to stand
 * for election at once, and steps down when that is done. What clients have open is carried over by submission.ts.
 *
 * Transfers leadership to `to`, or to the voter that has room and whose log is furthest. Throws `no-leader` when this node does not lead,
 * `unreachable` when no voter can take it or the one chosen has gone, `timeout` when it was not taken.
 */
export async function transferLeadership(
  id: DeviceId,
  node: { readonly replica: Replica; readonly network: Pick<Network, 'peers'>; readonly clock: Clock },
  to?: DeviceId,
): Promise<TransferReport> {
  const { replica, network, clock } = node
  const { role, leader } = replica.leadership
  if (role !== 'leader')
    throw new MoteError('no-leader', `transfer: this node does not lead; ask ${leader ?? 'again later'}`)
  const connected = () =>
    new Set(network.peers().flatMap(peer => (peer.state === 'connected' ? [peer.id] : [])))
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
