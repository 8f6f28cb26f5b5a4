/** Has the connections of peers judged again when blocks that changed their records are certified. */
import type { DeviceId, Height } from '../../chain/brands.ts'
import type { Certificate } from '../../chain/certificate.ts'
import { identityKinds } from '../ledger/full-members.ts'
import type { Execution } from '../ledger/live-chain.ts'
import type { Members } from '../ledger/members.ts'
import type { NodeListener } from '../ledger/node-events.ts'
import type { Clock, Network } from '../ports.ts'

export interface PeerRechecksParts {
  readonly network: Pick<Network, 'peers' | 'recheck'>
  readonly clock: Pick<Clock, 'after'>
  readonly members: Pick<Members, 'isDeparting'>
}

/** Time in which a revoked member may learn of its removal from the leader before its connection is judged. */
const farewellMs = 500

export class PeerRechecks implements NodeListener {
  readonly #parts: PeerRechecksParts
  /** Devices whose records executed blocks may have changed that are not certified yet, with the newest such block. */
  readonly #written = new Map<DeviceId, Height>()

  constructor(parts: PeerRechecksParts) {
    this.#parts = parts
  }

  executed({ write }: Execution): void {
    for (const { kind, devices } of write.transactions)
      if (identityKinds.has(kind)) for (const device of devices) this.#written.set(device, write.height)
  }

  certified({ height: certified }: Certificate): void {
    if (this.#written.size === 0) return
    const { network, clock, members } = this.#parts
    for (const [id, height] of this.#written) {
      if (height > certified) continue
      this.#written.delete(id)
      if (members.isDeparting(id)) clock.after(farewellMs, () => network.recheck(id))
      else network.recheck(id)
    }
  }

  /** The records of everybody may have changed. */
  installed(): void {
    const { network } = this.#parts
    for (const { id } of network.peers()) network.recheck(id)
  }
}
