/**
 * The state of one server: Figure 2's variables, and what durability, membership and leadership add to them.
 *
 * One plain object, owned by `Raft`, changed by the functions of the other files while one input is stepped; nothing
 * else keeps state. What only a leader has is in `leadership`, which exists exactly while `role` is `leader`.
 *
 * Invariants:
 *  1. lastApplied ≤ delivered ≤ commitIndex ≤ log.lastIndex, and each only grows.
 *  2. Nothing is delivered before it is durable here.
 *  3. votedFor changes only from null, or when currentTerm grows.
 *  4. log.before.index ≤ lastApplied: what may still be truncated or delivered is in memory.
 *  5. An acknowledgement or a vote names the token of the persist that holds what it speaks of.
 *  6. Entries in memory that are applied, that wait to be applied, and that wait to be committed are each bounded.
 */
import { assert } from './assert.ts'
import { configProblems } from './config.ts'
import { ConfigurationHistory } from './configuration.ts'
import { LogWindow } from './log.ts'
import type { Progress } from './progress.ts'
import type { Config, Effect, Entry, NodeId, Random, Recovered, Role, SnapshotMeta } from './types.ts'

export interface State {
  readonly config: Config
  readonly random: Random

  currentTerm: number
  /** The highest term that the driver has seen certified. */
  certifiedTerm: number
  /** Heard beside the voters of the latest configuration (hearing.ts); everybody is until the driver has said who. */
  knownVoters: ReadonlySet<NodeId> | undefined
  /** In the life of this process. */
  ticks: number
  /** By `ticks`, when a learner's newer term was last adopted. */
  learnerTermAdoptedAt: number
  votedFor: NodeId | null
  readonly log: LogWindow
  readonly configurations: ConfigurationHistory

  role: Role
  leader: NodeId | null
  commitIndex: number
  /** The last index handed out in a `commit` effect, or covered by a snapshot. */
  delivered: number
  lastApplied: number
  /** Bytes of entries delivered and not yet applied. */
  unappliedBytes: number

  /** Ticks since this server last heard from a leader, granted a vote, or stood for election. */
  electionElapsed: number
  randomizedElectionTimeout: number
  /** Answers to this server's own campaign. */
  votes: Map<NodeId, boolean>
  leadership: LeaderState | undefined
  /** The snapshot that the driver is fetching. */
  fetching: { readonly from: NodeId; readonly snapshot: SnapshotMeta } | undefined
  /** A `load` effect is unanswered. */
  loading: boolean
  /** The disk refused a write. */
  failed: boolean

  /** The last index of the log that is durable. */
  persistedIndex: number
  /** The newest persist that is durable; tokens count from 1. */
  durableToken: number
  nextToken: number
  /** The persist that carries the current term and vote. */
  hardStateToken: number
  /** Persists under way: when `token` is durable, the log is durable up to `lastIndex`. */
  pendingWrites: { readonly token: number; lastIndex: number }[]

  /** What the step under way has collected. */
  readonly unwritten: Unwritten
  effects: Effect[]
}

/** Changes of this step that its one `persist` effect will carry. */
export interface Unwritten {
  hardState: boolean
  snapshot: SnapshotMeta | undefined
  truncateAfter: number | undefined
  entries: Entry[]
}

/** Volatile state on leaders (Figure 2), reinitialised after election. */
export interface LeaderState {
  readonly progress: Map<NodeId, Progress>
  /** Members that were left out and are still told so (departing.ts). Another map after each change. */
  departing: ReadonlyMap<NodeId, Departing>
  /** The entry that opened this leader's term; nothing counts as committed by this leader before it is. */
  readonly noopIndex: number
  ticks: number
  heartbeatElapsed: number
  /** Some follower's `matchIndex`, `persistedIndex` or the configuration changed: the commit rule is due. */
  commitDue: boolean
  /** Bytes of entries after `delivered`. */
  uncommittedBytes: number
  transfer: { readonly to: NodeId; readonly startedAt: number; sent: boolean } | undefined
  readonly reads: Reads
}

/** A member that was left out (departing.ts); `progress.end` is the entry that removes it. */
export interface Departing {
  readonly progress: Progress
  /** Once the removal is committed: since when appends say so, and the first `readContext` that only these carry. */
  notice: { readonly readContext: number; readonly since: number } | undefined
}

/** Reads under way (thesis section 6.4): at most one round is out, later reads wait for the next. */
export interface Reads {
  /** The newest number that appends carry. */
  readContext: number
  /** `readContext`: the first number that confirms it. */
  round:
    | { readonly readContext: number; readonly index: number; readonly contexts: readonly number[] }
    | undefined
  waiting: number[]
}

/** The state of a server that starts with what was durable. Throws if the driver recovered something impossible. */
export function initialState(config: Config, recovered: Recovered, random: Random): State {
  const problems = configProblems(config)
  assert(problems.length === 0, problems.join('; '))
  const { before, entries, applied, hardState } = recovered
  const log = new LogWindow(before, entries)
  assert(applied >= before.index, `recovered: applied ${applied} is before the entries, at ${before.index}`)
  assert(applied <= log.lastIndex, `recovered: applied ${applied} is past the last entry, ${log.lastIndex}`)
  assert(
    applied >= recovered.snapshot.lastIncludedIndex,
    `recovered: applied ${applied} is before the snapshot, at ${recovered.snapshot.lastIncludedIndex}`,
  )
  assert(
    hardState.currentTerm >= log.lastTerm,
    `recovered: term ${hardState.currentTerm} is before the last entry's, ${log.lastTerm}`,
  )
  const configurations = new ConfigurationHistory({
    index: before.index,
    configuration: recovered.configuration,
  })
  for (const { index, configuration } of entries) {
    if (configuration !== undefined) configurations.append({ index, configuration })
  }
  configurations.forgetBefore(applied)
  const state: State = {
    config,
    random,
    currentTerm: hardState.currentTerm,
    certifiedTerm: 0,
    knownVoters: undefined,
    ticks: 0,
    learnerTermAdoptedAt: Number.NEGATIVE_INFINITY,
    votedFor: hardState.votedFor,
    log,
    configurations,
    role: 'follower',
    leader: null,
    commitIndex: applied,
    delivered: applied,
    lastApplied: applied,
    unappliedBytes: 0,
    electionElapsed: 0,
    randomizedElectionTimeout: 0,
    votes: new Map(),
    leadership: undefined,
    fetching: undefined,
    loading: false,
    failed: false,
    persistedIndex: log.lastIndex,
    durableToken: 0,
    nextToken: 1,
    hardStateToken: 0,
    pendingWrites: [],
    unwritten: { hardState: false, snapshot: undefined, truncateAfter: undefined, entries: [] },
    effects: [],
  }
  log.shrink(applied, config.maxLogBytesInMemory)
  resetElectionTimer(state)
  return state
}

/**
 * True while the driver is far behind in applying: new commands have to wait, on a leader as on a follower. Entries that
 * are not committed never count: they may need a further entry, of a new leader's term, to become so.
 */
export function isFull({ unappliedBytes, config }: State): boolean {
  return unappliedBytes > config.maxUncommittedBytes
}

/** Section 5.2: "election timeouts are chosen randomly from a fixed interval". */
export function resetElectionTimer(state: State): void {
  const { electionTimeoutTicks } = state.config
  state.electionElapsed = 0
  state.randomizedElectionTimeout = electionTimeoutTicks + Math.floor(state.random() * electionTimeoutTicks)
}
