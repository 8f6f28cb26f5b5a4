/**
 * One Raft server as a pure transition: an input in, effects out (Ongaro & Ousterhout, "In Search of an
 * Understandable Consensus Algorithm", extended version). No I/O, clock, chance or concurrency of its own; `types.ts`
 * says what the driver owes.
 *
 * This file gives inputs to the parts and applies the rules for all servers on terms (section 5.1). The parts:
 * election.ts, replication.ts (leader's side of the log), follower.ts (follower's side), membership.ts, snapshot.ts,
 * read-index.ts, transfer.ts; durability.ts for what must be durable before what; state.ts for the state they share,
 * with its invariants.
 */
import { assertNever } from './assert.ts'
import { progressOf, tellRemoved } from './departing.ts'
import { flushWrites, markDurable } from './durability.ts'
import {
  countOwnVote,
  handleRequestVote,
  handleTimeoutNow,
  handleVote,
  isSticky,
  refuseVote,
  suspectLeader,
  tick,
} from './election.ts'
import { deliver, handleAppendEntries, markApplied, rejectStaleLeader } from './follower.ts'
import { adoptsTermOf, isHeard } from './hearing.ts'
import { advanceMembership, changeMembership, isRemoved, leaveJointConsensus } from './membership.ts'
import { isWellFormed } from './message-check.ts'
import { advanceReads, read } from './read-index.ts'
import {
  advanceCommit,
  handleAppendResponse,
  handleHeard,
  propose,
  replicate,
  sendLoaded,
} from './replication.ts'
import { becomeFollower, refuseNotLeader, refuseRead } from './roles.ts'
import {
  handleInstallSnapshot,
  handleSnapshotResponse,
  offerSnapshot,
  snapshotFetched,
  snapshotFetchFailed,
} from './snapshot.ts'
import { initialState, type LeaderState, type State } from './state.ts'
import { type RaftStatus, raftStatusOf } from './status.ts'
import { advanceTransfer, nominateSuccessor, transfer } from './transfer.ts'
import type { Config, Effect, Input, Message, NodeId, Random, Recovered } from './types.ts'

export class Raft {
  readonly #state: State

  /** Throws on a configuration or a recovered state that cannot be (the driver's mistake, or its storage's). */
  constructor(config: Config, recovered: Recovered, random: Random) {
    this.#state = initialState(config, recovered, random)
  }

  /** What this server knows and is, as a copy, for metrics and tests. */
  get status(): RaftStatus {
    return raftStatusOf(this.#state)
  }

  /** Takes one input; gives what the driver has to do for it, in order. */
  step(input: Input): Effect[] {
    const state = this.#state
    const { role, currentTerm, leader } = state
    const departing = departingOf(state)
    if (state.failed) refuseAfterFailure(state, input)
    else handleInput(state, input)
    settle(state)
    if (state.role !== role || state.currentTerm !== currentTerm || state.leader !== leader) {
      const { role, currentTerm, leader } = state
      state.effects.push({ type: 'status', role, currentTerm, leader })
    }
    if (departingOf(state) !== departing) {
      state.effects.push({ type: 'departing', members: [...departingOf(state).keys()] })
    }
    const { effects } = state
    state.effects = []
    return effects
  }
}

const nobody: ReadonlyMap<NodeId, unknown> = new Map()

/** Always the same empty map while there is nobody. */
function departingOf({ leadership }: State): ReadonlyMap<NodeId, unknown> {
  return leadership === undefined || leadership.departing.size === 0 ? nobody : leadership.departing
}

function handleInput(state: State, input: Input): void {
  const { leadership } = state
  switch (input.type) {
    case 'tick':
      tick(state)
      return
    case 'message':
      handleMessage(state, input.message, input.withheld ?? false)
      return
    case 'certified':
      state.certifiedTerm = Math.max(state.certifiedTerm, input.term)
      return
    case 'known-voters':
      state.knownVoters = new Set(input.ids)
      return
    case 'propose':
      propose(state, input)
      return
    case 'persisted':
      markDurable(state, input.token)
      countOwnVote(state)
      if (leadership !== undefined) leadership.commitDue = true
      return
    case 'persist-failed':
      failStop(state)
      return
    case 'applied':
      markApplied(state, input.index)
      return
    case 'loaded':
      state.loading = false
      if (leadership !== undefined) sendLoaded(state, leadership, input)
      return
    case 'compacted':
      state.loading = false
      if (leadership !== undefined) offerSnapshot(state, leadership, input.snapshot)
      return
    case 'read':
      read(state, input.context)
      return
    case 'transfer':
      transfer(state, input.to)
      return
    case 'change-membership':
      changeMembership(state, input)
      return
    case 'leave-joint':
      leaveJointConsensus(state, input)
      return
    case 'snapshot-installed':
      snapshotFetched(state, input.snapshot)
      return
    case 'snapshot-failed':
      snapshotFetchFailed(state, input.lastIncludedIndex)
      return
    case 'unreachable': {
      const progress = leadership && progressOf(leadership, input.peer)
      if (progress?.state === 'replicate') progress.becomeProbe(progress.matchIndex + 1)
      if (state.leader === input.peer) suspectLeader(state)
      return
    }
    default:
      assertNever(input)
  }
}

/** Rules for all servers (section 5.1): a newer term is adopted, an older one is answered and otherwise ignored. */
function handleMessage(state: State, message: Message, withheld: boolean): void {
  if (!isWellFormed(message) || message.from === state.config.id) return
  if (!isHeard(state, message)) return
  if (message.type === 'request-vote' && isSticky(state, message)) return
  if (message.term < state.currentTerm) {
    handleOlderTerm(state, message)
    return
  }
  if (message.term > state.currentTerm && !isPreVote(message)) {
    if (!adoptsTermOf(state, message)) return
    becomeFollower(state, message.term, null)
  }
  switch (message.type) {
    case 'request-vote':
      handleRequestVote(state, message)
      return
    case 'vote':
      handleVote(state, message)
      return
    case 'append-entries':
      if (followLeader(state, message.from)) handleAppendEntries(state, message, withheld)
      return
    case 'install-snapshot':
      if (followLeader(state, message.from)) handleInstallSnapshot(state, message)
      return
    case 'append-response':
      if (state.leadership !== undefined) handleAppendResponse(state, state.leadership, message)
      return
    case 'heard':
      if (state.leadership !== undefined) handleHeard(state.leadership, message)
      return
    case 'snapshot-response':
      if (state.leadership !== undefined) handleSnapshotResponse(state.leadership, message)
      return
    case 'timeout-now':
      handleTimeoutNow(state, message)
      return
    default:
      assertNever(message)
  }
}

function handleOlderTerm(state: State, message: Message): void {
  if (message.type === 'request-vote') refuseVote(state, message)
  else if (message.type === 'append-entries' || message.type === 'install-snapshot') {
    rejectStaleLeader(state, message)
  }
}

/** A pre-vote's term is one that nobody has entered; only a refusal carries the voter's real one. */
function isPreVote(message: Message): boolean {
  if (message.type === 'request-vote') return message.preVote
  return message.type === 'vote' && message.preVote && message.voteGranted
}

/** Takes the sender as leader of this term. False if that cannot be: a term has one leader. */
function followLeader(state: State, from: string): boolean {
  if (state.leadership !== undefined || (state.leader !== null && state.leader !== from)) return false
  if (state.role !== 'follower') becomeFollower(state, state.currentTerm, from)
  state.leader = from
  state.electionElapsed = 0
  return true
}

/** Ends a step: what follows from the changes so far, decided once. */
function settle(state: State): void {
  if (state.leadership !== undefined) settleLeader(state, state.leadership)
  deliver(state)
  flushWrites(state)
}

/**
 * The order matters, each for the next:
 *  1. What is committed is decided first: all that follows asks `commitIndex`.
 *  2. A change of members that it makes due is appended, before reads and appends count quorums and followers.
 *  3. Who is left out by what is committed now is told so by the appends below.
 *  4. Reads take their index from the new `commitIndex`, and mark the appends that have to carry their round.
 *  5. Appends leave once, with everything so far: new entries, the new `leaderCommit`, the read round.
 *  6. `timeout-now` goes behind the append that makes its target's log whole: streams keep order.
 *  7. A leader that is no member any more steps down last. Its followers have just been sent the commit of the entry that
 *     removes it; one step earlier, and nobody is left who could tell them before the next election.
 */
function settleLeader(state: State, leadership: LeaderState): void {
  if (leadership.commitDue) advanceCommit(state, leadership)
  advanceMembership(state, leadership)
  tellRemoved(state, leadership)
  advanceReads(state, leadership)
  replicate(state, leadership)
  advanceTransfer(state, leadership)
  if (!isRemoved(state)) return
  nominateSuccessor(state, leadership)
  becomeFollower(state, state.currentTerm, null)
}

/** A server that cannot write can promise nothing: it takes part in nothing more, and says who could lead. */
function failStop(state: State): void {
  if (state.leadership !== undefined) nominateSuccessor(state, state.leadership)
  becomeFollower(state, state.currentTerm, null)
  state.failed = true
}

function refuseAfterFailure(state: State, input: Input): void {
  if (input.type === 'propose' || input.type === 'change-membership' || input.type === 'leave-joint') {
    refuseNotLeader(state, input.context)
  } else if (input.type === 'read') {
    refuseRead(state, input.context)
  }
}
