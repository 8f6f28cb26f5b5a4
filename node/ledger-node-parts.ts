/** What the inside of a full node is made of: the types of ledger-node.ts. */
import type { DeviceId } from '../chain/brands.ts'
import type { SignatureVerifier, Signer } from '../chain/keys.ts'
import type { MoteError } from '../chain/result.ts'
import { defaultConfig } from '../consensus/config.ts'
import type { Config as RaftConfig, Random } from '../consensus/types.ts'
import type { RecoveredChain } from './ledger/chain-recovery.ts'
import type { CompactionLimits } from './ledger/compaction.ts'
import { maxAppendBytes } from './network/wire.ts'
import type { Clock, Network, NodeLog, Storage } from './ports.ts'
import type { ProducerLimits } from './replica/producer.ts'

/** Limits of the core that a node may be given; the defaults are in consensus/config.ts. */
export type RaftLimits = Partial<
  Pick<
    RaftConfig,
    | 'maxEntriesPerAppend'
    | 'maxBytesPerAppend'
    | 'maxAppendsInFlight'
    | 'maxBytesInFlight'
    | 'maxUncommittedBytes'
    | 'maxLogBytesInMemory'
  >
>

/** Of the core: what was configured, then a limit that two whole blocks of the chain fit into if a frame takes them, then the core's defaults. */
export function coreConfig(
  id: DeviceId,
  configured: Omit<LedgerNodeParts['raft'], 'tickMs'>,
  blockBytes: number,
): RaftConfig {
  return { ...defaultConfig(id), maxBytesPerAppend: Math.min(2 * blockBytes, maxAppendBytes), ...configured }
}

export interface LedgerNodeParts {
  readonly name: string
  readonly id: DeviceId
  readonly signer: Signer
  readonly recovered: RecoveredChain
  readonly storage: Storage
  readonly network: Network
  readonly clock: Clock
  readonly random: Random
  readonly verifier: SignatureVerifier
  readonly raft: {
    readonly tickMs: number
    readonly electionTimeoutTicks: number
    readonly heartbeatTicks: number
  } & RaftLimits
  readonly compaction?: Partial<CompactionLimits> | undefined
  /** The chain's parameter unless given. */
  readonly heartbeatMs?: number | undefined
  readonly producer?: Partial<ProducerLimits>
  readonly processId: number
  /** Base URL of the HTTP API, once it listens. */
  readonly api: () => string
  readonly log: NodeLog
  /** Signed addresses of coordination nodes, as they hold now. None unless given. */
  readonly coordination?: () => readonly Uint8Array[]
  /** Full nodes that the operator has named: heard even before this node knows them as members. */
  readonly peers?: readonly DeviceId[]
  /** The node cannot go on: its disk fails (`storage-failed`, `storage-corrupt`). */
  readonly onFailed: (error: MoteError) => void
}
