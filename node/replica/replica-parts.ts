/** What the replica driver is made of and what it tells: the types of replica.ts. */
import type { DeviceId } from '../../chain/brands.ts'
import { MoteError } from '../../chain/result.ts'
import type { Config as RaftConfig, Random, Recovered, Role } from '../../consensus/types.ts'
import type { Certifier } from '../ledger/certifier.ts'
import type { Execution, ReplicatedChain } from '../ledger/replicated-chain.ts'
import type { Snapshots } from '../ledger/snapshots.ts'
import type { BlockWrite, Clock, Network, Storage } from '../ports.ts'
import type { ClockExchange } from './clock-exchange.ts'
import type { MembershipDriver } from './membership-driver.ts'
import type { Producer } from './producer.ts'

export interface Leadership {
  readonly role: Role
  readonly term: number
  readonly leader: DeviceId | undefined
}

/** What the node around the replica learns. Called synchronously; must not throw. */
export interface ReplicaEvents {
  executed(execution: Execution): void
  /** The state of this index is reached; entries without a block move it too. */
  applied(index: number): void
  leadership(leadership: Leadership): void
  /** At a leader: these were removed from the members and are still told so, and nobody else. */
  departing(members: readonly string[]): void
  /** The replica has stopped for good: `storage-failed`, `storage-corrupt` or `execution-diverged`. */
  failed(error: MoteError): void
}

export interface ReplicaParts {
  readonly id: DeviceId
  readonly incarnation: number
  readonly raft: RaftConfig
  readonly recovered: Recovered
  readonly random: Random
  readonly tickMs: number
  readonly storage: Storage
  readonly network: Pick<Network, 'send'>
  readonly clock: Clock
  readonly clocks: ClockExchange
  readonly chain: ReplicatedChain
  readonly certifier: Certifier
  readonly producer: Producer
  /** Without them it keeps its log whole, and neither offers nor takes any. */
  readonly snapshots?: Snapshots
  /** Without it the members stay as they are. */
  readonly membership?: MembershipDriver
  /** No part is taken in elections before this index is applied (store-rebuild.ts). */
  readonly rebuildUpTo?: number
  readonly events: ReplicaEvents
}

/* What a replica has written for an executed block, and what it makes of a write that fails. */

/**
 * With what the block took the place of, and the record of what this node signs if it is, or becomes, a consenter: who is one
 * may change before the header is signed.
 */
export function storedBlock(
  { block, write, replaced }: Execution,
  { snapshots, incarnation }: { snapshots: Snapshots | undefined; incarnation: number },
): BlockWrite {
  const configuration = snapshots?.configurationAt(block.height)
  const configurationBelow = snapshots?.configurationAt(block.height - 1)
  return {
    ...write,
    ...(replaced &&
      configuration &&
      configurationBelow && { undo: { ...replaced, configuration, configurationBelow } }),
    signed: { ...block, incarnation },
  }
}

export function storageFailure(error: unknown): MoteError {
  return error instanceof MoteError ? error : new MoteError('storage-failed', String(error), { cause: error })
}
