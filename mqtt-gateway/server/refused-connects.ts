/**
 * Refused connections, counted by address and code: the first of a kind gets a line in the decision log, the others are
 * counted until the end of the interval and get one line together. So a stranger cannot rotate away what the log says of
 * others.
 */
import type { ErrorCode } from '../../chain/errors.ts'

export interface RefusedKind {
  readonly address: string
  readonly code: ErrorCode
  /** Refusals since the first one, which has its own line. */
  readonly more: number
}

/** Kinds that are told apart in one interval; further addresses are counted together. */
const maxRefusedKinds = 32
const otherAddresses = 'other addresses'

export class RefusedConnects {
  readonly #kinds = new Map<string, { address: string; code: ErrorCode; more: number }>()

  /** Counts a refusal. True if it is the first of its kind in this interval. */
  count(address: string, code: ErrorCode): boolean {
    const name = `${address} ${code}`
    const kind = this.#kinds.get(name)
    if (kind) {
      kind.more += 1
      return false
    }
    if (this.#kinds.size >= maxRefusedKinds && address !== otherAddresses)
      return this.count(otherAddresses, code)
    this.#kinds.set(name, { address, code, more: 0 })
    return true
  }

  /** Ends the interval: the kinds of which there were more than the first. */
  take(): readonly RefusedKind[] {
    const repeated = [...this.#kinds.values()].filter(({ more }) => more > 0)
    this.#kinds.clear()
    return repeated
  }
}
