/**
 * A read-only view of a server for metrics, operators and tests. A copy: holding it costs nothing and shows nothing
 * later.
 */
import type { Progress } from './progress.ts'
import type { State } from './state.ts'
import type { Configuration, NodeId, Role } from './types.ts'

export interface FollowerStatus {
  readonly state: Progress['state']
  readonly matchIndex: number
  readonly nextIndex: number
  readonly appendsInFlight: number
  readonly bytesInFlight: number
  /** Leader's ticks since the last answer; `heard` alone is none. */
  readonly silentTicks: number
}

export interface RaftStatus {
  readonly id: NodeId
  readonly role: Role
  readonly currentTerm: number
  readonly votedFor: NodeId | null
  readonly leader: NodeId | null
  readonly commitIndex: number
  readonly lastApplied: number
  readonly lastLogIndex: number
  readonly lastLogTerm: number
  /** The last index of the log that is durable here. */
  readonly persistedIndex: number
  readonly logBytesInMemory: number
  /** The configuration in force, and where in the log it stands. */
  readonly configuration: Configuration
  readonly configurationIndex: number
  /** On a leader: bytes of entries that are not yet committed and durable. */
  readonly uncommittedBytes: number
  /** Bytes of entries in `commit` effects that the driver has not yet applied. */
  readonly unappliedBytes: number
  readonly transferTo: NodeId | null
  readonly readsWaiting: number
  readonly followers: ReadonlyMap<NodeId, FollowerStatus>
  /** On a leader: members that were removed and are still told so. */
  readonly departing: readonly NodeId[]
  readonly failed: boolean
}

export function raftStatusOf(state: State): RaftStatus {
  const { leadership, log } = state
  const { configuration, index: configurationIndex } = state.configurations.latest
  const followers = new Map<NodeId, FollowerStatus>()
  for (const progress of leadership?.progress.values() ?? []) {
    followers.set(progress.id, {
      state: progress.state,
      matchIndex: progress.matchIndex,
      nextIndex: progress.nextIndex,
      appendsInFlight: progress.appendsInFlight,
      bytesInFlight: progress.bytesInFlight,
      silentTicks: (leadership?.ticks ?? 0) - progress.answeredAt,
    })
  }
  const reads = leadership?.reads
  return {
    id: state.config.id,
    role: state.role,
    currentTerm: state.currentTerm,
    votedFor: state.votedFor,
    leader: state.leader,
    commitIndex: state.commitIndex,
    lastApplied: state.lastApplied,
    lastLogIndex: log.lastIndex,
    lastLogTerm: log.lastTerm,
    persistedIndex: state.persistedIndex,
    logBytesInMemory: log.bytes,
    configuration,
    configurationIndex,
    uncommittedBytes: leadership?.uncommittedBytes ?? 0,
    unappliedBytes: state.unappliedBytes,
    transferTo: leadership?.transfer?.to ?? null,
    readsWaiting: (reads?.waiting.length ?? 0) + (reads?.round?.contexts.length ?? 0),
    followers,
    departing: [...(leadership?.departing.keys() ?? [])],
    failed: state.failed,
  }
}

/** The other voters, the best to lead next first: who has room comes before who is full, then whose log is furthest. */
export function successorsOf({
  id,
  configuration,
  followers,
}: RaftStatus): readonly { readonly id: NodeId; readonly isFull: boolean }[] {
  return configuration.voters
    .filter(voter => voter !== id)
    .map(voter => {
      const follower = followers.get(voter)
      return { id: voter, matchIndex: follower?.matchIndex ?? 0, isFull: follower?.state === 'full' }
    })
    .sort((a, b) => Number(a.isFull) - Number(b.isFull) || b.matchIndex - a.matchIndex)
}
