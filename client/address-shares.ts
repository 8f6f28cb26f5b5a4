/**
 * Connections that have proven nothing yet, each counted for the share of addresses that it comes from.
 *
 * Over a limit the oldest goes for the one that comes: of its own share, or of the share that has most. So a share that opens many
 * pushes out its own, and whoever proves himself in a moment is not kept out. Shares that are known (of devices, say) go
 * only when no other one is left.
 *
 * What a connection costs does not grow with the number of shares: they are kept in order of how many each has.
 */
import { isIPv4 } from 'node:net'

export interface ShareLimits {
  /** At least 1, as the other. */
  readonly perAddress: number
  readonly all: number
}

interface Share<Connection> {
  readonly address: string
  known: boolean
  /** The oldest first. */
  readonly connections: Set<Connection>
}

export class AddressShares<Connection> {
  readonly #limits: ShareLimits
  readonly #close: (connection: Connection) => void
  readonly #isKnown: (address: string) => boolean
  readonly #byAddress = new Map<string, Share<Connection>>()
  readonly #byConnection = new Map<Connection, Share<Connection>>()
  readonly #strangers = new SharesBySize<Connection>()
  readonly #known = new SharesBySize<Connection>()

  /**
   * @param close called for one that has to go; it is not counted any more then
   * @param isKnown asked once for each connection that comes, with its share; nobody is known unless given
   */
  constructor(
    limits: ShareLimits,
    close: (connection: Connection) => void,
    isKnown: (address: string) => boolean = () => false,
  ) {
    this.#limits = limits
    this.#close = close
    this.#isKnown = isKnown
  }

  /** Counts a connection for a share, as `shareOf` names it. */
  add(connection: Connection, address: string): void {
    this.#makeRoom(address)
    const share = this.#byAddress.get(address) ?? { address, known: false, connections: new Set() }
    this.#change(share, () => {
      share.known = this.#isKnown(address)
      share.connections.add(connection)
    })
    this.#byConnection.set(connection, share)
  }

  /** It has proven itself, or is gone. False if it was not counted any more. */
  remove(connection: Connection): boolean {
    const share = this.#byConnection.get(connection)
    if (!share) return false
    this.#byConnection.delete(connection)
    this.#change(share, () => share.connections.delete(connection))
    return true
  }

  #makeRoom(address: string): void {
    const own = this.#byAddress.get(address)
    if (own && own.connections.size >= this.#limits.perAddress) this.#closeOldest(own)
    else if (this.#byConnection.size >= this.#limits.all)
      this.#closeOldest(this.#strangers.largest() ?? this.#known.largest())
  }

  #closeOldest(share: Share<Connection> | undefined): void {
    const [oldest] = share?.connections ?? []
    if (oldest === undefined) return
    this.remove(oldest)
    this.#close(oldest)
  }

  #change(share: Share<Connection>, change: () => void): void {
    const ofKind = () => (share.known ? this.#known : this.#strangers)
    ofKind().delete(share)
    change()
    ofKind().add(share)
    if (share.connections.size > 0) this.#byAddress.set(share.address, share)
    else this.#byAddress.delete(share.address)
  }
}

/** Shares in order of how many connections each has. */
class SharesBySize<Connection> {
  /** At index n those that have n + 1; of equal ones the one that has had so many longest is first. The last is never empty. */
  readonly #sizes: Set<Share<Connection>>[] = []

  add(share: Share<Connection>): void {
    const { size } = share.connections
    if (size === 0) return
    while (this.#sizes.length < size) this.#sizes.push(new Set())
    this.#sizes[size - 1]?.add(share)
  }

  delete(share: Share<Connection>): void {
    this.#sizes[share.connections.size - 1]?.delete(share)
    while (this.#sizes.at(-1)?.size === 0) this.#sizes.pop()
  }

  largest(): Share<Connection> | undefined {
    const [first] = this.#sizes.at(-1) ?? []
    return first
  }
}

/**
 * Whose share a peer is of: an IPv4 address, or the 64 bits of an IPv6 address that one subscriber has (RFC 6177). An IPv4
 * address that is mapped into IPv6 (RFC 4291, 2.5.5.2) is that IPv4 address.
 * @param address an IP address, or a multiaddr that begins with one; what is neither is a share of its own
 */
export function shareOf(address: string): string {
  const [ip = ''] = (address.startsWith('/') ? (address.split('/')[2] ?? '') : address).split('%')
  if (!ip.includes(':')) return ip
  const groups = groupsOf(ip)
  if (groups.length !== 8) return ip
  const [high = 0, low = 0] = groups.slice(6)
  if (groups.slice(0, 5).every(group => group === 0) && groups[5] === 0xffff)
    return [high >> 8, high & 255, low >> 8, low & 255].join('.')
  return `${groups
    .slice(0, 4)
    .map(group => group.toString(16))
    .join(':')}::/64`
}

/** The eight groups of an IPv6 address; another number of them if it is none. */
function groupsOf(ip: string): readonly number[] {
  const [head = [], tail, ...more] = ip.split('::').map(half =>
    half
      .split(':')
      .filter(group => group !== '')
      .flatMap(group => (isIPv4(group) ? pairsOf(group) : [Number.parseInt(group, 16)])),
  )
  if (!tail) return head
  const missing = 8 - head.length - tail.length
  return more.length > 0 || missing < 1 ? [] : [...head, ...new Array<number>(missing).fill(0), ...tail]
}

/** An IPv4 address at the end of an IPv6 one, as its last two groups. */
function pairsOf(ipv4: string): readonly number[] {
  const [a = 0, b = 0, c = 0, d = 0] = ipv4.split('.').map(Number)
  return [a * 256 + b, c * 256 + d]
}
