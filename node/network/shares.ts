/**
 * Connections that have proven nothing yet, the oldest first, each counted for the address that it comes from.
 *
 * Over a limit the oldest goes, never the one that has just come: of its own address, or of the address that has most. So an
 * address that opens many pushes out its own, and whoever proves himself in a moment is not kept out.
 */
export interface ShareLimits {
  readonly perAddress: number
  readonly all: number
}

export class Shares<Connection> {
  readonly #limits: ShareLimits
  readonly #close: (connection: Connection) => void
  /** The oldest first. */
  readonly #addresses = new Map<Connection, string>()

  /** @param close called for one that has to go; it is not counted any more then */
  constructor(limits: ShareLimits, close: (connection: Connection) => void) {
    this.#limits = limits
    this.#close = close
  }

  add(connection: Connection, address: string): void {
    this.#addresses.set(connection, address)
    const counts = new Map<string, number>()
    for (const each of this.#addresses.values()) counts.set(each, (counts.get(each) ?? 0) + 1)
    const own = counts.get(address) ?? 0
    const most = Math.max(...counts.values())
    if (own > this.#limits.perAddress) this.#closeOldest(each => each === address)
    else if (this.#addresses.size > this.#limits.all) this.#closeOldest(each => counts.get(each) === most)
  }

  /** It has proven itself, or is gone. */
  remove(connection: Connection): void {
    this.#addresses.delete(connection)
  }

  #closeOldest(isOf: (address: string) => boolean): void {
    const [oldest] = [...this.#addresses].find(([, address]) => isOf(address)) ?? []
    if (oldest === undefined) return
    this.remove(oldest)
    this.#close(oldest)
  }
}
