/**
 * Room for connections that have not said yet who they are: few in all and from one address, and the oldest goes when
 * there is no room for a new one. So a stranger with sockets uses up a share of his own, and who is quick gets in.
 *
 * Room is kept for addresses from which a device is or lately was connected: a connection from there goes only when no
 * stranger's is left, or for another one from there.
 */
import { RecentMap } from '../../chain/recent-map.ts'

export interface UnprovenLimits {
  readonly inAll: number
  readonly perAddress: number
}

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

interface Unproven {
  readonly address: string
  readonly close: () => void
}

export class UnprovenConnections {
  readonly #limits: UnprovenLimits
  /** The oldest first. */
  readonly #unproven = new Set<Unproven>()
  /** Connections of devices for each address that has any. */
  readonly #devices = new Map<string, number>()
  /** When the last device of an address went; of `performance.now()`. */
  readonly #leftAt = new RecentMap<string, number>(maxKnownAddresses)

  constructor(limits: UnprovenLimits) {
    this.#limits = limits
  }

  /** Takes a connection in; `close` is called if it has to make room for another one. */
  add(address: string, close: () => void): ConnectionPlace {
    const unproven: Unproven = { address, close }
    this.#makeRoom(address)
    this.#unproven.add(unproven)
    let isDevice = false
    return {
      prove: () => {
        if (!this.#unproven.delete(unproven)) return
        isDevice = true
        this.#devices.set(address, (this.#devices.get(address) ?? 0) + 1)
      },
      end: () => {
        this.#unproven.delete(unproven)
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

  #makeRoom(address: string): void {
    const { inAll, perAddress } = this.#limits
    const all = [...this.#unproven]
    const ofAddress = all.filter(other => other.address === address)
    if (ofAddress.length >= perAddress) this.#drop(ofAddress[0])
    else if (all.length >= inAll) this.#drop(all.find(other => !this.isKnown(other.address)) ?? all[0])
  }

  #drop(unproven: Unproven | undefined): void {
    if (unproven && this.#unproven.delete(unproven)) unproven.close()
  }

  #deviceLeft(address: string): void {
    const others = (this.#devices.get(address) ?? 1) - 1
    if (others > 0) this.#devices.set(address, others)
    else this.#devices.delete(address)
    this.#leftAt.set(address, performance.now())
  }
}

/** Whose share a connection is of: an IPv4 address, or the 64 bits of an IPv6 address that one subscriber has. */
export function shareOf(remoteAddress: string): string {
  const address = remoteAddress.replace(/^::ffff:(?=[\d.]+$)/i, '')
  if (!address.includes(':')) return address
  const [head = [], tail = []] = address
    .split('::')
    .map(half => half.split(':').filter(group => group !== ''))
  const zeros = new Array<string>(Math.max(0, 8 - head.length - tail.length)).fill('0')
  return `${[...head, ...zeros, ...tail].slice(0, 4).join(':')}::/64`
}
