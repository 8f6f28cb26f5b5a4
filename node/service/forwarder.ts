/**
 * Sends transactions that came to a follower on to the leader, gathered: the first leaves at once, what follows within
 * `pauseMs` travels together, so that frames grow under load and a lone transaction does not wait.
 *
 * Fire and forget. The leader answers for what it refuses only; for the rest the block speaks. What is lost on the way
 * is sent again by submission.ts.
 */
import type { DeviceId } from '../../chain/brands.ts'
import { maxForwardedBytes, maxForwardedTransactions } from '../network/wire.ts'
import type { Clock, Network } from '../ports.ts'

/** Transactions gathered for one leader, at most; over it the oldest are dropped, and sent again later. */
const maxGathered = 20_000

export class Forwarder {
  readonly #network: Pick<Network, 'send'>
  readonly #clock: Clock
  readonly #pauseMs: number
  #leader: DeviceId | undefined
  #gathered: Uint8Array[] = []
  #pausing = false

  constructor(network: Pick<Network, 'send'>, clock: Clock, pauseMs = 1) {
    this.#network = network
    this.#clock = clock
    this.#pauseMs = pauseMs
  }

  forward(leader: DeviceId, bytes: Uint8Array): void {
    if (leader !== this.#leader) {
      this.#leader = leader
      this.#gathered = []
    }
    if (this.#gathered.length >= maxGathered) this.#gathered.shift()
    this.#gathered.push(bytes)
    if (!this.#pausing) this.#flush()
  }

  #flush(): void {
    this.#pausing = this.#gathered.length > 0
    if (!this.#pausing) return
    if (this.#leader)
      for (const transactions of this.#frames())
        this.#network.send(this.#leader, { type: 'transactions', transactions })
    this.#gathered = []
    this.#clock.after(this.#pauseMs, () => this.#flush())
  }

  *#frames(): Generator<Uint8Array[]> {
    let frame: Uint8Array[] = []
    let bytes = 0
    for (const transaction of this.#gathered) {
      const full = bytes + transaction.length > maxForwardedBytes || frame.length >= maxForwardedTransactions
      if (frame.length > 0 && full) {
        yield frame
        frame = []
        bytes = 0
      }
      frame.push(transaction)
      bytes += transaction.length
    }
    yield frame
  }
}
