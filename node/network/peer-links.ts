/** Every open connection of a node, by its id and by the device that proved itself on it. */
import type { Connection } from '@libp2p/interface'
import type { DeviceId } from '../../chain/brands.ts'
import type { ProvenPeer } from './hello.ts'
import { PeerLink, type PeerLinkOptions } from './peer-link.ts'
import { RateLimits } from './rate-limit.ts'

export class PeerLinks {
  readonly #options: PeerLinkOptions
  readonly #byConnection = new Map<string, PeerLink>()
  /** The newest last. The last ready one carries what is sent. */
  readonly #byDevice = new Map<DeviceId, PeerLink[]>()
  readonly #waiting = new Set<() => void>()
  readonly #budgets: RateLimits<DeviceId>

  constructor(options: PeerLinkOptions) {
    this.#options = options
    const { provenBurst: burst, provenPerSecond: perSecond } = options.limits
    this.#budgets = new RateLimits({ burst, perSecond }, options.clock)
  }

  /** The link of a connection; a new one if it is open and not known yet. */
  of(connection: Connection): PeerLink | undefined {
    const known = this.#byConnection.get(connection.id)
    if (known || connection.status !== 'open') return known
    const link = new PeerLink(connection, this.#options)
    this.#byConnection.set(connection.id, link)
    return link
  }

  remove(connection: Connection): PeerLink | undefined {
    const link = this.#byConnection.get(connection.id)
    this.#byConnection.delete(connection.id)
    if (!link?.peer) return link
    const others = this.all(link.peer.id).filter(other => other !== link)
    if (others.length > 0) this.#byDevice.set(link.peer.id, others)
    else this.#byDevice.delete(link.peer.id)
    return link
  }

  /** From here on requests and streams on this link are this device's. Gives all links of the device, oldest first. */
  prove(link: PeerLink, peer: ProvenPeer): readonly PeerLink[] {
    link.peer = peer
    link.budget = this.#budgets.of(peer.id)
    const links = [...this.all(peer.id).filter(other => other !== link), link]
    this.#byDevice.set(peer.id, links)
    return links
  }

  all(id: DeviceId): readonly PeerLink[] {
    return this.#byDevice.get(id) ?? []
  }

  /** Where messages to this device go: hello has passed both ways. */
  ready(id: DeviceId): PeerLink | undefined {
    return this.#byDevice.get(id)?.findLast(link => link.ready)
  }

  /** Where requests to this device go: it has proven itself, whether or not it took our proof. */
  proven(id: DeviceId): PeerLink | undefined {
    return this.ready(id) ?? this.#byDevice.get(id)?.findLast(link => link.open)
  }

  /** Devices with a connection on which they are not confirmed. */
  unconfirmed(): readonly DeviceId[] {
    return [...this.#byDevice].flatMap(([id, links]) =>
      links.some(link => link.open && !link.confirmed) ? [id] : [],
    )
  }

  /** Wakes who waits for a link that can be used. */
  changed(): void {
    for (const wake of this.#waiting) wake()
  }

  /** Resolves with the next `changed`, or when the signal fires. */
  async nextChange(until: AbortSignal): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>()
    this.#waiting.add(resolve)
    until.addEventListener('abort', () => resolve(), { once: true })
    await promise
    this.#waiting.delete(resolve)
  }

  devices(): Iterable<DeviceId> {
    return this.#byDevice.keys()
  }

  /** Connections that proved nothing, in all and from one host. */
  unproven(host: string): { readonly all: number; readonly fromHost: number } {
    const links = [...this.#byConnection.values()].filter(link => !link.peer)
    return { all: links.length, fromHost: links.filter(link => link.remoteHost === host).length }
  }
}
