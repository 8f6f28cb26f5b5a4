/**
 * Keeps Raft messages to and from a peer back until the peer has been asked what it remembers of this node
 * (state-witness.ts), once in the life of the process: nobody can be part of a quorum with this node before.
 */
import type { DeviceId } from '../chain/brands.ts'
import type { MoteError } from '../chain/result.ts'
import type { Clock } from './ports.ts'

export interface MemberGateParts {
  readonly clock: Clock
  /** Asks the peer; an error if it speaks against this node. Rejects when there was no answer. */
  readonly ask: (peer: DeviceId) => Promise<MoteError | undefined>
  /** Nothing speaks against this node: what was held back until now is to be sent anew. */
  readonly opened: (peer: DeviceId) => void
  readonly refused: (error: MoteError) => void
}

const askAgainMs = 250

export class MemberGate {
  readonly #parts: MemberGateParts
  readonly #open = new Set<DeviceId>()
  readonly #asking = new Set<DeviceId>()
  #stopped = false

  constructor(parts: MemberGateParts) {
    this.#parts = parts
  }

  /** True if messages may pass; else the peer is asked, if that is not under way. */
  passes(peer: DeviceId): boolean {
    if (this.#open.has(peer)) return true
    if (!this.#asking.has(peer) && !this.#stopped) void this.#ask(peer)
    return false
  }

  stop(): void {
    this.#stopped = true
  }

  async #ask(peer: DeviceId): Promise<void> {
    this.#asking.add(peer)
    try {
      const against = await this.#parts.ask(peer)
      if (this.#stopped) return
      if (against) {
        this.#stopped = true
        this.#parts.refused(against)
        return
      }
      this.#open.add(peer)
      this.#asking.delete(peer)
      this.#parts.opened(peer)
    } catch {
      // Not connected, or not a member there yet: the next message asks again, but not at once.
      this.#parts.clock.after(askAgainMs, () => this.#asking.delete(peer))
    }
  }
}
