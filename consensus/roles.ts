/**
 * Stepping back to follower, which every part of the algorithm may do (section 5.1), and refusing what only a
 * leader can answer.
 */
import { setHardState } from './durability.ts'
import { resetElectionTimer, type State } from './state.ts'
import type { NodeId, RefusalReason } from './types.ts'

/**
 * Becomes a follower in `term`, of `leader` if it is known. The vote is forgotten with an older term and never
 * within one: a server that has voted in this term keeps its vote, whatever it was in between.
 */
export function becomeFollower(state: State, term: number, leader: NodeId | null): void {
  if (term > state.currentTerm) setHardState(state, term, null)
  const { leadership } = state
  state.role = 'follower'
  state.leader = leader
  state.votes = new Map()
  state.leadership = undefined
  resetElectionTimer(state)
  if (leadership === undefined) return
  const { round, waiting } = leadership.reads
  for (const context of [...(round?.contexts ?? []), ...waiting]) refuseRead(state, context)
}

/** Answers a proposal or a change that this server will not take. */
export function refuseProposal(state: State, context: number, reason: RefusalReason, detail: string): void {
  state.effects.push({ type: 'refused', context, reason, detail, leader: state.leader })
}

export function refuseNotLeader(state: State, context: number): void {
  const detail = state.leader === null ? 'no leader is known' : `the leader is ${state.leader}`
  refuseProposal(state, context, 'not-leader', detail)
}

export function refuseRead(state: State, context: number): void {
  state.effects.push({ type: 'read-refused', context, leader: state.leader })
}
