/** What the replica driver is made of and what it tells: the types of replica.ts. */
import type { DeviceId, Height } from '../chain/brands.ts'
import type { Certificate } from '../chain/certificate.ts'
import type { ConsenterSet } from '../chain/consenters.ts'
import type { MoteError } from '../chain/result.ts'
import type {
  Configuration,
  Entry,
  Config as RaftConfig,
  Random,
  Recovered,
  Role,
  SnapshotMeta,
} from '../consensus/types.ts'
import type { Certifier } from './certifier.ts'
import type { ClockExchange } from './clock-exchange.ts'
import type { MembershipDriver } from './membership-driver.ts'
import type { Clock, Network, SnapshotState, Storage } from './ports.ts'
import type { Producer } from './producer.ts'
import type { Execution, ReplicatedChain } from './replicated-chain.ts'

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

/** A fetched and verified snapshot that is to take the place of state and log. */
export interface VerifiedSnapshot {
  readonly state: SnapshotState
  readonly certificate: Certificate
  /** Sign what follows it. */
  readonly consenters: ConsenterSet
  /** Puts it in place of the state in memory; it is on disk. */
  install(): void
}

/** Snapshots as the replica sees them (snapshots.ts). Without them it keeps its log whole, and neither offers nor takes any. */
export interface ReplicaSnapshots {
  /** An entry was applied; `height` is that of its block, if it made one. */
  applied(entry: Entry, height: Height | undefined): void
  /** In force at the place in the log of the block at `height`, if it is known. */
  configurationAt(height: number): Configuration | undefined
  /** Up to where the log is to be forgotten now. What it returns counts as forgotten. */
  due(): SnapshotMeta | undefined
  /** What can be offered to a follower that needs entries which are forgotten; undefined as long as nothing can. */
  offer(): SnapshotMeta | undefined
  /** This one is being offered to a follower. */
  keep(meta: SnapshotMeta): void
  /** Fetches and verifies; touches nothing. `done` is told once, or never if a later fetch takes its place. */
  fetch(from: DeviceId, meta: SnapshotMeta, done: (fetched: boolean) => void): void
  /** The snapshot that was fetched last, if it is this one. */
  take(meta: SnapshotMeta): VerifiedSnapshot | undefined
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
  readonly snapshots?: ReplicaSnapshots
  /** Without it the members stay as they are. */
  readonly membership?: MembershipDriver
  /** No part is taken in elections before this index is applied (store-rebuild.ts). */
  readonly rebuildUpTo?: number
  readonly events: ReplicaEvents
}
