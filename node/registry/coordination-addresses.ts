/**
 * The addresses that coordination nodes have signed and given to this full node, which gives them to whoever asks
 * (client/coordination-address.ts). In memory: a coordination node says again where it is whenever it connects.
 *
 * Invariants: one address for each device, from that device itself; what is given out is of a connected node, and was
 * judged by the state as it is then.
 */
import type { ChainId, DeviceId, Milliseconds } from '../../chain/brands.ts'
import type { SignatureVerifier } from '../../chain/keys.ts'
import type { IdentityRecord } from '../../chain/records.ts'
import { MoteError, unwrap } from '../../chain/result.ts'
import {
  judgeAddress,
  maxCoordinationAddresses,
  type ParsedAddress,
  parseAddress,
} from '../../client/coordination-address.ts'
import type { Network } from '../ports.ts'

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
