/** What the device agent needs of the chain, and the adapter over client/. */
import type { ContractAddress, DeviceId, GroupId, Hash, StateKey } from '../../chain/brands.ts'
import { type ContractRecord, contractRecordCodec, stateKeyOf } from '../../chain/records.ts'
import type { ChainClient } from '../../client/chain-client.ts'
import { rekeyGroup } from '../../client/group-actions.ts'
import type { IdentityKeys } from '../../client/key-directory.ts'
import { devicePage, type ListedIds } from '../../client/record-list.ts'
import { chainTrust } from '../protocol/chain-trust.ts'
import type { Trusted, TrustedGroup, TrustView } from '../protocol/trust.ts'

/** Hashes of a new epoch key, made for the group as it was read. */
export interface RekeyChange {
  readonly group: TrustedGroup
  readonly epochKeyHash: Hash
  readonly boxesHash: Hash
  /** Of an open topic, and only there: 32 bytes of X25519. */
  readonly topicKey?: Uint8Array | undefined
}

export interface AgentChain extends Omit<TrustView, 'answer'> {
  /** Groups of which a device is a member, ascending; undefined if it never was in any. */
  memberships(id: DeviceId): Promise<Trusted<readonly GroupId[]>>
  /** A contract, whether it is retired or not; undefined if it is proven absent. */
  contract(address: ContractAddress): Promise<Trusted<ContractRecord>>
  /** A page of the node list; the records in it need not be asked for again (client/record-list.ts). */
  devicePage(after?: StateKey): Promise<ListedIds<DeviceId>>
  /** Records a new epoch, certified. Throws `epoch-conflict` when the group has moved on. */
  rekey(change: RekeyChange): Promise<TrustedGroup>
}

/** The chain as the device with these keys uses it. */
export function agentChain(client: ChainClient, keys: IdentityKeys): AgentChain {
  return {
    ...chainTrust(client.records, client.pool),
    devicePage: after => devicePage(client, after),
    contract: address => client.records.leaf(stateKeyOf.contract(address), contractRecordCodec),
    memberships: id => client.records.memberships(id),
    rekey: async change => (await rekeyGroup(client, keys, change)).value,
  }
}
