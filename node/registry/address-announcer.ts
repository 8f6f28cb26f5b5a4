/**
 * A coordination node tells every connected full node where it is reached: at once to one that has just connected, and
 * again and again, since full nodes keep it in memory and it expires. Lost words are not repeated: the next says the same.
 */
import { type DeviceId, Milliseconds } from '../../chain/brands.ts'
import type { TrustedHead } from '../../chain/light-client.ts'
import { addressLifetimeMs, signAddress } from '../../client/coordination-address.ts'
import type { IdentityKeys } from '../../client/key-directory.ts'
import { registryReports } from '../network/request-table.ts'
import { ask } from '../network/requests.ts'
import type { Clock, Network } from '../ports.ts'

const announceEveryMs = 2_000

export interface AddressAnnouncerParts {
  readonly keys: IdentityKeys
  readonly network: Pick<Network, 'peers' | 'request' | 'addresses'>
  readonly clock: Clock
  readonly head: () => TrustedHead
  /** Base URL of the HTTP API; empty before it listens. */
  readonly api: () => string
  /** Full nodes that this node knows, connected or not. */
  readonly fullNodes: () => readonly DeviceId[]
  readonly onFailure: (fullNode: DeviceId, error: unknown) => void
}

export class AddressAnnouncer {
  readonly #parts: AddressAnnouncerParts
  #cancel: (() => void) | undefined

  constructor(parts: AddressAnnouncerParts) {
    this.#parts = parts
  }

  /** Says it now, and from now on again and again. */
  start(): void {
    this.announce()
    this.#cancel = this.#parts.clock.after(announceEveryMs, () => this.start())
  }

  stop(): void {
    this.#cancel?.()
  }

  /** Says it to every full node that is connected now. */
  announce(): void {
    const { keys, network, head, api, fullNodes, onFailure } = this.#parts
    if (api() === '') return
    const known = new Set(fullNodes())
    const connected = network.peers().filter(({ id, state }) => state === 'connected' && known.has(id))
    if (connected.length === 0) return
    const { chainId, header } = head()
    const expiry = Milliseconds(header.time + addressLifetimeMs)
    const signed = signAddress(keys, { chainId, api: api(), addresses: network.addresses(), expiry })
    for (const { id } of connected)
      ask(network, id, registryReports.address, signed, announceEveryMs).catch((error: unknown) =>
        onFailure(id, error),
      )
  }
}
