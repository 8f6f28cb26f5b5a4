/**
 * Look-ups of device ids that turn out to be on no chain, counted for each address and in all: who has made the gateway
 * ask too often makes it ask no more for a while. A proven absence itself is remembered until a block names the id
 * (client/verified-chain.ts), so asking for one again costs nothing.
 */

export interface UnknownDeviceLimits {
  readonly perAddress: number
  readonly inAll: number
}

export const defaultUnknownDeviceLimits: UnknownDeviceLimits = { perAddress: 64, inAll: 4096 }
/** Time after which all counts begin anew. */
const countedForMs = 60_000

export class UnknownDevices {
  readonly #limits: UnknownDeviceLimits
  readonly #byAddress = new Map<string, number>()
  #inAll = 0
  #since = performance.now()

  constructor(limits: UnknownDeviceLimits) {
    this.#limits = limits
  }

  /** Whether a connection from this address may make the gateway ask for a device that it does not know. */
  mayAsk(address: string): boolean {
    const now = performance.now()
    if (now - this.#since > countedForMs) {
      this.#since = now
      this.#inAll = 0
      this.#byAddress.clear()
    }
    const { perAddress, inAll } = this.#limits
    return (this.#byAddress.get(address) ?? 0) < perAddress && this.#inAll < inAll
  }

  /** A device that was asked for is on no chain. */
  count(address: string): void {
    this.#inAll += 1
    this.#byAddress.set(address, (this.#byAddress.get(address) ?? 0) + 1)
  }
}
