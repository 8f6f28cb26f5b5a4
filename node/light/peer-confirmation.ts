/**
 * Confirms the peers of a node without state of its own: asks for the record of each at a fresh head, and has its
 * connections judged by that (hello.ts). A peer that was revoked since its proof was made is closed then; nothing that it
 * asked or said has counted until then.
 *
 * Which full node gives the record does not matter: it is proven under the head, and a list of changes that is left out
 * shows (client/verified-chain.ts). While no head is fresh nobody is confirmed; the next header asks again.
 */
import type { DeviceId } from '../../chain/brands.ts'
import type { VerifiedChain } from '../../client/verified-chain.ts'
import type { Clock } from '../ports.ts'

export interface PeerConfirmationParts {
  readonly records: Pick<VerifiedChain, 'device'>
  readonly isFresh: () => boolean
  readonly clock: Clock
  /** Peers that are connected and not confirmed. */
  readonly unconfirmed: () => readonly DeviceId[]
  /** Judges a peer's connections by what is known now. */
  readonly recheck: (peer: DeviceId) => void
  readonly onFailure: (peer: DeviceId, error: unknown) => void
}

/** Pause before a record that did not come is asked for again. */
const askAgainMs = 250

export class PeerConfirmation {
  readonly #parts: PeerConfirmationParts
  readonly #asking = new Set<DeviceId>()
  #stopped = false

  constructor(parts: PeerConfirmationParts) {
    this.#parts = parts
  }

  /** Asks for the record of everyone who waits for it: after a hello, and after every header. */
  confirm(): void {
    const { isFresh, unconfirmed, recheck } = this.#parts
    if (this.#stopped || !isFresh()) return
    // The headers that came since the hello may say enough.
    for (const id of unconfirmed()) recheck(id)
    for (const id of unconfirmed()) if (!this.#asking.has(id)) void this.#ask(id)
  }

  stop(): void {
    this.#stopped = true
  }

  async #ask(id: DeviceId): Promise<void> {
    const { records, clock, recheck, onFailure } = this.#parts
    this.#asking.add(id)
    try {
      await records.device(id)
      this.#asking.delete(id)
      if (!this.#stopped) recheck(id)
    } catch (error) {
      onFailure(id, error)
      clock.after(askAgainMs, () => {
        this.#asking.delete(id)
        this.confirm()
      })
    }
  }
}
