/** Messages that may leave only when a persist is durable, in order of the persists they wait for. */
import type { Message } from '../consensus/types.ts'

interface HeldSend {
  readonly after: number
  readonly to: string
  readonly message: Message
}

export class HeldSends {
  #held: HeldSend[] = []

  get size(): number {
    return this.#held.length
  }

  hold(send: HeldSend): void {
    this.#held.push(send)
  }

  /** What waited for this persist or an earlier one; it is held no longer. */
  release(token: number): readonly HeldSend[] {
    const later = this.#held.findIndex(send => send.after > token)
    return later < 0 ? this.#held.splice(0) : this.#held.splice(0, later)
  }

  clear(): void {
    this.#held = []
  }
}
