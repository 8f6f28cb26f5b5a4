/**
 * How this node's signatures reach the others. Each waits for those that complete its certificate, so they leave before
 * this node goes on. Where two signatures are a certificate, a consenter that follows has its own and the leader's first: what
 * another follower signs is spare there, and waits for company (`Network.send`). A full node that does not sign needs it.
 */
import type { DeviceId } from '../../chain/brands.ts'
import { quorumOf } from '../../chain/consenters.ts'
import type { Network, SignatureMessage } from '../ports.ts'
import type { LiveChain } from './live-chain.ts'
import type { Members } from './members.ts'
import type { Leadership, NodeListener } from './node-events.ts'

/** Of the leader and of whoever collects. */
const certificateOfTwo = 2

export class Announcements implements NodeListener {
  readonly #id: DeviceId
  readonly #network: Pick<Network, 'send' | 'flush'>
  readonly #members: Pick<Members, 'others'>
  readonly #chain: Pick<LiveChain, 'ledger'>
  #leadership: Leadership | undefined

  constructor(parts: {
    readonly id: DeviceId
    readonly network: Pick<Network, 'send' | 'flush'>
    readonly members: Pick<Members, 'others'>
    readonly chain: Pick<LiveChain, 'ledger'>
  }) {
    this.#id = parts.id
    this.#network = parts.network
    this.#members = parts.members
    this.#chain = parts.chain
  }

  leadershipChanged(leadership: Leadership): void {
    this.#leadership = leadership
  }

  /** Sends this node's signatures to one peer or to every other member. */
  send(to: DeviceId | 'all', signatures: readonly SignatureMessage[]): void {
    const message = { type: 'signatures', signatures } as const
    if (to === 'all')
      for (const peer of this.#members.others)
        this.#network.send(peer as DeviceId, message, this.#isSpareTo(peer) ? 'soon' : 'now')
    else this.#network.send(to, message)
    this.#network.flush()
  }

  #isSpareTo(peer: string): boolean {
    const { role, leader } = this.#leadership ?? {}
    if (role !== 'follower' || leader === undefined || leader === peer) return false
    const set = this.#chain.ledger.parameters.consenters
    const signers = new Set<string>(set.consenters.map(({ id }) => id))
    return quorumOf(set) <= certificateOfTwo && [this.#id, leader, peer].every(id => signers.has(id))
  }
}
