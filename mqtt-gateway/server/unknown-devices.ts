/**
 * Look-ups of devices that have not connected lately: few at a time, so that they hold up nobody who has. Those that turn
 * out to be on no chain are counted for each address and in all: who has made the gateway ask too often makes it ask no
 * more for a while. A proven absence itself is remembered until a block names the id
 * (client/verified-chain.ts), so asking for one again costs nothing.
 */
import { OrderedQueue } from '../../client/ordered-queue.ts'

export interface UnknownDeviceLimits {
  readonly perAddress: number
  readonly inAll: number
}

export const defaultUnknownDeviceLimits: UnknownDeviceLimits = { perAddress: 64, inAll: 4096 }
/** Look-ups at a time. */
const maxLookUpsAtOnce = 8
/** Time after which all counts begin anew. */
const countedForMs = 60_000

export class UnknownDevices {
  readonly #limits: UnknownDeviceLimits
  readonly #lanes = Array.from({ length: maxLookUpsAtOnce }, () => new OrderedQueue())
  readonly #byAddress = new Map<string, number>()
  #inAll = 0
  #since = performance.now()

  constructor(limits: UnknownDeviceLimits) {
    this.#limits = limits
  }

  /** What `lookUp` gives, when its turn has come. */
  inTurn<T>(lookUp: () => Promise<T>): Promise<T> {
    return this.#lanes.reduce((best, lane) => (lane.length < best.length ? lane : best)).run(lookUp)
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
