/**
 * Elections (section 5.2 and 5.4.1; thesis sections 9.6 and 6.2 for pre-vote and check-quorum, 4.2.3 for ignoring
 * disruptive servers, 3.10 for timeout-now).
 *
 * Pre-vote asks "would you vote for me?" without touching anybody's term or vote; only who would win raises its term.
 * Stickiness: whoever hears a live leader ignores candidates, unless that leader sent them. Check-quorum: a leader
 * that a quorum has not answered for an election timeout steps down.
 *
 * Invariants: 1. A vote is durable before it is sent, one's own before it is counted. 2. One vote per term.
 */
import { isVoter } from './configuration.ts'
import { tickDeparting } from './departing.ts'
import { hardStateIsDurable, send, sendWhenDurable, setHardState } from './durability.ts'
import { entryBytes } from './log.ts'
import { isQuorum, voteResult } from './quorum.ts'
import { appendInternal, heartbeat, trackMembers } from './replication.ts'
import { becomeFollower } from './roles.ts'
import { type LeaderState, resetElectionTimer, type State } from './state.ts'
import { tickTransfer } from './transfer.ts'
import type { Message, NodeId } from './types.ts'

type RequestVote = Extract<Message, { type: 'request-vote' }>
type Vote = Extract<Message, { type: 'vote' }>

/** One tick: heartbeats and check-quorum for a leader, the election timer for everybody else. */
export function tick(state: State): void {
  state.ticks += 1
  if (state.leadership !== undefined) {
    tickLeader(state, state.leadership)
    return
  }
  state.electionElapsed += 1
  if (state.electionElapsed < state.randomizedElectionTimeout) return
  if (!state.configurations.mayCampaign(state.config.id, state.commitIndex)) return
  if (state.config.preVote) startPreVote(state)
  else startElection(state, false)
}

function tickLeader(state: State, leadership: LeaderState): void {
  const { checkQuorum, electionTimeoutTicks, heartbeatTicks } = state.config
  leadership.ticks += 1
  const hasQuorum = isQuorum(
    state.configurations.latest.configuration,
    id => id === state.config.id || leadership.ticks - heardAt(leadership, id) <= electionTimeoutTicks,
  )
  if (checkQuorum && !hasQuorum) {
    becomeFollower(state, state.currentTerm, null)
    return
  }
  tickDeparting(state, leadership)
  leadership.heartbeatElapsed += 1
  if (leadership.heartbeatElapsed < heartbeatTicks) return
  leadership.heartbeatElapsed = 0
  tickTransfer(state, leadership)
  heartbeat(state, leadership)
}

function heardAt(leadership: LeaderState, id: string): number {
  return leadership.progress.get(id)?.heardAt ?? -Infinity
}

/**
 * The transport has lost the leader: mostly its process has ended. Silence proves no more than that, so only the random
 * part of the wait is left, which keeps candidates apart. A leader that lives is heard again before, or the others hear
 * it: their stickiness protects it from who does not.
 */
export function suspectLeader(state: State): void {
  state.electionElapsed = Math.max(state.electionElapsed, state.config.electionTimeoutTicks)
}

/** Thesis section 9.6: a candidate first asks whether it would win; term and vote stay as they are. */
function startPreVote(state: State): void {
  resetElectionTimer(state)
  state.role = 'precandidate'
  state.leader = null
  state.votes = new Map([[state.config.id, true]])
  requestVotes(state, { preVote: true, leadershipTransfer: false })
  countVotes(state)
}

/** Section 5.2: "a follower increments its current term and transitions to candidate state. It then votes for itself". */
export function startElection(state: State, leadershipTransfer: boolean): void {
  resetElectionTimer(state)
  state.role = 'candidate'
  state.leader = null
  state.votes = new Map()
  setHardState(state, state.currentTerm + 1, state.config.id)
  requestVotes(state, { preVote: false, leadershipTransfer })
}

function requestVotes(state: State, kind: { preVote: boolean; leadershipTransfer: boolean }): void {
  const { config, log } = state
  const { voters, votersOutgoing } = state.configurations.latest.configuration
  const request: Message = {
    type: 'request-vote',
    from: config.id,
    term: kind.preVote ? state.currentTerm + 1 : state.currentTerm,
    lastLogIndex: log.lastIndex,
    lastLogTerm: log.lastTerm,
    ...kind,
  }
  for (const id of new Set([...voters, ...votersOutgoing])) {
    if (id === config.id) continue
    // What is durable of our own log does not matter to a voter; that we voted for ourselves does.
    if (kind.preVote) send(state, id, request)
    else sendWhenDurable(state, id, request, 0)
  }
}

/** A candidate's own vote counts when it is durable: the driver has just reported a persist. */
export function countOwnVote(state: State): void {
  if (state.role !== 'candidate' || !hardStateIsDurable(state)) return
  if (state.votes.get(state.config.id) === true) return
  state.votes.set(state.config.id, true)
  countVotes(state)
}

/** True if this server hears a live leader, and so ignores who wants to replace it (thesis section 4.2.3). */
export function isSticky(state: State, request: RequestVote): boolean {
  if (!state.config.checkQuorum || request.leadershipTransfer || state.leader === null) return false
  return state.leadership !== undefined || state.electionElapsed < state.config.electionTimeoutTicks
}

/**
 * Answers a candidate whose term is not below ours (Figure 2, RequestVote RPC, receiver implementation).
 *
 * Nobody asks here whether this server is a voter, and a learner votes too: its own log may lack the entry that made it
 * one, and then the candidate that has the entry needs this vote to win at all (section 6, "the servers use whichever
 * configuration is latest in their log"). Whose votes count is the candidate's to say: `handleVote` drops the others'.
 */
export function handleRequestVote(state: State, request: RequestVote): void {
  const { log, currentTerm } = state
  const isCurrentEnough =
    request.lastLogTerm > log.lastTerm ||
    (request.lastLogTerm === log.lastTerm && request.lastLogIndex >= log.lastIndex)
  const isFree =
    state.votedFor === request.from ||
    (state.votedFor === null && state.leader === null) ||
    (request.preVote && request.term > currentTerm)
  const voteGranted = isCurrentEnough && isFree
  if (!voteGranted) {
    refuseVote(state, request)
    if (request.preVote && !isCurrentEnough) standInstead(state, request.from)
    return
  }
  const { from: to, preVote, term } = request
  const vote: Message = { type: 'vote', from: state.config.id, term, voteGranted, preVote }
  if (preVote) {
    send(state, to, vote)
    return
  }
  // A server that has granted its vote to another stops its own pre-vote.
  if (state.role === 'precandidate') becomeFollower(state, currentTerm, null)
  if (state.votedFor === null) setHardState(state, currentTerm, to)
  state.electionElapsed = 0
  sendWhenDurable(state, to, vote, 0)
}

/**
 * Somebody with a shorter log has lost the leader. If this server has too, and the two of them are a quorum, then it can
 * win and the other cannot: it need not wait for the rest of its random time. Of three servers with links that delay,
 * the two that are left mostly have logs of different length, and half of all elections would cost the longer of their
 * two waits. Where a third vote is needed, others with a longer log may stand as well, and chance has to part them.
 */
function standInstead(state: State, other: NodeId): void {
  const { role, electionElapsed, config, configurations, commitIndex } = state
  if (role !== 'follower' || !config.preVote || electionElapsed < config.electionTimeoutTicks) return
  if (!configurations.mayCampaign(config.id, commitIndex)) return
  if (isQuorum(configurations.latest.configuration, id => id === config.id || id === other))
    startPreVote(state)
}

/** Tells a candidate no, and our term: it learns if it is behind. */
export function refuseVote(state: State, { from: to, preVote }: RequestVote): void {
  const { currentTerm: term, config } = state
  send(state, to, { type: 'vote', from: config.id, term, voteGranted: false, preVote })
}

/** Counts an answer to the campaign of this term. */
export function handleVote(state: State, vote: Vote): void {
  const isAnswer = vote.preVote
    ? state.role === 'precandidate' && vote.term === state.currentTerm + (vote.voteGranted ? 1 : 0)
    : state.role === 'candidate' && vote.term === state.currentTerm
  if (!isAnswer || !isVoter(state.configurations.latest.configuration, vote.from)) return
  if (!state.votes.has(vote.from)) state.votes.set(vote.from, vote.voteGranted)
  countVotes(state)
}

function countVotes(state: State): void {
  const result = voteResult(state.configurations.latest.configuration, state.votes)
  if (result === 'lost') becomeFollower(state, state.currentTerm, null)
  if (result !== 'won') return
  if (state.role === 'precandidate') startElection(state, false)
  else becomeLeader(state)
}

/** Section 5.2, and 8: "each leader commits a blank no-op entry into the log at the start of its term". */
function becomeLeader(state: State): void {
  const { log } = state
  state.role = 'leader'
  state.leader = state.config.id
  state.votes = new Map()
  const uncommitted = log.range(state.delivered + 1, log.lastIndex)
  const leadership: LeaderState = {
    progress: new Map(),
    departing: new Map(),
    noopIndex: log.lastIndex + 1,
    ticks: 0,
    heartbeatElapsed: 0,
    commitDue: true,
    uncommittedBytes: uncommitted.reduce((sum, entry) => sum + entryBytes(entry), 0),
    transfer: undefined,
    reads: { readContext: 0, round: undefined, waiting: [] },
  }
  state.leadership = leadership
  trackMembers(state, leadership)
  appendInternal(state, leadership, { type: 'noop' })
}

/** Thesis section 3.10: the leader asks this server to take over; it campaigns without asking first. */
export function handleTimeoutNow(state: State, message: Message): void {
  if (state.leader !== message.from || state.role !== 'follower') return
  if (!state.configurations.mayCampaign(state.config.id, state.commitIndex)) return
  startElection(state, true)
}
