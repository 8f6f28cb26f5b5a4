/**
 * A node that hears of a term far beyond its own: the core does not hear such messages, because one of any member would
 * otherwise use up the terms that there are. A node that was away while the others held a million elections is told by
 * what nobody can make up: the newest certified header, whose term was reached by a quorum. It asks the sender for it.
 */
import type { DeviceId } from '../../chain/brands.ts'
import type { SignatureVerifier } from '../../chain/keys.ts'
import { advance, trustedHeadOf } from '../../chain/light-client.ts'
import { maxTermLead } from '../../consensus/message-check.ts'
import type { LiveChain } from '../ledger/live-chain.ts'
import type { NodeEvents } from '../ledger/node-events.ts'
import { queries } from '../network/request-table.ts'
import { ask } from '../network/requests.ts'
import type { Clock, Network } from '../ports.ts'
import type { Replica } from './replica.ts'

export interface NewerTermsParts {
  readonly chain: Pick<LiveChain, 'certified'>
  readonly network: Pick<Network, 'request'>
  readonly clock: Pick<Clock, 'after'>
  readonly verifier: SignatureVerifier
  readonly replica: Pick<Replica, 'leadership'>
  readonly events: Pick<NodeEvents, 'termCertified'>
  readonly log: (detail: object, message: string) => void
}

const askTimeoutMs = 2_000
/** Between two questions, so that a peer that makes terms up costs little. */
const askEveryMs = 1_000

export class NewerTerms {
  readonly #parts: NewerTermsParts
  #asking = false
  #certifiedTerm = 0

  constructor(parts: NewerTermsParts) {
    this.#parts = parts
  }

  /** A Raft message of this term has come. Asks its sender for a proof if the core does not hear it. */
  meets(from: DeviceId, term: number): void {
    const known = Math.max(this.#parts.replica.leadership.term, this.#certifiedTerm)
    if (term <= known + maxTermLead || this.#asking) return
    this.#asking = true
    this.#ask(from)
      .catch((error: unknown) =>
        this.#parts.log({ peer: from, term, error: String(error) }, 'a term far ahead is not heard'),
      )
      .finally(() =>
        this.#parts.clock.after(askEveryMs, () => {
          this.#asking = false
        }),
      )
  }

  async #ask(from: DeviceId): Promise<void> {
    const { network, chain, verifier, events } = this.#parts
    const { header, certificate, handover } = await ask(network, from, queries.head, {}, askTimeoutMs)
    if (!certificate) throw new Error('bad-certificate: the newest header has none')
    const advanced = advance(trustedHeadOf(chain.certified), header, certificate, verifier, handover)
    if (!advanced.ok) throw new Error(`${advanced.error.code}: ${advanced.error.detail}`)
    this.#certifiedTerm = Math.max(this.#certifiedTerm, header.term)
    events.termCertified(header.term)
  }
}
