/** Which identities the chain counts as full nodes: a set that follows execution, so that nobody has to search the state. */
import type { DeviceId } from '../../chain/brands.ts'
import { decode } from '../../chain/codec.ts'
import { type IdentityRecord, identityCodec, stateKeyOf } from '../../chain/records.ts'
import { entries, get } from '../../chain/state-tree.ts'
import { bodies, typeOfKind } from '../../chain/transaction.ts'
import type { Execution, LiveChain } from './live-chain.ts'
import type { NodeListener } from './node-events.ts'

/** Kinds of transactions that change identity records. */
export const identityKinds: ReadonlySet<number> = new Set(
  (['identity.suspend', 'identity.revoke', 'key.add', 'key.rotate', 'key.revoke'] as const).map(
    type => bodies[type][0],
  ),
)

export class FullMembers implements NodeListener {
  readonly #chain: Pick<LiveChain, 'ledger'>
  #ids: ReadonlySet<DeviceId> = new Set()

  constructor(chain: Pick<LiveChain, 'ledger'>) {
    this.#chain = chain
    this.installed()
  }

  /** Active identities with the label full. The set is another one after each change. */
  get ids(): ReadonlySet<DeviceId> {
    return this.#ids
  }

  /** Reads the whole state: at a start and after a snapshot. */
  installed(): void {
    this.#ids = new Set()
    for (const [, value] of entries(this.#chain.ledger.tree)) {
      if (!looksLikeIdentity(value)) continue
      const record = decode(identityCodec, value)
      if (record.ok) this.#judge(record.value)
    }
  }

  /** The chain's ledger is the result of the block. */
  executed({ write }: Execution): void {
    const { ledger } = this.#chain
    for (const { kind, devices } of write.transactions) {
      if (!typeOfKind.get(kind)?.startsWith('identity.')) continue
      for (const device of devices) {
        const value = get(ledger.tree, stateKeyOf.identity(device))
        const record = value && decode(identityCodec, value)
        if (record?.ok) this.#judge(record.value)
      }
    }
  }

  #judge({ id, label, status }: IdentityRecord): void {
    const counts = label === 'full' && status === 'active'
    if (counts === this.#ids.has(id)) return
    this.#ids = new Set(counts ? [...this.#ids, id] : [...this.#ids].filter(other => other !== id))
  }
}

/** A leaf is `[record type, format, record]`: most of a large state need not be decoded to be passed over. */
function looksLikeIdentity(leaf: Uint8Array): boolean {
  return leaf[0] === 0x93 && leaf[1] === 1
}
