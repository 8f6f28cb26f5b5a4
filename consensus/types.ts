/**
 * What goes into the Raft core and what comes out of it (Ongaro & Ousterhout, "In Search of an Understandable
 * Consensus Algorithm", extended version; Ongaro's thesis for pre-vote, transfer, read index and pipelining).
 *
 * `raft.step(input)` is a pure transition: it returns effects, and the driver carries them out in their order.
 * Names are Figure 2's. Terms and indexes are plain numbers below 2^53; node ids are opaque text.
 *
 * Durability contract: an effect `persist` carries a `token`. A `send` with `after: token` leaves only when the
 * driver has made that persist (and all earlier ones) durable; then the driver steps `{ type: 'persisted', token }`.
 * Persists are carried out in order. A `send` without `after` may leave at once (a leader's appends overlap its
 * own write, thesis section 10.2.1).
 */

export type NodeId = string

/** A `command` is opaque to Raft. A `noop` opens a leader's term. A `configuration` carries `Configuration`. */
export type EntryType = 'command' | 'noop' | 'configuration'

export interface Entry {
  readonly index: number
  readonly term: number
  readonly type: EntryType
  /** Opaque bytes for `command`; empty otherwise. */
  readonly data: Uint8Array
  /** Present on `configuration` entries alone. */
  readonly configuration?: Configuration
}

/** Joint consensus (section 6): while `votersOutgoing` is not empty, both majorities are needed. */
export interface Configuration {
  readonly voters: readonly NodeId[]
  readonly votersOutgoing: readonly NodeId[]
  readonly learners: readonly NodeId[]
}

/** Figure 2, persistent state on all servers, without the log. */
export interface HardState {
  readonly currentTerm: number
  readonly votedFor: NodeId | null
}

/** What a snapshot covers. Its bytes travel outside the core. */
export interface SnapshotMeta {
  readonly lastIncludedIndex: number
  readonly lastIncludedTerm: number
  readonly configuration: Configuration
}

/** What was durable when the process started. */
export interface Recovered {
  readonly hardState: HardState
  /** The last snapshot, or the bootstrap one (`lastIncludedIndex` 0, term 0, the initial configuration). */
  readonly snapshot: SnapshotMeta
  /** Every durable entry after `snapshot.lastIncludedIndex` may be given; at least the unapplied ones must be. Contiguous. */
  readonly entries: readonly Entry[]
  /** The index and term of the entry right before `entries[0]` (equal to the snapshot's when all are given). */
  readonly before: { readonly index: number; readonly term: number }
  /** The configuration in force at `before.index`. */
  readonly configuration: Configuration
  /** What the driver has applied durably: `commitIndex` and `lastApplied` start here. */
  readonly applied: number
}

export type Role = 'follower' | 'precandidate' | 'candidate' | 'leader'

/** Messages between cores. `from` is what the transport authenticated, never what the peer claims. */
export type Message =
  | {
      readonly type: 'request-vote'
      readonly from: NodeId
      readonly term: number
      readonly lastLogIndex: number
      readonly lastLogTerm: number
      readonly preVote: boolean
      readonly leadershipTransfer: boolean
    }
  | {
      readonly type: 'vote'
      readonly from: NodeId
      readonly term: number
      readonly voteGranted: boolean
      readonly preVote: boolean
    }
  | {
      readonly type: 'append-entries'
      readonly from: NodeId
      readonly term: number
      readonly prevLogIndex: number
      readonly prevLogTerm: number
      readonly entries: readonly Entry[]
      readonly leaderCommit: number
      readonly readContext: number
    }
  | {
      readonly type: 'append-response'
      readonly from: NodeId
      readonly term: number
      readonly success: boolean
      readonly prevLogIndex: number
      readonly matchIndex: number
      /** On a rejection: the last place of the follower's log, up to `prevLogIndex`, that may agree with the leader's. */
      readonly conflictIndex: number
      readonly conflictTerm: number
      readonly readContext: number
      /**
       * No more entries for now: too much waits to be applied here, or the driver held some of this append back. The
       * leader then sends heartbeats alone, until an answer comes without it.
       */
      readonly full: boolean
    }
  /**
   * A follower has taken an append, and its answer waits for its disk: it follows this leader, in a term that is durable
   * there, and has seen this read round. It says nothing of its log.
   */
  | { readonly type: 'heard'; readonly from: NodeId; readonly term: number; readonly readContext: number }
  | {
      readonly type: 'install-snapshot'
      readonly from: NodeId
      readonly term: number
      readonly snapshot: SnapshotMeta
    }
  | {
      readonly type: 'snapshot-response'
      readonly from: NodeId
      readonly term: number
      readonly lastIncludedIndex: number
      readonly success: boolean
    }
  | { readonly type: 'timeout-now'; readonly from: NodeId; readonly term: number }

export type Input =
  /** One tick of the driver's clock. Election and heartbeat timeouts are counted in ticks. */
  | { readonly type: 'tick' }
  /**
   * `withheld`: the driver took entries off the end of this append, which are not to be taken for now (a proposal too far
   * in the future). Cutting an append is always safe: the answer covers what is left, and says `full`.
   */
  | { readonly type: 'message'; readonly message: Message; readonly withheld?: boolean }
  /** The driver has verified a certified header of this term: a quorum has reached it, so messages near it are heard. */
  | { readonly type: 'certified'; readonly term: number }
  /**
   * Voters that the driver knows by other means than this server's log, all of them: the present and the next ones of the
   * newest certified state it has seen. They are heard beside the voters of the latest configuration, and nobody else is. Until
   * the first of these inputs everybody is heard, as in the paper, whose servers trust one another.
   */
  | { readonly type: 'known-voters'; readonly ids: readonly NodeId[] }
  /** Append commands, all or none. `context` comes back in `proposed` or `refused`. */
  | { readonly type: 'propose'; readonly data: readonly Uint8Array[]; readonly context: number }
  /** All persists up to and including `token` are durable. */
  | { readonly type: 'persisted'; readonly token: number }
  /** The disk refused a write: a leader steps down, and the core takes part in nothing until it is made anew. */
  | { readonly type: 'persist-failed' }
  /** The driver has applied everything up to `index` durably (bounds what the core keeps in memory). */
  | { readonly type: 'applied'; readonly index: number }
  /** Answer to the effect `load`: entries from storage, contiguous; `before` is the index and term ahead of them. */
  | {
      readonly type: 'loaded'
      readonly before: { readonly index: number; readonly term: number }
      readonly entries: readonly Entry[]
    }
  /** Answer to `load` when storage has compacted the range away: the follower needs the snapshot. */
  | { readonly type: 'compacted'; readonly snapshot: SnapshotMeta }
  /** Read index (section 8): answered by `read-ready` once a quorum has confirmed the leadership. */
  | { readonly type: 'read'; readonly context: number }
  /**
   * Hand leadership to a voter (thesis section 3.10); given up after one election timeout. `status` shows the
   * outcome. Ignored when not leader, or when `to` is no other voter.
   */
  | { readonly type: 'transfer'; readonly to: NodeId }
  /** Enter joint consensus towards these members, or change learners in one step. Refused if it would lose the quorum. */
  | {
      readonly type: 'change-membership'
      readonly voters: readonly NodeId[]
      readonly learners: readonly NodeId[]
      readonly context: number
    }
  /**
   * Leave joint consensus; the driver decides when (after a certified handover). `abandon` leaves it for the outgoing
   * voters: the change is taken back.
   */
  | { readonly type: 'leave-joint'; readonly abandon?: boolean; readonly context: number }
  /**
   * The driver has fetched and verified the snapshot it was told of by `fetch-snapshot`, and keeps it aside. If the
   * core still needs it, the effect `persist` of this step carries it; only then it replaces state and log.
   */
  | { readonly type: 'snapshot-installed'; readonly snapshot: SnapshotMeta }
  | { readonly type: 'snapshot-failed'; readonly lastIncludedIndex: number }
  /**
   * The transport lost its stream to a peer: pipelined appends in flight are to be sent again; and if that was the leader,
   * its process may be gone.
   */
  | { readonly type: 'unreachable'; readonly peer: NodeId }

export type RefusalReason =
  | 'not-leader'
  | 'overloaded'
  | 'transferring'
  | 'change-in-progress'
  | 'would-lose-quorum'
  | 'unknown-member'
  | 'not-joint'
  | 'invalid-members'
  /** A command that every follower would drop as ill-formed. */
  | 'too-large'

export type Effect =
  /**
   * Make durable, in order: put the fetched `snapshot` in place of state and whole log if given, cut the log after
   * `truncateAfter` if given, append `entries`, then `hardState`. One atomic, synced write.
   */
  | {
      readonly type: 'persist'
      readonly token: number
      readonly hardState?: HardState
      readonly snapshot?: SnapshotMeta
      readonly truncateAfter?: number
      readonly entries: readonly Entry[]
    }
  | { readonly type: 'send'; readonly to: NodeId; readonly message: Message; readonly after?: number }
  /** These entries are committed, and durable here; apply them in order. Each index comes once per process life. */
  | { readonly type: 'commit'; readonly entries: readonly Entry[] }
  /** Role, term or known leader changed. */
  | {
      readonly type: 'status'
      readonly role: Role
      readonly currentTerm: number
      readonly leader: NodeId | null
    }
  | {
      readonly type: 'proposed'
      readonly context: number
      readonly firstIndex: number
      readonly lastIndex: number
      readonly term: number
    }
  | {
      readonly type: 'refused'
      readonly context: number
      readonly reason: RefusalReason
      readonly detail: string
      readonly leader: NodeId | null
    }
  /** A read that began before `read` may be answered from state at `index` or later. */
  | { readonly type: 'read-ready'; readonly context: number; readonly index: number }
  | { readonly type: 'read-refused'; readonly context: number; readonly leader: NodeId | null }
  /** Fetch entries `from`..`to` (inclusive, at most `maxBytes`) and the term at `from - 1` from storage; one at a time. */
  | { readonly type: 'load'; readonly from: number; readonly to: number; readonly maxBytes: number }
  /**
   * This peer is being offered the snapshot and will fetch it: keep its bytes. Repeated with every heartbeat until the peer
   * has it, while it answers: who is silent for an election timeout keeps nobody from letting go of the bytes.
   */
  | { readonly type: 'send-snapshot'; readonly to: NodeId; readonly snapshot: SnapshotMeta }
  /**
   * The leader offers a snapshot: fetch and verify it, then step `snapshot-installed` or `snapshot-failed`. A later
   * one takes the place of an earlier one that is still under way.
   */
  | { readonly type: 'fetch-snapshot'; readonly from: NodeId; readonly snapshot: SnapshotMeta }
  /**
   * Who is still told that it was removed: let its answers in, and keep the connection. Given whenever these are others;
   * nobody is left when the leadership ends.
   */
  | { readonly type: 'departing'; readonly members: readonly NodeId[] }
  /** The configuration in force changed. */
  | { readonly type: 'configuration'; readonly configuration: Configuration; readonly index: number }

/** A number from 0 (inclusive) to 1 (exclusive). */
export type Random = () => number

/** Limits and timing of one core. Every field has a default in `defaultConfig`. */
export interface Config {
  readonly id: NodeId
  /** A follower that hears nothing for between one and two times this many ticks stands for election. */
  readonly electionTimeoutTicks: number
  readonly heartbeatTicks: number
  readonly preVote: boolean
  readonly checkQuorum: boolean
  readonly maxEntriesPerAppend: number
  readonly maxBytesPerAppend: number
  readonly maxAppendsInFlight: number
  readonly maxBytesInFlight: number
  /**
   * A leader refuses proposals (`overloaded`) over this many bytes of entries that are not yet committed and durable,
   * and while more than this is committed and not yet applied; a follower then takes no new entries either, and says so.
   */
  readonly maxUncommittedBytes: number
  /** Applied entries beyond this many bytes are dropped from memory; older ones come through `load`. */
  readonly maxLogBytesInMemory: number
  /** Leave joint consensus without being told (for uses of the core without a handover block). */
  readonly autoLeaveJoint: boolean
}
