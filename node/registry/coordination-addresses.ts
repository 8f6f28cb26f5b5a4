/**
 * Where coordination nodes are reached, at both ends (client/coordination-address.ts): a coordination node signs its address
 * and gives it to the full nodes (`AddressAnnouncer`), and a full node gives it to whoever asks (`CoordinationAddresses`).
 * In memory: a coordination node says again where it is whenever it connects.
 *
 * Invariants: one address for each device, from that device itself; what is given out is of a connected node, and was
 * judged by the state as it is then.
 */
import { type ChainId, type DeviceId, Milliseconds } from '../../chain/brands.ts'
import type { SignatureVerifier } from '../../chain/keys.ts'
import type { TrustedHead } from '../../chain/light-client.ts'
import type { IdentityRecord } from '../../chain/records.ts'
import { MoteError, unwrap } from '../../chain/result.ts'
import {
  addressLifetimeMs,
  judgeAddress,
  maxCoordinationAddresses,
  type ParsedAddress,
  parseAddress,
  signAddress,
} from '../../client/coordination-address.ts'
import type { IdentityKeys } from '../../client/key-directory.ts'
import { registryReports } from '../network/request-table.ts'
import { ask } from '../network/requests.ts'
import type { Clock, Network } from '../ports.ts'

/** The newest certified state. */
export interface CertifiedView {
  readonly time: Milliseconds
  record(id: DeviceId): IdentityRecord | undefined
}

export interface CoordinationAddressesParts {
  readonly chainId: ChainId
  readonly network: Pick<Network, 'peers'>
  readonly view: () => CertifiedView
  readonly verifier: SignatureVerifier
}

interface KeptAddress {
  readonly signed: Uint8Array
  readonly parsed: ParsedAddress
}

export class CoordinationAddresses {
  readonly #parts: CoordinationAddressesParts
  readonly #kept = new Map<DeviceId, KeptAddress>()

  constructor(parts: CoordinationAddressesParts) {
    this.#parts = parts
  }

  /** Takes a coordination node's word where it is reached, in place of an earlier one. Throws what `judgeAddress` refuses. */
  take(deviceId: DeviceId, signed: Uint8Array): void {
    const parsed = unwrap(parseAddress(signed))
    if (parsed.address.device !== deviceId)
      throw new MoteError('not-authorised', `address: expected one of ${deviceId}, the device that sent it`)
    unwrap(this.#judge(parsed, this.#parts.view()))
    if (!this.#kept.has(deviceId)) this.#makeRoom()
    this.#kept.set(deviceId, { signed: Uint8Array.from(signed), parsed })
  }

  /** Those that hold now, as they were signed. */
  current(): readonly Uint8Array[] {
    return this.#holding().map(({ signed }) => signed)
  }

  /** The coordination nodes that may be told something now. */
  ids(): readonly DeviceId[] {
    return this.#holding().map(({ parsed }) => parsed.address.device)
  }

  #holding(): readonly KeptAddress[] {
    const view = this.#parts.view()
    const connected = new Set(
      this.#parts.network
        .peers()
        .filter(({ state }) => state === 'connected')
        .map(({ id }) => id),
    )
    return [...this.#kept.values()].filter(
      ({ parsed }) => connected.has(parsed.address.device) && this.#judge(parsed, view).ok,
    )
  }

  #judge(parsed: ParsedAddress, { time, record }: CertifiedView) {
    const { chainId, verifier } = this.#parts
    return judgeAddress(parsed, { chainId, time, record: record(parsed.address.device) }, verifier)
  }

  /** Throws `overloaded` when as many hold as may. */
  #makeRoom(): void {
    if (this.#kept.size < maxCoordinationAddresses) return
    const holding = new Set(this.ids())
    for (const id of this.#kept.keys()) if (!holding.has(id)) this.#kept.delete(id)
    if (this.#kept.size >= maxCoordinationAddresses)
      throw new MoteError('overloaded', `addresses: expected at most ${maxCoordinationAddresses}`)
  }
}

/*
 * The sending end: a coordination node tells every connected full node where it is reached: at once to one that has
 * just connected, and again and again, since full nodes keep it in memory and it expires. Lost words are not repeated: the
 * next says the same.
 */

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
