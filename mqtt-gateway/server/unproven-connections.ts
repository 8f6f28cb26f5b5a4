/**
 * Room for connections that have not said yet who they are (client/address-shares.ts). Addresses from which a device is or lately was
 * connected are known: a connection from there goes only when no stranger's is left, or for another one from there.
 */
import { RecentMap } from '../../chain/recent-map.ts'
import { AddressShares, type ShareLimits } from '../../client/address-shares.ts'

/** How long an address is known after the last device there has gone. */
const knownForMs = 60 * 60 * 1000
/** Addresses remembered for that at least, and twice as many at most. */
const maxKnownAddresses = 8192

/** The place of one connection. */
export interface ConnectionPlace {
  /** It has proven that it is a device. */
  prove(): void
  /** It has ended. */
  end(): void
}

export class UnprovenConnections {
  readonly #unproven: AddressShares<{ readonly close: () => void }>
  /** Connections of devices for each address that has any. */
  readonly #devices = new Map<string, number>()
  /** When the last device of an address went; of `performance.now()`. */
  readonly #leftAt = new RecentMap<string, number>(maxKnownAddresses)

  constructor(limits: ShareLimits) {
    this.#unproven = new AddressShares(
      limits,
      ({ close }) => close(),
      address => this.isKnown(address),
    )
  }

  /** Takes a connection in; `close` is called if it has to make room for another one. */
  add(address: string, close: () => void): ConnectionPlace {
    const unproven = { close }
    this.#unproven.add(unproven, address)
    let isDevice = false
    return {
      prove: () => {
        if (!this.#unproven.remove(unproven)) return
        isDevice = true
        this.#devices.set(address, (this.#devices.get(address) ?? 0) + 1)
      },
      end: () => {
        this.#unproven.remove(unproven)
        if (isDevice) this.#deviceLeft(address)
        isDevice = false
      },
    }
  }

  isKnown(address: string): boolean {
    if (this.#devices.has(address)) return true
    const leftAt = this.#leftAt.get(address)
    return leftAt !== undefined && performance.now() - leftAt < knownForMs
  }

  #deviceLeft(address: string): void {
    const others = (this.#devices.get(address) ?? 1) - 1
    if (others > 0) this.#devices.set(address, others)
    else this.#devices.delete(address)
    this.#leftAt.set(address, performance.now())
  }
}
